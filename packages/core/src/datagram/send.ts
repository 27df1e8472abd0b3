/**
 * Datagrams from the guest to their flow's socket: one system call for all that a batch brought, unless their hop limits differ.
 */
import type { Context } from "../context.ts"
import { EAGAIN, ENOBUFS } from "../errno.ts"
import { BATCH_HEAD, DIRECTION_FROM_GUEST, FD, FLOW_SHIFT, GUEST_FAMILY, HOST_FAMILY } from "../flow/table.ts"
import { roomOf } from "../policy/shaper.ts"
import { COUNTER } from "../stats.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import { HOP_LIMIT, noteFromGuest } from "./state.ts"

/** Sends the frames of a flow's batch. What the socket refuses is counted and gone, as on any network. */
export function sendBatch(ctx: Context, flow: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const { frames } = ctx
  const { gather } = frames
  const at = ethernet.HEADER_LENGTH + (w[base + GUEST_FAMILY] === 4 ? ipv4.TTL : ipv6.HOP_LIMIT)
  if (ctx.gate !== undefined && roomOf(ctx, flow, DIRECTION_FROM_GUEST, 1) === 0) {
    for (let row = w[base + BATCH_HEAD]; row >= 0; row = frames.next[row]) ctx.count(COUNTER.dropRateLimit)
    return
  }
  let total = 0
  let count = 0
  for (let row = w[base + BATCH_HEAD]; row >= 0; row = frames.next[row]) {
    const hops = ctx.view.getUint8(frames.offset[row] + at)
    total++
    if (hops === 0) {
      // RFC 1812 section 5.3.1: such a packet must not be on the wire, and no socket would send it.
      ctx.count(COUNTER.dropIp)
      continue
    }
    if (hops !== w[base + HOP_LIMIT]) {
      if (count > 0) sendGroup(ctx, flow, count)
      count = 0
      // Where the kernel refuses, the datagram goes out with the limit that there is: better than not at all.
      ctx.kernel.setHopLimit(w[base + FD], w[base + HOST_FAMILY], hops)
      w[base + HOP_LIMIT] = hops
    }
    gather[count++] = row
  }
  if (count > 0) sendGroup(ctx, flow, count)
  noteFromGuest(ctx, base, total)
}

/** Sends the rows gather[0 … count-1]. */
function sendGroup(ctx: Context, flow: number, count: number): void {
  const { kernel, frames } = ctx
  const fd = ctx.words[(flow << FLOW_SHIFT) + FD]
  const { gather } = frames
  let at = 0
  let retried = false
  let bytes = 0
  while (at < count) {
    const result = kernel.sendDatagrams(fd, at, count - at)
    if (result > 0) {
      const end = at + result
      for (; at < end; at++) bytes += frames.payloadLength[gather[at]]
      retried = false
    } else if (result === -EAGAIN || result === -ENOBUFS) {
      // The socket's or the device's queue is full: more of the same would only meet the same.
      ctx.add(COUNTER.dropDatagram, count - at)
      break
    } else if (retried) {
      ctx.count(COUNTER.dropDatagram)
      at++
      retried = false
    } else {
      // A connected socket hands out the error that an earlier datagram met; this one has not been tried then.
      retried = true
    }
  }
  ctx.addBytes(COUNTER.bytesFromGuest, flow, DIRECTION_FROM_GUEST, bytes, at)
}
