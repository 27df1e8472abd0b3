/** All engines of the machine: those that its last definition asked for, and no others. */
import { Engine } from "./engine.ts"
import type { Log } from "./log.ts"
import type { EnginePlan } from "./mutate.ts"

export class Engines {
  readonly #running: Map<string, Engine> = new Map()
  readonly #passt: string
  readonly #log: Log
  #queue: Promise<unknown> = Promise.resolve()

  constructor(passt: string, log: Log) {
    this.#passt = passt
    this.#log = log
  }

  [Symbol.iterator](): IterableIterator<Engine> {
    return this.#running.values()
  }

  /** Starts those that are missing, and ends those that are not in the plans. One definition after the other.
   * @throws Refusal if one does not get ready */
  follow(plans: readonly EnginePlan[]): Promise<void> {
    const result = this.#queue.then(() => this.#follow(plans))
    this.#queue = result.catch(() => {})
    return result
  }

  async #follow(plans: readonly EnginePlan[]): Promise<void> {
    const wanted = new Map(plans.map((plan) => [plan.socket, plan]))
    for (const [socket, engine] of this.#running) {
      const plan = wanted.get(socket)
      if (plan !== undefined && sameWords(plan.options, engine.plan.options)) continue
      const what = plan === undefined ? "an engine is not needed any more" : "an engine gets other options"
      this.#log.info(what, { interface: engine.plan.interfaceName })
      this.#running.delete(socket)
      await engine.stop()
    }
    for (const [socket, plan] of wanted) {
      if (this.#running.has(socket)) continue
      const engine = new Engine(plan, this.#passt, this.#log)
      // Known before it is ready, so that an end of everything is its end, too.
      this.#running.set(socket, engine)
      try {
        await engine.start()
      } catch (error) {
        this.#running.delete(socket)
        throw error
      }
    }
  }

  async stop(): Promise<void> {
    const all = [...this.#running.values()]
    this.#running.clear()
    await Promise.all(all.map((engine) => engine.stop()))
  }
}

function sameWords(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((word, i) => word === b[i])
}
