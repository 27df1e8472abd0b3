/**
 * Finds the addon: beside the bundled program (`passt.node` next to the file that this code ended up in), where the build of this
 * package leaves it, or among those that come with the package, by processor and C library. Nothing is downloaded and nothing
 * is compiled here.
 */
import { existsSync, readdirSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"

import type { Addon } from "./addon.ts"

const CANDIDATES: readonly URL[] = [
  new URL("./passt.node", import.meta.url),
  new URL("../build/Release/passt.node", import.meta.url),
]
const PREBUILDS: URL = new URL("../prebuilds/", import.meta.url)

/** What node was built for, as prebuilt addons are named: "linux-x64-glibc". */
function platform(): string {
  const { platform: system, arch } = process
  if (system !== "linux") return `${system}-${arch}`
  const report = process.report as typeof process.report & { excludeNetwork?: boolean }
  // It would look up the names of the host's addresses.
  const was = report.excludeNetwork ?? false
  report.excludeNetwork = true
  const { header } = report.getReport() as { readonly header: { readonly glibcVersionRuntime?: string } }
  report.excludeNetwork = was
  return `${system}-${arch}-${header.glibcVersionRuntime === undefined ? "musl" : "glibc"}`
}

function find(): string {
  const built = CANDIDATES.map((url) => fileURLToPath(url)).find((path) => existsSync(path))
  if (built !== undefined) return built
  const name = platform()
  const path = fileURLToPath(new URL(`${name}.node`, PREBUILDS))
  if (existsSync(path)) return path
  const folder = fileURLToPath(PREBUILDS)
  const there = existsSync(folder) ? readdirSync(folder).map((file) => file.replace(/\.node$/, "")) : []
  if (there.length === 0) throw new Error(`@passt/native: no addon for ${name}: this package was not built`)
  throw new Error(`@passt/native: no addon for ${name}, only for ${there.join(", ")}`)
}

function load(): Addon {
  const path = find()
  try {
    return createRequire(import.meta.url)(path) as Addon
  } catch (cause) {
    throw new Error(`@passt/native: cannot load ${path}: ${(cause as Error).message}`, { cause })
  }
}

export const addon: Addon = load()
