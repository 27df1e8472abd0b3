/**
 * What to acknowledge and how much to ask for: both are read from the kernel, so that the guest sees the congestion and flow
 * control of the real connection.
 *
 * - Acknowledgement: all that the socket took, if the peer is local or the transfer is a bulk one (the send buffer holds less
 *   than what is on its way, so waiting would only empty it); else only what the real peer has acknowledged.
 * - Window: the smaller of the peer's window and the free part of the send buffer. The right edge never moves back (RFC 9293
 *   section 3.8.6), and moves by at least a segment (silly window avoidance, section 3.8.6.2.2).
 *
 * The kernel is asked only when half of what it allowed last time is used up, or when an acknowledgement depends on the
 * peer's.
 */
import type { Context } from "../context.ts"
import { DIRECTION_FROM_GUEST, FD, FLOW_SHIFT, STATE } from "../flow/table.ts"
import {
  INFO_BYTES_ACKED,
  INFO_DELIVERY_RATE,
  INFO_MIN_RTT,
  INFO_RTT,
  INFO_SEND_BUFFER,
  INFO_SEND_QUEUED,
  INFO_SEND_WINDOW,
  INFO_UNACKNOWLEDGED,
} from "../kernel.ts"
import { roomOf } from "../policy/shaper.ts"
import {
  ACK_ARMED,
  ACK_AT,
  ACK_TO_GUEST,
  EDGE_TO_GUEST,
  FIRST_FROM_GUEST,
  GUEST_FIN,
  HOST_SHUT,
  LAST_FROM_GUEST,
  LAST_WINDOW,
  LOCAL,
  MSS,
  RTT,
  SCALE_TO_GUEST_SHIFT,
  SCALES,
  SEQ_FROM_GUEST,
  SWALLOW,
  WINDOW_LOW,
  WRITTEN,
} from "./state.ts"
import {
  LOCAL_RTT_US,
  WINDOW_LEAST,
  WINDOW_MAX,
  WINDOW_POLL_IDLE_MS,
  WINDOW_POLL_MAX_MS,
  WINDOW_POLL_MIN_MS,
  WINDOW_POLL_QUIET_MS,
  WINDOW_SEGMENTS_MAX,
  WINDOW_UNSCALED_MAX,
} from "./constants.ts"

/** Send buffer, in round trips at the current rate, from which on a transfer counts as interactive. */
const INTERACTIVE_ROUND_TRIPS = 20

/** Brings ACK_TO_GUEST and EDGE_TO_GUEST up to date.
 * @param ask whether to ask the kernel even if the window would last */
