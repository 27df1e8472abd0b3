/**
 * Datagrams that no flow's connected socket got: those on listening sockets, and those that reached a flow's socket between
 * its bind and its connect.
 */
import type { Context } from "../context.ts"
import { FAILED, LISTENER, noteToGuest, SLOT_BYTES, UNSORTED } from "../datagram/state.ts"
import { EAGAIN } from "../errno.ts"
import { FD, FLOW_SHIFT, OUR, PEER, PORT, SCOPE, STATE } from "../flow/table.ts"
import type { Listeners } from "../forward/listen.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE } from "../kernel.ts"
import { DATAGRAM_BATCH_MAX, FRAME_LENGTH_MAX } from "../limits.ts"
import type { Multicast } from "../multicast/multicast.ts"
import { COUNTER } from "../stats.ts"
import { copy, equal } from "../wire/address.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { flowFromHost } from "./open.ts"
import type { UdpSplice } from "./splice/splice.ts"
import { datagramHeaderLength, emitDatagram } from "./to-guest.ts"

/** Longest headers in front of a datagram, bytes. */
const HEADERS_MAX: number = ethernet.HEADER_LENGTH + ipv6.HEADER_LENGTH + udp.HEADER_LENGTH

/** Gives a datagram that lies in a row to a flow. */
function give(ctx: Context, flow: number, row: number): void {
  const { frames } = ctx
  if (frames.payload[row] + frames.payloadLength[row] > FRAME_LENGTH_MAX) {
    ctx.count(COUNTER.dropDatagram)
    return
  }
  if (ctx.words[(flow << FLOW_SHIFT) + FD] < 0) {
    ctx.gate!.holdPayload(flow, row)
    return
  }
  const { gate } = ctx
  if (gate !== undefined && gate.overheard[flow] !== 0) gate.dns.observe(row)
  emitDatagram(ctx, flow, row)
  noteToGuest(ctx, flow << FLOW_SHIFT, 1)
}

/** What serveListener left. */
export const EMPTY = 0
export const MORE = 1
export const NO_ROOM = 2

/** Forwards what waits on a listening socket, up to a share.
 * @param splice takes the datagrams that don't go to the link: they end this turn @param multicast takes those to groups
 * @returns EMPTY, MORE, or NO_ROOM on the link: the rest waits in the socket */
export function serveListener(
  ctx: Context,
  listeners: Listeners,
  listener: number,
  silence: number,
  splice?: UdpSplice,
  multicast?: Multicast,
): number {
  const { kernel, link, frames } = ctx
  const fd = listeners.fd[listener]
  for (let i = 0; ; i++) {
    if (link.reserveRows(1, SLOT_BYTES) === 0) return NO_ROOM
    const row = link.reservedRow
    // Where the datagram has to lie depends on its family, and on a socket for both that is known only from its address: look
    // first. Only a peer's first datagrams come this way.
    frames.payload[row] = HEADERS_MAX
    const waiting = kernel.receiveFrom(fd, row, true)
    if (waiting === -EAGAIN) return EMPTY
    if (i === DATAGRAM_BATCH_MAX) return MORE
    if (waiting < 0) continue
    if (splice?.takes(listener)) return MORE
    if (multicast?.takes(kernel.address, ADDRESS_LOCAL)) {
      multicast.fromListener(listener, row)
      continue
    }
    const flow = flowFromHost(ctx, listeners, listener, silence)
    if (flow >= 0) frames.payload[row] = datagramHeaderLength(ctx.words, flow << FLOW_SHIFT)
    // Fails for one that is longer than any frame; it is gone then.
    if (kernel.receiveFrom(fd, row, false) < 0) ctx.count(COUNTER.dropDatagram)
    else if (flow >= 0) give(ctx, flow, row)
  }
}

/** Takes what a new flow's socket received before it was connected, one by one: each belongs to the flow only if it comes from
 * the flow's peer. UNSORTED is cleared once the socket is empty, for from then on the kernel sorts.
 * @returns false when the link had no room */
export function sortQueue(ctx: Context, listeners: Listeners, flow: number, silence: number): boolean {
  const { kernel, link, frames } = ctx
  const { address } = kernel
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const header = datagramHeaderLength(w, base)
  for (let i = 0; i < DATAGRAM_BATCH_MAX; i++) {
    if (link.reserveRows(1, SLOT_BYTES) === 0) return false
    const row = link.reservedRow
    frames.payload[row] = header
    const result = kernel.receiveFrom(w[base + FD], row, false)
    if (result === -EAGAIN) {
      w[base + STATE] &= ~UNSORTED
      return true
    }
    if (result < 0) {
      w[base + STATE] |= FAILED
      continue
    }
    if (w[base + PEER + PORT] === address[ADDRESS_REMOTE + PORT] && equal(w, base + PEER, address, ADDRESS_REMOTE)) {
      give(ctx, flow, row)
    } else if (w[base + LISTENER] < 0) {
      ctx.count(COUNTER.dropAddress)
    } else {
      copy(address, ADDRESS_LOCAL, w, base + OUR)
      address[ADDRESS_LOCAL + SCOPE] = w[base + OUR + SCOPE]
      const other = flowFromHost(ctx, listeners, w[base + LISTENER], silence)
      if (other >= 0) give(ctx, other, row)
    }
  }
  return true
}
