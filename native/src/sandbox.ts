/** What the process can see and may do, and how it becomes a daemon. For start, once, in this order. Results are 0 or -errno. */
import { addon } from "./load.ts"

interface SandboxAddon {
  enterSandbox(flags: number, uid: number, gid: number, report: Int32Array): number
  giveUp(kept: number, signals: number, report: Int32Array): number
  forkDaemon(readyFd: number, pidFileFd: number, pid: Int32Array): number
  reportReady(fd: number): number
  exitProcess(status: number): never
}

const calls = addon as unknown as SandboxAddon

/** CAP_NET_BIND_SERVICE: to listen on ports below ip_unprivileged_port_start. */
export const CAPABILITY_BIND_SERVICE = 10

const FLAG_IDENTITY = 1
const FLAG_USER = 2
const FLAG_PID = 4
const FLAG_CHROOT = 8

export interface SandboxOptions {
  /** Whom to become; null: nobody else. */
  readonly identity: { readonly uid: number; readonly gid: number } | null
  /** Whether to enter a user namespace, in which our user keeps its number. */
  readonly userNamespace: boolean
  /** Whether the next child is process 1 of a PID namespace. */
  readonly pidNamespace: boolean
  /** Whether chroot(2) will do where pivot_root(2) does not work. */
  readonly chrootFallback: boolean
}

/** Steps by name: 0, or the errno with which one has failed. */
export interface SandboxReport {
  readonly threads: number
  readonly identity: number
  readonly userNamespace: number
  readonly idMap: number
  /** Mount, IPC, UTS and PID. */
  readonly namespaces: number
  readonly root: number
  /** Whether chroot(2) had to do. */
  readonly chrooted: boolean
}

/** Ends all threads but this one (Node's platform has some), changes the user, and enters namespaces with an empty root. After
 * a failure it goes on as far as that makes sense, but stops at `threads` and `identity`. */
export function enterSandbox(options: SandboxOptions): SandboxReport {
  const report = new Int32Array(7)
  let flags = options.identity ? FLAG_IDENTITY : 0
  if (options.userNamespace) flags |= FLAG_USER
  if (options.pidNamespace) flags |= FLAG_PID
  if (options.chrootFallback) flags |= FLAG_CHROOT
  calls.enterSandbox(flags, options.identity?.uid ?? 0, options.identity?.gid ?? 0, report)
  const [threads, identity, userNamespace, idMap, namespaces, root, chrooted] = report as unknown as number[]
  return {
    threads: threads!,
    identity: identity!,
    userNamespace: userNamespace!,
    idMap: idMap!,
    namespaces: namespaces!,
    root: root!,
    chrooted: chrooted === 1,
  }
}

/** Gives up, in this thread, the capabilities but `kept` (-1: all), new privileges, being traced, new processes, and all file systems.
 * @param signals whether signals to other processes will be needed
 * @returns `landlock`: 0, or the errno for which file systems are not closed by it; `result`: 0 or -errno */
export function giveUp(kept: number, signals: boolean): { readonly result: number; readonly landlock: number } {
  const report = new Int32Array(1)
  const result = calls.giveUp(kept, signals ? 1 : 0, report)
  return { result, landlock: report[0]! }
}

/** Forks, and returns in the child alone: the parent waits for `reportReady`, writes the child's PID to the PID file (-1: none),
 * a byte to `readyFd`, and ends. Only for a process of one thread.
 * @returns `told`: the descriptor for `reportReady`, or -errno; `pid`: the child's PID as the parent knows it */
export function forkDaemon(readyFd: number, pidFileFd: number): { readonly told: number; readonly pid: number } {
  const pid = new Int32Array(1)
  const told = calls.forkDaemon(readyFd, pidFileFd, pid)
  return { told, pid: pid[0]! }
}

/** Lets the parent report readiness. @returns 0, or -EPIPE when nobody waits any more */
export function reportReady(fd: number): number {
  return calls.reportReady(fd)
}

/** Ends the process at once: the way out once there is a sandbox, where Node's own would wait for threads that have ended. */
export function exitProcess(status: number): never {
  return calls.exitProcess(status)
}
