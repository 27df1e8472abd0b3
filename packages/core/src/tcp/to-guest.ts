/**
 * Host to guest: what the socket has, as segments; retransmission; closing.
 *
 * Nothing is kept: data stays in the socket's receive queue, read with MSG_PEEK, until the guest acknowledges it and
 * `discard` throws it away. So the queue begins at ACKED_BY_GUEST, and the kernel's peek offset, where the next read
 * continues, is SEQ_TO_GUEST - ACKED_BY_GUEST.
 */
import type { Context } from "../context.ts"
import { DIRECTION_TO_GUEST, FD, FLOW_SHIFT, HOST_FAMILY, LAST_ACTIVE, STATE } from "../flow/table.ts"
import { EAGAIN } from "../errno.ts"
import { roomOf } from "../policy/shaper.ts"
import { COUNTER } from "../stats.ts"
import * as tcp from "../wire/tcp.ts"
import {
  PACKET_MAX,
  RTO_AFTER_RETRIES_MS,
  RTO_INITIAL_MS,
  SERVICE_ALONE_MAX,
  SERVICE_BYTES_MAX,
  WINDOW_MAX,
} from "./constants.ts"
import { emitBare, emitSegment, segmentHeaderLength } from "./emit.ts"
import {
  ACKED_BY_GUEST,
  FIN_ACKED,
  FIN_SENT,
  HOST_ENDING,
  HOST_EOF,
  MSS,
  PEEK_LOST,
  PROBE,
  READABLE,
  RESEND,
  RETRIES,
  RTO_ARMED,
  RTO_AT,
  SENT_MAX,
  SEQ_TO_GUEST,
  SYN_RETRIED,
  URGENT,
  WINDOW_FROM_GUEST,
} from "./state.ts"

/** Whether MSG_PEEK continues by itself for this flow's socket. */
function hasPeekOffset(ctx: Context, base: number): boolean {
  return ctx.words[base + HOST_FAMILY] === 4 ? ctx.kernel.peekOffset4 : ctx.kernel.peekOffset6
}

/** Makes the next read start at SEQ_TO_GUEST. If that fails it is tried again before anything is read.
 * @returns 0 or -errno */
export function alignPeek(ctx: Context, flow: number): number {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  if (!hasPeekOffset(ctx, base)) return 0
  let offset = (w[base + SEQ_TO_GUEST]! - w[base + ACKED_BY_GUEST]!) | 0
  // A FIN takes a sequence number but no byte of the queue.
  if ((w[base + STATE]! & FIN_SENT) !== 0 && w[base + SEQ_TO_GUEST] === w[base + SENT_MAX] && offset > 0) offset--
  return setPeek(ctx, base, offset)
}

function setPeek(ctx: Context, base: number, offset: number): number {
  const w = ctx.words
  const result = ctx.kernel.setPeekOffset(w[base + FD]!, offset)
  w[base + STATE] = result < 0 ? w[base + STATE]! | PEEK_LOST : w[base + STATE]! & ~PEEK_LOST
  return result
}

/** Goes back to the first byte that the guest has not acknowledged. */
export function rewind(ctx: Context, flow: number): void {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  if (w[base + SEQ_TO_GUEST] === w[base + ACKED_BY_GUEST]) return
  w[base + SEQ_TO_GUEST] = w[base + ACKED_BY_GUEST]!
  w[base + STATE] = w[base + STATE]! | READABLE
  alignPeek(ctx, flow)
}

/** Arms the retransmission timer, `RTO_INITIAL_MS << retries` from now. */
export function armRetransmission(ctx: Context, flow: number): void {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  let delay = RTO_INITIAL_MS << w[base + RETRIES]!
  if (delay < RTO_AFTER_RETRIES_MS && (w[base + STATE]! & SYN_RETRIED) !== 0) delay = RTO_AFTER_RETRIES_MS
  if (delay > ctx.config.rtoMaxMs) delay = ctx.config.rtoMaxMs
  const at = (ctx.now + delay) | 0
  w[base + RTO_AT] = at
  w[base + STATE] = w[base + STATE]! | RTO_ARMED
  ctx.timers.armAtLatest(flow, at)
}

