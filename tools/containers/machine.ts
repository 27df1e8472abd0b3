// A machine with Podman: the Debian system of tree.ts as the root directory, in the network of a namespace, with an ordinary
// user in it who has subordinate ids. Only inside a sandbox of many users (tools/world/enter.ts).
import { mkdtempSync } from "node:fs"
import { join } from "node:path"
import { ROOT, scratchDirectory } from "../world/enter.ts"
import type { Namespace } from "../world/namespace.ts"
import { run, until } from "../world/process.ts"
import type { Outcome, RunOptions } from "../world/process.ts"

const SCRIPT: string = join(import.meta.dirname, "machine.sh")
const USER = { id: "1000", home: "/home/user" } as const
/** The image that containers run: busybox and nothing else. */
export const IMAGE = "busybox"

export interface Machine {
  /** The command line that runs `command` there as the ordinary user. */
  asUser(command: readonly string[]): string[]
  asRoot(command: readonly string[]): string[]
  /** Podman as the ordinary user. */
  podman(args: readonly string[], options?: RunOptions): Promise<Outcome>
  /** The same, where anything but success is an error. @returns what it printed, without the last line's end */
  mustPodman(...args: readonly string[]): Promise<string>
  /** Podman as root. */
  rootPodman(args: readonly string[], options?: RunOptions): Promise<Outcome>
  /** Make IMAGE, for both users. */
  makeImage(): Promise<void>
  close(): Promise<void>
}

const IMPORT = `
set -e
image=$(mktemp -d)
mkdir "$image/bin" "$image/www"
echo "from a container" >"$image/www/index.html"
cp /usr/bin/busybox "$image/bin/"
for name in cat echo grep hostname httpd ip nslookup sh sleep true wget; do ln -s busybox "$image/bin/$name"; done
tar -C "$image" -c . | podman import --quiet - ${IMAGE} >/dev/null
rm -r "$image"`

/** @param tree of tree.ts @param network where the machine is */
export async function startMachine(tree: string, network: Namespace): Promise<Machine> {
  const work = mkdtempSync(join(scratchDirectory(), "machine-"))
  const command = ["unshare", "--mount", "sh", SCRIPT, tree, work, join(ROOT, "dist")]
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
  const asUser = (rest: readonly string[]): string[] => {
    const become = ["setpriv", `--reuid=${USER.id}`, `--regid=${USER.id}`, "--clear-groups", "--"]
    return inside(USER.home, [`XDG_RUNTIME_DIR=/run/user/${USER.id}`, ...become, ...rest])
  }
  const podman: Machine["podman"] = (args, options) => run(asUser(["podman", ...args]), options)
  const rootPodman: Machine["rootPodman"] = (args, options) => run(asRoot(["podman", ...args]), options)
  return {
    asUser,
    asRoot,
    podman,
    rootPodman,
    async mustPodman(...args) {
      const outcome = await podman(args)
      if (outcome.status === 0) return outcome.stdout.trimEnd()
      throw new Error(`podman ${args.join(" ")}: status ${outcome.status}: ${outcome.stderr.trim()}`)
    },
    async makeImage() {
      for (const as of [asUser, asRoot]) {
        const made = await run(as(["sh", "-c", IMPORT]))
        if (made.status !== 0) throw new Error(`no image could be made: ${made.stderr}`)
      }
    },
    async close() {
      for (const as of [asUser, asRoot]) {
        await run(as(["podman", "rm", "--all", "--force", "--time=0"]))
      }
      holder.kill("SIGKILL")
    },
  }
}
