/**
 * Rate limits: a token bucket per direction for the flows that have one. What a flow has carried is counted anyway (FlowTable.bytes), so
 * nothing is noted per packet: whoever is about to move something asks how much it may be.
 *
 * TCP is held back at its source: no more is read from the socket than there is room for, and the guest is offered no wider window.
 * Datagrams to the guest wait in their socket; those of the guest that are too many are dropped.
 */
import type { Context } from "../context.ts"
import { FLOW_SHIFT, KIND, isSplicedKind } from "../flow/table.ts"
import { FLOW_MAX } from "../limits.ts"
import type { RateLimit } from "./rule.ts"

/** How often flows that wait for room are looked at, milliseconds. */
const TICK_MS = 5
/** A bucket holds at least one segment of any length. */
const BURST_MIN = 65_536
const BURST_SECONDS = 0.25
const ROOM_MAX = 0x3fff_ffff

export class Shaper {
  /** Per flow: 1 if it has a limit. */
  readonly limited: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)
  /** Flows that wait for room. */
  waiting = 0
  /** When to look at them. */
  dueAt = 0
  readonly #ctx: Context
  /** Bytes per millisecond, and of the bucket. */
  readonly #rate: Float64Array<ArrayBuffer> = new Float64Array(FLOW_MAX)
  readonly #burst: Float64Array<ArrayBuffer> = new Float64Array(FLOW_MAX)
  /** Per flow and direction: what is in the bucket, what the flow had carried when that was reckoned, and when that was. */
  readonly #tokens: Float64Array<ArrayBuffer> = new Float64Array(2 * FLOW_MAX)
  readonly #carried: Float64Array<ArrayBuffer> = new Float64Array(2 * FLOW_MAX)
  readonly #at: Int32Array<ArrayBuffer> = new Int32Array(2 * FLOW_MAX)
  /** The flows that wait; each at most once. */
  readonly #list: Int32Array<ArrayBuffer> = new Int32Array(FLOW_MAX)
  readonly #isListed: Uint8Array<ArrayBuffer> = new Uint8Array(FLOW_MAX)

  constructor(ctx: Context) {
    this.#ctx = ctx
  }

  /** A flow that begins has this limit. */
  start(flow: number, limit: RateLimit): void {
    this.limited[flow] = 1
    this.#rate[flow] = limit.bytesPerSecond / 1000
    this.#burst[flow] = Math.max(BURST_MIN, limit.burstBytes ?? limit.bytesPerSecond * BURST_SECONDS)
    for (let d = 0; d < 2; d++) {
      this.#tokens[2 * flow + d] = this.#burst[flow]!
      this.#carried[2 * flow + d] = 0
      this.#at[2 * flow + d] = this.#ctx.now
    }
  }

  end(flow: number): void {
    this.limited[flow] = 0
  }

  /** @param direction DIRECTION_FROM_GUEST or DIRECTION_TO_GUEST @returns bytes that a limited flow may carry now, 0 or more */
  room(flow: number, direction: number): number {
    const i = 2 * flow + direction
    const { now } = this.#ctx
    const carried = this.#ctx.flows.bytes[i]!
    const refill = ((now - this.#at[i]!) >>> 0) * this.#rate[flow]!
    let tokens = this.#tokens[i]! + refill - (carried - this.#carried[i]!)
    if (tokens > this.#burst[flow]!) tokens = this.#burst[flow]!
    this.#tokens[i] = tokens
    this.#carried[i] = carried
    this.#at[i] = now
    if (tokens <= 0) return 0
    return tokens > ROOM_MAX ? ROOM_MAX : Math.floor(tokens)
  }

  /** The flow is served again when there may be room. */
  wait(flow: number): void {
    if (this.#isListed[flow] !== 0) return
    if (this.waiting === 0) this.dueAt = (this.#ctx.now + TICK_MS) | 0
    this.#isListed[flow] = 1
    this.#list[this.waiting++] = flow
  }

  /** Hands those that wait to their work queues; who still has no room comes back. */
  tick(): void {
    const { work, spliceWork, words } = this.#ctx
    const count = this.waiting
    this.waiting = 0
    for (let i = 0; i < count; i++) {
      const flow = this.#list[i]!
      this.#isListed[flow] = 0
      if (this.limited[flow] === 0) continue
      const kind = words[(flow << FLOW_SHIFT) + KIND]!
      if (isSplicedKind(kind)) spliceWork.add(flow)
      else work.add(flow)
    }
  }
}

/** Whether a flow may carry nothing now: then it is served again later. The caller does nothing but return. */
export function mustWait(ctx: Context, flow: number, direction: number): boolean {
  const { gate } = ctx
  if (gate === undefined || gate.shaper.limited[flow] === 0 || gate.shaper.room(flow, direction) > 0) return false
  gate.shaper.wait(flow)
  return true
}

/** @returns bytes that a flow may carry now; with no limit all of `most` */
export function roomOf(ctx: Context, flow: number, direction: number, most: number): number {
  const { gate } = ctx
  if (gate === undefined || gate.shaper.limited[flow] === 0) return most
  const room = gate.shaper.room(flow, direction)
  return room < most ? room : most
}
