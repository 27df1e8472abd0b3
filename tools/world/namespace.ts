// A network namespace (with a mount namespace, so that it can have an own resolv.conf), held open by a sleeping
// process and entered by that process's id: no name is left anywhere.
import type { ChildProcess, SpawnOptions } from "node:child_process"
import { must, run, start, stop } from "./process.ts"
import type { Outcome, RunOptions } from "./process.ts"

/** The ordinary user that programs run as when asked to: no capability in the namespaces they run in. */
const ORDINARY_ID = 1000

export interface Namespace {
  readonly name: string
  /** The process that holds it; its /proc entry shows the namespace's sockets. */
  readonly pid: number
  /** The command line that runs `command` inside, as the namespace's root. */
  inside(command: readonly string[]): string[]
  /** The same as an ordinary user: user id 1000 in a user namespace of its own, without any capability. */
  insideAsUser(command: readonly string[]): string[]
  run(command: readonly string[], options?: RunOptions): Promise<Outcome>
  must(command: readonly string[], options?: RunOptions): Promise<string>
  /** Start without waiting; `close` ends what is still running. */
  start(command: readonly string[], options?: SpawnOptions): ChildProcess
  startAsUser(command: readonly string[], options?: SpawnOptions): ChildProcess
  close(): Promise<void>
}

export async function createNamespace(name: string): Promise<Namespace> {
  // `exec` keeps the process id, and the line says that the namespaces are there.
  const holder = start(["unshare", "--net", "--mount", "sh", "-c", "echo ready; exec sleep infinity"])
  await new Promise<void>((resolve, reject) => {
    holder.stdout?.once("data", () => resolve())
    holder.once("error", reject)
    holder.once("exit", () => reject(new Error(`the namespace "${name}" could not be made`)))
  })
  const pid = holder.pid
  if (pid === undefined) throw new Error("a running process without an id")
  const children = new Set<ChildProcess>()

  function inside(command: readonly string[]): string[] {
    return ["nsenter", `--net=/proc/${pid}/ns/net`, `--mount=/proc/${pid}/ns/mnt`, "--", ...command]
  }
  function insideAsUser(command: readonly string[]): string[] {
    const ids = [`--map-user=${ORDINARY_ID}`, `--map-group=${ORDINARY_ID}`]
    return inside(["unshare", "--user", ...ids, "--", ...command])
  }
  function tracked(command: readonly string[], options: SpawnOptions): ChildProcess {
    const child = start(command, options)
    children.add(child)
    child.once("exit", () => children.delete(child))
    return child
  }
  await must(inside(["ip", "link", "set", "lo", "up"]))
  await must(inside(["sh", "-c", 'echo "0 0" > /proc/sys/net/ipv4/ping_group_range']))
  return {
    name,
    pid,
    inside,
    insideAsUser,
    run: (command, options = {}) => run(inside(command), options),
    must: (command, options = {}) => must(inside(command), options),
    start: (command, options = {}) => tracked(inside(command), options),
    startAsUser: (command, options = {}) => tracked(insideAsUser(command), options),
    async close() {
      await Promise.all([...children].map((child) => stop(child)))
      await stop(holder)
    },
  }
}
