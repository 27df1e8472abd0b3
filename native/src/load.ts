/**
 * Finds the addon: beside the bundled program (`passt.node` next to the file that this code ended up in), where the build of this
 * package leaves it, or among those that come with the package, by processor and C library. Nothing is downloaded and nothing
 * is compiled here.
 */
import { existsSync, readdirSync } from "node:fs"
import type { Addon } from "./addon.ts"

const at = (place: string): string => `${import.meta.dirname}/${place}`
const CANDIDATES: readonly string[] = [at("passt.node"), at("../build/Release/passt.node")]
const PREBUILDS: string = at("../prebuilds")

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
  const built = CANDIDATES.find((path) => existsSync(path))
  if (built !== undefined) return built
  const name = platform()
  const path = `${PREBUILDS}/${name}.node`
  if (existsSync(path)) return path
  const there = existsSync(PREBUILDS) ? readdirSync(PREBUILDS).map((file) => file.replace(/\.node$/, "")) : []
  if (there.length === 0) throw new Error(`@passt/native: no addon for ${name}: this package was not built`)
  throw new Error(`@passt/native: no addon for ${name}, only for ${there.join(", ")}`)
}

function load(): Addon {
  const path = find()
  try {
    // As `require` does, which would bring along a module loader that nobody else needs.
    const module = { exports: {} }
    process.dlopen(module, path)
    return module.exports as Addon
  } catch (cause) {
    throw new Error(`@passt/native: cannot load ${path}: ${(cause as Error).message}`, { cause })
  }
}

export const addon: Addon = load()
