// Podman on a machine with Debian, with our pasta as its helper, rootless and as root.
import type { Namespace } from "../world/namespace.ts"
import { run } from "../world/process.ts"
import type { Outcome, RunOptions } from "../world/process.ts"
import { PROGRAMS, startMachine } from "./machine.ts"
import type { Machine } from "./machine.ts"

/** The image that containers run: busybox and nothing else. */
export const IMAGE = "busybox"

export interface PodmanMachine extends Machine {
  /** Podman as the ordinary user. */
  podman(args: readonly string[], options?: RunOptions): Promise<Outcome>
  /** The same, where anything but success is an error. @returns what it printed, without the last line's end */
  mustPodman(...args: readonly string[]): Promise<string>
  /** Podman as root. */
  rootPodman(args: readonly string[], options?: RunOptions): Promise<Outcome>
  /** Ends all containers first. */
  end(): Promise<void>
}

const CONFIGURATION = `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
helper_binaries_dir = ["${PROGRAMS}", "/usr/libexec/podman", "/usr/lib/podman"]
[containers]
log_driver = "k8s-file"
`

const IMPORT = `
set -e
image=$(mktemp -d)
mkdir "$image/bin" "$image/www"
echo "from a container" >"$image/www/index.html"
cp /usr/bin/busybox "$image/bin/"
for name in cat echo grep hostname httpd ip nslookup sh sleep true wget; do ln -s busybox "$image/bin/$name"; done
tar -C "$image" -c . | podman import --quiet - ${IMAGE} >/dev/null
rm -r "$image"`

/** A machine with Podman, and with IMAGE for both users. */
export async function startPodmanMachine(tree: string, network: Namespace): Promise<PodmanMachine> {
  const machine = await startMachine(tree, network)
  await machine.write("/etc/containers/containers.conf", CONFIGURATION)
  for (const as of [machine.asUser, machine.asRoot]) {
    const made = await run(as(["sh", "-c", IMPORT]))
    if (made.status !== 0) throw new Error(`no image could be made: ${made.stderr}`)
  }
  const podman: PodmanMachine["podman"] = (args, options) => run(machine.asUser(["podman", ...args]), options)
  return {
    ...machine,
    podman,
    rootPodman: (args, options) => run(machine.asRoot(["podman", ...args]), options),
    async mustPodman(...args) {
      const outcome = await podman(args)
      if (outcome.status === 0) return outcome.stdout.trimEnd()
      throw new Error(`podman ${args.join(" ")}: status ${outcome.status}: ${outcome.stderr.trim()}`)
    },
    async end() {
      for (const as of [machine.asUser, machine.asRoot]) {
        await run(as(["podman", "rm", "--all", "--force", "--time=0"]))
      }
      machine.close()
    },
  }
}
