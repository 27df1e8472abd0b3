/**
 * TCP segments as frames on the guest's link: built for the guest, read and checked on its behalf.
 */
import * as ethernet from "../wire/ethernet.ts"
import { read6, setMapped } from "../wire/address.ts"
import { checksumOf, fold, pseudo4, pseudo6, sumOf } from "../wire/checksum.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as tcp from "../wire/tcp.ts"
import { GUEST_MAC } from "./config.ts"
import { packet } from "./packet.ts"

export interface Segment {
  /** Four words each, IPv4 mapped. */
  readonly source: Int32Array
  readonly destination: Int32Array
  readonly sourcePort: number
  readonly destinationPort: number
  /** Signed words. */
  readonly sequence: number
  readonly acknowledgement: number
  readonly flags: number
  /** As in the field, not scaled. */
  readonly window: number
  /** Options of a SYN, -1: absent. */
  readonly mss: number
  readonly scale: number
  readonly payload: Uint8Array
  /** Of segments from the guest, 64 unless told. */
  readonly hopLimit?: number
}

/** Bytes of sequence space that a segment takes. */
export function extent(s: Segment): number {
  return s.payload.length + ((s.flags & tcp.SYN) !== 0 ? 1 : 0) + ((s.flags & tcp.FIN) !== 0 ? 1 : 0)
}

/** Builds the frame of a segment from the guest. */
export function buildFrame(s: Segment): Uint8Array {
  const header = tcp.HEADER_LENGTH + (s.mss >= 0 ? 4 : 0) + (s.scale >= 0 ? 4 : 0)
  const body = new Uint8Array(header + s.payload.length)
  const d = new DataView(body.buffer)
  tcp.write(d, 0, header, s.sourcePort, s.destinationPort, s.sequence, s.acknowledgement, s.flags, s.window)
  let at = tcp.HEADER_LENGTH
  if (s.mss >= 0) {
    d.setInt32(at, (tcp.OPTION_MSS << 24) | (4 << 16) | s.mss)
    at += 4
  }
  if (s.scale >= 0) d.setInt32(at, (tcp.OPTION_NOP << 24) | (tcp.OPTION_WINDOW_SCALE << 16) | (3 << 8) | s.scale)
  body.set(s.payload, header)
  return packet(s.source, s.destination, ipv4.PROTOCOL_TCP, body, s.hopLimit ?? 64)
}

/** Reads a frame to the guest. @throws Error when the guest's stack would drop it */
export function readFrame(frame: Uint8Array): Segment {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
  for (let i = 0; i < 6; i++) if (frame[i] !== GUEST_MAC[i]) throw new Error("frame to another MAC address")
  const ip = ethernet.HEADER_LENGTH
  const source = new Int32Array(4)
  const destination = new Int32Array(4)
  const v4 = ethernet.type(d, 0) === ethernet.TYPE_IPV4
  let l4: number
  if (v4) {
    if (ipv4.check(d, ip, frame.length) !== frame.length) throw new Error("IPv4 length is wrong")
    if (checksumOf(d, ip, ipv4.HEADER_LENGTH) !== 0) throw new Error("IPv4 header checksum is wrong")
    if (ipv4.protocol(d, ip) !== ipv4.PROTOCOL_TCP) throw new Error("not TCP")
    setMapped(source, 0, ipv4.source(d, ip))
    setMapped(destination, 0, ipv4.destination(d, ip))
    l4 = ip + ipv4.HEADER_LENGTH
  } else {
    if (ethernet.type(d, 0) !== ethernet.TYPE_IPV6) throw new Error("neither IPv4 nor IPv6")
    if (ipv6.check(d, ip, frame.length) !== frame.length) throw new Error("IPv6 length is wrong")
    if (d.getUint8(ip + ipv6.NEXT_HEADER) !== ipv4.PROTOCOL_TCP) throw new Error("not TCP")
    read6(source, 0, d, ip + ipv6.SOURCE)
    read6(destination, 0, d, ip + ipv6.DESTINATION)
    l4 = ip + ipv6.HEADER_LENGTH
  }
  const length = frame.length - l4
  const pseudo = v4
    ? pseudo4(source[3]!, destination[3]!, ipv4.PROTOCOL_TCP, length)
    : pseudo6(source, 0, destination, 0, ipv4.PROTOCOL_TCP, length)
  if (fold(pseudo + fold(sumOf(d, l4, length))) !== 0xffff) throw new Error("TCP checksum is wrong")
  const header = tcp.headerLength(d, l4)
  if (header < tcp.HEADER_LENGTH || header > length) throw new Error("TCP header length is wrong")
  const mss = tcp.option(d, l4, tcp.OPTION_MSS, 2)
  const scale = tcp.option(d, l4, tcp.OPTION_WINDOW_SCALE, 1)
  return {
    source,
    destination,
    sourcePort: tcp.sourcePort(d, l4),
    destinationPort: tcp.destinationPort(d, l4),
    sequence: tcp.sequence(d, l4),
    acknowledgement: tcp.acknowledgement(d, l4),
    flags: tcp.flags(d, l4),
    window: tcp.window(d, l4),
    mss: mss >= 0 ? d.getUint16(mss) : -1,
    scale: scale >= 0 ? d.getUint8(scale) : -1,
    payload: frame.subarray(l4 + header),
  }
}

/** For failures: what a segment says, on one line. */
export function describeSegment(s: Segment): string {
  let flags = ""
  const letters = "FSRPAU"
  for (let i = 0; i < 6; i++) if ((s.flags & (1 << i)) !== 0) flags += letters[i]
  return (
    `${s.sourcePort}>${s.destinationPort} ${flags} seq ${s.sequence >>> 0} ack ${s.acknowledgement >>> 0} ` +
    `win ${s.window} len ${s.payload.length}${s.mss >= 0 ? ` mss ${s.mss}` : ""}${s.scale >= 0 ? ` scale ${s.scale}` : ""}`
  )
}
