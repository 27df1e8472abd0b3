/** Seeded numbers: the same ones for the same seed, on every machine. */
export class Random {
  #state: number

  constructor(seed: number) {
    // Neighbouring seeds must not begin alike.
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 0
    this.word()
  }

  /** 32 bits, signed (mulberry32, by T. Ettinger, in the public domain). */
  word(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return t ^ (t >>> 14)
  }

  /** 0 … below-1. */
  below(below: number): number {
    return (this.word() >>> 0) % below
  }

  /** low … high. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  chance(probability: number): boolean {
    return (this.word() >>> 0) / 2 ** 32 < probability
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.word())
  }

  /** Mostly small, sometimes as large as it gets. */
  length(most: number): number {
    const scale = this.pick([4, 16, 64, 256, 1500, most])
    return this.below(Math.min(scale, most) + 1)
  }

  /** A number of `bits` bits where faults like to be. */
  edge(bits: number): number {
    const top = 2 ** bits
    const value = this.pick([0, 1, 2, 3, 4, 7, 8, 20, 28, 40, 60, 127, 128, 255, 256, 576, 1280, 1500, 0x7fff, 0x8000])
    switch (this.below(3)) {
      case 0:
        return value % top
      case 1:
        return top - 1 - (value % top)
      default:
        return (this.word() >>> 0) % top
    }
  }
}
