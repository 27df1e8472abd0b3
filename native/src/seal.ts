/** The seal: no system calls but a few, and no memory. For start, once. Results are 0 or -errno. */
import type { Condition } from "./filter/annotations.ts"
import { addon } from "./load.ts"

interface SealAddon {
  reserveMemory(heapBytes: number, pageBytes: number): number
  canSeal(): number
  seal(conditions: number, fd: number, sink: number, name: string, elapsedMs: number): number
}

const calls = addon as unknown as SealAddon

/** In the order of CONDITIONS, which the filter's generator numbers them by. */
const BIT: Record<Condition, number> = {
  passt: 1,
  pasta: 2,
  "log-file": 4,
  capture: 8,
  command: 16,
  "no-sock-diag": 32,
  control: 64,
  "vhost-user": 128,
  policy: 256,
}
const SINK = { stderr: 0, file: 1, syslog: 2 } as const

/** Where the line about a forbidden call goes, and in what form. */
export interface Witness {
  readonly fd: number
  readonly sink: keyof typeof SINK
  /** Of the program, for the log daemon. */
  readonly name: string
  /** Milliseconds since the program started, for the log file. */
  readonly elapsedMs: number
}

/** Takes memory from the kernel, once, and keeps it. Untouched, it costs address space only.
 * @param heapBytes for malloc @param pageBytes for what V8 maps after the seal, at most 256 MiB */
export function reserveMemory(heapBytes: number, pageBytes: number): number {
  return calls.reserveMemory(heapBytes, pageBytes)
}

/** Whether the kernel has what `seal` takes. */
export function canSeal(): number {
  return calls.canSeal()
}

/** From here on: only the system calls of these conditions, and the memory of `reserveMemory`, which comes first as `enterSandbox` does.
 * Anything else ends the process with one line. */
export function seal(conditions: readonly Condition[], witness: Witness): number {
  const bits = conditions.reduce((sum, condition) => sum | BIT[condition], 0)
  return calls.seal(bits, witness.fd, SINK[witness.sink], witness.name, Math.floor(witness.elapsedMs))
}
