/**
 * A small deterministic generator: xorshift32 (Marsaglia 2003). Not for secrets.
 */
export class Random {
  #state: number

  /** @param seed any integer */
  constructor(seed: number) {
    // Neighbouring seeds must not give similar worlds: one round of murmur3's finaliser; zero is the one forbidden state.
    let s = seed | 0
    s = Math.imul(s ^ (s >>> 16), 0x85ebca6b)
    s = Math.imul(s ^ (s >>> 13), 0xc2b2ae35)
    this.#state = (s ^ (s >>> 16)) | 0 || 0x9e3779b9
  }

  /** An unsigned 32-bit number, never 0. */
  next(): number {
    let s = this.#state
    s ^= s << 13
    s ^= s >>> 17
    s ^= s << 5
    this.#state = s
    return s >>> 0
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + Math.floor((this.next() / 4294967296) * (high - low + 1))
  }

  /** True with a probability of `p`. */
  chance(p: number): boolean {
    return this.next() / 4294967296 < p
  }

  pick<T>(values: readonly T[]): T {
    return values[this.between(0, values.length - 1)]!
  }
}
