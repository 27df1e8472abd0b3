/**
 * Flows of datagrams that the policy has not allowed, or not yet: rows without a socket, found by what follows.
 */
import type { Context } from "../context.ts"
import { FLOW_SHIFT, HASH_NEXT, LAST_ACTIVE, NOT_INDEXED, SIDE_GUEST } from "../flow/table.ts"
import { tellRefused } from "../icmp/refused.ts"
import { REFUSED, WAITING } from "../policy/verdict.ts"
import { discard } from "./begin.ts"
import { ERROR_SECOND, LISTENER } from "./state.ts"

/** Keeps a flow from beginning: it waits, or it is told so (the guest's, if refused) and remembered.
 * @param side by which what follows finds it @returns the flow, -1: it is forgotten */
export function keepOut(ctx: Context, flow: number, verdict: number, side: number): number {
  const gate = ctx.gate!
  const base = flow << FLOW_SHIFT
  if (ctx.words[base + HASH_NEXT + side] === NOT_INDEXED) ctx.flows.index(flow, side)
  if (verdict === WAITING) {
    gate.wait(flow)
    return flow
  }
  if (verdict === REFUSED && side === SIDE_GUEST) tellAgain(ctx, flow)
  return gate.remember(flow) ? flow : discard(ctx, flow)
}

/** Frames of the guest for a flow that has no socket. */
export function blocked(ctx: Context, flow: number): void {
  const gate = ctx.gate
  // Without a gate there is no such flow.
  if (gate === undefined) return
  gate.blocked(flow)
  if (gate.verdicts[flow] === REFUSED && ctx.words[(flow << FLOW_SHIFT) + LISTENER] < 0) tellAgain(ctx, flow)
}

/** Once a second for each flow: RFC 1812 section 4.3.2.8. */
function tellAgain(ctx: Context, flow: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  // Never 0, which is the word of a new row.
  const second = (ctx.now / 1000) | 0 | 1
  if (w[base + ERROR_SECOND] === second) return
  w[base + ERROR_SECOND] = second
  w[base + LAST_ACTIVE] = ctx.now
  tellRefused(ctx, flow, ctx.gate!.tellOf(flow))
}
