/**
 * Frames as the guest sends them, for tests.
 */
import type { Responder } from "@passt/core"
import { checksum, ethernet, ipv4, ipv6, udp } from "@passt/core/wire"
import { hex, viewOf, words } from "../../../core/src/test-support/bytes.ts"
import { GUEST_MAC } from "../../../core/src/test-support/guest.ts"
import type { MemoryLink } from "../../../core/src/test-support/memory-link.ts"

export const GUEST_LINK_LOCAL = "fe80::5054:ff:fe12:3456"

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