export function updateAck(ctx: Context, flow: number, ask: boolean): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const state = w[base + STATE]!
  const written = w[base + WRITTEN]!
  if ((state & SWALLOW) !== 0) {
    // Nobody reads any more: let the guest finish.
    const all = w[base + SEQ_FROM_GUEST]!
    w[base + WRITTEN] = all
    w[base + ACK_TO_GUEST] = all
    // RFC 9293 section 3.8.6: a window that was offered is not taken back.
    const edge = (all + WINDOW_UNSCALED_MAX) | 0
    if (((edge - w[base + EDGE_TO_GUEST]!) | 0) > 0) w[base + EDGE_TO_GUEST] = edge
    return
  }
  // After the guest's FIN nothing more will come: acknowledge it with everything, once it has been passed on.
  if ((state & GUEST_FIN) !== 0) {
    w[base + ACK_TO_GUEST] = (state & HOST_SHUT) !== 0 ? w[base + SEQ_FROM_GUEST]! : written
    if (((w[base + EDGE_TO_GUEST]! - w[base + ACK_TO_GUEST]!) | 0) < 0)
      w[base + EDGE_TO_GUEST] = w[base + ACK_TO_GUEST]!
    return
  }
  const left = (w[base + EDGE_TO_GUEST]! - written) | 0
  const local = (state & LOCAL) !== 0
  if (local && !ask && left > w[base + LAST_WINDOW]! >> 1) {
    w[base + ACK_TO_GUEST] = written
    return
  }
  const info = ctx.kernel.info
  if (ctx.kernel.tcpInfo(w[base + FD]!) < 0) {
    w[base + ACK_TO_GUEST] = written
    return
  }
  w[base + RTT] = info[INFO_RTT]!
  const buffer = info[INFO_SEND_BUFFER]!
  let ack = written
  if (!local) {
    // Negative: not measured yet.
    if (info[INFO_MIN_RTT]! >= 0 && info[INFO_MIN_RTT]! <= LOCAL_RTT_US) w[base + STATE] = state | LOCAL
    else if (
      info[INFO_DELIVERY_RATE]! >= 0 &&
      buffer > (info[INFO_RTT]! / 1e6) * info[INFO_DELIVERY_RATE]! * INTERACTIVE_ROUND_TRIPS
    ) {
      const acked = (w[base + FIRST_FROM_GUEST]! + info[INFO_BYTES_ACKED]!) | 0
      // Never back, never beyond what was written (the kernel counts its own FIN too).
      if (((acked - written) | 0) < 0) ack = acked
      if (((ack - w[base + ACK_TO_GUEST]!) | 0) < 0) ack = w[base + ACK_TO_GUEST]!
    }
  }
  w[base + ACK_TO_GUEST] = ack

  // Payload that the send buffer takes: an eighth of the free memory is reckoned as the kernel's own overhead.
  let window = buffer - info[INFO_SEND_QUEUED]!
  window -= window >> 3
  if (window < 0) window = 0
  const peer = info[INFO_SEND_WINDOW]!
  // The peer's window counts from what it has acknowledged; what waits in the send queue is ours to fill once more, so
  // that the connection never runs dry between two looks at it.
  // A window that is open at all is taken for WINDOW_LEAST at least: guests with large segments could not fill a small one.
  if (peer === 0) window = 0
  else if (peer > 0 && peer < window) window = peer > WINDOW_LEAST ? peer : Math.min(window, WINDOW_LEAST)
  if (window > WINDOW_MAX) window = WINDOW_MAX
  const queue = w[base + MSS]! * WINDOW_SEGMENTS_MAX
  if (window > queue) window = queue
  const medium = ctx.link.windowMax
  if (medium > 0 && window > medium) window = medium
  const { gate } = ctx
  const limited = gate !== undefined && gate.shaper.limited[flow] !== 0
  if (limited) {
    // What waits to be written counts as carried.
    window = roomOf(ctx, flow, DIRECTION_FROM_GUEST, window)
    if (window < w[base + MSS]!) window = 0
  }
  w[base + LAST_WINDOW] = window

  let edge = (written + window) | 0
  const mss = w[base + MSS]!
  const move = (edge - w[base + EDGE_TO_GUEST]!) | 0
  const worth = Math.min(mss, window >> 1)
  if (move < worth && (move <= 0 || (left > 0 && info[INFO_UNACKNOWLEDGED]! > 0))) edge = w[base + EDGE_TO_GUEST]!
  // No more than the window field can tell, counted from the acknowledgement.
  const most = 0xffff << (w[base + SCALES]! >> SCALE_TO_GUEST_SHIFT)
  if (((edge - ack) | 0) > most) edge = (ack + most) | 0
  if (((edge - w[base + EDGE_TO_GUEST]!) | 0) > 0) w[base + EDGE_TO_GUEST] = edge
  if (((w[base + EDGE_TO_GUEST]! - ack) | 0) < 0) w[base + EDGE_TO_GUEST] = ack

  const open = (w[base + EDGE_TO_GUEST]! - written) | 0
  if (limited || open < mss * 2 || open < buffer >> 3) w[base + STATE] = w[base + STATE]! | WINDOW_LOW
  else w[base + STATE] = w[base + STATE]! & ~WINDOW_LOW
}

/** Arms the timer that looks again, if the guest waits for something that no event tells of: the peer's acknowledgement, or
 * a wider window. Half a round trip from now, less often the longer the guest has been silent. */
export function armPoll(ctx: Context, flow: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const state = w[base + STATE]!
  if ((state & (ACK_ARMED | GUEST_FIN | SWALLOW)) !== 0) return
  const quiet = (ctx.now - w[base + LAST_FROM_GUEST]!) | 0
  if (((w[base + WRITTEN]! - w[base + ACK_TO_GUEST]!) | 0) <= 0) {
    if ((state & WINDOW_LOW) === 0) return
    // A guest that has room to send will make us look by sending.
    const open = (w[base + EDGE_TO_GUEST]! - w[base + WRITTEN]!) | 0
    if (open >= w[base + MSS]! * 2 && quiet > WINDOW_POLL_QUIET_MS) return
  }
  let delay = quiet >> 2
  if (delay > WINDOW_POLL_MAX_MS) delay = WINDOW_POLL_MAX_MS
  if (delay < quiet >> 6) delay = quiet >> 6
  const half = (w[base + RTT]! / 2000) | 0
  if (delay < half) delay = half
  if (delay < WINDOW_POLL_MIN_MS) delay = WINDOW_POLL_MIN_MS
  if (delay > WINDOW_POLL_IDLE_MS) delay = WINDOW_POLL_IDLE_MS
  const at = (ctx.now + delay) | 0
  w[base + ACK_AT] = at
  w[base + STATE] = state | ACK_ARMED
  ctx.timers.armAtLatest(flow, at)
}