/** Sends data, and the FIN after it, as far as the guest's window and the link allow.
 * @returns 0 when there is nothing more to do now, 1 when the flow should be served again, -errno when the socket failed */
export function sendData(ctx: Context, flow: number): number {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const frames = ctx.frames
  const mss = w[base + MSS]!
  const header = segmentHeaderLength(w, base)
  const most = Math.min(ctx.link.segmentBytesMax, PACKET_MAX - header + 14)
  const chunk = most >= mss * 2 ? most - (most % mss) : mss
  const { gate } = ctx
  const limited = gate !== undefined && gate.shaper.limited[flow] !== 0
  const share = ctx.work.count === 0 ? SERVICE_ALONE_MAX : SERVICE_BYTES_MAX
  let budget = limited ? roomOf(ctx, flow, DIRECTION_TO_GUEST, share) : share

  if ((w[base + STATE]! & PEEK_LOST) !== 0) {
    const result = alignPeek(ctx, flow)
    if (result < 0) return result
  }
  if ((w[base + STATE]! & (RESEND | PROBE)) !== 0) {
    const result = resendOne(ctx, flow, header)
    if (result !== 0) return result
  }
  while ((w[base + STATE]! & READABLE) !== 0) {
    const sequence = w[base + SEQ_TO_GUEST]!
    const inFlight = (sequence - w[base + ACKED_BY_GUEST]!) | 0
    // No wider than windows that we offer: a peek without offset can't pass over more.
    const offered = w[base + WINDOW_FROM_GUEST]!
    const window = (offered < WINDOW_MAX ? offered : WINDOW_MAX) - inFlight
    if (window <= 0 || (window < mss && inFlight > 0)) {
      // Closed, or so narrow that it is better to wait for the acknowledgement (RFC 9293 section 3.8.6.2.1). The timer
      // also serves as the one that probes a closed window (section 3.8.6.1).
      if ((w[base + STATE]! & RTO_ARMED) === 0) armRetransmission(ctx, flow)
      return 0
    }
    // What is left of the share is no reason for a short segment.
    if (budget < mss) {
      if (!limited) return 1
      gate.shaper.wait(flow)
      return 0
    }
    let want = window < budget ? window : budget
    let rows = 1
    let each = want
    if (want >= chunk) {
      rows = (want / chunk) | 0
      each = chunk
    } else if (want > mss) {
      // Whole segments: what is left of the window waits for more of it.
      each = want - (want % mss)
    }
    rows = ctx.link.reserveStream(rows, header + each, flow)
    if (rows === 0) return 1
    const first = ctx.link.reservedRow
    const room = frames.window[first]! - header
    if (room < each) each = room > mss ? room - (room % mss) : room
    for (let i = 0; i < rows; i++) frames.payload[first + i] = header
    want = rows * each
    const skip = hasPeekOffset(ctx, base) ? 0 : inFlight
    const got = ctx.kernel.peekIntoFrames(w[base + FD]!, first, rows, each, skip)
    if (got < 0) {
      if (got === -EAGAIN) {
        w[base + STATE] = w[base + STATE]! & ~READABLE
        break
      }
      return got
    }
    if (got === 0) {
      w[base + STATE] = (w[base + STATE]! & ~READABLE) | HOST_EOF
      break
    }
    let left = got
    let at = sequence
    for (let row = first; left > 0; row++) {
      const length = left < each ? left : each
      left -= length
      emitSegment(ctx, flow, row, length, at, left === 0 ? tcp.PSH : 0)
      at = (at + length) | 0
    }
    sent(ctx, flow, at)
    // As many as a frame of this flow's is cut into, the last one shorter.
    ctx.addBytes(COUNTER.bytesToGuest, flow, DIRECTION_TO_GUEST, got, ((got + mss - 1) / mss) | 0)
    budget -= got
    // Events are edge-triggered: a FIN that came with the last data is found only by asking once more.
    if (got < want && (w[base + STATE]! & (URGENT | HOST_ENDING)) === 0) w[base + STATE] = w[base + STATE]! & ~READABLE
  }
  const state = w[base + STATE]!
  if (
    (state & HOST_EOF) !== 0 &&
    (state & FIN_ACKED) === 0 &&
    ((state & FIN_SENT) === 0 || w[base + SEQ_TO_GUEST] !== w[base + SENT_MAX])
  ) {
    const sequence = w[base + SEQ_TO_GUEST]!
    if (!emitBare(ctx, flow, sequence, tcp.FIN)) return 1
    w[base + STATE] = w[base + STATE]! | FIN_SENT
    sent(ctx, flow, (sequence + 1) | 0)
  }
  return 0
}

