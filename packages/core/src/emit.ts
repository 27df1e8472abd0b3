/**
 * Headers of frames to the guest: Ethernet and IP for a flow, from what its row says.
 */
import type { Context } from "./context.ts"
import { FAR, GUEST, GUEST_FAMILY, NEIGHBOUR } from "./flow/table.ts"
import * as ethernet from "./wire/ethernet.ts"
import * as ipv4 from "./wire/ipv4.ts"
import * as ipv6 from "./wire/ipv6.ts"

/** RFC 1122 section 3.2.1.7 leaves the initial TTL to the sender; the largest lets the guest see no hop: for packets whose own
 * is not known. */
export const HOP_LIMIT = 255

/** Length of Ethernet and IP header for frames to a flow's guest, bytes. */
export function networkHeaderLength(w: Int32Array, base: number): number {
  return ethernet.HEADER_LENGTH + (w[base + GUEST_FAMILY] === 4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
}

/** Writes the Ethernet header of a frame to the guest at `o`.
 * @param neighbour row of the neighbour table that the source MAC comes from, -1: our own */
export function writeEthernet(ctx: Context, o: number, etherType: number, neighbour: number): void {
  const guest = ctx.guest
  const e = ctx.ethernetWords
  if (ctx.ethernetGeneration !== guest.macGeneration) {
    const d = guest.mac
    const s = guest.ourMac
    e[0] = (d[0]! << 24) | (d[1]! << 16) | (d[2]! << 8) | d[3]!
    e[1] = (d[4]! << 24) | (d[5]! << 16) | (s[0]! << 8) | s[1]!
    e[2] = (s[2]! << 24) | (s[3]! << 16) | (s[4]! << 8) | s[5]!
    ctx.ethernetGeneration = guest.macGeneration
  }
  const v = ctx.view
  v.setInt32(o, e[0]!)
  v.setInt32(o + 4, e[1]!)
  v.setInt32(o + 8, e[2]!)
  v.setUint16(o + ethernet.TYPE, etherType)
  const neighbours = ctx.config.neighbours
  if (neighbour >= 0 && neighbours !== undefined) {
    for (let i = 0; i < 6; i++) v.setUint8(o + ethernet.SOURCE + i, neighbours.macs[neighbour * 6 + i]!)
  }
}

/** Writes Ethernet and IP headers of a packet from a flow's far end to its guest.
 * @param o arena offset of the frame
 * @param base the flow's first word
 * @param length of the transport header and payload, bytes
 * @param flowLabel IPv6 flow label, 20 bits
 * @param hops hop limit or TTL, 1…255
 * @returns arena offset of the transport header */
export function writeNetwork(
  ctx: Context,
  o: number,
  base: number,
  protocol: number,
  length: number,
  flowLabel: number,
  hops: number,
): number {
  const w = ctx.words
  const ip = o + ethernet.HEADER_LENGTH
  if (w[base + GUEST_FAMILY] === 4) {
    writeEthernet(ctx, o, ethernet.TYPE_IPV4, w[base + NEIGHBOUR]!)
    ipv4.write(ctx.view, ip, ipv4.HEADER_LENGTH + length, protocol, hops, w[base + FAR + 3]!, w[base + GUEST + 3]!)
    return ip + ipv4.HEADER_LENGTH
  }
  writeEthernet(ctx, o, ethernet.TYPE_IPV6, w[base + NEIGHBOUR]!)
  ipv6.write(ctx.view, ip, length, protocol, hops, flowLabel, w, base + FAR, w, base + GUEST)
  return ip + ipv6.HEADER_LENGTH
}
