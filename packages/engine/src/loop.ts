/**
 * The engine's turns in Node's own loop, beside the program's work: as many as a budget of time allows, then everybody else is served.
 *
 * ```
 *   descriptor ready, or due ─▶ turn, turn, … until idle, or 1 ms ─▶ due later: timer │ more at once: the loop's next round
 * ```
 */
import type { Engine } from "@passt/core"
import type { NativeKernel } from "@passt/native"
import type { Chores } from "@passt/program"

/** How long turns go on before the rest of the program is served, microseconds. */
const BUDGET_MICROS = 1000

export class HostLoop {
  readonly #kernel: NativeKernel
  readonly #engine: Engine
  readonly #chores: Chores
  readonly #after: () => void
  readonly #failed: (error: unknown) => void
  #woken = false
  #joined = false

  /** @param after called after each run of turns @param failed gets what a turn has thrown: the engine is out of the loop then */
  constructor(
    kernel: NativeKernel,
    engine: Engine,
    chores: Chores,
    after: () => void,
    failed: (error: unknown) => void,
  ) {
    this.#kernel = kernel
    this.#engine = engine
    this.#chores = chores
    this.#after = after
    this.#failed = failed
  }

  /** @returns 0 or -errno */
  join(): number {
    const result = this.#kernel.joinLoop(() => this.#run())
    if (result < 0) return result
    this.#joined = true
    this.#kernel.armLoop(0)
    return 0
  }

  leave(): void {
    this.#joined = false
    this.#kernel.leaveLoop()
  }

  /** Whether the process goes on for the engine's sake. */
  keep(keep: boolean): void {
    if (this.#joined) this.#kernel.keepLoop(keep)
  }

  /** There is something to do that no descriptor tells of: a turn in the loop's next round. */
  wake(): void {
    if (this.#woken || !this.#joined) return
    this.#woken = true
    this.#kernel.armLoop(0)
  }

  #run(): void {
    const kernel = this.#kernel
    const engine = this.#engine
    const began = kernel.nowMicros()
    this.#woken = false
    let due = 0
    try {
      do {
        engine.turn(0)
        this.#chores.run(kernel.now())
        if (!this.#joined) return
        due = engine.due()
      } while (due === 0 && ((kernel.nowMicros() - began) | 0) < BUDGET_MICROS)
      this.#after()
    } catch (error) {
      this.leave()
      this.#failed(error)
      return
    }
    if (!this.#joined) return
    const chore = this.#chores.wait(kernel.now())
    kernel.armLoop(chore >= 0 && chore < due ? chore : this.#woken ? 0 : due)
  }
}
