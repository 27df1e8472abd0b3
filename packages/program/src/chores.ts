/**
 * What the program does now and then besides turns of the engine: each chore says when it is due, and is run after the turn in
 * which it is.
 */

export interface Chore {
  /** Whether it wants to run at all. */
  readonly isDue: boolean
  /** When, on the kernel's clock (Kernel.now: 32 bits that wrap). */
  readonly dueAt: number
  run(now: number): void
}

export class Chores {
  readonly #all: Chore[] = []

  add(chore: Chore): void {
    this.#all.push(chore)
  }

  /** Milliseconds until the next one is due, for Engine.turn; -1: none is. */
  wait(now: number): number {
    let wait = -1
    for (let i = 0; i < this.#all.length; i++) {
      const chore = this.#all[i]!
      if (!chore.isDue) continue
      const left = Math.max(0, (chore.dueAt - now) | 0)
      if (wait < 0 || left < wait) wait = left
    }
    return wait
  }

  /** Runs those that are due. */
  run(now: number): void {
    for (let i = 0; i < this.#all.length; i++) {
      const chore = this.#all[i]!
      if (chore.isDue && ((chore.dueAt - now) | 0) <= 0) chore.run(now)
    }
  }
}
