/**
 * Neighbour discovery messages (RFC 4861 section 4), offsets from the ICMPv6 header; and the checks that every receiver
 * owes them.
 */
import { checksum, icmp, ipv6 } from "@passt/core/wire"
import * as options from "./options.ts"

/** Router solicitation: options follow the ICMPv6 header's four reserved bytes. */
export const SOLICITATION_OPTIONS = 8

/** Router advertisement: 1 byte hop limit, 1 byte flags, 2 bytes lifetime (s), 4 bytes reachable time (ms), 4 bytes
 * retransmission timer (ms). */
export const ADVERTISEMENT_HOP_LIMIT = 4
export const ADVERTISEMENT_FLAGS = 5
export const ADVERTISEMENT_LIFETIME = 6
export const ADVERTISEMENT_REACHABLE = 8
export const ADVERTISEMENT_RETRANSMIT = 12
export const ADVERTISEMENT_OPTIONS = 16
/** Addresses are to be had by DHCPv6. */
export const ADVERTISEMENT_MANAGED = 0x80

/** Neighbour solicitation and advertisement: 16 bytes target, then options. */
export const NEIGHBOUR_FLAGS = 4
export const NEIGHBOUR_TARGET = 8
export const NEIGHBOUR_OPTIONS = 24
export const NEIGHBOUR_ROUTER = 0x80000000
export const NEIGHBOUR_SOLICITED = 0x40000000
export const NEIGHBOUR_OVERRIDE = 0x20000000

/** Checks a message that a node may want answered (RFC 4861 sections 6.1.1 and 7.1.1).
 * @param l3 offset of the IPv6 header, checked
 * @param l4 offset of the ICMPv6 header
 * @param end offset after the packet
 * @param checkSum false if the link said that the checksum is not finished
 * @returns the type: router or neighbour solicitation; 0 for the types that hosts and routers only tell; -1 if the message
 *   must be thrown away */
export function check(d: DataView, l3: number, l4: number, end: number, checkSum: boolean): number {
  if (end - l4 < icmp.HEADER_LENGTH) return -1
  const type = icmp.type(d, l4)
  if (type !== icmp.V6_ROUTER_SOLICITATION && type !== icmp.V6_NEIGHBOUR_SOLICITATION) return 0
  // What a router has forwarded has a lower hop limit: nobody beyond the link can send these.
  if (ipv6.hopLimit(d, l3) !== 255 || icmp.code(d, l4) !== 0) return -1
  const optionsAt = l4 + (type === icmp.V6_ROUTER_SOLICITATION ? SOLICITATION_OPTIONS : NEIGHBOUR_OPTIONS)
  if (optionsAt > end || !options.check(d, optionsAt, end)) return -1
  if (checkSum && !isSumRight(d, l3, l4, end)) return -1
  // Multicast can't be a source, and only a node with an address has one to map its link-layer address to.
  if (d.getUint8(l3 + ipv6.SOURCE) === 0xff) return -1
  const isUnspecified = isZero(d, l3 + ipv6.SOURCE)
  if (isUnspecified && options.find(d, optionsAt, end, options.SOURCE_LINK_ADDRESS) >= 0) return -1
  if (type === icmp.V6_NEIGHBOUR_SOLICITATION) {
    if (d.getUint8(l4 + NEIGHBOUR_TARGET) === 0xff) return -1
    if (isUnspecified && !isSolicitedNode(d, l3 + ipv6.DESTINATION)) return -1
  }
  return type
}

function isSumRight(d: DataView, l3: number, l4: number, end: number): boolean {
  const addresses = checksum.sumOf(d, l3 + ipv6.SOURCE, 32)
  const length = end - l4
  return checksum.fold(addresses + ipv6.PROTOCOL_ICMPV6 + length + checksum.sumOf(d, l4, length)) === 0xffff
}

function isZero(d: DataView, o: number): boolean {
  return (d.getInt32(o) | d.getInt32(o + 4) | d.getInt32(o + 8) | d.getInt32(o + 12)) === 0
}

/** ff02::1:ff00:0/104 (RFC 4291 section 2.7.1). */
function isSolicitedNode(d: DataView, o: number): boolean {
  return (
    d.getUint32(o) === 0xff020000 && d.getInt32(o + 4) === 0 && d.getInt32(o + 8) === 1 && d.getUint8(o + 12) === 0xff
  )
}
