/**
 * A network namespace that lives exactly as long as this process: a `cat` that waits on a pipe holds it, and the pipe
 * breaks when we end, however we end. Nothing is left under /run/netns.
 */

import { execFileSync, spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"

export interface Namespace {
  /** For /proc/PID/ns/net. */
  readonly pid: number
  /** The command, changed so that it runs inside. */
  inside(command: readonly string[]): string[]
  /** Runs a shell script inside and waits for it; throws with its output if it fails. */
  shell(script: string): void
  /** Lets go of the namespace; it ends with its last process. */
  close(): void
}

/**
 * Makes an empty network namespace, with only its loopback up. Needs root, or a user namespace of one's own.
 *
 * @param processor all that runs inside runs on this one; undefined: on any
 */
export const openNamespace = async (processor?: number): Promise<Namespace> => {
  const holder: ChildProcess = spawn("unshare", ["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  })
  const pid = holder.pid
  if (pid === undefined) throw new Error("unshare (util-linux) can't be started")
  const ready = await Promise.race([once(holder.stdout!, "data"), once(holder, "exit").then(() => undefined)])
  if (ready === undefined) throw new Error("a network namespace can't be made: root or user namespaces are needed")
  const pin = processor === undefined ? [] : ["taskset", "--cpu-list", String(processor)]
  const inside = (command: readonly string[]): string[] => [
    "nsenter",
    "-t",
    String(pid),
    "-n",
    "--",
    ...pin,
    ...command,
  ]
  return {
    pid,
    inside,
    shell: (script) => {
      const [program, ...rest] = inside(["sh", "-ec", script])
      execFileSync(program!, rest, { stdio: ["ignore", "pipe", "pipe"] })
    },
    close: () => holder.kill("SIGKILL"),
  }
}
