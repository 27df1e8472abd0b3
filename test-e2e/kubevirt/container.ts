// The image, run as the runtime of a node runs it for KubeVirt: its root directory read-only, uid 107, no capabilities, the
// pod's network, a PID namespace of its own; and within limits of memory and processor time where the machine lets us set them.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { ENTRYPOINT } from "../../apps/kubevirt-binding/image/oci.ts"
import { ROOT, scratchDirectory } from "../../tools/world/enter.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { until } from "../../tools/world/process.ts"
import { QEMU_ID } from "./pod.ts"

const SCRIPT = join(import.meta.dirname, "container.sh")
export const ROOTFS: string = join(ROOT, `dist/image/rootfs-${process.arch === "x64" ? "amd64" : "arm64"}`)

export interface Container {
  /** The command line that runs a program of the image in it; default: its entry point. */
  command(variables?: Readonly<Record<string, string>>, program?: readonly string[]): string[]
  /** How this process sees a file there. */
  outside(path: string): string
  close(): void
}

export async function makeContainer(pod: Namespace, hooks: string): Promise<Container> {
  const work = mkdtempSync(join(scratchDirectory(), "container-"))
  const isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]
  const holder = pod.start([...isolated, "sh", SCRIPT, ROOTFS, work, hooks], { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  for (const stream of [holder.stdout, holder.stderr]) stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  await until("the container", 20_000, () => {
    if (holder.exitCode !== null) throw new Error(`the container ended (status ${holder.exitCode}): ${said}`)
    return said.includes("ready\n")
  })
  // The first process of the PID namespace is unshare's child.
  const [first = 0] = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, "utf8").split(" ").map(Number)
  const enter = [
    "/usr/bin/nsenter",
    `--target=${first}`,
    "--net",
    "--mount",
    "--pid",
    "--ipc",
    "--uts",
    "--root",
    "--wdns=/",
  ]
  return {
    command(variables = {}, program = ENTRYPOINT) {
      const words = Object.entries({ PATH: "/usr/bin", ...variables }).map(([name, value]) => `${name}=${value}`)
      // nsenter changes the user last, by which all capabilities go: the image has no program for that.
      const user = [`--setuid=${QEMU_ID}`, `--setgid=${QEMU_ID}`, "--"]
      return ["env", "-i", ...words, "/usr/bin/setpriv", "--no-new-privs", ...enter, ...user, ...program]
    },
    outside: (path) => `/proc/${first}/root${path}`,
    close: () => void holder.kill("SIGKILL"),
  }
}

export interface Limits {
  /** The command line that runs a program within them. */
  within(command: readonly string[]): string[]
  /** Most memory that was in use, files included, and how often the limit was met in vain (out of memory). */
  peakBytes(): number
  outOfMemory(): number
  /** Another limit of memory from now on. */
  allow(memoryBytes: number): void
  close(): void
}

/** A control group of its own (version 1 or 2), or null where this user can't make one.
 * @param share of a processor */
export function limit(memoryBytes: number, share: number): Limits | null {
  const name = `passt-test-${process.pid}-${Date.now()}`
  const made: string[] = []
  const make = (parent: string, settings: Readonly<Record<string, string>>): string => {
    const folder = join(parent, name)
    mkdirSync(folder)
    made.push(folder)
    for (const [file, value] of Object.entries(settings)) writeFileSync(join(folder, file), value)
    return folder
  }
  const close = (): void => {
    for (const folder of made) {
      try {
        rmdirSync(folder)
      } catch {
        // Somebody still ends in it.
      }
    }
  }
  const root = "/sys/fs/cgroup"
  const quota = String(Math.round(share * 100_000))
  try {
    const isV1 = existsSync(join(root, "memory"))
    const limitFile = isV1 ? "memory.limit_in_bytes" : "memory.max"
    const memory = isV1
      ? make(join(root, "memory"), { [limitFile]: String(memoryBytes) })
      : make(root, { [limitFile]: String(memoryBytes), "cpu.max": `${quota} 100000` })
    if (isV1) make(join(root, "cpu"), { "cpu.cfs_quota_us": quota })
    const join_ = made.map((folder) => `echo $$ >${folder}/cgroup.procs`).join("; ")
    const number = (file: string): number => Number(readFileSync(join(memory, file), "utf8"))
    return {
      within: (command) => ["sh", "-c", `${join_}; exec "$@"`, "sh", ...command],
      peakBytes: () => number(isV1 ? "memory.max_usage_in_bytes" : "memory.peak"),
      outOfMemory() {
        const text = readFileSync(join(memory, isV1 ? "memory.oom_control" : "memory.events"), "utf8")
        return Number(/^oom_kill (\d+)$/m.exec(text)?.[1])
      },
      allow: (bytes) => writeFileSync(join(memory, limitFile), String(bytes)),
      close,
    }
  } catch {
    close()
    return null
  }
}

/** Resident memory of a process, KiB: all, and what is not of files. */
export function resident(pid: number): { readonly all: number; readonly anonymous: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  const value = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1])
  return { all: value("VmRSS"), anonymous: value("RssAnon") }
}

/** Processes, but those that only wait for them, whose command line has a word that ends like this. */
export function processesWith(ending: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        const [program = "", ...words] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
        return !program.endsWith("/nsenter") && words.some((word) => word.endsWith(ending))
      } catch {
        return false
      }
    })
}
