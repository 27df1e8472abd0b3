/** The sidecar in one file, with what it needs of its libraries and nothing of what they have for others. */
import { join } from "node:path"
import { rolldown } from "rolldown"

/** Loaded by @grpc/grpc-js only when channelz is asked for, which the sidecar has switched off; pulls in a compiler of .proto files. */
const UNUSED = /^@grpc\/proto-loader$/

/** @param file where the bundle goes */
export async function bundleSidecar(file: string): Promise<void> {
  const build = await rolldown({
    input: join(import.meta.dirname, "../src/sidecar/main.ts"),
    platform: "node",
    external: /^node:/,
    plugins: [
      {
        name: "leave-out-unused",
        resolveId: { filter: { id: UNUSED }, handler: () => "\0unused" },
        load: { filter: { id: /^\0unused$/ }, handler: () => "export const loadSync = undefined" },
      },
    ],
  })
  await build.write({ file, format: "esm", sourcemap: false, minify: { mangle: false, codegen: true, compress: true } })
  await build.close()
}
