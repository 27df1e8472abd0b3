/**
 * Addresses and routes of the template interface, as requests to make the same on the interface in the namespace. What
 * belongs to the host alone is left out: labels and lifetimes of addresses; preferred source addresses, nexthop objects,
 * lifetimes, and next hops on other interfaces of routes.
 *
 * A message of a dump has the form of the request that makes its object, so most of it is copied as it is, attributes
 * that are not known here excepted.
 */
import { address as ip } from "@passt/core/wire"
import { parseAddress } from "../netlink/address.ts"
import type { Attribute } from "../netlink/build.ts"
import { attributeList, changeRequest, word } from "../netlink/build.ts"
import {
  IFA_ADDRESS,
  IFA_BROADCAST,
  IFA_CACHEINFO,
  IFA_F_DADFAILED,
  IFA_F_DEPRECATED,
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  IFA_FLAGS,
  IFA_LOCAL,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTA_DST,
  RTA_ENCAP,
  RTA_ENCAP_TYPE,
  RTA_GATEWAY,
  RTA_METRICS,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PREF,
  RTA_PRIORITY,
  RTA_SRC,
  RTA_TABLE,
  RTA_VIA,
  RT_TABLE_MAIN,
  RTM_F_CLONED,
  RTM_NEWADDR,
  RTM_NEWROUTE,
  RTN_UNICAST,
  RTNH_BYTES,
  RTNH_F_ONLINK,
} from "../netlink/constants.ts"
import type { NetlinkMessage, Span } from "../netlink/message.ts"
import { align, attributes, bytes, HOST_ORDER } from "../netlink/message.ts"
import { parseRoute } from "../netlink/route.ts"
import { addressStruct } from "./requests.ts"

/** For ever, in the lifetimes of IFA_CACHEINFO. */
const INFINITE = 0xffff_ffff

/** Attributes of a route that hold in another namespace as well. */
const ROUTE_ATTRIBUTES: readonly number[] = [
  RTA_DST,
  RTA_SRC,
  RTA_GATEWAY,
  RTA_PRIORITY,
  RTA_METRICS,
  RTA_TABLE,
  RTA_VIA,
  RTA_PREF,
  RTA_ENCAP_TYPE,
  RTA_ENCAP,
]
const NEXTHOP_ATTRIBUTES: readonly number[] = [RTA_GATEWAY, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP]

function copied(view: DataView, found: Map<number, Span>, types: readonly number[]): Attribute[] {
  const list: Attribute[] = []
  for (const type of types) {
    const span = found.get(type)
    if (span) list.push({ type, value: bytes(view, span) })
  }
  return list
}

/** @param from index of the template interface @param to index of the interface in the namespace
 * @returns undefined for what is no address of the template, or one that every interface has of its own (link-local) */
export function copyAddress(
  view: DataView,
  message: NetlinkMessage,
  from: number,
  to: number,
): DataView<ArrayBuffer> | undefined {
  const found = parseAddress(view, message)
  if (!found || found.interfaceIndex !== from || (found.flags & IFA_F_DADFAILED) !== 0) return undefined
  if (found.family === 6 && ip.isLinkLocal(found.address, 0)) return undefined
  const list = copied(view, attributes(view, message.start + 8, message.end), [IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST])
  // The host has made sure that nobody else has it.
  const flags = IFA_F_NODAD | (found.flags & IFA_F_NOPREFIXROUTE)
  list.push({ type: IFA_FLAGS, value: word(flags) })
  if ((found.flags & IFA_F_DEPRECATED) !== 0) {
    // Struct ifa_cacheinfo: not to be preferred, but valid.
    list.push({ type: IFA_CACHEINFO, value: Uint8Array.of(...word(0), ...word(INFINITE), ...word(0), ...word(0)) })
  }
  const fixed = addressStruct(found.family, found.prefix, found.scope, to)
  return changeRequest(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, fixed, list)
}

/** The next hops on the template interface, for the one in the namespace; empty if there are none. */
function copyNexthops(view: DataView, span: Span, from: number, to: number): Uint8Array {
  const hops: Uint8Array[] = []
  let at = span.start
  while (at + RTNH_BYTES <= span.end) {
    const size = view.getUint16(at, HOST_ORDER)
    if (size < RTNH_BYTES || size > span.end - at) break
    if (view.getInt32(at + 4, HOST_ORDER) === from) {
      const list = attributeList(copied(view, attributes(view, at + RTNH_BYTES, at + size), NEXTHOP_ATTRIBUTES))
      const hop = new DataView(new ArrayBuffer(RTNH_BYTES + list.length))
      hop.setUint16(0, hop.byteLength, HOST_ORDER)
      hop.setUint8(2, view.getUint8(at + 2) & RTNH_F_ONLINK)
      hop.setUint8(3, view.getUint8(at + 3))
      hop.setInt32(4, to, HOST_ORDER)
      const whole = new Uint8Array(hop.buffer)
      whole.set(list, RTNH_BYTES)
      hops.push(whole)
    }
    at += align(size)
  }
  return Uint8Array.from(Buffer.concat(hops))
}

/** As copyAddress, for a route of the main table. */
export function copyRoute(
  view: DataView,
  message: NetlinkMessage,
  from: number,
  to: number,
): DataView<ArrayBuffer> | undefined {
  const route = parseRoute(view, message)
  if (!route || route.table !== RT_TABLE_MAIN || route.type !== RTN_UNICAST) return undefined
  if (!route.nexthops.some((hop) => hop.interfaceIndex === from)) return undefined
  const { start, end } = message
  const flags = view.getUint32(start + 8, HOST_ORDER)
  if ((flags & RTM_F_CLONED) !== 0) return undefined
  const found = attributes(view, start + 12, end)
  const list = copied(view, found, ROUTE_ATTRIBUTES)
  const many = found.get(RTA_MULTIPATH)
  if (many) list.push({ type: RTA_MULTIPATH, value: copyNexthops(view, many, from, to) })
  else list.push({ type: RTA_OIF, value: word(to) })
  const fixed = bytes(view, { start, end: start + 12 })
  // What the host's link is like at the moment is told in the same field.
  new DataView(fixed.buffer).setUint32(8, flags & RTNH_F_ONLINK, HOST_ORDER)
  return changeRequest(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, fixed, list)
}
