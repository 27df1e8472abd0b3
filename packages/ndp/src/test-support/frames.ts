/**
 * Frames as the guest sends them, and hex with comments, for tests.
 */
import type { GuestState, Responder } from "@passt/core"
import { address, checksum, ethernet, ipv6 } from "@passt/core/wire"
import type { MemoryLink } from "./memory-link.ts"

export const GUEST_MAC = "52 54 00 12 34 56"
export const OUR_MAC = "9a 55 9a 55 9a 55"

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

export function setUpGuest(guest: GuestState): void {
  guest.mac.set(hex(GUEST_MAC))
  guest.ipv4 = true
  guest.ipv6 = true
  guest.address4.set(words("192.0.2.15"))
  guest.gateway4.set(words("192.0.2.1"))
  guest.prefix4 = 24
  guest.address6.set(words("2001:db8:1:2:5054:ff:fe12:3456"))
  guest.gateway6.set(words("fe80::1"))
  guest.ourLinkLocal6.set(words("fe80::1"))
  guest.mtu = 1500
}

/** An ICMPv6 packet with a right checksum, from its message in hex (checksum field 0). */
export function icmpv6(from: string, to: string, message: Uint8Array, hopLimit = 255): Uint8Array {
  const frame = new Uint8Array(54 + message.length)
  const d = new DataView(frame.buffer)
  const source = words(from)
  const destination = words(to)
  ethernet.write(d, 0, hex(OUR_MAC), hex(GUEST_MAC), ethernet.TYPE_IPV6)
  ipv6.write(d, 14, message.length, 58, hopLimit, 0, source, 0, destination, 0)
  frame.set(message, 54)
  if (message.length >= 4) {
    const sum = checksum.pseudo6(source, 0, destination, 0, 58, message.length)
    d.setUint16(56, ~checksum.fold(sum + checksum.sumOf(d, 54, message.length)))
  }
  return frame
}

/** Hands an ARP or ICMPv6 frame to a responder the way the engine does. @param padding bytes that the link added */
export function deliver(link: MemoryLink, responder: Responder, frame: Uint8Array, padding = 0): void {
  const offset = link.receiveFrame(frame)
  const l3 = offset + ethernet.HEADER_LENGTH
  const isArp = ethernet.type(link.frames.view, offset) === ethernet.TYPE_ARP
  responder.respond(0, l3, isArp ? l3 : l3 + ipv6.HEADER_LENGTH, offset + frame.length - padding)
}

/** Whether the ICMPv6 checksum of a frame is right: all of pseudo-header and message sums to ffff. */
export function isIcmpv6SumRight(frame: Uint8Array): boolean {
  const d = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const length = ipv6.payloadLength(d, 14)
  return checksum.fold(checksum.sumOf(d, 22, 32) + 58 + length + checksum.sumOf(d, 54, length)) === 0xffff
}
