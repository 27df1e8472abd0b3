/**
 * Errors that a flow's socket reports (IP_RECVERR: ICMP messages from the network, and the kernel's own verdicts), passed on
 * to the guest.
 */
import type { Context } from "../context.ts"
import { FD, FLOW_SHIFT, GUEST_FAMILY, STATE } from "../flow/table.ts"
import { ERROR_FRAME_MAX, quoteRoom, quoteStart, tellError } from "../icmp/error.ts"
import { ERROR_SECOND, ERRORS_TOLD, FAILED } from "./state.ts"

/** Entries taken from one socket's error queue at a time. */
const ENTRIES_MAX = 16

/** Errors per flow and second that the guest is told (RFC 1812 section 4.3.2.8 and RFC 4443 section 2.4 f ask for a
 * limit). Well above what traceroute and path MTU discovery need. */
const TOLD_PER_SECOND_MAX = 64

/** Empties a flow's error queue as far as there is room for what it says. FAILED stays set while there may be more.
 * @param protocol number of the transport protocol in the guest's packets
 * @param header bytes of transport header that the kernel does not quote: 8 for UDP, 0 for ping
 * @returns false when it has to be continued later */
export function serveErrors(ctx: Context, flow: number, protocol: number, header: number): boolean {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { kernel, link, frames } = ctx
  const family = w[base + GUEST_FAMILY]
  const at = quoteStart(family) + header
  const room = quoteRoom(family) - header
  for (let i = 0; i < ENTRIES_MAX; i++) {
    const row = link.reserve(ERROR_FRAME_MAX)
    if (row < 0) return false
    frames.payload[row] = at
    if (kernel.readError(w[base + FD], row, room) <= 0) {
      w[base + STATE] &= ~FAILED
      return true
    }
    if (mayTell(ctx, base) && tellError(ctx, flow, row, protocol, header)) w[base + ERRORS_TOLD]++
  }
  return false
}

function mayTell(ctx: Context, base: number): boolean {
  const w = ctx.words
  const second = (ctx.now / 1000) | 0
  if (w[base + ERROR_SECOND] !== second) {
    w[base + ERROR_SECOND] = second
    w[base + ERRORS_TOLD] = 0
  }
  return w[base + ERRORS_TOLD] < TOLD_PER_SECOND_MAX
}
