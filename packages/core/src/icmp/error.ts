/**
 * ICMP and ICMPv6 error messages to the guest.
 *
 * ```
 *   Ethernet │ IP: offender → guest │ ICMP (8) │ quoted IP: guest → far │ quoted transport header │ quoted payload
 *            │                      │          └─ quoteStart ───────────┘
 *            └──────────────── at most 576 (IPv4) or 1280 (IPv6) bytes ──────────────────────────────────────────┘
 * ```
 * The quoted headers are those that the guest sent: the kernel reports only what lies behind them, and its own
 * addresses are not the guest's.
 *
 * Reads first: RFC 1812 section 4.3.2, RFC 4443 section 2.4.
 */
import type { Context } from "../context.ts"
import { writeEthernet } from "../emit.ts"
import { FAR, FLOW_SHIFT, GUEST, GUEST_FAMILY, NEIGHBOUR, PEER, PORT } from "../flow/table.ts"
import { FRAME_NEEDS_CHECKSUM } from "../frames.ts"
import { ADDRESS_OFFENDER, ERROR_PAYLOAD } from "../kernel.ts"
import { COUNTER } from "../stats.ts"
import { copy, equal, isMapped, isUnicast, isUnspecified } from "../wire/address.ts"
import { pseudo6 } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as icmp from "../wire/icmp.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { errnoToIcmp, errorMtu, errorToIcmp } from "./mapping.ts"

/** Longest error message, bytes of IP packet: RFC 1812 section 4.3.2.3; RFC 4443 section 2.4 c. */
const PACKET_MAX_4 = 576
const PACKET_MAX_6 = 1280
/** Room that any error message fits. */
export const ERROR_FRAME_MAX: number = ethernet.HEADER_LENGTH + PACKET_MAX_6

const HOP_LIMIT = 255
/** Hop limit of the quoted header: as the router that gave the packet up saw it, where that was the reason. */
const QUOTED_HOP_LIMIT = 1

/** Source of the message being written. */
const source: Int32Array = new Int32Array(4)
/** What findSource found: no address may be the source. */
export const NO_SOURCE = -2

/** Where the quoted IP header begins, bytes from the start of the frame. */
function quotedIp(family: number): number {
  return ethernet.HEADER_LENGTH + (family === 4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH) + icmp.HEADER_LENGTH
}

