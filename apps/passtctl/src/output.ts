/** Standard output, and what is wrong with a command line. */
import { writeSync } from "node:fs"

export class UsageError extends Error {}

/** Writes all of it, however slowly it is taken. */
export function print(text: string): number {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(1, bytes, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error
      sleep(5)
    }
  }
  return 0
}

/** Waits, milliseconds. */
export function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
