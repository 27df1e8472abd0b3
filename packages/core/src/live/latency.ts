/**
 * How long turns of the loop take: from when a wait for events has ended to when the next one begins, whatever is done in between. That long
 * a frame may have had to wait. Two looks at the clock per turn; only for who asks.
 */

/** Upper bounds of the classes, microseconds; what takes longer is in one more. */
export const LATENCY_BOUNDS_MICROS: readonly number[] = [
  50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000,
]

export class LatencyHistogram {
  /** Turns per class. */
  readonly counts: Float64Array = new Float64Array(LATENCY_BOUNDS_MICROS.length + 1)
  /** Of all turns, microseconds. */
  sumMicros = 0
  #began = 0
  #isRunning = false

  /** The wait has ended. @param nowMicros as Kernel.nowMicros */
  begin(nowMicros: number): void {
    this.#began = nowMicros
    this.#isRunning = true
  }

  /** The next wait begins. */
  end(nowMicros: number): void {
    if (!this.#isRunning) return
    const took = (nowMicros - this.#began) | 0
    let i = 0
    while (i < LATENCY_BOUNDS_MICROS.length && took > LATENCY_BOUNDS_MICROS[i]!) i++
    this.counts[i] = this.counts[i]! + 1
    this.sumMicros += took
    this.#isRunning = false
  }
}
