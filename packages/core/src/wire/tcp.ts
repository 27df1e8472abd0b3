/**
 * TCP header (RFC 9293 section 3.1) and the options that matter at connection set-up.
 */
/** 2 bytes. */
export const SOURCE_PORT = 0
/** 2 bytes. */
export const DESTINATION_PORT = 2
/** 4 bytes. */
export const SEQUENCE = 4
/** 4 bytes. */
export const ACKNOWLEDGEMENT = 8
/** 2 bytes: header length in words (4 bits), reserved, flags (8 bits). */
export const OFFSET_FLAGS = 12
/** 2 bytes, unscaled. */
export const WINDOW = 14
/** 2 bytes. */
export const CHECKSUM = 16
/** 2 bytes. */
export const URGENT = 18
export const HEADER_LENGTH = 20

export const FIN = 0x01
export const SYN = 0x02
export const RST = 0x04
export const PSH = 0x08
export const ACK = 0x10
export const URG = 0x20

export const OPTION_END = 0
export const OPTION_NOP = 1
/** RFC 9293 section 3.7.1. */
export const OPTION_MSS = 2
/** RFC 7323 section 2. */
export const OPTION_WINDOW_SCALE = 3
/** RFC 2018. */
export const OPTION_SACK_PERMITTED = 4
export const OPTION_SACK = 5

export function sourcePort(d: DataView, o: number): number {
  return d.getUint16(o + SOURCE_PORT)
}
export function destinationPort(d: DataView, o: number): number {
  return d.getUint16(o + DESTINATION_PORT)
}
/** Sequence number as a signed word: compare with `(a - b) | 0`. */
export function sequence(d: DataView, o: number): number {
  return d.getInt32(o + SEQUENCE)
}
export function acknowledgement(d: DataView, o: number): number {
  return d.getInt32(o + ACKNOWLEDGEMENT)
}
/** Bytes, a multiple of 4 up to 60; less than 20 is malformed. */
export function headerLength(d: DataView, o: number): number {
  return (d.getUint8(o + OFFSET_FLAGS) >> 4) << 2
}
export function flags(d: DataView, o: number): number {
  return d.getUint8(o + OFFSET_FLAGS + 1)
}
export function window(d: DataView, o: number): number {
  return d.getUint16(o + WINDOW)
}

/** Finds an option.
 * @param o offset of the TCP header; the header of `headerLength` bytes is readable
 * @returns offset of the option's first data byte, or -1 if absent or malformed or shorter than `dataLength` */
export function option(d: DataView, o: number, kind: number, dataLength: number): number {
  const end = o + headerLength(d, o)
  let at = o + HEADER_LENGTH
  while (at < end) {
    const k = d.getUint8(at)
    if (k === OPTION_END) return -1
    if (k === OPTION_NOP) {
      at++
      continue
    }
    if (at + 2 > end) return -1
    const length = d.getUint8(at + 1)
    if (length < 2 || at + length > end) return -1
    if (k === kind) return length >= dataLength + 2 ? at + 2 : -1
    at += length
  }
  return -1
}

/** Writes a header of `header` bytes (20 plus options already or later written), checksum and urgent pointer 0. */
export function write(
  d: DataView,
  o: number,
  header: number,
  fromPort: number,
  toPort: number,
  seq: number,
  ack: number,
  flagBits: number,
  windowField: number,
): void {
  d.setInt32(o, (fromPort << 16) | toPort)
  d.setInt32(o + SEQUENCE, seq)
  d.setInt32(o + ACKNOWLEDGEMENT, ack)
  d.setInt32(o + OFFSET_FLAGS, (header << 26) | (flagBits << 16) | windowField)
  d.setInt32(o + CHECKSUM, 0)
}