/** Notes that everything before `end` is on its way. */
function sent(ctx: Context, flow: number, end: number): void {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const state = w[base + STATE]!
  w[base + SEQ_TO_GUEST] = end
  if (((end - w[base + SENT_MAX]!) | 0) > 0) w[base + SENT_MAX] = end
  w[base + LAST_ACTIVE] = ctx.now
  if ((state & RTO_ARMED) === 0) armRetransmission(ctx, flow)
}

/** Sends the segment at ACKED_BY_GUEST again, or one byte as a probe, and leaves SEQ_TO_GUEST where it is.
 * @returns as sendData; 0: go on */
function resendOne(ctx: Context, flow: number, header: number): number {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const sequence = w[base + ACKED_BY_GUEST]!
  const probe = (w[base + STATE]! & PROBE) !== 0
  const bytes = probe ? 1 : w[base + MSS]!
  if (ctx.link.reserveStream(1, header + bytes, flow) === 0) return 1
  const row = ctx.link.reservedRow
  const room = ctx.frames.window[row]! - header
  ctx.frames.payload[row] = header
  if (hasPeekOffset(ctx, base)) {
    const result = setPeek(ctx, base, 0)
    if (result < 0) return result
  }
  const got = ctx.kernel.peekIntoFrames(w[base + FD]!, row, 1, room < bytes ? room : bytes, 0)
  if (got > 0) {
    // Never beyond what was sent, so that the rest of the accounting holds.
    const sentBytes = (w[base + SENT_MAX]! - sequence) | 0
    let length = got
    if (!probe && length > sentBytes) length = sentBytes
    if (!probe && length > w[base + WINDOW_FROM_GUEST]!) length = w[base + WINDOW_FROM_GUEST]!
    if (length > 0) emitSegment(ctx, flow, row, length, sequence, tcp.PSH)
    const end = (sequence + length) | 0
    if (((end - w[base + SENT_MAX]!) | 0) > 0) w[base + SENT_MAX] = end
    if (((end - w[base + SEQ_TO_GUEST]!) | 0) > 0) w[base + SEQ_TO_GUEST] = end
    ctx.count(COUNTER.tcpRetransmits)
  }
  w[base + STATE] = w[base + STATE]! & ~(RESEND | PROBE)
  const aligned = alignPeek(ctx, flow)
  if (aligned < 0) return aligned
  if (got === 0 && (w[base + STATE]! & FIN_ACKED) === 0) {
    // Only the FIN is missing. It serves as a probe, too: Linux takes one into a closed window.
    w[base + STATE] = (w[base + STATE]! & ~READABLE) | HOST_EOF
    if (!emitBare(ctx, flow, sequence, tcp.FIN)) return 1
    w[base + STATE] = w[base + STATE]! | FIN_SENT
    sent(ctx, flow, (sequence + 1) | 0)
  }
  if (got === -EAGAIN) {
    // Nothing is there to be sent after all.
    w[base + STATE] = w[base + STATE]! & ~READABLE
    return 0
  }
  if (got < 0) return got
  if ((w[base + STATE]! & RTO_ARMED) === 0) armRetransmission(ctx, flow)
  return 0
}
