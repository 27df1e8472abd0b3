/** Flows as objects: rows of core's table, made when somebody looks, with a number that is never used again. */
import { type Engine, FLOW_MAX, type FlowView } from "@passt/core"
import type { Flow } from "./events.ts"

/** Rows between which the rest of the program has its turn: far less than a millisecond. */
const SLICE_ROWS = 1024

/** Which flow a row is. */
export class FlowIds {
  readonly #ids: Float64Array = new Float64Array(FLOW_MAX)
  #last = 0

  begin(row: number): number {
    return (this.#ids[row] = ++this.#last)
  }

  of(row: number): number {
    return this.#ids[row]!
  }
}

/** Flows that are alive; each iteration is a look of its own. */
export class FlowList implements Iterable<Flow>, AsyncIterable<Flow> {
  readonly #engine: Engine | undefined
  readonly #ids: FlowIds

  constructor(engine: Engine | undefined, ids: FlowIds) {
    this.#engine = engine
    this.#ids = ids
  }

  *#slices(): Generator<Flow[], void> {
    let row = 0
    while (this.#engine !== undefined && row >= 0) {
      const slice: Flow[] = []
      row = this.#engine.flows(row, SLICE_ROWS, (view: FlowView) => slice.push({ id: this.#ids.of(view.row), ...view }))
      yield slice
    }
  }

  *[Symbol.iterator](): Generator<Flow, void> {
    for (const slice of this.#slices()) yield* slice
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Flow, void> {
    for (const slice of this.#slices()) {
      yield* slice
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}
