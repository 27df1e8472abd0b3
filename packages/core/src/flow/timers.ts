/**
 * A hierarchical timer wheel (Varghese, Lauck 1987): one timer per flow, one-millisecond ticks, four levels of 64 slots, so
 * up to 4.6 hours; arming and disarming take constant time and no memory.
 *
 * Level l holds timers due within 64^(l+1) ticks, in the slot of their deadline's l-th digit in base 64. When a lower
 * level has turned once, the next slot of the level above is spread over it.
 */
import { FLOW_SHIFT, TIMER_DEADLINE, TIMER_NEXT, TIMER_PREVIOUS, TIMER_SLOT } from "./table.ts"

const BITS = 6
const SLOTS: number = 1 << BITS
const MASK: number = SLOTS - 1
const LEVELS = 4
/** Longest delay, milliseconds. */
export const TIMER_DELAY_MAX: number = (1 << (BITS * LEVELS)) - 1

export class TimerWheel {
  readonly #words: Int32Array
  readonly #heads: Int32Array = new Int32Array(SLOTS * LEVELS).fill(-1)
  /** Time up to which timers have fired. */
  #now: number
  #armed = 0

  /** @param words the flow table's words @param nowMs the kernel's clock */
  constructor(words: Int32Array, nowMs: number) {
    this.#words = words
    this.#now = nowMs
  }

  /** Timers that are armed. */
  get armed(): number {
    return this.#armed
  }

  /** Arms a flow's timer, or moves it. @param deadline milliseconds; the past means the next tick */
  arm(flow: number, deadline: number): void {
    const w = this.#words
    const base = flow << FLOW_SHIFT
    if (w[base + TIMER_SLOT]! >= 0) {
      if (w[base + TIMER_DEADLINE] === deadline) return
      this.#unlink(base)
    }
    w[base + TIMER_DEADLINE] = deadline
    this.#link(flow, base, 1)
  }

  /** Arms a flow's timer unless it would fire earlier already. */
  armAtLatest(flow: number, deadline: number): void {
    const base = flow << FLOW_SHIFT
    const w = this.#words
    if (w[base + TIMER_SLOT]! >= 0 && ((w[base + TIMER_DEADLINE]! - deadline) | 0) <= 0) return
    this.arm(flow, deadline)
  }

  disarm(flow: number): void {
    const base = flow << FLOW_SHIFT
    if (this.#words[base + TIMER_SLOT]! >= 0) this.#unlink(base)
  }

  /** Takes the next timer that is due at `nowMs` off the wheel. Call until it returns -1; in between any timer may be
   * armed or disarmed.
   * @returns a flow, or -1 when nothing more is due */
  expire(nowMs: number): number {
    const w = this.#words
    while (this.#armed > 0) {
      const flow = this.#heads[this.#now & MASK]!
      if (flow >= 0) {
        const base = flow << FLOW_SHIFT
        this.#unlink(base)
        return flow
      }
      if (((nowMs - this.#now) | 0) <= 0) return -1
      const tick = (this.#now + 1) | 0
      this.#now = tick
      for (let level = 1; level < LEVELS && (tick & ((1 << (BITS * level)) - 1)) === 0; level++) {
        this.#cascade(w, level, tick)
      }
    }
    this.#now = nowMs
    return -1
  }

  /** @returns milliseconds from `nowMs` until something has to be done, a timer that is due or a slot to be spread: never later
   * than the next timer, and mostly not before it comes within 64 ticks; -1 if none is armed */
  delay(nowMs: number): number {
    if (this.#armed === 0) return -1
    const now = this.#now
    let ticks = 0x7fffffff
    for (let level = 0; level < LEVELS; level++) {
      const shift = BITS * level
      const turn = now >>> shift
      for (let i = 1; i <= SLOTS; i++) {
        if (this.#heads[level * SLOTS + ((turn + i) & MASK)]! < 0) continue
        const at = (((turn + i) << shift) - now) | 0
        if (at < ticks) ticks = at
        break
      }
      // What the levels above hold is due after this one has turned.
      const wrap = ((((now >>> (shift + BITS)) + 1) << (shift + BITS)) - now) | 0
      if (ticks <= wrap) break
    }
    const due = (now + ticks - nowMs) | 0
    return due > 0 ? due : 0
  }

  #cascade(w: Int32Array, level: number, tick: number): void {
    const slot = level * SLOTS + ((tick >>> (BITS * level)) & MASK)
    let flow = this.#heads[slot]!
    this.#heads[slot] = -1
    while (flow >= 0) {
      const base = flow << FLOW_SHIFT
      const next = w[base + TIMER_NEXT]!
      this.#armed--
      this.#link(flow, base, 0)
      flow = next
    }
  }

  #link(flow: number, base: number, soonest: number): void {
    const w = this.#words
    let delta = (w[base + TIMER_DEADLINE]! - this.#now) | 0
    // The slot of the tick at hand takes only what a cascade brings: anything else would wait for the next round.
    if (delta < soonest) delta = soonest
    if (delta > TIMER_DELAY_MAX) delta = TIMER_DELAY_MAX
    const at = (this.#now + delta) | 0
    let level = 0
    while (level < LEVELS - 1 && delta >= 1 << (BITS * (level + 1))) level++
    const slot = level * SLOTS + ((at >>> (BITS * level)) & MASK)
    const head = this.#heads[slot]!
    w[base + TIMER_SLOT] = slot
    w[base + TIMER_PREVIOUS] = -1
    w[base + TIMER_NEXT] = head
    if (head >= 0) w[(head << FLOW_SHIFT) + TIMER_PREVIOUS] = flow
    this.#heads[slot] = flow
    this.#armed++
  }

  #unlink(base: number): void {
    const w = this.#words
    const next = w[base + TIMER_NEXT]!
    const previous = w[base + TIMER_PREVIOUS]!
    if (next >= 0) w[(next << FLOW_SHIFT) + TIMER_PREVIOUS] = previous
    if (previous >= 0) w[(previous << FLOW_SHIFT) + TIMER_NEXT] = next
    else this.#heads[w[base + TIMER_SLOT]!] = next
    w[base + TIMER_SLOT] = -1
    this.#armed--
  }
}
