/**
 * Frames as the guest sends them, and hex with comments, for tests.
 */
import type { GuestState, Responder } from "@passt/core"
import { address, checksum, ethernet, ipv4, ipv6, udp } from "@passt/core/wire"
import type { MemoryLink } from "./memory-link.ts"

export const GUEST_MAC = "52 54 00 12 34 56"
export const OUR_MAC = "9a 55 9a 55 9a 55"
export const GUEST6 = "2001:db8:1:2:5054:ff:fe12:3456"
export const GUEST_LINK_LOCAL = "fe80::5054:ff:fe12:3456"

/** Bytes of hex digits; blanks and `// …` comments to the end of the line are skipped. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\/\/.*$/gm, "").replace(/\s+/g, "")
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16))
}

/** Hex of bytes without blanks: what `toHex(hex(…))` of a golden frame gives. */
export function toHex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

export function words(text: string): Int32Array {
  const parsed = address.parse(text)
  if (!parsed) throw new Error(`not an address: ${text}`)
  return parsed
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

export function setUpGuest(guest: GuestState): void {
  guest.mac.set(hex(GUEST_MAC))
  guest.ipv4 = true
  guest.ipv6 = true
  guest.address4.set(words("192.0.2.15"))
  guest.gateway4.set(words("192.0.2.1"))
  guest.prefix4 = 24
  guest.address6.set(words(GUEST6))
  guest.gateway6.set(words("fe80::1"))
  guest.ourLinkLocal6.set(words("fe80::1"))
  guest.mtu = 1500
}

/** A UDP datagram over IPv4 from 0.0.0.0:68 to broadcast:67. */
export function datagram4(payload: Uint8Array, claimed: number = payload.length): Uint8Array {
  const frame = new Uint8Array(42 + payload.length)
  const d = viewOf(frame)
  ethernet.write(d, 0, hex("ff ff ff ff ff ff"), hex(GUEST_MAC), ethernet.TYPE_IPV4)
  ipv4.write(d, 14, 28 + payload.length, 17, 64, 0, -1)
  udp.write(d, 34, 68, 67, 8 + claimed)
  frame.set(payload, 42)
  return frame
}

/** A UDP datagram over IPv6 to port 547. */
export function datagram6(payload: Uint8Array, from = GUEST_LINK_LOCAL, to = "ff02::1:2"): Uint8Array {
  const frame = new Uint8Array(62 + payload.length)
  const d = viewOf(frame)
  ethernet.write(d, 0, hex("33 33 00 01 00 02"), hex(GUEST_MAC), ethernet.TYPE_IPV6)
  ipv6.write(d, 14, 8 + payload.length, 17, 1, 0, words(from), 0, words(to), 0)
  udp.write(d, 54, 546, 547, 8 + payload.length)
  frame.set(payload, 62)
  return frame
}

/** Hands a frame to a responder the way the engine does. */
export function deliver(link: MemoryLink, responder: Responder, frame: Uint8Array): void {
  const offset = link.receiveFrame(frame)
  const l3 = offset + ethernet.HEADER_LENGTH
  const isIpv4 = ethernet.type(link.frames.view, offset) === ethernet.TYPE_IPV4
  const l4 = l3 + (isIpv4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
  responder.respond(0, l3, l4, offset + frame.length)
}

/** Whether lengths and checksums (IPv4 header, UDP) of a frame are right and the UDP checksum is there. */
export function isDatagramRight(frame: Uint8Array): boolean {
  const d = viewOf(frame)
  const isIpv4 = ethernet.type(d, 0) === ethernet.TYPE_IPV4
  const l4 = isIpv4 ? 34 : 54
  const length = frame.length - l4
  if (udp.length(d, l4) !== length || d.getUint16(l4 + udp.CHECKSUM) === 0) return false
  if (isIpv4 && (checksum.fold(checksum.sumOf(d, 14, 20)) !== 0xffff || ipv4.totalLength(d, 14) !== length + 20)) {
    return false
  }
  if (!isIpv4 && ipv6.payloadLength(d, 14) !== length) return false
  const addresses = isIpv4 ? checksum.sumOf(d, 26, 8) : checksum.sumOf(d, 22, 32)
  return checksum.fold(addresses + 17 + length + checksum.sumOf(d, l4, length)) === 0xffff
}

/** Reads names back that lie one after the other, following compression pointers. */
export function decodeNames(bytes: Uint8Array): string[] {
  const names: string[] = []
  let at = 0
  while (at < bytes.length) {
    const labels: string[] = []
    let from = at
    let jumped = false
    for (;;) {
      const length = bytes[from++]!
      if (length === 0) break
      if (length >= 0xc0) {
        const target = ((length & 0x3f) << 8) | bytes[from++]!
        if (target >= from - 2) throw new Error("a pointer must point backwards")
        if (!jumped) at = from
        jumped = true
        from = target
        continue
      }
      labels.push(String.fromCharCode(...bytes.subarray(from, from + length)))
      from += length
    }
    if (!jumped) at = from
    names.push(labels.join("."))
  }
  return names
}
