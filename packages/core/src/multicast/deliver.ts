/**
 * A datagram from a group's socket to the guest, without a flow: source, destination and hop limit as they came.
 */
import type { Context } from "../context.ts"
import { HOP_LIMIT, writeEthernet } from "../emit.ts"
import { FRAME_NEEDS_CHECKSUM } from "../frames.ts"
import { DIRECTION_TO_GUEST, KIND_GROUP, PORT } from "../flow/table.ts"
import { ADDRESS_REMOTE } from "../kernel.ts"
import { FRAME_LENGTH_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import { isMapped, isUnicast } from "../wire/address.ts"
import { pseudo6 } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { isAnyBroadcast } from "./state.ts"

/** What the guest sees as source. */
const source: Int32Array = new Int32Array(4)

/** Length of all headers in front of a datagram, bytes. */
export function groupHeaderLength(family: number): number {
  return ethernet.HEADER_LENGTH + (family === 4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH) + udp.HEADER_LENGTH
}

/** Writes the Ethernet destination of an IPv4 group: RFC 1112 section 6.4. @param group as a word */
export function writeGroupMac4(ctx: Context, o: number, group: number): void {
  ctx.view.setUint16(o, 0x0100)
  ctx.view.setInt32(o + 2, 0x5e00_0000 | (group & 0x7f_ffff))
}

/** Of an IPv6 group: RFC 2464 section 7. @param last word of the group's address */
export function writeGroupMac6(ctx: Context, o: number, last: number): void {
  ctx.view.setUint16(o, 0x3333)
  ctx.view.setInt32(o + 2, last)
}

/** Queues a datagram that lies in a reserved row behind groupHeaderLength bytes, from ADDRESS_REMOTE.
 * @param to,ti the destination that the guest will see; of the same family
 * @returns whether it was queued; else it is counted */
export function deliver(ctx: Context, row: number, to: Int32Array, ti: number, toPort: number): boolean {
  const { frames, kernel, view } = ctx
  const { address } = kernel
  const fromPort = address[ADDRESS_REMOTE + PORT]
  const v4 = isMapped(to, ti)
  if (fromPort === 0 || !isUnicast(address, ADDRESS_REMOTE) || isMapped(address, ADDRESS_REMOTE) !== v4) {
    ctx.count(COUNTER.dropAddress)
    return false
  }
  if (!(v4 ? ctx.guest.ipv4 : ctx.guest.ipv6) || !ctx.translator.inbound(address, ADDRESS_REMOTE, source, 0)) {
    ctx.count(COUNTER.dropNoGuest)
    return false
  }
  const length = udp.HEADER_LENGTH + frames.payloadLength[row]
  const o = frames.offset[row]
  const ip = o + ethernet.HEADER_LENGTH
  const l4 = ip + (v4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
  if (l4 - o + length > FRAME_LENGTH_MAX) {
    ctx.count(COUNTER.dropDatagram)
    return false
  }
  const { neighbours } = ctx.config
  writeEthernet(
    ctx,
    o,
    v4 ? ethernet.TYPE_IPV4 : ethernet.TYPE_IPV6,
    neighbours === undefined ? -1 : neighbours.lookup(source, 0),
  )
  const hopLimit = frames.hopLimit[row] || HOP_LIMIT
  frames.flags[row] = 0
  if (v4) {
    if (isAnyBroadcast(ctx.guest, to, ti)) {
      view.setUint16(o, 0xffff)
      view.setInt32(o + 2, -1)
    } else if (to[ti + 3] >>> 28 === 0xe) {
      writeGroupMac4(ctx, o, to[ti + 3])
    }
    ipv4.write(view, ip, ipv4.HEADER_LENGTH + length, ipv4.PROTOCOL_UDP, hopLimit, source[3], to[ti + 3])
    // Without a checksum, as every datagram over IPv4 (udp/to-guest.ts).
    udp.write(view, l4, fromPort, toPort, length)
  } else {
    if (to[ti] >>> 24 === 0xff) writeGroupMac6(ctx, o, to[ti + 3])
    ipv6.write(view, ip, length, ipv4.PROTOCOL_UDP, hopLimit, 0, source, 0, to, ti)
    udp.write(view, l4, fromPort, toPort, length)
    view.setUint16(l4 + udp.CHECKSUM, pseudo6(source, 0, to, ti, ipv4.PROTOCOL_UDP, length))
    frames.flags[row] = FRAME_NEEDS_CHECKSUM
    frames.checksumStart[row] = l4 - o
    frames.checksumOffset[row] = udp.CHECKSUM
  }
  frames.length[row] = l4 - o + length
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
  const bytes = length - udp.HEADER_LENGTH
  ctx.add(COUNTER.bytesToGuest, bytes)
  // The sockets of groups have no flow that it would be of.
  const { kindBytes, kindPackets } = ctx.flows
  kindBytes[2 * KIND_GROUP + DIRECTION_TO_GUEST] = kindBytes[2 * KIND_GROUP + DIRECTION_TO_GUEST] + bytes
  kindPackets[2 * KIND_GROUP + DIRECTION_TO_GUEST]++
  return true
}
