/** The file that callers find the running program by. */
import { closeSync, existsSync, openSync, writeSync } from "node:fs"
import { systemError } from "./error.ts"

/** @param made gets the path if the file is this run's own @param opened the descriptor that the launcher has opened
 * @returns the descriptor, -1 without a PID file */
export function openPidFile(path: string | null, made: string[], opened: number | null): number {
  if (path === null) return -1
  if (opened !== null) return opened
  // One that a caller has made (QEMU does) stays the caller's.
  if (!existsSync(path)) made.push(path)
  try {
    return openSync(path, "w", 0o600)
  } catch (error) {
    throw systemError(`Couldn't open PID file ${path}`, error)
  }
}

export function writePidFile(fd: number, path: string | null): void {
  if (fd < 0) return
  try {
    writeSync(fd, `${process.pid}\n`)
    closeSync(fd)
  } catch (error) {
    throw systemError(`Couldn't write PID file ${path}`, error)
  }
}
