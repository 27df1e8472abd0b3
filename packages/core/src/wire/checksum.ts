/**
 * The internet checksum (RFC 1071) over header-sized data, and pseudo-headers (RFC 9293 section 3.1, RFC 8200 section
 * 8.1). Sums are unfolded 32-bit numbers of 16-bit words: of at most 64 KiB, so that they stay below 2^32.
 * Payload sums are native work.
 */

/** Sum of the 16-bit words of `length` bytes, not folded; an odd last byte counts as its high half. */
export function sumOf(d: DataView, o: number, length: number): number {
  let sum = 0
  const even = o + (length & ~1)
  for (let i = o; i < even; i += 2) sum += d.getUint16(i)
  if (length & 1) sum += d.getUint8(even) << 8
  return sum
}

/** Folds a sum to 16 bits, with end-around carry. */
export function fold(sum: number): number {
  let s = (sum >>> 16) + (sum & 0xffff)
  s = (s >>> 16) + (s & 0xffff)
  return s & 0xffff
}

/** The checksum of `length` bytes with their checksum field set to 0. Zero-fills nothing: the caller cleared the field. */
export function checksumOf(d: DataView, o: number, length: number): number {
  return ~fold(sumOf(d, o, length)) & 0xffff
}

/** Sum of the two halves of an address word. */
function halves(word: number): number {
  return (word >>> 16) + (word & 0xffff)
}

/** Folded sum of the IPv4 pseudo-header: what a checksum field holds before the payload is added.
 * @param length of the transport header and payload, bytes */
export function pseudo4(source: number, destination: number, protocol: number, length: number): number {
  return fold(halves(source) + halves(destination) + protocol + length)
}

/** Folded sum of the IPv6 pseudo-header; addresses are four words each in `a[ai…]` and `b[bi…]`. */
export function pseudo6(
  a: Int32Array,
  ai: number,
  b: Int32Array,
  bi: number,
  protocol: number,
  length: number,
): number {
  let sum = protocol + halves(length)
  for (let i = 0; i < 4; i++) sum += halves(a[ai + i]!) + halves(b[bi + i]!)
  return fold(sum)
}
