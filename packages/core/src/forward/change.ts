/**
 * Forwarding rules that come and go while the engine runs. A rule can have 65,535 ports, and a socket takes the kernel some
 * microseconds: a change is made in steps between turns, so that frames never wait for it.
 *
 * ```
 *   open ──▶ all ports tried ──▶ done: the rule is served
 *     └── a port can't be had ──▶ close what was opened ──▶ done: failed, nothing is left of it
 *   close ─▶ all ports closed ──▶ done: the rule is gone
 * ```
 * A rule is served as a whole or not at all, unless it is `weak`: then those of its ports that can't be had are passed over, as at
 * start. Until it is done the rule has its place, and what comes to ports that are open already is forwarded.
 */
import type { Context } from "../context.ts"
import { EMFILE, ENFILE } from "../errno.ts"
import { listenFailed, type Listeners, nothingOpened } from "./listen.ts"
import type { ForwardRule } from "./rule.ts"

export interface RuleChange {
  /** The rule's number in the engine; -1: it has none, or not any more. */
  readonly index: number
  /** Whether nothing is left to do. */
  readonly done: boolean
  /** Why the rule is not served, one line; empty: it is, or is gone as was asked for. */
  readonly error: string
  /** Ports of a `weak` rule that could not be had. */
  readonly failedPorts: number
  /** Goes on, between turns. @param ports to open or close at most, at least 1 */
  step(ports: number): void
}

class Change implements RuleChange {
  index: number
  done = false
  error = ""
  failedPorts = 0
  readonly #listeners: Listeners
  readonly #rule: ForwardRule
  readonly #changed: () => void
  #closing: boolean
  #port: number
  #opened = 0
  #lastError = 0

  constructor(listeners: Listeners, rule: ForwardRule, index: number, closing: boolean, changed: () => void) {
    this.#listeners = listeners
    this.#rule = rule
    this.#changed = changed
    this.#closing = closing
    this.#port = rule.first
    this.index = index
    if (index < 0) {
      this.error = "Too many listening sockets"
      this.done = true
    }
  }

  step(ports: number): void {
    if (this.done) return
    if (this.#closing) this.#close(ports)
    else this.#open(ports)
  }

  #open(ports: number): void {
    const rule = this.#rule
    // Those of automatic rules open by themselves.
    if (rule.auto) this.#port = rule.last + 1
    for (let left = ports; left > 0 && this.#port <= rule.last; left--) {
      const result = this.#listeners.openPort(this.index, this.#port)
      if (result >= 0) this.#opened++
      else {
        this.#lastError = result
        this.failedPorts++
        if (!rule.weak) {
          this.#fail(listenFailed(rule, this.#port, result))
          return
        }
        if (result === -EMFILE || result === -ENFILE) {
          this.failedPorts += rule.last - this.#port
          this.#port = rule.last
        }
      }
      this.#port++
    }
    if (this.#port <= rule.last) return
    if (this.#opened === 0 && !rule.auto) this.#fail(nothingOpened(rule, this.#lastError))
    else this.#finish()
  }

  #fail(error: string): void {
    this.error = error
    this.#closing = true
    this.#port = this.#rule.first
  }

  #close(ports: number): void {
    const rule = this.#rule
    const last = Math.min(rule.last, this.#port + ports - 1)
    this.#listeners.closePorts(this.index, this.#port, last)
    this.#port = last + 1
    if (this.#port <= rule.last) return
    this.#listeners.release(this.index)
    this.index = -1
    this.#finish()
  }

  #finish(): void {
    this.done = true
    this.#changed()
  }
}

/** @param changed called when rules are others than before */
export function openRule(listeners: Listeners, rule: ForwardRule, changed: () => void): RuleChange {
  return new Change(listeners, rule, listeners.reserve(rule), false, changed)
}

/** @throws RangeError for a number that no rule has */
export function closeRule(ctx: Context, listeners: Listeners, index: number, changed: () => void): RuleChange {
  const rule = ctx.rules[index]
  if (rule === undefined) throw new RangeError(`there is no rule ${index}`)
  return new Change(listeners, rule, index, true, changed)
}
