/**
 * Ethernet II header (IEEE 802.3, RFC 894): destination, source, EtherType.
 */
/** 6 bytes. */
export const DESTINATION = 0
/** 6 bytes. */
export const SOURCE = 6
/** 2 bytes. */
export const TYPE = 12
export const HEADER_LENGTH = 14

export const TYPE_IPV4 = 0x0800
export const TYPE_ARP = 0x0806
export const TYPE_IPV6 = 0x86dd

export function type(d: DataView, o: number): number {
  return d.getUint16(o + TYPE)
}

/** Writes a header: two MAC addresses of six bytes and the EtherType. */
export function write(d: DataView, o: number, destination: Uint8Array, source: Uint8Array, etherType: number): void {
  for (let i = 0; i < 6; i++) {
    d.setUint8(o + DESTINATION + i, destination[i]!)
    d.setUint8(o + SOURCE + i, source[i]!)
  }
  d.setUint16(o + TYPE, etherType)
}
