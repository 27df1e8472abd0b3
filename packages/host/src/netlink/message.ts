/**
 * Netlink messages as views: a header, a fixed struct of the message's family, then attributes (RFC 3549 section 2.3).
 *
 * Everything is in the byte order of the host except addresses, which are in network order. Lengths in messages and
 * attributes exclude the padding to four bytes that follows them. Every length is checked here, once: what a visitor
 * gets lies within the datagram.
 */
import { NLA_TYPE_MASK } from "./constants.ts"

/** Whether this machine is little-endian: the byte-order argument for DataView. */
export const HOST_ORDER: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** Bytes of struct nlmsghdr. */
export const HEADER_BYTES = 16
/** Bytes of struct nlattr (and rtattr). */
export const ATTRIBUTE_HEADER_BYTES = 4

/** Lengths rounded up to four. */
export function align(length: number): number {
  return (length + 3) & ~3
}

/** A run of bytes of a datagram, checked to lie within it. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** One message: header fields, and the payload after the header as [start, end). */
export interface NetlinkMessage extends Span {
  readonly type: number
  readonly flags: number
  readonly sequence: number
}

/** Calls `visit` for each whole message in the first `length` bytes, until it returns false.
 * @returns false when bytes are left over that form no message: the datagram is damaged or cut off */
export function eachMessage(
  view: DataView,
  length: number,
  visit: (message: NetlinkMessage) => boolean | void,
): boolean {
  const limit = Math.min(length, view.byteLength)
  let at = 0
  while (at + HEADER_BYTES <= limit) {
    const size = view.getUint32(at, HOST_ORDER)
    if (size < HEADER_BYTES || size > limit - at) return false
    const more = visit({
      type: view.getUint16(at + 4, HOST_ORDER),
      flags: view.getUint16(at + 6, HOST_ORDER),
      sequence: view.getUint32(at + 8, HOST_ORDER),
      start: at + HEADER_BYTES,
      end: at + size,
    })
    if (more === false) return true
    at += align(size)
  }
  return at >= limit
}

/** The attributes in [start, end) by type; of repeated ones the last counts. Damaged ones end the list. */
export function attributes(view: DataView, start: number, end: number): Map<number, Span> {
  const found = new Map<number, Span>()
  let at = start
  while (at + ATTRIBUTE_HEADER_BYTES <= end) {
    const size = view.getUint16(at, HOST_ORDER)
    if (size < ATTRIBUTE_HEADER_BYTES || size > end - at) break
    const type = view.getUint16(at + 2, HOST_ORDER) & NLA_TYPE_MASK
    found.set(type, { start: at + ATTRIBUTE_HEADER_BYTES, end: at + size })
    at += align(size)
  }
  return found
}

/** An unsigned 32-bit attribute; `absent` when missing or of another size. */
export function uint32(view: DataView, span: Span | undefined, absent: number): number {
  return span && span.end - span.start === 4 ? view.getUint32(span.start, HOST_ORDER) : absent
}

/** The text up to the first NUL. */
export function text(view: DataView, span: Span | undefined): string {
  if (!span) return ""
  const bytes = new Uint8Array(view.buffer, view.byteOffset + span.start, span.end - span.start)
  const nul = bytes.indexOf(0)
  return Buffer.from(bytes.subarray(0, nul < 0 ? bytes.length : nul)).toString("utf8")
}

/** A copy of the bytes. */
export function bytes(view: DataView, span: Span): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + span.start, span.end - span.start).slice()
}

/** An IPv4 (4 bytes) or IPv6 (16 bytes) address as four words; undefined for any other size. */
export function addressWords(view: DataView, span: Span | undefined): Int32Array | undefined {
  if (!span) return undefined
  const size = span.end - span.start
  if (size === 4) return Int32Array.of(0, 0, 0xffff, view.getInt32(span.start))
  if (size !== 16) return undefined
  const words = new Int32Array(4)
  for (let i = 0; i < 4; i++) words[i] = view.getInt32(span.start + 4 * i)
  return words
}
