import {
  AF_INET,
  AF_INET6,
  RTA_DST,
  RTA_GATEWAY,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PRIORITY,
  RTA_TABLE,
  RTA_VIA,
  RTM_NEWROUTE,
  RTNH_BYTES,
} from "./constants.ts"
import type { NetlinkMessage, Span } from "./message.ts"
import { addressWords, align, attributes, HOST_ORDER, uint32 } from "./message.ts"

/** One way to send what a route matches. */
export interface Nexthop {
  readonly interfaceIndex: number
  /** Four words; undefined when the destination is on the link, or the gateway is of the other family (RFC 5549). */
  readonly gateway: Int32Array | undefined
  /** Share of the flows, 1…256. */
  readonly weight: number
  /** RTNH_F_* bits. */
  readonly flags: number
}

/** A route (struct rtmsg and RTA_* attributes). */
export interface Route {
  readonly family: 4 | 6
  /** Four words, all zero (or mapped zero) with prefix 0: the default route. */
  readonly destination: Int32Array
  readonly prefix: number
  readonly table: number
  /** RTN_*. */
  readonly type: number
  /** Lower is preferred. */
  readonly metric: number
  readonly nexthops: readonly Nexthop[]
}

const STRUCT_BYTES = 12

function gatewayOf(view: DataView, found: Map<number, Span>, family: 4 | 6): Int32Array | undefined {
  const plain = found.get(RTA_GATEWAY)
  if (plain) return plain.end - plain.start === (family === 4 ? 4 : 16) ? addressWords(view, plain) : undefined
  // struct rtvia: the family of the gateway, then its address.
  const via = found.get(RTA_VIA)
  if (!via || via.end - via.start !== (family === 4 ? 6 : 18)) return undefined
  if (view.getUint16(via.start, HOST_ORDER) !== (family === 4 ? AF_INET : AF_INET6)) return undefined
  return addressWords(view, { start: via.start + 2, end: via.end })
}

function multipath(view: DataView, span: Span, family: 4 | 6): Nexthop[] {
  const nexthops: Nexthop[] = []
  let at = span.start
  while (at + RTNH_BYTES <= span.end) {
    const size = view.getUint16(at, HOST_ORDER)
    if (size < RTNH_BYTES || size > span.end - at) break
    nexthops.push({
      flags: view.getUint8(at + 2),
      // The kernel stores the weight less one ("hops").
      weight: view.getUint8(at + 3) + 1,
      interfaceIndex: view.getInt32(at + 4, HOST_ORDER),
      gateway: gatewayOf(view, attributes(view, at + RTNH_BYTES, at + size), family),
    })
    at += align(size)
  }
  return nexthops
}

/** @returns undefined for messages of another kind or family, or damaged ones */
export function parseRoute(view: DataView, message: NetlinkMessage): Route | undefined {
  const { start, end } = message
  if (message.type !== RTM_NEWROUTE || end - start < STRUCT_BYTES) return undefined
  const kind = view.getUint8(start)
  if (kind !== AF_INET && kind !== AF_INET6) return undefined
  const family = kind === AF_INET ? 4 : 6
  const prefix = view.getUint8(start + 1)
  if (prefix > (family === 4 ? 32 : 128)) return undefined
  const found = attributes(view, start + STRUCT_BYTES, end)
  const destination = found.get(RTA_DST)
  if (destination && destination.end - destination.start !== (family === 4 ? 4 : 16)) return undefined
  const many = found.get(RTA_MULTIPATH)
  const interfaceIndex = uint32(view, found.get(RTA_OIF), 0)
  let nexthops: Nexthop[] = []
  if (many) nexthops = multipath(view, many, family)
  else if (interfaceIndex !== 0) {
    const flags = view.getUint32(start + 8, HOST_ORDER) & 0xff
    nexthops = [{ interfaceIndex, gateway: gatewayOf(view, found, family), weight: 1, flags }]
  }
  return {
    family,
    destination: addressWords(view, destination) ?? Int32Array.of(0, 0, family === 4 ? 0xffff : 0, 0),
    prefix,
    table: uint32(view, found.get(RTA_TABLE), view.getUint8(start + 4)),
    type: view.getUint8(start + 7),
    metric: uint32(view, found.get(RTA_PRIORITY), 0),
    nexthops,
  }
}
