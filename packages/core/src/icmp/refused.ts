/**
 * Datagrams and echo requests that the policy refuses, told to the guest: from our own address, about the packet that began the flow.
 * What is quoted is its transport header; the payload is not kept.
 *
 * Reads first: RFC 1812 section 5.2.7.1 (code 13), RFC 4443 section 3.1 (code 1).
 */
import type { Context } from "../context.ts"
import { EACCES, ECONNREFUSED } from "../errno.ts"
import { FAR, FLOW_SHIFT, GUEST, GUEST_FAMILY, KIND, KIND_UDP, PORT } from "../flow/table.ts"
import { ADDRESS_OFFENDER, ADDRESS_WORDS } from "../kernel.ts"
import { TELL_PORT, TELL_PROHIBITED } from "../policy/verdict.ts"
import { COUNTER } from "../stats.ts"
import * as icmp from "../wire/icmp.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { ERROR_FRAME_MAX, findSource, finishQuote, isOneNode, NO_SOURCE, quoteStart } from "./error.ts"
import { errnoToIcmp } from "./mapping.ts"

/** Sends the message. @param how TELL_…: a reset is for connections, and means the usual here */
export function tellRefused(ctx: Context, flow: number, how: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { frames, kernel, link, view } = ctx
  if (!isOneNode(ctx, w, base + FAR)) return
  const family = w[base + GUEST_FAMILY]
  const isUdp = w[base + KIND] === KIND_UDP
  const asPort = how === TELL_PORT || (isUdp && how !== TELL_PROHIBITED)
  const row = link.reserve(ERROR_FRAME_MAX)
  if (row < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return
  }
  kernel.address.fill(0, ADDRESS_OFFENDER, ADDRESS_OFFENDER + ADDRESS_WORDS)
  const neighbour = findSource(ctx, base)
  if (neighbour === NO_SOURCE) return
  const quote = frames.offset[row] + quoteStart(family)
  let protocol: number = ipv4.PROTOCOL_UDP
  if (isUdp) {
    udp.write(view, quote, w[base + GUEST + PORT], w[base + FAR + PORT], udp.HEADER_LENGTH)
  } else {
    protocol = family === 4 ? ipv4.PROTOCOL_ICMP : ipv6.PROTOCOL_ICMPV6
    view.setInt32(quote, (family === 4 ? icmp.ECHO_REQUEST : icmp.V6_ECHO_REQUEST) << 24)
    view.setUint16(quote + icmp.IDENTIFIER, w[base + GUEST + PORT])
    view.setUint16(quote + icmp.SEQUENCE, 0)
  }
  const what = errnoToIcmp(family, asPort ? ECONNREFUSED : EACCES)
  finishQuote(ctx, base, row, protocol, 8, what, 0, neighbour)
}
