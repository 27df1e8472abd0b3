/** A command in a network namespace of its own that waits until the namespace has a network. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readlinkSync } from "node:fs"
import { setTimeout } from "node:timers/promises"

export interface NamespacedCommand {
  /** Of the namespace, for an engine's `guest`. */
  readonly path: string
  /** Lets the command go on. @returns its exit status */
  run(): Promise<number>
}

/** Starts it, with this process's standard streams. Takes CAP_SYS_ADMIN. */
export async function startInNamespace(command: readonly string[]): Promise<NamespacedCommand> {
  const child = spawn("unshare", ["--net", "sh", "-c", 'read -r _ <&3; exec 3<&-; exec "$@"', "sh", ...command], {
    stdio: ["inherit", "inherit", "inherit", "pipe"],
  })
  const ended = once(child, "exit") as Promise<[number | null]>
  const path = `/proc/${child.pid}/ns/net`
  while (child.exitCode === null && readlinkSync(path) === readlinkSync("/proc/self/ns/net")) await setTimeout(5)
  if (child.exitCode !== null) throw new Error("unshare failed: network namespaces take CAP_SYS_ADMIN")
  return {
    path,
    async run() {
      ;(child.stdio[3] as NodeJS.WritableStream).end("go\n")
      return (await ended)[0] ?? 1
    },
  }
}
