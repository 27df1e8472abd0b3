/**
 * Limits how often one place of the program speaks: five messages per window; a window ends with the first message
 * after more than a second.
 */
import type { Level } from "./levels.ts"

const MESSAGES_PER_WINDOW = 5
const WINDOW_MS = 1000

/** Where messages go: a Logger. */
export interface LimitedTarget {
  enabled(level: Level): boolean
  log(level: Level, text: string): void
}

export class LimitedSite {
  readonly #target: LimitedTarget
  readonly #level: Level
  readonly #clock: () => number
  #windowStart = 0
  #count = 0

  constructor(target: LimitedTarget, level: Level, clock: () => number) {
    this.#target = target
    this.#level = level
    this.#clock = clock
  }

  /** @param text the message, or a function that composes it if it is to be written */
  say(text: string | (() => string)): void {
    if (!this.#target.enabled(this.#level)) return
    const now = this.#clock()
    let suffix = ""
    if (this.#count > 0 && now - this.#windowStart > WINDOW_MS) {
      const suppressed = this.#count - MESSAGES_PER_WINDOW
      if (suppressed > 0) suffix = ` (suppressed ${suppressed} similar messages)`
      this.#count = 0
    }
    if (this.#count === 0) this.#windowStart = now
    this.#count++
    if (this.#count > MESSAGES_PER_WINDOW) return
    if (this.#count === MESSAGES_PER_WINDOW) suffix = " (suppressing further similar messages)"
    this.#target.log(this.#level, (typeof text === "string" ? text : text()) + suffix)
  }
}
