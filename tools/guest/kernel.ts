// The guest's kernel and the few modules it needs, from Debian's packages.
import { existsSync, readFileSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { must, run } from "../world/process.ts"
import { CACHE, unpackedPackages } from "./packages.ts"

/** "cloud" boots fastest; "generic" has the drivers of real network cards (e1000). */
export type KernelFlavour = "cloud" | "generic"

export interface GuestKernel {
  readonly version: string
  readonly image: string
  /** Modules in the order in which they must be loaded, uncompressed. */
  readonly modules: readonly { readonly name: string; readonly content: Buffer }[]
}

/** What the guest loads; a module that is built into the kernel or that it lacks is passed over. */
const WANTED = ["virtio_pci", "virtio_console", "virtio_net", "virtio_rng", "e1000"]

async function packageName(flavour: KernelFlavour): Promise<string> {
  const pattern = flavour === "cloud" ? "cloud-amd64" : "amd64"
  // The metapackage names the kernel of this release with its current fixes.
  const shown = await run(["apt-cache", "depends", "--important", `linux-image-${pattern}`])
  const named = /Depends: (linux-image-\d\S*)/.exec(shown.stdout)?.[1]
  if (named !== undefined) return named
  const found = await must(["apt-cache", "search", "--names-only", `^linux-image-[0-9].*-${pattern}$`])
  const names = found
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter((name) => name !== "" && !name.includes("unsigned") && !name.includes("-rt-"))
    .filter((name) => flavour === "cloud" || !name.includes("cloud"))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
  const newest = names.at(-1)
  if (newest === undefined) throw new Error(`apt-cache knows no package linux-image-…-${pattern}: run apt-get update`)
  return newest
}

function unpackedName(flavour: KernelFlavour): string {
  return `kernel-${flavour}`
}

async function moduleContent(path: string): Promise<Buffer> {
  if (path.endsWith(".ko")) return readFileSync(path)
  const unpack = path.endsWith(".xz") ? "xz" : path.endsWith(".zst") ? "zstd" : "gzip"
  const outcome = await run([unpack, "--decompress", "--stdout", path])
  if (outcome.status !== 0) throw new Error(`${unpack} could not unpack ${path}: ${outcome.stderr.trim()}`)
  return outcome.bytes
}

/** What a module asks for, from its .modinfo section: strings of the form "depends=a,b". */
export function moduleDependencies(content: Buffer): string[] {
  const key = Buffer.from("\0depends=")
  const at = content.indexOf(key)
  if (at < 0) return []
  const start = at + key.length
  const list = content.toString("latin1", start, content.indexOf(0, start))
  return list === "" ? [] : list.split(",")
}

export async function guestKernel(flavour: KernelFlavour): Promise<GuestKernel> {
  const cached = join(CACHE, unpackedName(flavour))
  const packages = existsSync(cached) ? [] : [await packageName(flavour)]
  const tree = await unpackedPackages(unpackedName(flavour), packages)
  const image = readdirSync(join(tree, "boot")).find((name) => name.startsWith("vmlinuz-"))
  if (image === undefined) throw new Error(`no kernel in ${tree}: delete that directory and try again`)
  const version = image.slice("vmlinuz-".length)

  // "virtio_net" is the file virtio_net.ko or virtio-net.ko, with or without compression, in some folder.
  const base = [join(tree, "lib/modules", version), join(tree, "usr/lib/modules", version)].find((path) =>
    existsSync(path),
  )
  const files = new Map<string, string>()
  for (const entry of base === undefined ? [] : readdirSync(base, { recursive: true, withFileTypes: true })) {
    const name = /^(.+)\.ko(?:\.(?:xz|zst|gz))?$/.exec(entry.name)?.[1]
    if (name !== undefined) files.set(name.replaceAll("-", "_"), join(entry.parentPath, entry.name))
  }
  const modules: { name: string; content: Buffer }[] = []
  async function add(name: string): Promise<void> {
    const path = files.get(name.replaceAll("-", "_"))
    if (path === undefined || modules.some((module) => module.name === name)) return
    const content = await moduleContent(path)
    for (const dependency of moduleDependencies(content)) await add(dependency)
    modules.push({ name, content })
  }
  for (const name of WANTED) await add(name)
  return { version, image: join(tree, "boot", image), modules }
}
