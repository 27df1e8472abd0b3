/**
 * Frames as the guest sends them, for tests.
 */
import type { Responder } from "@passt/core"
import { checksum, ethernet, ipv6 } from "@passt/core/wire"
import { hex, words } from "../../../core/src/test-support/bytes.ts"
import { GUEST_MAC, OUR_MAC } from "../../../core/src/test-support/guest.ts"
import type { MemoryLink } from "../../../core/src/test-support/memory-link.ts"

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
