// Debian packages without installing them: downloaded by apt-get (which an ordinary user may do) and unpacked.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs"
import { join } from "node:path"
import { run } from "../world/process.ts"
import { must } from "../world/process.ts"

/** Everything the guest is made of lives here; it may be deleted at any time. */
export const CACHE: string = join(import.meta.dirname, "../../.cache/guest")

async function download(names: readonly string[], into: string): Promise<void> {
  // apt-get downloads into the current directory, and as root wants to do so as the user _apt, which needs leave.
  const script = 'cd "$0" && exec apt-get download -qq -o APT::Sandbox::User=root "$@"'
  const command = ["sh", "-c", script, into, ...names]
  const first = await run(command, { timeoutMs: 300_000 })
  if (first.status === 0) return
  const advice = "run: apt-get update"
  if (process.getuid?.() !== 0) throw new Error(`${first.stderr.trim()}\n(as root, ${advice})`)
  // An image without package lists, or with old ones, whose packages are no longer on the mirror.
  await must(["apt-get", "update", "-qq"], { timeoutMs: 300_000 })
  await must(command, { timeoutMs: 300_000 })
}

/** The directory with these packages' files, downloaded and unpacked unless that was done before. */
export async function unpackedPackages(label: string, names: readonly string[]): Promise<string> {
  const directory = join(CACHE, label)
  if (existsSync(directory)) return directory
  mkdirSync(CACHE, { recursive: true })
  // Beside its place, and moved there when complete: an interrupted run leaves nothing half-made under the real name.
  const work = mkdtempSync(join(CACHE, "unpack-"))
  try {
    const tree = join(work, "tree")
    mkdirSync(tree)
    await download(names, work)
    for (const file of readdirSync(work).filter((entry) => entry.endsWith(".deb"))) {
      await must(["dpkg-deb", "--extract", join(work, file), tree])
    }
    if (!existsSync(directory)) renameSync(tree, directory)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return directory
}
