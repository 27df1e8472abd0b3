/**
 * What streams are made of: bytes that depend on the stream and on the position, so that each end can write and check any
 * part of a stream without keeping it.
 */

/** A prime, so that shifts by round numbers are noticed. */
const PERIOD = 65_521
/** Longest piece that one call handles. */
const PIECE = 1 << 18

const bytes: Uint8Array = new Uint8Array(PERIOD + PIECE)
{
  let s = 0x12345678
  for (let i = 0; i < PERIOD; i++) {
    s = (Math.imul(s, 1_103_515_245) + 12_345) | 0
    bytes[i] = s >>> 16
  }
  bytes.copyWithin(PERIOD, 0, PERIOD)
  for (let i = 2 * PERIOD; i < bytes.length; i += PERIOD) bytes.copyWithin(i, 0, Math.min(PERIOD, bytes.length - i))
}

function start(stream: number, position: number): number {
  return (stream * 7919 + position) % PERIOD
}

/** The bytes of a stream from `position` on, at most 256 KiB. */
export function pattern(stream: number, position: number, length: number): Uint8Array {
  const at = start(stream, position)
  return bytes.subarray(at, at + length)
}

/** @returns the index of the first byte of `found` that does not belong at `position`, -1 if all do */
export function mismatch(stream: number, position: number, found: Uint8Array): number {
  const at = start(stream, position)
  for (let i = 0; i < found.length; i++) if (found[i] !== bytes[at + i]) return i
  return -1
}
