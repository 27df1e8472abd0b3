/**
 * Options of neighbour discovery messages (RFC 4861 section 4.6, RFC 8106 section 5): type, length in units of eight
 * bytes with these two bytes included, data.
 */

export const SOURCE_LINK_ADDRESS = 1
export const TARGET_LINK_ADDRESS = 2
export const PREFIX_INFORMATION = 3
export const MTU = 5
/** Recursive DNS servers, RFC 8106 section 5.1. */
export const RDNSS = 25
/** DNS search list, RFC 8106 section 5.2. */
export const DNSSL = 31

/** A lifetime without end, seconds. */
export const FOREVER = 0xffffffff
/** Prefix information flags: on-link, and fit for address autoconfiguration (RFC 4861 section 4.6.2). */
export const PREFIX_ON_LINK = 0x80
export const PREFIX_AUTONOMOUS = 0x40

/** Whether the options in `at…end` fill that range exactly, none with length 0 (RFC 4861 sections 6.1.1 and 7.1.1). */
export function check(d: DataView, at: number, end: number): boolean {
  while (at < end) {
    if (end - at < 2) return false
    const length = d.getUint8(at + 1) << 3
    if (length === 0 || at + length > end) return false
    at += length
  }
  return at === end
}

/** Finds the first option of a type among checked options. @returns its offset, or -1. */
export function find(d: DataView, at: number, end: number, type: number): number {
  while (at < end) {
    if (d.getUint8(at) === type) return at
    at += d.getUint8(at + 1) << 3
  }
  return -1
}

/** Bytes of a link-layer address option. */
export const LINK_ADDRESS_LENGTH = 8

/** Writes a link-layer address option: six bytes at `mac[macIndex…]`. @returns the offset after it. */
export function writeLinkAddress(d: DataView, at: number, type: number, mac: Uint8Array, macIndex: number): number {
  d.setUint8(at, type)
  d.setUint8(at + 1, 1)
  for (let i = 0; i < 6; i++) d.setUint8(at + 2 + i, mac[macIndex + i])
  return at + LINK_ADDRESS_LENGTH
}

/** Writes a prefix information option for a /64. @param words the prefix, or an address in it @param valid lifetime, seconds
 * @param preferred the same @returns the offset after it. */
export function writePrefix64(
  d: DataView,
  at: number,
  flags: number,
  words: Int32Array,
  valid: number,
  preferred: number,
): number {
  d.setUint8(at, PREFIX_INFORMATION)
  d.setUint8(at + 1, 4)
  d.setUint8(at + 2, 64)
  d.setUint8(at + 3, flags)
  d.setUint32(at + 4, valid)
  d.setUint32(at + 8, preferred)
  d.setUint32(at + 12, 0)
  d.setInt32(at + 16, words[0])
  d.setInt32(at + 20, words[1])
  d.setInt32(at + 24, 0)
  d.setInt32(at + 28, 0)
  return at + 32
}

/** Writes an MTU option, bytes of IP packet. @returns the offset after it. */
export function writeMtu(d: DataView, at: number, mtu: number): number {
  d.setUint8(at, MTU)
  d.setUint8(at + 1, 1)
  d.setUint16(at + 2, 0)
  d.setUint32(at + 4, mtu)
  return at + 8
}

/** Writes an RDNSS option of up to 127 servers, four address words each. @param lifetime seconds @returns the offset after it. */
export function writeRdnss(d: DataView, at: number, servers: Int32Array, lifetime: number): number {
  const count = servers.length >> 2
  d.setUint8(at, RDNSS)
  d.setUint8(at + 1, 1 + 2 * count)
  d.setUint16(at + 2, 0)
  d.setUint32(at + 4, lifetime)
  for (let i = 0; i < count * 4; i++) d.setInt32(at + 8 + 4 * i, servers[i])
  return at + 8 + count * 16
}

/** Writes a DNSSL option, zero-padded to a multiple of eight bytes. @param lifetime seconds
 * @param names encoded names one after the other, at most 2,032 bytes
 * @returns the offset after it. */
export function writeDnssl(d: DataView, at: number, names: Uint8Array, lifetime: number): number {
  const length = (8 + names.length + 7) & ~7
  d.setUint8(at, DNSSL)
  d.setUint8(at + 1, length >> 3)
  d.setUint16(at + 2, 0)
  d.setUint32(at + 4, lifetime)
  for (let i = 0; i < length - 8; i++) d.setUint8(at + 8 + i, i < names.length ? names[i] : 0)
  return at + length
}
