/**
 * A connection that the host could not make, told to the guest by an ICMP or ICMPv6 error about its SYN: "no route to host" and
 * the like, where a reset would say "refused". Linux gives up at once while it connects, as it does for a reset; other
 * systems take such errors for passing ones and repeat the SYN for a while (RFC 1122 section 4.2.3.9, RFC 5461), which opens
 * a new connection here, and gets a new answer.
 *
 * Where the socket queues what the network says, its own words are passed on, with the address of the node that said it: so routers
 * show in a guest's `traceroute -T`. Else it is the error number in ICMP's words, from our own address. The SYN is gone by then; what is quoted is a SYN of the same ports and number, without options.
 * Each SYN gets one answer at most, no longer than itself and two more headers, so there is no rate to limit.
 *
 * Reads first: RFC 792, RFC 4443 section 3.1; RFC 5927 section 4 (what a guest checks in the quote).
 */
import type { Context } from "../context.ts"
import { EMSGSIZE } from "../errno.ts"
import { FAR, FD, FLOW_SHIFT, GUEST, GUEST_FAMILY, PORT } from "../flow/table.ts"
import { ADDRESS_OFFENDER, ADDRESS_WORDS } from "../kernel.ts"
import { fold, pseudo4, pseudo6, sumOf } from "../wire/checksum.ts"
import * as icmp from "../wire/icmp.ts"
import { PROTOCOL_TCP } from "../wire/ipv4.ts"
import * as tcp from "../wire/tcp.ts"
import { ERROR_FRAME_MAX, findSource, finishQuote, NO_SOURCE, quoteStart } from "./error.ts"
import { errnoToIcmp, errorToIcmp, isPortUnreachable } from "./mapping.ts"

/** Tells the guest of a flow why its connection failed.
 * @param errno positive, of the call that failed or of the socket @param sequence of the guest's SYN @param window in it
 * @returns false when there is nothing to tell this way, or no room: a reset says it then */
export function tellConnectError(ctx: Context, flow: number, errno: number, sequence: number, window: number): boolean {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { frames, kernel, link, view } = ctx
  const family = w[base + GUEST_FAMILY]
  const row = link.reserve(ERROR_FRAME_MAX)
  if (row < 0) return false
  frames.payload[row] = quoteStart(family)
  const fd = w[base + FD]
  let what = -1
  if (fd >= 0 && kernel.readError(fd, row, 0) > 0) what = errorToIcmp(family, kernel.error)
  if (what < 0) {
    what = errno === EMSGSIZE ? -1 : errnoToIcmp(family, errno)
    kernel.address.fill(0, ADDRESS_OFFENDER, ADDRESS_OFFENDER + ADDRESS_WORDS)
  }
  if (what < 0 || isPortUnreachable(family, what) || isTooBig(family, what)) return false
  const neighbour = findSource(ctx, base)
  if (neighbour === NO_SOURCE) return false
  const quote = frames.offset[row] + quoteStart(family)
  tcp.write(view, quote, tcp.HEADER_LENGTH, w[base + GUEST + PORT], w[base + FAR + PORT], sequence, 0, tcp.SYN, window)
  const pseudo =
    family === 4
      ? pseudo4(w[base + GUEST + 3], w[base + FAR + 3], PROTOCOL_TCP, tcp.HEADER_LENGTH)
      : pseudo6(w, base + GUEST, w, base + FAR, PROTOCOL_TCP, tcp.HEADER_LENGTH)
  view.setUint16(quote + tcp.CHECKSUM, ~fold(pseudo + sumOf(view, quote, tcp.HEADER_LENGTH)))
  finishQuote(ctx, base, row, PROTOCOL_TCP, tcp.HEADER_LENGTH, what, 0, neighbour)
  return true
}

/** Nothing is too big about a SYN, and an MTU is not known here. */
function isTooBig(family: number, what: number): boolean {
  return family === 4
    ? what === ((icmp.UNREACHABLE << 8) | icmp.CODE_FRAGMENTATION_NEEDED)
    : what >> 8 === icmp.V6_PACKET_TOO_BIG
}
