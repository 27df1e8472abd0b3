/**
 * Which interface, address and gateway of the host the guest is modelled on, decided per family from a snapshot of what
 * the kernel says. Pure: no system calls.
 *
 * The interface is the one of the preferred default route of the main table; without a default route, the first one with
 * any route that leads beyond its own link. The address is the one with the longest prefix that is in full service.
 * Without such an interface or address the family runs in local mode: addresses of our own (RFC 3927, RFC 4291 section
 * 2.5.6), so that the guest can still talk to the host.
 */
import { address as ip } from "@passt/core/wire"
import {
  IFA_F_DADFAILED,
  IFA_F_DEPRECATED,
  IFA_F_OPTIMISTIC,
  IFA_F_TEMPORARY,
  IFA_F_TENTATIVE,
  RTNH_F_DEAD,
  RTNH_F_LINKDOWN,
  RTN_UNICAST,
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_TABLE_MAIN,
} from "./netlink/constants.ts"
import type { InterfaceAddress } from "./netlink/address.ts"
import type { Link } from "./netlink/link.ts"
import type { Nexthop, Route } from "./netlink/route.ts"

/** What the kernel says, in its order. */
export interface Snapshot {
  readonly links: readonly Link[]
  readonly addresses: readonly InterfaceAddress[]
  readonly routes: readonly Route[]
}

/** Addresses of local mode. */
export const LOCAL_ADDRESS4 = "169.254.2.1"
export const LOCAL_PREFIX4 = 16
export const LOCAL_GATEWAY4 = "169.254.2.2"
export const LOCAL_GATEWAY6 = "fe80::1"
/** Prefix length of autoconfigured addresses (RFC 4862 section 5.5.3, RFC 4291 section 2.5.1). */
export const PREFIX6 = 64

/** An interface to model a family on, and the gateway of its default route if it has one. */
export interface Template {
  readonly link: Link
  readonly gateway: Int32Array | undefined
}

function linkOf(snapshot: Snapshot, index: number): Link | undefined {
  return snapshot.links.find((link) => link.index === index)
}

function isAlive(nexthop: Nexthop): boolean {
  return (nexthop.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) === 0
}

/** Default routes of a family, preferred ones first: those that work, then by metric, then in the kernel's order. */
function defaultRoutes(family: 4 | 6, snapshot: Snapshot): Route[] {
  const dead = (route: Route): number => (route.nexthops.some(isAlive) ? 0 : 1)
  return snapshot.routes
    .filter((route) => isUsable(route, family) && route.prefix === 0)
    .sort((a, b) => dead(a) - dead(b) || a.metric - b.metric)
}

function isUsable(route: Route, family: 4 | 6): boolean {
  return (
    route.family === family && route.table === RT_TABLE_MAIN && route.type === RTN_UNICAST && route.nexthops.length > 0
  )
}

/** Of several next hops on one interface, the gateway of the heaviest that is alive. */
function gatewayOn(route: Route, interfaceIndex: number): Int32Array | undefined {
  const hops = route.nexthops
    .filter((hop) => hop.interfaceIndex === interfaceIndex && hop.gateway !== undefined)
    .sort((a, b) => Number(isAlive(b)) - Number(isAlive(a)) || b.weight - a.weight)
  return hops[0]?.gateway
}

/** The interface of the preferred default route, else the first with a route beyond its link; undefined if there is none. */
export function chooseTemplate(family: 4 | 6, snapshot: Snapshot): Template | undefined {
  for (const route of defaultRoutes(family, snapshot)) {
    const hop = route.nexthops.find(isAlive) ?? route.nexthops[0]!
    const link = linkOf(snapshot, hop.interfaceIndex)
    if (link && !link.loopback) return { link, gateway: gatewayOn(route, link.index) }
  }
  for (const route of snapshot.routes) {
    if (!isUsable(route, family)) continue
    if (ip.isLinkLocal(route.destination, 0) || ip.isMulticast(route.destination, 0)) continue
    const link = linkOf(snapshot, route.nexthops[0]!.interfaceIndex)
    if (link && !link.loopback) return { link, gateway: undefined }
  }
  return undefined
}

/** The template that an interface chosen by the user makes, with the gateway of a default route through it. */
export function templateOn(family: 4 | 6, link: Link, snapshot: Snapshot): Template {
  for (const route of defaultRoutes(family, snapshot)) {
    if (route.nexthops.some((hop) => hop.interfaceIndex === link.index)) {
      return { link, gateway: gatewayOn(route, link.index) }
    }
  }
  return { link, gateway: undefined }
}

/** 2000::/3, the IPv6 addresses of the Internet (RFC 4291 section 2.4, IANA's registry). IPv4 knows no such difference. */
function isGlobalUnicast(words: Int32Array): boolean {
  return ip.isMapped(words, 0) || words[0]! >>> 29 === 1
}

/** Lower is better, compared from left to right. */
function demerits(a: InterfaceAddress): readonly number[] {
  const waiting = (a.flags & IFA_F_TENTATIVE) !== 0 && (a.flags & IFA_F_OPTIMISTIC) === 0
  // The state bits mean other things for IPv4, which has no duplicate detection here: 0x01 is "secondary".
  const state = (a.flags & IFA_F_DEPRECATED) !== 0 || (a.family === 6 && waiting) ? 1 : 0
  return [
    state,
    a.family === 4 && a.scope === RT_SCOPE_LINK ? 1 : 0,
    -a.prefix,
    isGlobalUnicast(a.address) ? 0 : 1,
    a.family === 6 && (a.flags & IFA_F_TEMPORARY) !== 0 ? 1 : 0,
  ]
}

/** The address of an interface that the guest gets; undefined if it has none beyond link-local IPv6. */
export function chooseAddress(family: 4 | 6, link: Link, snapshot: Snapshot): InterfaceAddress | undefined {
  let best: InterfaceAddress | undefined
  for (const candidate of snapshot.addresses) {
    if (candidate.family !== family || candidate.interfaceIndex !== link.index) continue
    if (!ip.isUnicast(candidate.address, 0) || ip.isLoopback(candidate.address, 0)) continue
    if (candidate.scope === RT_SCOPE_HOST || (family === 6 && ip.isLinkLocal(candidate.address, 0))) continue
    if (family === 6 && (candidate.flags & IFA_F_DADFAILED) !== 0) continue
    if (best === undefined || precedes(demerits(candidate), demerits(best))) best = candidate
  }
  return best
}

function precedes(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return a[i]! < b[i]!
  }
  return false
}

/** The link-local IPv6 address of an interface. */
export function linkLocalOf(link: Link, snapshot: Snapshot): Int32Array | undefined {
  return snapshot.addresses.find(
    (a) => a.family === 6 && a.interfaceIndex === link.index && ip.isLinkLocal(a.address, 0),
  )?.address
}

/** Prefix length by the first bits of an IPv4 address (RFC 791 section 2.3): for addresses given without one. */
export function classPrefix(words: Int32Array): number {
  const first = words[3]! >>> 24
  if (first < 128) return 8
  if (first < 192) return 16
  return first < 224 ? 24 : 32
}
