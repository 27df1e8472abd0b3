/**
 * Echo replies from a flow's socket to the guest.
 */
import type { Context } from "../context.ts"
import { noteToGuest, READABLE, FAILED, SLOT_BYTES } from "../datagram/state.ts"
import { HOP_LIMIT, networkHeaderLength, writeNetwork } from "../emit.ts"
import { EAGAIN } from "../errno.ts"
import { DIRECTION_TO_GUEST, FAR, FD, FLOW_SHIFT, GUEST, GUEST_FAMILY, PEER, PORT, STATE } from "../flow/table.ts"
import { FRAME_NEEDS_CHECKSUM } from "../frames.ts"
import { ADDRESS_REMOTE } from "../kernel.ts"
import { FRAME_LENGTH_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import { equal } from "../wire/address.ts"
import { pseudo6 } from "../wire/checksum.ts"
import * as icmp from "../wire/icmp.ts"
import { PROTOCOL_ICMP } from "../wire/ipv4.ts"
import { PROTOCOL_ICMPV6 } from "../wire/ipv6.ts"

/** Replies of one flow per turn: pings are rare, and each is a call. */
const REPLIES_MAX = 8

/** Reads a flow's socket until it is empty, the flow has had its share, or the link is full: in the last two cases READABLE
 * stays set. */
export function serveReplies(ctx: Context, flow: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { kernel, link, frames } = ctx
  const { address } = kernel
  const header = networkHeaderLength(w, base)
  for (let i = 0; i < REPLIES_MAX; i++) {
    if (link.reserveRows(1, SLOT_BYTES) === 0) return
    const row = link.reservedRow
    frames.payload[row] = header
    const length = kernel.receiveFrom(w[base + FD], row, false)
    if (length === -EAGAIN) {
      w[base + STATE] &= ~READABLE
      return
    }
    if (length < 0) {
      // A pending error; it does not come a second time. The error queue knows more.
      w[base + STATE] |= FAILED
    } else if (!equal(address, ADDRESS_REMOTE, w, base + PEER)) {
      ctx.count(COUNTER.dropAddress)
    } else if (length < icmp.HEADER_LENGTH || header + length > FRAME_LENGTH_MAX) {
      ctx.count(COUNTER.dropDatagram)
    } else {
      emitReply(ctx, flow, row, length)
    }
  }
}

/** Writes the headers of a reply that lies in a reserved row, and queues it. @param length from the ICMP header on, bytes */
function emitReply(ctx: Context, flow: number, row: number, length: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { frames, view } = ctx
  const o = frames.offset[row]
  const v4 = w[base + GUEST_FAMILY] === 4
  const protocol = v4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6
  const l4 = writeNetwork(ctx, o, base, protocol, length, flow, frames.hopLimit[row] || HOP_LIMIT)
  const sum = v4 ? 0 : pseudo6(w, base + FAR, w, base + GUEST, PROTOCOL_ICMPV6, length)
  view.setInt32(l4, ((v4 ? icmp.ECHO_REPLY : icmp.V6_ECHO_REPLY) << 24) | sum)
  view.setUint16(l4 + icmp.IDENTIFIER, w[base + GUEST + PORT])
  frames.length[row] = l4 - o + length
  frames.flags[row] = FRAME_NEEDS_CHECKSUM
  frames.checksumStart[row] = l4 - o
  frames.checksumOffset[row] = icmp.CHECKSUM
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
  ctx.addBytes(COUNTER.bytesToGuest, flow, DIRECTION_TO_GUEST, length, 1)
  noteToGuest(ctx, base, 1)
}
