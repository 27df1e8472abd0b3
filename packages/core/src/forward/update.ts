/**
 * Several forwarding rules exchanged for others while the engine runs, all of them or none, in steps between turns.
 *
 * ```
 *   open new ──▶ close old ──▶ done: the new rules are served
 *     └── a port can't be had ──▶ open old again ──▶ close new ──▶ done: failed, everything is as it was
 * ```
 * A socket for which both an old and a new rule listen, and in the same way, is handed over: it is never closed, and connections
 * that wait in its queue are not lost. Only where they listen for the same port in different ways (any address, then a certain
 * one) the old socket has to go before the new one can come. Old and new automatic rules are exchanged in one step, for
 * scans (auto.ts) must not see both.
 */
import type { Context } from "../context.ts"
import { EMFILE, ENFILE } from "../errno.ts"
import { listenFailed, type Listeners, nothingOpened } from "./listen.ts"
import type { ForwardRule } from "./rule.ts"

export interface RulesUpdate {
  readonly done: boolean
  /** Why everything is as it was, one line; empty: it isn't. */
  readonly error: string
  /** Numbers in the engine of the rules that were added, in their order; of no use once it has failed. */
  readonly indices: readonly number[]
  /** Ports of new `weak` rules that could not be had. */
  readonly failedPorts: number
  /** Goes on, between turns. @param ports to open or close at most, at least 1 */
  step(ports: number): void
}

interface Entry {
  readonly rule: ForwardRule
  readonly index: number
}

type Phase = "open" | "close" | "reopen" | "drop"

class Update implements RulesUpdate {
  done = false
  error = ""
  failedPorts = 0
  readonly #listeners: Listeners
  readonly #removed: readonly Entry[]
  readonly #added: Entry[] = []
  readonly #changed: () => void
  #phase: Phase = "open"
  /** Rule of the phase, and its next port; -1: its first. */
  #at = 0
  #port = -1
  /** Ports of the present rule that are open, and why the last one is not. */
  #opened = 0
  #lastError = 0

  constructor(listeners: Listeners, removed: readonly Entry[], added: readonly ForwardRule[], changed: () => void) {
    this.#listeners = listeners
    this.#removed = removed
    this.#changed = changed
    for (const rule of added) {
      const index = listeners.reserve(rule)
      if (index < 0) {
        this.#fail("Too many listening sockets")
        break
      }
      this.#added.push({ rule, index })
    }
  }

  get indices(): readonly number[] {
    return this.#added.map(({ index }) => index)
  }

  step(ports: number): void {
    if (this.done) return
    const opens = this.#phase === "open" || this.#phase === "reopen"
    const list = this.#phase === "open" || this.#phase === "drop" ? this.#added : this.#removed
    const entry = list[this.#at]
    if (entry === undefined) {
      this.#endPhase()
      return
    }
    // In one step, at the end of "close".
    if (entry.rule.auto && (this.#phase === "open" || this.#phase === "close")) {
      this.#nextRule()
      return
    }
    const first = this.#port < 0 ? entry.rule.first : this.#port
    let last = Math.min(entry.rule.last, first + ports - 1)
    if (!opens) this.#listeners.closePorts(entry.index, first, last)
    else {
      last = this.#open(entry, first, last)
      if (last < 0) return
    }
    this.#port = last + 1
    if (last < entry.rule.last) return
    if (!opens) this.#listeners.release(entry.index)
    else if (this.#phase === "open" && this.#opened === 0) {
      this.#fail(nothingOpened(entry.rule, this.#lastError))
      return
    }
    this.#nextRule()
  }

  #nextRule(): void {
    this.#at++
    this.#port = -1
    this.#opened = 0
  }

  #enter(phase: Phase): void {
    this.#phase = phase
    this.#at = -1
    this.#nextRule()
  }

  #endPhase(): void {
    if (this.#phase === "open") this.#enter("close")
    else if (this.#phase === "reopen") this.#enter("drop")
    else {
      if (this.#phase === "close") this.#exchangeAuto()
      this.done = true
      this.#changed()
    }
  }

  #fail(error: string): void {
    this.error = error
    this.#enter("reopen")
  }

  /** @returns the last port that needs no more looking at; -1: that was the end of the phase */
  #open({ rule, index }: Entry, first: number, last: number): number {
    const rivals = this.#phase === "open" ? this.#removed : this.#added
    for (const rival of rivals) this.#listeners.takeOver(index, rival.index, first, last)
    // The others of an automatic rule open by themselves.
    for (let port = first; port <= last && !rule.auto; port++) {
      const result = this.#listeners.openPort(index, port)
      if (result >= 0) {
        this.#opened++
        continue
      }
      this.#lastError = result
      if (this.#phase === "reopen") continue
      if (!rule.weak) {
        this.#fail(listenFailed(rule, port, result))
        return -1
      }
      this.failedPorts++
      // With no descriptor left, none of the other ports can succeed.
      if (result === -EMFILE || result === -ENFILE) {
        this.failedPorts += rule.last - port
        return rule.last
      }
    }
    return last
  }

  #exchangeAuto(): void {
    for (const { rule, index } of this.#added) {
      if (!rule.auto) continue
      for (const old of this.#removed) {
        if (old.rule.auto) this.#listeners.takeOver(index, old.index, rule.first, rule.last)
      }
    }
    for (const { rule, index } of this.#removed) if (rule.auto) this.#listeners.release(index)
  }
}

/** @param remove indices of rules @param changed called when rules are others than before
 * @throws RangeError for an index that no rule has */
export function updateRules(
  ctx: Context,
  listeners: Listeners,
  remove: readonly number[],
  add: readonly ForwardRule[],
  changed: () => void,
): RulesUpdate {
  const removed = remove.map((index) => {
    const rule = ctx.rules[index]
    if (rule === undefined) throw new RangeError(`there is no rule ${index}`)
    return { rule, index }
  })
  return new Update(listeners, removed, add, changed)
}
