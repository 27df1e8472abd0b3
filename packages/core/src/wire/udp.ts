/**
 * UDP header (RFC 768).
 */
/** 2 bytes. */
export const SOURCE_PORT = 0
/** 2 bytes. */
export const DESTINATION_PORT = 2
/** 2 bytes: header and data. */
export const LENGTH = 4
/** 2 bytes; 0: not computed (IPv4 only). */
export const CHECKSUM = 6
export const HEADER_LENGTH = 8

export function sourcePort(d: DataView, o: number): number {
  return d.getUint16(o + SOURCE_PORT)
}
export function destinationPort(d: DataView, o: number): number {
  return d.getUint16(o + DESTINATION_PORT)
}
export function length(d: DataView, o: number): number {
  return d.getUint16(o + LENGTH)
}

/** Writes a header with checksum 0. @param total length of header and data, bytes */
export function write(d: DataView, o: number, fromPort: number, toPort: number, total: number): void {
  d.setInt32(o, (fromPort << 16) | toPort)
  d.setInt32(o + LENGTH, total << 16)
}
