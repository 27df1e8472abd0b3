/**
 * Questions to the guest: which groups are you in? IGMPv3 (RFC 3376 section 4.1) and MLDv2 (RFC 3810 section 5.1), which hosts of
 * older versions understand as well. They come from our addresses on the link; where we have none there is no question.
 */
import type { Context } from "../context.ts"
import { writeEthernet } from "../emit.ts"
import { COUNTER } from "../stats.ts"
import { isUnspecified } from "../wire/address.ts"
import { checksumOf, fold, pseudo6, sumOf } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as icmp from "../wire/icmp.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import { IGMP_QUERY, IGMP_V3_LENGTH, MLD_QUERY, MLD_V2_LENGTH } from "./wire.ts"
import { writeGroupMac4, writeGroupMac6 } from "./deliver.ts"

/** RFC 3376 section 8.1 and 8.2: the robustness variable, and seconds between general questions. */
export const ROBUSTNESS = 2
export const QUERY_SECONDS = 125
/** Milliseconds that the guest has for its answer: to a general question (section 8.3), to one about a group (section 8.8). */
export const RESPONSE_MS = 10_000
export const LAST_MEMBER_MS = 1000

const ALL_SYSTEMS = 0xe0000001 | 0
const HOP_LIMIT = 1
/** RFC 2113: four bytes, "every router look at this". */
const ROUTER_ALERT_4 = 0x94040000 | 0
/** The same for IPv6 (RFC 2711, value 0: MLD), in a hop-by-hop header, filled up by an option of two bytes. */
const HOP_BY_HOP_LENGTH = 8
const ROUTER_ALERT_6 = 0x0502
const PADDING = 0x0100
/** Internetwork control (RFC 3376 section 4). */
const TOS = 0xc0

const allNodes: Int32Array = Int32Array.of(0xff020000 | 0, 0, 0, 1)

/** Asks about an IPv4 group, 0: all. @param group as a word */
export function askIgmp(ctx: Context, group: number): void {
  const { frames, guest, link, view } = ctx
  if (!guest.ipv4 || isUnspecified(guest.gateway4, 0)) return
  const header = ipv4.HEADER_LENGTH + 4
  const row = link.reserve(ethernet.HEADER_LENGTH + header + IGMP_V3_LENGTH)
  if (row < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return
  }
  const o = frames.offset[row]
  const ip = o + ethernet.HEADER_LENGTH
  const to = group === 0 ? ALL_SYSTEMS : group
  writeEthernet(ctx, o, ethernet.TYPE_IPV4, -1)
  writeGroupMac4(ctx, o, to)
  ipv4.write(view, ip, header + IGMP_V3_LENGTH, ipv4.PROTOCOL_IGMP, HOP_LIMIT, guest.gateway4[3], to)
  view.setUint16(ip, 0x4600 | TOS)
  view.setInt32(ip + ipv4.HEADER_LENGTH, ROUTER_ALERT_4)
  view.setUint16(ip + ipv4.CHECKSUM, 0)
  view.setUint16(ip + ipv4.CHECKSUM, checksumOf(view, ip, header))
  const at = ip + header
  // The response time counts tenths of a second.
  view.setInt32(at, (IGMP_QUERY << 24) | (((group === 0 ? RESPONSE_MS : LAST_MEMBER_MS) / 100) << 16))
  view.setInt32(at + 4, group)
  view.setInt32(at + 8, (ROBUSTNESS << 24) | (QUERY_SECONDS << 16))
  view.setUint16(at + 2, checksumOf(view, at, IGMP_V3_LENGTH))
  queue(ctx, row, at - o + IGMP_V3_LENGTH)
}

/** Asks about an IPv6 group, unspecified: all. */
export function askMld(ctx: Context, group: Int32Array, i: number): void {
  const { frames, guest, link, view } = ctx
  if (!guest.ipv6 || !ctx.config.icmp || isUnspecified(guest.ourLinkLocal6, 0)) return
  const row = link.reserve(ethernet.HEADER_LENGTH + ipv6.HEADER_LENGTH + HOP_BY_HOP_LENGTH + MLD_V2_LENGTH)
  if (row < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return
  }
  const o = frames.offset[row]
  const ip = o + ethernet.HEADER_LENGTH
  const general = isUnspecified(group, i)
  const to = general ? allNodes : group
  const ti = general ? 0 : i
  writeEthernet(ctx, o, ethernet.TYPE_IPV6, -1)
  writeGroupMac6(ctx, o, to[ti + 3])
  ipv6.write(view, ip, HOP_BY_HOP_LENGTH + MLD_V2_LENGTH, 0, HOP_LIMIT, 0, guest.ourLinkLocal6, 0, to, ti)
  const options = ip + ipv6.HEADER_LENGTH
  view.setInt32(options, (ipv6.PROTOCOL_ICMPV6 << 24) | ROUTER_ALERT_6)
  view.setInt32(options + 4, PADDING)
  const at = options + HOP_BY_HOP_LENGTH
  view.setInt32(at, MLD_QUERY << 24)
  view.setInt32(at + 4, (general ? RESPONSE_MS : LAST_MEMBER_MS) << 16)
  for (let w = 0; w < 4; w++) view.setInt32(at + 8 + 4 * w, group[i + w])
  view.setInt32(at + 24, (ROBUSTNESS << 24) | (QUERY_SECONDS << 16))
  const pseudo = pseudo6(guest.ourLinkLocal6, 0, to, ti, ipv6.PROTOCOL_ICMPV6, MLD_V2_LENGTH)
  view.setUint16(at + icmp.CHECKSUM, ~fold(sumOf(view, at, MLD_V2_LENGTH) + pseudo) & 0xffff)
  queue(ctx, row, at - o + MLD_V2_LENGTH)
}

function queue(ctx: Context, row: number, length: number): void {
  ctx.frames.length[row] = length
  ctx.frames.flags[row] = 0
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
}
