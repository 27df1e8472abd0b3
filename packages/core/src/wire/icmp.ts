/**
 * ICMP (RFC 792) and ICMPv6 (RFC 4443) headers: the fields that both share, and the types that we handle.
 */
/** 1 byte. */
export const TYPE = 0
/** 1 byte. */
export const CODE = 1
/** 2 bytes. */
export const CHECKSUM = 2
/** Echo: 2 bytes identifier. */
export const IDENTIFIER = 4
/** Echo: 2 bytes sequence number. */
export const SEQUENCE = 6
/** ICMP fragmentation needed: next-hop MTU, 2 bytes (RFC 1191 section 4). ICMPv6 packet too big: MTU, 4 bytes at 4. */
export const NEXT_HOP_MTU = 6
export const HEADER_LENGTH = 8

export const ECHO_REPLY = 0
export const UNREACHABLE = 3
export const ECHO_REQUEST = 8
export const TIME_EXCEEDED = 11
export const PARAMETER_PROBLEM = 12
/** Code of UNREACHABLE: fragmentation needed and DF set. */
export const CODE_FRAGMENTATION_NEEDED = 4

export const V6_UNREACHABLE = 1
export const V6_PACKET_TOO_BIG = 2
export const V6_TIME_EXCEEDED = 3
export const V6_PARAMETER_PROBLEM = 4
export const V6_ECHO_REQUEST = 128
export const V6_ECHO_REPLY = 129
/** Neighbour discovery (RFC 4861) uses types 133 (router solicitation) to 137 (redirect). */
export const V6_ROUTER_SOLICITATION = 133
export const V6_ROUTER_ADVERTISEMENT = 134
export const V6_NEIGHBOUR_SOLICITATION = 135
export const V6_NEIGHBOUR_ADVERTISEMENT = 136
export const V6_REDIRECT = 137

export function type(d: DataView, o: number): number {
  return d.getUint8(o + TYPE)
}
export function code(d: DataView, o: number): number {
  return d.getUint8(o + CODE)
}
export function identifier(d: DataView, o: number): number {
  return d.getUint16(o + IDENTIFIER)
}
