/**
 * Hop limits (TTL) of the guest's segments, on the host's socket: from the SYN, and from the first segment of each batch, so that what
 * a program sets on a connection later counts too. The kernel's retransmissions and acknowledgements have it as well.
 *
 * There is no way back: no socket option tells the hop limit of what a connection receives. The guest sees 255.
 */
import type { Context } from "../context.ts"
import { FD, FLOW_SHIFT, GUEST_FAMILY, HOST_FAMILY } from "../flow/table.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import { HOP_LIMIT } from "./state.ts"

/** What Linux begins with, and so do most guests: it leaves the socket its host's default, and costs no call. Whoever begins with less looks
 * for the nodes on the way. */
export const HOP_LIMIT_USUAL = 64

/** @param family of the guest side @param row a frame of the guest @returns 0…255 */
export function hopLimitOf(ctx: Context, family: number, row: number): number {
  const at = ethernet.HEADER_LENGTH + (family === 4 ? ipv4.TTL : ipv6.HOP_LIMIT)
  return ctx.view.getUint8(ctx.frames.offset[row]! + at)
}

/** Gives the flow's socket the hop limit of a frame, if that is another than the last. */
export function carryHopLimit(ctx: Context, flow: number, row: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const hops = hopLimitOf(ctx, w[base + GUEST_FAMILY]!, row)
  // No packet on a wire has none left (RFC 1812 section 5.3.1), and no socket would take it.
  if (hops === w[base + HOP_LIMIT] || hops === 0) return
  w[base + HOP_LIMIT] = hops
  ctx.kernel.setHopLimit(w[base + FD]!, w[base + HOST_FAMILY]!, hops)
}
