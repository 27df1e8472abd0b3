/**
 * What the guest says of its groups. A message is checked whole before any of it counts.
 *
 * Filters of sources become "any source" as soon as they let one source pass, for the guest's own stack filters. When sources go, it may
 * be the last of them: as when a group is left, the guest is asked.
 */
import type { Context } from "../context.ts"
import { FRAME_NEEDS_CHECKSUM } from "../frames.ts"
import { COUNTER } from "../stats.ts"
import { isMapped, isMulticast, read6, setMapped } from "../wire/address.ts"
import { checksumOf, fold, pseudo6, sumOf } from "../wire/checksum.ts"
import * as icmp from "../wire/icmp.ts"
import * as ipv6 from "../wire/ipv6.ts"
import type { Memberships } from "./memberships.ts"
import {
  ALLOW,
  BLOCK,
  IGMP_GROUP,
  IGMP_LENGTH,
  IGMP_QUERY,
  IGMP_V1_REPORT,
  IGMP_V2_LEAVE,
  IGMP_V2_REPORT,
  IGMP_V3_REPORT,
  IS_EXCLUDE,
  IS_INCLUDE,
  MLD_DONE,
  MLD_GROUP,
  MLD_HOP_LIMIT,
  MLD_LENGTH,
  MLD_QUERY,
  MLD_REPORT,
  MLD_V2_REPORT,
  RECORD_AUXILIARY,
  RECORD_COUNT,
  RECORD_GROUP,
  RECORD_SOURCES,
  RECORD_TYPE,
  RECORDS,
  TO_EXCLUDE,
  TO_INCLUDE,
} from "./wire.ts"

/** Four words: the group at hand. */
const group: Int32Array = new Int32Array(4)

/** Handles an IGMP message. @param l4,end where it lies in the arena */
export function hearIgmp(ctx: Context, memberships: Memberships, row: number, l4: number, end: number): void {
  const { view } = ctx
  const unchecked = (ctx.frames.flags[row] & FRAME_NEEDS_CHECKSUM) !== 0
  if (end - l4 < IGMP_LENGTH || (!unchecked && checksumOf(view, l4, end - l4) !== 0)) {
    ctx.count(COUNTER.dropMembership)
    return
  }
  switch (view.getUint8(l4)) {
    case IGMP_V1_REPORT:
    case IGMP_V2_REPORT:
      readGroup(view, l4 + IGMP_GROUP, 4)
      hear(ctx, memberships, true, 4)
      return
    case IGMP_V2_LEAVE:
      readGroup(view, l4 + IGMP_GROUP, 4)
      hear(ctx, memberships, false, 4)
      return
    case IGMP_V3_REPORT:
      hearRecords(ctx, memberships, l4, end, 4)
      return
    case IGMP_QUERY:
      // The guest may be a router for others; we are not its host.
      return
    default:
      ctx.count(COUNTER.dropProtocol)
  }
}

/** Whether an ICMPv6 type is one of MLD's. */
export function isMld(type: number): boolean {
  return (type >= MLD_QUERY && type <= MLD_DONE) || type === MLD_V2_REPORT
}

/** Handles an MLD message. Its addresses are in `ctx.flows.key`. RFC 3810 wants a link-local source; while the guest's address is
 * tentative there is none yet, and we take it all the same, since nobody else is on this link.
 * @param l3,l4,end where it lies in the arena */
export function hearMld(
  ctx: Context,
  memberships: Memberships,
  row: number,
  l3: number,
  l4: number,
  end: number,
): void {
  const { view } = ctx
  const { key } = ctx.flows
  const length = end - l4
  const unchecked = (ctx.frames.flags[row] & FRAME_NEEDS_CHECKSUM) !== 0
  const sum = unchecked ? 0xffff : fold(sumOf(view, l4, length) + pseudo6(key, 1, key, 5, ipv6.PROTOCOL_ICMPV6, length))
  if (sum !== 0xffff || ipv6.hopLimit(view, l3) !== MLD_HOP_LIMIT) {
    ctx.count(COUNTER.dropMembership)
    return
  }
  const type = icmp.type(view, l4)
  if (type === MLD_QUERY) return
  if (type === MLD_V2_REPORT) {
    hearRecords(ctx, memberships, l4, end, 16)
  } else if (length < MLD_LENGTH) {
    ctx.count(COUNTER.dropMembership)
  } else {
    readGroup(view, l4 + MLD_GROUP, 16)
    hear(ctx, memberships, type === MLD_REPORT, 16)
  }
}

/** @param size of an address, bytes */
function hearRecords(ctx: Context, memberships: Memberships, l4: number, end: number, size: number): void {
  const { view } = ctx
  const count = view.getUint16(l4 + RECORD_COUNT)
  let at = l4 + RECORDS
  for (let i = 0; i < count; i++) {
    at = recordEnd(view, at, end, size)
    if (at < 0) {
      ctx.count(COUNTER.dropMembership)
      return
    }
  }
  at = l4 + RECORDS
  for (let i = 0; i < count; i++) {
    const sources = view.getUint16(at + RECORD_SOURCES)
    readGroup(view, at + RECORD_GROUP, size)
    switch (view.getUint8(at + RECORD_TYPE)) {
      case IS_EXCLUDE:
      case TO_EXCLUDE:
        hear(ctx, memberships, true, size)
        break
      case IS_INCLUDE:
      case ALLOW:
        if (sources > 0) hear(ctx, memberships, true, size)
        break
      case TO_INCLUDE:
        hear(ctx, memberships, sources > 0, size)
        break
      case BLOCK:
        if (sources > 0) hear(ctx, memberships, false, size)
        break
      default:
      // RFC 3376 section 4.2.12: other types are passed over.
    }
    at = recordEnd(view, at, end, size)
  }
}

/** @returns where the record ends, -1: beyond the message */
function recordEnd(view: DataView, at: number, end: number, size: number): number {
  if (at + RECORD_GROUP + size > end) return -1
  const after =
    at + RECORD_GROUP + size + view.getUint16(at + RECORD_SOURCES) * size + (view.getUint8(at + RECORD_AUXILIARY) << 2)
  return after > end ? -1 : after
}

function readGroup(view: DataView, at: number, size: number): void {
  if (size === 4) setMapped(group, 0, view.getInt32(at))
  else read6(group, 0, view, at)
}

/** @param size of the group's address: one of IPv4 must not come in an IPv6 message, in mapped form */
function hear(ctx: Context, memberships: Memberships, wanted: boolean, size: number): void {
  if (!isMulticast(group, 0) || (size === 16 && isMapped(group, 0))) ctx.count(COUNTER.dropMembership)
  else if (wanted) memberships.joined(group)
  else memberships.left(group)
}
