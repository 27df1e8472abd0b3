/**
 * Whose end pasta waits for: a spawned command, a process, a file that names a namespace. Descriptors are for an epoll set
 * (`NativeKernel.watchLevel`). Results are >= 0 or -errno.
 */
import { addon } from "./load.ts"

interface WatchAddon {
  takeChild(pid: number): number
  openProcess(pid: number): number
  watchDirectory(path: string): number
  entryGone(fd: number, name: string): number
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

/** @returns a descriptor that is readable once something happened to entries of a directory, or the directory itself is gone;
 *   `entryGone` tells what */
export function watchDirectory(path: string): number {
  return calls.watchDirectory(path)
}

/** Reads what a descriptor of `watchDirectory` has to say, without looking at any file.
 * @returns 1 when the entry was removed, renamed or replaced, or the directory is gone; 0 when not; or -errno */
export function entryGone(fd: number, name: string): number {
  return calls.entryGone(fd, name)
}
