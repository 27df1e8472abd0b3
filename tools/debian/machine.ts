// A machine with Debian: a system of tree.ts as the root directory, in the network of a namespace, with an ordinary
// user in it who has subordinate ids. Only inside a sandbox of many users (tools/world/enter.ts).
import { mkdirSync, mkdtempSync } from "node:fs"
import { join } from "node:path"
import { CACHE as GUEST_CACHE } from "../guest/packages.ts"
import { ROOT, scratchDirectory } from "../world/enter.ts"
import type { Namespace } from "../world/namespace.ts"
import { must, until } from "../world/process.ts"

const SCRIPT: string = join(import.meta.dirname, "machine.sh")
/** The ordinary user there. */
export const USER = { id: 1000, home: "/home/user", runtime: "/run/user/1000" } as const
/** Where the build's tree is seen. */
export const PROGRAMS = "/opt/passt/bin"

export interface Machine {
  /** The command line that runs `command` there as the ordinary user. */
  asUser(command: readonly string[]): string[]
  asRoot(command: readonly string[]): string[]
  /** Write a file there, as root. */
  write(path: string, content: string): Promise<void>
  /** How this process sees a file there. */
  outside(path: string): string
  close(): void
}

/** @param tree of tree.ts @param network where the machine is */
export async function startMachine(tree: string, network: Namespace): Promise<Machine> {
  const work = mkdtempSync(join(scratchDirectory(), "machine-"))
  mkdirSync(GUEST_CACHE, { recursive: true })
  const shared = [scratchDirectory(), GUEST_CACHE]
  const command = ["unshare", "--mount", "sh", SCRIPT, tree, work, join(ROOT, "dist"), ...shared]
  const holder = network.start(command)
  let said = ""
  for (const stream of [holder.stdout, holder.stderr]) stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  await until("the machine", 20_000, () => {
    if (holder.exitCode !== null) throw new Error(`the machine ended (status ${holder.exitCode}): ${said}`)
    return said.includes("ready\n")
  })

  const inside = (folder: string, rest: readonly string[]): string[] => {
    const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    const enter = ["nsenter", `--target=${holder.pid}`, "--net", "--mount", "--root", `--wdns=${folder}`, "--"]
    return [...enter, "env", "--ignore-environment", path, `HOME=${folder}`, ...rest]
  }
  const asRoot = (rest: readonly string[]): string[] => inside("/root", rest)
  return {
    asUser(rest) {
      const become = ["setpriv", `--reuid=${USER.id}`, `--regid=${USER.id}`, "--clear-groups", "--"]
      return inside(USER.home, [`XDG_RUNTIME_DIR=${USER.runtime}`, ...become, ...rest])
    },
    asRoot,
    async write(path, content) {
      await must(asRoot(["sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "sh", path]), { input: content })
    },
    outside: (path) => `/proc/${holder.pid}/root${path}`,
    close: () => void holder.kill("SIGKILL"),
  }
}
