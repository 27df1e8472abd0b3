/**
 * The first and the failed steps of a flow of datagrams.
 */
import { type Context, REF_FLOW, REF_SHIFT } from "../context.ts"
import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from "../errno.ts"
import {
  FAR,
  FD,
  FLOW_SHIFT,
  GUEST,
  HASH_NEXT,
  LAST_ACTIVE,
  NEIGHBOUR,
  NOT_INDEXED,
  PORT,
  SIDE_GUEST,
  STATE,
} from "../flow/table.ts"
import { COUNTER } from "../stats.ts"
import { copy } from "../wire/address.ts"
import { LISTENER, SLOTS, SLOTS_MIN } from "./state.ts"

/** Takes a row and gives it the guest's side from the key in `ctx.flows.key`.
 * @returns the flow, -1 when the table is full (counted and logged) */
export function allocate(ctx: Context, kind: number, site: string): number {
  const { flows } = ctx
  const flow = flows.allocate(kind)
  if (flow < 0) {
    ctx.count(COUNTER.dropNoFlow)
    ctx.log("warning", site, "The flow table is full: new flows are refused")
    return -1
  }
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { key } = flows
  copy(w, base + GUEST, key, 1)
  copy(w, base + FAR, key, 5)
  w[base + GUEST + PORT] = key[9]
  w[base + FAR + PORT] = key[10]
  w[base + SLOTS] = SLOTS_MIN
  w[base + LISTENER] = -1
  w[base + LAST_ACTIVE] = ctx.now
  const { neighbours } = ctx.config
  if (neighbours !== undefined) w[base + NEIGHBOUR] = neighbours.lookup(w, base + FAR)
  return flow
}

/** Watches the connected socket, makes the flow findable from the guest's side unless it is, and starts its timer.
 * @param state bits to begin with; the flow is served in this turn
 * @returns the flow, -1 if the kernel can't watch another socket */
export function begin(ctx: Context, flow: number, state: number, silence: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  w[base + STATE] = state
  if (ctx.kernel.watch(w[base + FD], (REF_FLOW << REF_SHIFT) | flow) < 0) {
    ctx.count(COUNTER.dropNoFlow)
    return discard(ctx, flow)
  }
  if (w[base + HASH_NEXT + SIDE_GUEST] === NOT_INDEXED) ctx.flows.index(flow, SIDE_GUEST)
  ctx.timers.arm(flow, (ctx.now + silence) | 0)
  if (state !== 0) ctx.work.add(flow)
  return flow
}

/** Gives back a row that was never watched or queued, and closes its socket. @returns -1 */
export function discard(ctx: Context, flow: number): number {
  const at = (flow << FLOW_SHIFT) + FD
  if (ctx.words[at] >= 0) ctx.kernel.close(ctx.words[at])
  ctx.words[at] = -1
  ctx.gate?.ended(flow)
  ctx.flows.retire(flow)
  ctx.flows.free(flow)
  return -1
}

/** Whether an error means that the process or the host has run out of something. */
export function isExhaustion(result: number): boolean {
  return result === -EMFILE || result === -ENFILE || result === -ENOBUFS || result === -ENOMEM
}
