/**
 * Datagrams from a flow's socket to the guest.
 */
import { datagramRoom, FAILED, noteToGuest, READABLE, SLOT_BYTES, SLOTS, SLOTS_MIN } from "../datagram/state.ts"
import type { Context } from "../context.ts"
import { HOP_LIMIT, networkHeaderLength, writeNetwork } from "../emit.ts"
import { EAGAIN } from "../errno.ts"
import { DIRECTION_TO_GUEST, FAR, FD, FLOW_SHIFT, GUEST, GUEST_FAMILY, PORT, STATE } from "../flow/table.ts"
import { FRAME_NEEDS_CHECKSUM } from "../frames.ts"
import { DATAGRAM_BATCH_MAX, FRAME_LENGTH_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import { pseudo6 } from "../wire/checksum.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as udp from "../wire/udp.ts"

/** Length of all headers in front of a datagram to this flow's guest, bytes. */
export function datagramHeaderLength(w: Int32Array, base: number): number {
  return networkHeaderLength(w, base) + udp.HEADER_LENGTH
}

/** Writes the headers in front of a datagram that lies in a reserved row, and queues it. */
export function emitDatagram(ctx: Context, flow: number, row: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { frames } = ctx
  const o = frames.offset[row]
  const length = udp.HEADER_LENGTH + frames.payloadLength[row]
  const l4 = writeNetwork(ctx, o, base, ipv4.PROTOCOL_UDP, length, flow, frames.hopLimit[row] || HOP_LIMIT)
  udp.write(ctx.view, l4, w[base + FAR + PORT], w[base + GUEST + PORT], length)
  frames.length[row] = l4 - o + length
  if (w[base + GUEST_FAMILY] === 4) {
    // RFC 768: a checksum of zero says that there is none. The bytes have not left this machine's memory since the
    // kernel checked them.
    frames.flags[row] = 0
  } else {
    // RFC 8200 section 8.1: over IPv6 there must be one.
    ctx.view.setUint16(l4 + udp.CHECKSUM, pseudo6(w, base + FAR, w, base + GUEST, ipv4.PROTOCOL_UDP, length))
    frames.flags[row] = FRAME_NEEDS_CHECKSUM
    frames.checksumStart[row] = l4 - o
    frames.checksumOffset[row] = udp.CHECKSUM
  }
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
  ctx.addBytes(COUNTER.bytesToGuest, flow, DIRECTION_TO_GUEST, length - udp.HEADER_LENGTH, 1)
}

/** Reads a flow's socket until it is empty, the flow has had its share, or the link is full: in the last two cases READABLE
 * stays set. An error on the way sets FAILED: the error queue knows more. */
export function serveDatagrams(ctx: Context, flow: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { kernel, link, frames } = ctx
  const header = datagramHeaderLength(w, base)
  const room = datagramRoom(header)
  let slots = w[base + SLOTS]
  let share = DATAGRAM_BATCH_MAX
  let sent = 0
  let clean = true
  while (share > 0) {
    const prepared = link.reserveRows(slots < share ? slots : share, SLOT_BYTES)
    if (prepared === 0) break
    const first = link.reservedRow
    for (let i = 0; i < prepared; i++) frames.payload[first + i] = header
    const count = kernel.receiveDatagrams(w[base + FD], first, prepared, room)
    if (count < 0) {
      // The error that the socket had pending is gone with this call; datagrams behind it are not.
      if (count === -EAGAIN || !clean) {
        w[base + STATE] &= ~READABLE
        break
      }
      clean = false
      w[base + STATE] |= FAILED
      continue
    }
    sent += emitRows(ctx, flow, first, count, header)
    share -= count
    if (count < prepared) {
      w[base + STATE] &= ~READABLE
      if (count < slots >> 1) slots = Math.max(SLOTS_MIN, slots >> 1)
      break
    }
    slots = Math.min(slots << 1, DATAGRAM_BATCH_MAX)
  }
  w[base + SLOTS] = slots
  if (sent > 0) noteToGuest(ctx, base, sent)
}

/** Queues received datagrams. @returns how many */
function emitRows(ctx: Context, flow: number, first: number, count: number, header: number): number {
  const { frames, gate } = ctx
  const overheard = gate !== undefined && gate.overheard[flow] !== 0
  for (let i = 0; i < count; i++) {
    if (overheard) gate.dns.observe(first + i)
    if (header + frames.payloadLength[first + i] > FRAME_LENGTH_MAX) {
      // Longer than any frame, and cut off by the read. Rows are committed without gaps, so this ends the batch; a sender
      // of such datagrams loses nothing else.
      ctx.add(COUNTER.dropDatagram, count - i)
      return i
    }
    emitDatagram(ctx, flow, first + i)
  }
  return count
}
