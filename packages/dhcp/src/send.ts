/**
 * UDP datagrams to the guest, checksums included: small frames, written in place behind room for their headers.
 */
import type { GuestState, Link } from "@passt/core"
import { checksum, ethernet, ipv4, ipv6, udp } from "@passt/core/wire"

/** Bytes before the UDP payload, over IPv4 and IPv6. */
export const HEADERS4: number = ethernet.HEADER_LENGTH + ipv4.HEADER_LENGTH + udp.HEADER_LENGTH
export const HEADERS6: number = ethernet.HEADER_LENGTH + ipv6.HEADER_LENGTH + udp.HEADER_LENGTH

const HOPS = 255

/** Writes the headers before a payload at HEADERS4 and queues the frame.
 * @param length of the payload, bytes
 * @param from source address as a signed word; `to` likewise the destination */
export function send4(
  link: Link,
  guest: GuestState,
  row: number,
  mac: Uint8Array,
  from: number,
  fromPort: number,
  to: number,
  toPort: number,
  length: number,
): void {
  const { view, offset } = link.frames
  const o = offset[row]
  const l4 = o + HEADERS4 - udp.HEADER_LENGTH
  const total = udp.HEADER_LENGTH + length
  ethernet.write(view, o, mac, guest.ourMac, ethernet.TYPE_IPV4)
  ipv4.write(view, o + ethernet.HEADER_LENGTH, ipv4.HEADER_LENGTH + total, ipv4.PROTOCOL_UDP, HOPS, from, to)
  udp.write(view, l4, fromPort, toPort, total)
  finish(link, row, l4, total, checksum.pseudo4(from, to, ipv4.PROTOCOL_UDP, total))
}

/** As `send4`, for a payload at HEADERS6 and address words.
 * @param flowLabel 20 bits; further ones are ignored */
export function send6(
  link: Link,
  guest: GuestState,
  row: number,
  flowLabel: number,
  from: Int32Array,
  fromPort: number,
  to: Int32Array,
  toPort: number,
  length: number,
): void {
  const { view, offset } = link.frames
  const o = offset[row]
  const l4 = o + HEADERS6 - udp.HEADER_LENGTH
  const total = udp.HEADER_LENGTH + length
  ethernet.write(view, o, guest.mac, guest.ourMac, ethernet.TYPE_IPV6)
  ipv6.write(view, o + ethernet.HEADER_LENGTH, total, ipv4.PROTOCOL_UDP, HOPS, flowLabel, from, 0, to, 0)
  udp.write(view, l4, fromPort, toPort, total)
  finish(link, row, l4, total, checksum.pseudo6(from, 0, to, 0, ipv4.PROTOCOL_UDP, total))
}

function finish(link: Link, row: number, l4: number, total: number, pseudo: number): void {
  const frames = link.frames
  const sum = ~checksum.fold(pseudo + checksum.sumOf(frames.view, l4, total)) & 0xffff
  // 0 on the wire means "not computed"; its other form in ones' complement does not (RFC 768).
  frames.view.setUint16(l4 + udp.CHECKSUM, sum === 0 ? 0xffff : sum)
  frames.length[row] = l4 + total - frames.offset[row]
  frames.flags[row] = 0
  link.commit(row)
}
