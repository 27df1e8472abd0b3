/**
 * Makes `dist/`, the tree that is installed: needs nothing outside itself, and can be copied anywhere.
 *
 *   dist/bin/passt                 the launcher
 *   dist/lib/passt/passt.mjs       the program, one file
 *   dist/lib/passt/passt.node      the addon
 *   dist/lib/passt/node            the runtime, with its licence beside it
 *   dist/share/man/man1/passt.1    the manual page
 *
 * Run after the packages are built: `node tools/bundle.ts`.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { VERSION } from "../apps/passt/src/version.ts"
import { manualPage } from "../packages/cli/src/man.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const lib = join(root, "dist/lib/passt")
const bin = join(root, "dist/bin")
const man = join(root, "dist/share/man/man1")

/** Copies by way of a new file, so that a running program keeps the old one. */
function place(from: string, to: string, mode: number): void {
  const fresh = `${to}.new`
  copyFileSync(from, fresh)
  chmodSync(fresh, mode)
  renameSync(fresh, to)
}

for (const folder of [lib, bin, man]) mkdirSync(folder, { recursive: true })

const build = await rolldown({
  input: join(root, "apps/passt/src/main.ts"),
  platform: "node",
  // Workspace packages are TypeScript and go into the bundle; only Node's own modules stay outside.
  external: /^node:/,
})
await build.write({ file: join(lib, "passt.mjs"), format: "esm", sourcemap: false })
await build.close()

place(join(root, "native/build/Release/passt.node"), join(lib, "passt.node"), 0o755)
const launcher = ["native/build/launcher/passt", "native/build/Release/passt"]
  .map((path) => join(root, path))
  .find((path) => existsSync(path) && statSync(path).isFile())
if (launcher === undefined) throw new Error("the launcher is not built: run the build of @passt/native first")
place(launcher, join(bin, "passt"), 0o755)

// The runtime that runs this script is the one that the workspace pins.
const node = realpathSync(process.execPath)
const installed = join(lib, "node")
if (!existsSync(installed) || statSync(installed).size !== statSync(node).size) place(node, installed, 0o755)
for (const licence of [join(dirname(node), "../LICENSE"), join(dirname(node), "LICENSE")]) {
  if (existsSync(licence)) copyFileSync(licence, join(lib, "LICENSE.node"))
}

const epoch = process.env["SOURCE_DATE_EPOCH"]
const day = epoch === undefined ? new Date() : new Date(Number(epoch) * 1000)
writeFileSync(join(man, "passt.1"), manualPage(VERSION, day))