/** Where the quoted transport header begins, bytes from the start of the frame. */
export function quoteStart(family: number): number {
  return quotedIp(family) + (family === 4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
}

/** Room for quoted transport header and payload, bytes. */
export function quoteRoom(family: number): number {
  return ethernet.HEADER_LENGTH + (family === 4 ? PACKET_MAX_4 : PACKET_MAX_6) - quoteStart(family)
}

/** Whether a frame of the guest is addressed to a group of stations: the lowest bit of the first byte (IEEE 802.3 section 3.2.3). */
export function isGroupFrame(ctx: Context, row: number): boolean {
  return (ctx.view.getUint8(ctx.frames.offset[row] + ethernet.DESTINATION) & 1) !== 0
}

/** Whether a destination is that of one node, not of a group nor of the guest's whole network: only then may errors be sent about
 * a packet (RFC 1122 section 3.2.2), and connections be made (section 4.2.3.10). */
export function isOneNode(ctx: Context, a: Int32Array, i: number): boolean {
  if (!isUnicast(a, i)) return false
  const { address4, prefix4 } = ctx.guest
  // A network of two has no broadcast address (RFC 3021).
  if (!isMapped(a, i) || prefix4 === 0 || prefix4 > 30) return true
  const host = -1 >>> prefix4
  return ((a[i + 3] ^ address4[3]) & ~host) !== 0 || (a[i + 3] & host) !== host
}

/** Puts our own address on the guest's link into `source`, else another one.
 * @returns whether it is a fit source */
function sourceIsOurs(ctx: Context, family: number, otherwise: Int32Array, index: number): boolean {
  const ours = family === 4 ? ctx.guest.gateway4 : ctx.guest.ourLinkLocal6
  if (isUnspecified(ours, 0)) copy(source, 0, otherwise, index)
  else copy(source, 0, ours, 0)
  return isUnicast(source, 0)
}

/** Puts the source of a message about a flow's packet into `source`: the node in ADDRESS_OFFENDER as the guest knows it, or
 * our own address if the host itself gave the packet up.
 * @returns the row of the neighbour table that the frame's source comes from, -1: none; or NO_SOURCE */
export function findSource(ctx: Context, base: number): number {
  const w = ctx.words
  const { address } = ctx.kernel
  const { neighbours } = ctx.config
  const family = w[base + GUEST_FAMILY]
  if (equal(address, ADDRESS_OFFENDER, w, base + PEER)) {
    copy(source, 0, w, base + FAR)
    return isUnicast(source, 0) ? w[base + NEIGHBOUR] : NO_SOURCE
  }
  const foreign = isUnspecified(address, ADDRESS_OFFENDER) || isMapped(address, ADDRESS_OFFENDER) !== (family === 4)
  if (foreign || !ctx.translator.inbound(address, ADDRESS_OFFENDER, source, 0)) {
    if (!sourceIsOurs(ctx, family, w, base + FAR)) return NO_SOURCE
  }
  if (!isUnicast(source, 0)) return NO_SOURCE
  return neighbours === undefined ? -1 : neighbours.lookup(source, 0)
}

/** Writes the quoted IP header of a packet that a flow's guest sent, and the message around it, and queues that.
 * @param row reserved, with ERROR_FRAME_MAX bytes, and the quoted transport header and payload in place
 * @param quoted bytes of these @param what type << 8 | code @param neighbour as findSource found */
export function finishQuote(
  ctx: Context,
  base: number,
  row: number,
  protocol: number,
  quoted: number,
  what: number,
  mtu: number,
  neighbour: number,
): void {
  const w = ctx.words
  const v = ctx.view
  const family = w[base + GUEST_FAMILY]
  const from = quotedIp(family)
  const ip = ctx.frames.offset[row] + from
  if (family === 4) {
    const total = ipv4.HEADER_LENGTH + quoted
    ipv4.write(v, ip, total, protocol, QUOTED_HOP_LIMIT, w[base + GUEST + 3], w[base + FAR + 3])
  } else {
    ipv6.write(v, ip, quoted, protocol, QUOTED_HOP_LIMIT, 0, w, base + GUEST, w, base + FAR)
  }
  finish(ctx, row, family, what, mtu, quoteStart(family) - from + quoted, neighbour, w, base + GUEST)
}

/** Tells a flow's guest what `Kernel.readError` found: `error`, ADDRESS_OFFENDER, and quoted bytes in the row.
 * @param row reserved, with ERROR_FRAME_MAX bytes; the kernel has put what it quotes at quoteStart() + header
 * @param protocol number of the transport protocol of the guest's packet
 * @param header 8: the quoted UDP header is written here; 0: the kernel quotes an ICMP echo header itself, with an identifier
 *   that is not the guest's
 * @returns whether a message was queued */
export function tellError(ctx: Context, flow: number, row: number, protocol: number, header: number): boolean {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { error } = ctx.kernel
  const family = w[base + GUEST_FAMILY]
  const what = errorToIcmp(family, error)
  if (what < 0 || !isOneNode(ctx, w, base + FAR)) return false
  const neighbour = findSource(ctx, base)
  if (neighbour === NO_SOURCE) return false
  const v = ctx.view
  const quote = ctx.frames.offset[row] + quoteStart(family)
  const payload = Math.max(0, Math.min(error[ERROR_PAYLOAD], quoteRoom(family) - header))
  if (header > 0) {
    udp.write(v, quote, w[base + GUEST + PORT], w[base + FAR + PORT], header + payload)
  } else if (payload >= icmp.SEQUENCE) {
    v.setUint16(quote + icmp.IDENTIFIER, w[base + GUEST + PORT])
  }
  finishQuote(ctx, base, row, protocol, header + payload, what, errorMtu(family, error), neighbour)
  return true
}

/** Answers a packet from the guest that no socket could be connected for, with what Linux would say of that error. The
 * packet's key is in `ctx.flows.key`.
 * @param row the guest's frame @param errno positive */
export function tellUnreachable(ctx: Context, row: number, errno: number): void {
  const { frames, link } = ctx
  const { key } = ctx.flows
  const family = isMapped(key, 1) ? 4 : 6
  const what = errnoToIcmp(family, errno)
  // RFC 1122 section 3.2.2: nor what came in a frame to a group.
  if (what < 0 || !isOneNode(ctx, key, 5) || isGroupFrame(ctx, row)) return
  if (!sourceIsOurs(ctx, family, key, 5)) return
  const answer = link.reserve(ERROR_FRAME_MAX)
  if (answer < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return
  }
  const from = frames.offset[row] + ethernet.HEADER_LENGTH
  const packet =
    family === 4 ? ipv4.totalLength(ctx.view, from) : ipv6.HEADER_LENGTH + ipv6.payloadLength(ctx.view, from)
  const readable = frames.window[row] - ethernet.HEADER_LENGTH
  const at = quotedIp(family)
  const room = ERROR_FRAME_MAX - (PACKET_MAX_6 - (family === 4 ? PACKET_MAX_4 : PACKET_MAX_6)) - at
  const length = Math.min(packet, readable, room)
  const to = frames.offset[answer] + at
  frames.arena.copyWithin(to, from, from + length)
  finish(ctx, answer, family, what, 0, length, -1, key, 1)
}

/** Writes the headers around a quote of `length` bytes and queues the message.
 * @param what type << 8 | code @param mtu for the types that state one
 * @param to,ti the guest's address */
function finish(
  ctx: Context,
  row: number,
  family: number,
  what: number,
  mtu: number,
  length: number,
  neighbour: number,
  to: Int32Array,
  ti: number,
): void {
  const v = ctx.view
  const { frames } = ctx
  const o = frames.offset[row]
  const ip = o + ethernet.HEADER_LENGTH
  const total = icmp.HEADER_LENGTH + length
  let l4: number
  let sum = 0
  let second = 0
  if (family === 4) {
    writeEthernet(ctx, o, ethernet.TYPE_IPV4, neighbour)
    ipv4.write(v, ip, ipv4.HEADER_LENGTH + total, ipv4.PROTOCOL_ICMP, HOP_LIMIT, source[3], to[ti + 3])
    l4 = ip + ipv4.HEADER_LENGTH
    if (what === ((icmp.UNREACHABLE << 8) | icmp.CODE_FRAGMENTATION_NEEDED)) second = mtu
  } else {
    writeEthernet(ctx, o, ethernet.TYPE_IPV6, neighbour)
    ipv6.write(v, ip, total, ipv6.PROTOCOL_ICMPV6, HOP_LIMIT, 0, source, 0, to, ti)
    l4 = ip + ipv6.HEADER_LENGTH
    sum = pseudo6(source, 0, to, ti, ipv6.PROTOCOL_ICMPV6, total)
    if (what >> 8 === icmp.V6_PACKET_TOO_BIG) second = mtu
  }
  v.setInt32(l4, (what << 16) | sum)
  v.setInt32(l4 + 4, second)
  frames.length[row] = l4 - o + total
  frames.payload[row] = l4 - o
  frames.payloadLength[row] = total
  frames.flags[row] = FRAME_NEEDS_CHECKSUM
  frames.checksumStart[row] = l4 - o
  frames.checksumOffset[row] = icmp.CHECKSUM
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
}
