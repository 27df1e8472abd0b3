/**
 * IPv6 header (RFC 8200 section 3) and the walk over extension headers (section 4).
 */
/** 4 bytes: version (4 bits), traffic class (8), flow label (20). */
export const VERSION_CLASS_LABEL = 0
/** 2 bytes: what follows this header. */
export const PAYLOAD_LENGTH = 4
/** 1 byte. */
export const NEXT_HEADER = 6
/** 1 byte. */
export const HOP_LIMIT = 7
/** 16 bytes. */
export const SOURCE = 8
/** 16 bytes. */
export const DESTINATION = 24
export const HEADER_LENGTH = 40

export const PROTOCOL_ICMPV6 = 58
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const AUTHENTICATION = 51
const DESTINATION_OPTIONS = 60
const MOBILITY = 135
const HIP = 139
const SHIM6 = 140

/** Bound of the walk: each extension header should occur once (RFC 8200 section 4.1), destination options twice. */
const EXTENSIONS_MAX = 8

export function payloadLength(d: DataView, o: number): number {
  return d.getUint16(o + PAYLOAD_LENGTH)
}
export function hopLimit(d: DataView, o: number): number {
  return d.getUint8(o + HOP_LIMIT)
}

/** Checks a fixed header; bytes after the packet (link padding) are allowed.
 * @returns the offset after the packet, or -1. */
export function check(d: DataView, o: number, end: number): number {
  if (end - o < HEADER_LENGTH || d.getUint8(o) >> 4 !== 6) return -1
  const after = o + HEADER_LENGTH + payloadLength(d, o)
  return after > end ? -1 : after
}

/** Finds the transport header behind any extension headers.
 * @param o offset of the IPv6 header, `end` the offset after the packet, both checked
 * @returns protocol << 24 | distance of the transport header from `o`; -1 if malformed, -2 if a fragment (also atomic
 *   ones with more to come), -3 if the chain ends in something that has no transport header. */
export function transport(d: DataView, o: number, end: number): number {
  let next = d.getUint8(o + NEXT_HEADER)
  let at = o + HEADER_LENGTH
  for (let i = 0; i < EXTENSIONS_MAX; i++) {
    switch (next) {
      case HOP_BY_HOP:
      case ROUTING:
      case DESTINATION_OPTIONS:
      case MOBILITY:
      case HIP:
      case SHIM6: {
        if (at + 8 > end) return -1
        next = d.getUint8(at)
        at += (d.getUint8(at + 1) + 1) << 3
        break
      }
      case FRAGMENT: {
        if (at + 8 > end) return -1
        // An atomic fragment (offset 0, no more; RFC 6946) is a whole packet.
        if ((d.getUint16(at + 2) & 0xfff9) !== 0) return -2
        next = d.getUint8(at)
        at += 8
        break
      }
      case AUTHENTICATION: {
        if (at + 8 > end) return -1
        next = d.getUint8(at)
        at += (d.getUint8(at + 1) + 2) << 2
        break
      }
      case 59: // no next header
      case 50: // encrypted
        return -3
      default:
        return at > end ? -1 : (next << 24) | (at - o)
    }
    if (at > end) return -1
  }
  return -1
}

/** Writes a fixed header.
 * @param flowLabel 20 bits
 * @param source four address words at `source[sourceIndex…]`; destination likewise */
export function write(
  d: DataView,
  o: number,
  length: number,
  nextHeader: number,
  hops: number,
  flowLabel: number,
  source: Int32Array,
  sourceIndex: number,
  destination: Int32Array,
  destinationIndex: number,
): void {
  d.setInt32(o, 0x60000000 | (flowLabel & 0xfffff))
  d.setInt32(o + PAYLOAD_LENGTH, (length << 16) | (nextHeader << 8) | hops)
  for (let i = 0; i < 4; i++) {
    d.setInt32(o + SOURCE + 4 * i, source[sourceIndex + i]!)
    d.setInt32(o + DESTINATION + 4 * i, destination[destinationIndex + i]!)
  }
}
