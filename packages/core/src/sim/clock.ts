/**
 * Virtual time: what is to happen, in order. Equal times keep the order in which they were asked for.
 */
interface Due {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export class Clock {
  /** Microseconds since the world began. */
  now = 0
  #order = 0
  /** A binary heap. */
  readonly #due: Due[] = []

  /** Asks for `run` in `delay` microseconds. */
  after(delay: number, run: () => void): void {
    const heap = this.#due
    let i = heap.length
    const item = { at: this.now + Math.max(0, Math.floor(delay)), order: this.#order++, run }
    heap.push(item)
    while (i > 0) {
      const up = (i - 1) >> 1
      if (!earlier(item, heap[up]!)) break
      heap[i] = heap[up]!
      i = up
    }
    heap[i] = item
  }

  /** When the next thing happens, microseconds; undefined: never. */
  get next(): number | undefined {
    return this.#due[0]?.at
  }

  /** Moves time on to `until` at most and does the next thing if it comes before that. @returns whether there was one */
  step(until: number): boolean {
    const first = this.#due[0]
    if (first === undefined || first.at > until) {
      if (until > this.now) this.now = until
      return false
    }
    this.#pop()
    if (first.at > this.now) this.now = first.at
    first.run()
    return true
  }

  #pop(): void {
    const heap = this.#due
    const last = heap.pop()!
    if (heap.length === 0) return
    let i = 0
    for (;;) {
      let down = 2 * i + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && earlier(heap[down + 1]!, heap[down]!)) down++
      if (!earlier(heap[down]!, last)) break
      heap[i] = heap[down]!
      i = down
    }
    heap[i] = last
  }
}

function earlier(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
