/**
 * The work queue: flows that owe their guest something (data, an acknowledgement, a FIN) and can be served as soon as the
 * link has room. First in, first out, so that flows take turns; a flow is in it at most once.
 */
import { FLOW_SHIFT, WORK_NEXT } from "./table.ts"

/** WORK_NEXT of a flow that is not queued. */
const NOT_QUEUED = -1
/** WORK_NEXT of the last in the queue. */
const LAST = -2

export class WorkQueue {
  readonly #words: Int32Array
  #head = -1
  #tail = -1
  /** Flows queued. */
  count = 0

  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Queues a flow, unless it is queued. */
  add(flow: number): void {
    const w = this.#words
    const at = (flow << FLOW_SHIFT) + WORK_NEXT
    if (w[at] !== NOT_QUEUED) return
    w[at] = LAST
    if (this.#tail >= 0) w[(this.#tail << FLOW_SHIFT) + WORK_NEXT] = flow
    else this.#head = flow
    this.#tail = flow
    this.count++
  }

  /** Takes the first flow. @returns the flow, or -1 */
  take(): number {
    const flow = this.#head
    if (flow < 0) return -1
    const w = this.#words
    const at = (flow << FLOW_SHIFT) + WORK_NEXT
    const next = w[at]!
    w[at] = NOT_QUEUED
    this.#head = next === LAST ? -1 : next
    if (next === LAST) this.#tail = -1
    this.count--
    return flow
  }
}
