/**
 * Whose end pasta waits for: a spawned command, a process, a file that names a namespace. Descriptors are for an epoll set
 * (`NativeKernel.watchLevel`). Results are >= 0 or -errno.
 */
import { addon } from "./load.ts"

interface WatchAddon {
  takeChild(pid: number): number
  openProcess(pid: number): number
  watchDirectory(path: string): number
  drain(fd: number): number
}

const calls = addon as unknown as WatchAddon

/** Whether a child has ended, and how; never waits. It is forgotten then.
 * @returns -EAGAIN (-11) while it runs, else its exit status, or 128 plus the number of the signal that has ended it */
export function takeChild(pid: number): number {
  return calls.takeChild(pid)
}

/** @returns a descriptor that is readable once the process has ended */
export function openProcess(pid: number): number {
  return calls.openProcess(pid)
}

/** @returns a descriptor that is readable once entries of a directory were removed, or the directory itself; `drain` it, and
 *   look at what is left */
export function watchDirectory(path: string): number {
  return calls.watchDirectory(path)
}

/** Reads and forgets what a non-blocking descriptor has to say. */
export function drain(fd: number): number {
  return calls.drain(fd)
}
