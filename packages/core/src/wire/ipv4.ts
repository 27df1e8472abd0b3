/**
 * IPv4 header (RFC 791 section 3.1).
 */
import { checksumOf } from "./checksum.ts"

/** 1 byte: version (4 bits), header length in words (4 bits). */
export const VERSION_IHL = 0
/** 1 byte. */
export const TOS = 1
/** 2 bytes: header and payload. */
export const TOTAL_LENGTH = 2
/** 2 bytes. */
export const ID = 4
/** 2 bytes: flags (3 bits), offset in 8-byte units (13 bits). */
export const FRAGMENT = 6
/** 1 byte. */
export const TTL = 8
/** 1 byte. */
export const PROTOCOL = 9
/** 2 bytes. */
export const CHECKSUM = 10
/** 4 bytes. */
export const SOURCE = 12
/** 4 bytes. */
export const DESTINATION = 16
export const HEADER_LENGTH = 20

export const DONT_FRAGMENT = 0x4000
export const MORE_FRAGMENTS = 0x2000
export const FRAGMENT_OFFSET_MASK = 0x1fff

export const PROTOCOL_ICMP = 1
export const PROTOCOL_IGMP = 2
export const PROTOCOL_TCP = 6
export const PROTOCOL_UDP = 17

export function headerLength(d: DataView, o: number): number {
  return (d.getUint8(o) & 0x0f) << 2
}
export function totalLength(d: DataView, o: number): number {
  return d.getUint16(o + TOTAL_LENGTH)
}
export function protocol(d: DataView, o: number): number {
  return d.getUint8(o + PROTOCOL)
}
export function ttl(d: DataView, o: number): number {
  return d.getUint8(o + TTL)
}
/** Signed 32-bit value of four bytes. */
export function source(d: DataView, o: number): number {
  return d.getInt32(o + SOURCE)
}
/** Signed 32-bit value of four bytes. */
export function destination(d: DataView, o: number): number {
  return d.getInt32(o + DESTINATION)
}
export function isFragment(d: DataView, o: number): boolean {
  return (d.getUint16(o + FRAGMENT) & (MORE_FRAGMENTS | FRAGMENT_OFFSET_MASK)) !== 0
}

/** Checks a header that ends at or before `end` (arena offset after the last byte of the frame).
 * @returns the offset after the packet (padding excluded), or -1 if version or lengths are wrong. */
export function check(d: DataView, o: number, end: number): number {
  if (end - o < HEADER_LENGTH || d.getUint8(o) >> 4 !== 4) return -1
  const header = headerLength(d, o)
  const total = totalLength(d, o)
  if (header < HEADER_LENGTH || total < header || o + total > end) return -1
  return o + total
}

/** Writes a header without options: id 0, don't fragment, TTL as given, header checksum.
 * @param total length of header and payload, bytes
 * @param from source address, as a signed 32-bit value; `to` likewise the destination */
export function write(
  d: DataView,
  o: number,
  total: number,
  protocolNumber: number,
  timeToLive: number,
  from: number,
  to: number,
): void {
  d.setInt32(o, 0x45000000 | total)
  d.setInt32(o + ID, DONT_FRAGMENT)
  d.setInt32(o + TTL, (timeToLive << 24) | (protocolNumber << 16))
  d.setInt32(o + SOURCE, from)
  d.setInt32(o + DESTINATION, to)
  d.setUint16(o + CHECKSUM, checksumOf(d, o, HEADER_LENGTH))
}
