/**
 * Guest to host: acknowledgements and windows of the guest, and its data, one batch of segments per flow at a time.
 *
 * In-order payload of the whole batch goes to the socket in one call. What the socket does not take, and what comes after a hole,
 * is held (hold.ts) or, when there is no room, dropped and asked for again by duplicate acknowledgements (RFC 5681 section 3.2).
 */
import type { Context } from "../context.ts"
import { DIRECTION_FROM_GUEST, FD, FLOW_SHIFT, LAST_ACTIVE, STATE } from "../flow/table.ts"
import { EAGAIN, EPIPE } from "../errno.ts"
import { RX_FRAME_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import * as tcp from "../wire/tcp.ts"
import { armPoll, updateAck } from "./acknowledge.ts"
import { DUPLICATES_MIN } from "./constants.ts"
import type { HoldPool } from "./hold.ts"
import {
  ACKED_BY_GUEST,
  ACK_DUE,
  ACK_SENT,
  ACK_TO_GUEST,
  DUPLICATES,
  EDGE_SENT,
  EDGE_TO_GUEST,
  FIN_ACKED,
  FIN_SENT,
  GUEST_FIN,
  HOLD_COUNT,
  HOLD_HEAD,
  HOST_ENDING,
  HOST_EOF,
  HOST_SHUT,
  KEEPALIVE,
  LAST_FROM_GUEST,
  LAST_WINDOW,
  MSS,
  READABLE,
  RECOVER,
  RECOVERING,
  RESEND,
  RETRIES,
  RTO_ARMED,
  SCALES,
  SENT_MAX,
  SEQ_FROM_GUEST,
  SEQ_TO_GUEST,
  SWALLOW,
  SYN_RETRIED,
  TRIPLE_ACK,
  WINDOW_FROM_GUEST,
  WRITE_BLOCKED,
  WRITTEN,
} from "./state.ts"
import { alignPeek, armRetransmission, rewind } from "./to-guest.ts"

/** Outcome: go on; close the flow as the guest reset it; close it because the socket failed. */
export const BATCH_OK = 0
export const BATCH_RESET_BY_GUEST = 1
export const BATCH_SOCKET_FAILED = 2

/** Rows of the batch that lie after a hole. */
const ahead: Int32Array = new Int32Array(RX_FRAME_MAX)

/** Handles the batch's segments of an established flow, from BATCH_HEAD on. @returns BATCH_… */
export function segmentsFromGuest(ctx: Context, flow: number, hold: HoldPool, first: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const frames = ctx.frames
  const v = ctx.view
  const scale = w[base + SCALES]! & 0xff
  const gather = frames.gather
  w[base + LAST_FROM_GUEST] = ctx.now
  w[base + LAST_ACTIVE] = ctx.now

  let ack = w[base + ACKED_BY_GUEST]!
  let window = w[base + WINDOW_FROM_GUEST]!
  let duplicates = 0
  let closed = false
  let gathered = 0
  let aheadCount = 0
  let fin = false
  let reset = false
  let answer = false
  let expected = w[base + SEQ_FROM_GUEST]!
  const start = expected
  let inOrderBytes = 0

  for (let row = first; row >= 0; row = frames.next[row]!) {
    const l4 = frames.offset[row]! + frames.checksumStart[row]!
    const flags = tcp.flags(v, l4)
    const sequence = tcp.sequence(v, l4)
    const length = frames.payloadLength[row]!
    if ((flags & (tcp.RST | tcp.SYN | tcp.ACK)) !== tcp.ACK) {
      if ((flags & tcp.RST) !== 0) {
        // RFC 5961 section 3.2: only the exact number resets; one in the window is questioned. Exact is what comes next,
        // or what we last acknowledged: a guest that has forgotten the connection knows no other number.
        if (sequence === expected || sequence === w[base + ACK_SENT]) {
          reset = true
          break
        }
        const acknowledged = w[base + ACK_SENT]!
        if (((sequence - acknowledged) | 0) > 0 && ((sequence - w[base + EDGE_TO_GUEST]!) | 0) < 0) answer = true
        else ctx.count(COUNTER.dropTcpSequence)
      } else if ((flags & tcp.SYN) !== 0) {
        // RFC 5961 section 4.2: a guest that forgot the connection answers this with a reset that fits.
        answer = true
      } else {
        ctx.count(COUNTER.dropTransport)
      }
      continue
    }

    const acknowledged = tcp.acknowledgement(v, l4)
    const field = tcp.window(v, l4) << scale
    const newer = (acknowledged - ack) | 0
    if (((acknowledged - w[base + SENT_MAX]!) | 0) > 0) {
      // Acknowledges what was never sent: RFC 9293 section 3.10.7.4.
      ctx.count(COUNTER.dropTcpSequence)
      answer = true
      continue
    }
    if (newer > 0) {
      ack = acknowledged
      window = field
      duplicates = 0
    } else if (newer === 0) {
      if (length === 0 && (flags & tcp.FIN) === 0 && field === window && field !== 0 && ack !== w[base + SENT_MAX]) {
        duplicates++
      }
      window = field
    }
    if (field === 0 && newer >= 0) closed = true

    const hasFin = (flags & tcp.FIN) !== 0
    if (length === 0 && !hasFin) {
      // A keepalive of the guest, or a probe, repeats an old number (RFC 9293 section 3.8.4).
      if (((sequence - expected) | 0) < 0) {
        answer = true
        keepalive(ctx, base)
      }
      continue
    }
    if (fin || (w[base + STATE]! & GUEST_FIN) !== 0) {
      answer = true
      continue
    }
    if (((sequence - w[base + EDGE_TO_GUEST]!) | 0) >= 0 && length > 0) {
      ctx.count(COUNTER.dropTcpSequence)
      answer = true
      continue
    }
    const old = (expected - sequence) | 0
    if (old < 0) {
      ahead[aheadCount++] = row
      continue
    }
    if (old > length || (old === length && !hasFin)) {
      answer = true
      if (length <= 1 && old === 1) keepalive(ctx, base)
      continue
    }
    if (length > old) {
      frames.payload[row] = frames.payload[row]! + old
      frames.payloadLength[row] = length - old
      gather[gathered++] = row
      inOrderBytes += length - old
      expected = (expected + length - old) | 0
    }
    if (hasFin) fin = true
  }

  // What arrived after a hole may fit by now.
  let progress = aheadCount > 0
  while (progress) {
    progress = false
    for (let i = 0; i < aheadCount; i++) {
      const row = ahead[i]!
      if (row < 0) continue
      const l4 = frames.offset[row]! + frames.checksumStart[row]!
      const length = frames.payloadLength[row]!
      const old = (expected - tcp.sequence(v, l4)) | 0
      if (old < 0) continue
      ahead[i] = -1
      progress = true
      if (fin || old > length) continue
      if (length > old) {
        frames.payload[row] = frames.payload[row]! + old
        frames.payloadLength[row] = length - old
        gather[gathered++] = row
        inOrderBytes += length - old
        expected = (expected + length - old) | 0
      }
      if ((tcp.flags(v, l4) & tcp.FIN) !== 0) fin = true
    }
  }

  if (gathered > 0) {
    ctx.addBytes(COUNTER.bytesFromGuest, flow, DIRECTION_FROM_GUEST, inOrderBytes, gathered)
    w[base + SEQ_FROM_GUEST] = expected
    const result = write(ctx, flow, hold, gathered, inOrderBytes, start)
    if (result < 0) return BATCH_SOCKET_FAILED
    if (((w[base + SEQ_FROM_GUEST]! - expected) | 0) < 0) {
      // Something found no room: the guest has to send it again, and the FIN with it.
      fin = false
      answer = true
      w[base + STATE] = w[base + STATE]! | TRIPLE_ACK
    }
  }
  // What came before a reset has been written: the peer gets as much of it as its kernel has room for.
  if (reset) return BATCH_RESET_BY_GUEST
  // After the write: what the guest sent is on its way while the kernel cleans up behind what it has.
  acknowledgeToHost(ctx, flow, ack, window, duplicates, closed)
  for (let i = 0; i < aheadCount; i++) {
    const row = ahead[i]!
    if (row < 0) continue
    const l4 = frames.offset[row]! + frames.checksumStart[row]!
    const length = frames.payloadLength[row]!
    if (
      length > 0 &&
      (w[base + STATE]! & SWALLOW) === 0 &&
      !hold.insert(base, row, frames.payload[row]!, length, tcp.sequence(v, l4))
    ) {
      ctx.count(COUNTER.dropTcpHold)
    }
    w[base + STATE] = w[base + STATE]! | TRIPLE_ACK
    answer = true
  }
  // There is nothing behind a FIN, whatever the guest sent before it (RFC 9293 section 3.10.7.4, eighth step).
  if (fin) hold.truncate(base, w[base + SEQ_FROM_GUEST]!)
  if (w[base + HOLD_HEAD]! >= 0) {
    const contiguous = hold.contiguous(base, w[base + SEQ_FROM_GUEST]!)
    if (contiguous !== w[base + SEQ_FROM_GUEST]) {
      w[base + SEQ_FROM_GUEST] = contiguous
      answer = true
    }
    const result = drainHeld(ctx, flow, hold)
    if (result < 0) return BATCH_SOCKET_FAILED
  }
  if (fin) {
    w[base + SEQ_FROM_GUEST] = (w[base + SEQ_FROM_GUEST]! + 1) | 0
    w[base + STATE] = w[base + STATE]! | GUEST_FIN
    answer = true
    if (passFin(ctx, flow) < 0) return BATCH_SOCKET_FAILED
  }
  if (gathered > 0 || answer) scheduleAck(ctx, flow, answer)
  return BATCH_OK
}

function keepalive(ctx: Context, base: number): void {
  const w = ctx.words
  if ((w[base + STATE]! & KEEPALIVE) !== 0) return
  w[base + STATE] = w[base + STATE]! | KEEPALIVE
  ctx.kernel.setKeepalive(w[base + FD]!)
}

/** Takes the guest's acknowledgement and window: throws away what it has, sends again what it lacks. */
function acknowledgeToHost(
  ctx: Context,
  flow: number,
  ack: number,
  window: number,
  duplicates: number,
  closed: boolean,
): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const opened = window > w[base + WINDOW_FROM_GUEST]!
  const wasClosed = w[base + WINDOW_FROM_GUEST] === 0
  w[base + WINDOW_FROM_GUEST] = window
  if (window === 0) w[base + RETRIES] = 0
  let finAcked = false
  if (((ack - w[base + ACKED_BY_GUEST]!) | 0) > 0) {
    finAcked = (w[base + STATE]! & FIN_SENT) !== 0 && ack === w[base + SENT_MAX]
    let left = (ack - w[base + ACKED_BY_GUEST]! - (finAcked ? 1 : 0)) | 0
    // More than one call may be needed: reads stop at an urgent mark (tcp(7)).
    while (left > 0) {
      const gone = ctx.kernel.discard(w[base + FD]!, left)
      if (gone <= 0) break
      left -= gone
    }
    if (left > 0) {
      // If the kernel can't, it is as if the rest had not been acknowledged.
      ack = (ack - left - (finAcked ? 1 : 0)) | 0
      finAcked = false
    }
  }
  if (((ack - w[base + ACKED_BY_GUEST]!) | 0) > 0) {
    w[base + ACKED_BY_GUEST] = ack
    w[base + RETRIES] = 0
    w[base + DUPLICATES] = 0
    if (finAcked) w[base + STATE] = w[base + STATE]! | FIN_ACKED
    if (((ack - w[base + SEQ_TO_GUEST]!) | 0) > 0) {
      // It had what we were about to send again.
      w[base + SEQ_TO_GUEST] = ack
      alignPeek(ctx, flow)
    }
    if ((w[base + STATE]! & RECOVERING) !== 0) {
      // A partial acknowledgement tells of the next hole (RFC 6582 section 3.2).
      if (((ack - w[base + RECOVER]!) | 0) >= 0) w[base + STATE] = w[base + STATE]! & ~(RECOVERING | RESEND)
      else w[base + STATE] = w[base + STATE]! | RESEND
    }
    w[base + STATE] = w[base + STATE]! & ~(RTO_ARMED | SYN_RETRIED)
    if ((w[base + STATE]! & (HOST_ENDING | HOST_EOF)) === HOST_ENDING && ack === w[base + SENT_MAX]) {
      // Without peek offsets the end of the stream is seen only now that the queue is empty.
      w[base + STATE] = w[base + STATE]! | READABLE
    }
    if (ack !== w[base + SENT_MAX]) armRetransmission(ctx, flow)
  } else if (duplicates > 0 && (w[base + STATE]! & RECOVERING) === 0) {
    w[base + DUPLICATES] = w[base + DUPLICATES]! + duplicates
    // With little in flight there can't be three duplicates: RFC 5827.
    const inFlight = (w[base + SENT_MAX]! - w[base + ACKED_BY_GUEST]!) | 0
    const few = inFlight < w[base + MSS]! * (DUPLICATES_MIN + 1)
    const onlyFin = (w[base + STATE]! & FIN_SENT) !== 0 && inFlight === 1
    if (!onlyFin && w[base + DUPLICATES]! >= (few ? 1 : DUPLICATES_MIN)) {
      w[base + DUPLICATES] = 0
      w[base + RECOVER] = w[base + SENT_MAX]!
      w[base + STATE] = w[base + STATE]! | RECOVERING | RESEND
      ctx.count(COUNTER.tcpFastRetransmits)
    }
  }
  if ((closed || wasClosed) && ack !== w[base + SENT_MAX]) {
    // A closed window with data in flight: Linux (from 6.8, under memory pressure) has dropped that data. A probe that is
    // still in flight when the window opens was not taken either.
    rewind(ctx, flow)
  }
  if ((w[base + STATE]! & (READABLE | RESEND)) !== 0 || opened) ctx.work.add(flow)
}

/** Writes gathered payload to the socket; what it does not take is held.
 * @param start sequence number of the first gathered byte
 * @returns 0, or -errno when the socket failed */
function write(ctx: Context, flow: number, hold: HoldPool, count: number, bytes: number, start: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const frames = ctx.frames
  const state = w[base + STATE]!
  if ((state & SWALLOW) !== 0) {
    w[base + WRITTEN] = w[base + SEQ_FROM_GUEST]!
    return 0
  }
  let taken = 0
  // Held data goes first.
  if ((state & WRITE_BLOCKED) === 0 && w[base + WRITTEN] === start) {
    const result = ctx.kernel.sendFrames(w[base + FD]!, 0, count)
    if (result < 0 && result !== -EAGAIN) {
      if (result !== -EPIPE) return result
      w[base + STATE] = w[base + STATE]! | SWALLOW
      w[base + WRITTEN] = w[base + SEQ_FROM_GUEST]!
      hold.release(base)
      return 0
    }
    if (result > 0) taken = result
    w[base + WRITTEN] = (start + taken) | 0
    if (taken === bytes) return 0
    w[base + STATE] = w[base + STATE]! | WRITE_BLOCKED
  }
  let sequence = start
  for (let i = 0; i < count; i++) {
    const row = frames.gather[i]!
    let from = frames.payload[row]!
    let length = frames.payloadLength[row]!
    let at = sequence
    sequence = (sequence + length) | 0
    if (taken >= length) {
      taken -= length
      continue
    }
    from += taken
    length -= taken
    at = (at + taken) | 0
    taken = 0
    if (!hold.insert(base, row, from, length, at)) {
      ctx.count(COUNTER.dropTcpHold)
      break
    }
  }
  w[base + SEQ_FROM_GUEST] = hold.contiguous(base, w[base + WRITTEN]!)
  return 0
}

/** Writes held data that is in order, until the socket takes no more. @returns 0, or -errno when the socket failed */
export function drainHeld(ctx: Context, flow: number, hold: HoldPool): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  while (w[base + HOLD_COUNT]! > 0 && (w[base + STATE]! & (WRITE_BLOCKED | SWALLOW)) === 0) {
    const block = w[base + HOLD_HEAD]!
    const written = w[base + WRITTEN]!
    if (((hold.sequence[block]! - written) | 0) > 0) break
    if (((hold.sequence[block]! + hold.length[block]! - written) | 0) <= 0) {
      hold.consume(base, (hold.sequence[block]! + hold.length[block]!) | 0)
      continue
    }
    if (hold.sequence[block] !== written) hold.consume(base, written)
    const length = hold.length[block]!
    const result = ctx.kernel.sendHeld(w[base + FD]!, hold.offset[block]!, length)
    if (result < 0) {
      if (result === -EAGAIN) {
        w[base + STATE] = w[base + STATE]! | WRITE_BLOCKED
        break
      }
      if (result !== -EPIPE) return result
      w[base + STATE] = w[base + STATE]! | SWALLOW
      hold.release(base)
      break
    }
    w[base + WRITTEN] = (written + result) | 0
    hold.consume(base, w[base + WRITTEN]!)
    if (result < length) w[base + STATE] = w[base + STATE]! | WRITE_BLOCKED
  }
  return passFin(ctx, flow)
}

/** Passes the guest's FIN on, once all data before it is written. @returns 0, or -errno when the socket failed */
function passFin(ctx: Context, flow: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  if ((w[base + STATE]! & (GUEST_FIN | HOST_SHUT)) !== GUEST_FIN) return 0
  const swallow = (w[base + STATE]! & SWALLOW) !== 0
  if (w[base + WRITTEN] !== ((w[base + SEQ_FROM_GUEST]! - 1) | 0) && !swallow) return 0
  const result = ctx.kernel.shutdownWrite(w[base + FD]!)
  // A socket that takes no more has nothing to shut.
  if (result < 0 && !swallow) return result
  w[base + STATE] = w[base + STATE]! | HOST_SHUT
  return 0
}

/** Brings the acknowledgement and the window up to date, and has the guest told of what is new: once per batch, at the end
 * of the turn, with data if there is some by then.
 * @param now whether to answer even if nothing is new */
export function scheduleAck(ctx: Context, flow: number, now: boolean): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  updateAck(ctx, flow, false)
  const owed = (w[base + ACK_TO_GUEST]! - w[base + ACK_SENT]!) | 0
  const opened = (w[base + EDGE_TO_GUEST]! - w[base + EDGE_SENT]!) | 0
  if (now || owed > 0 || opened > w[base + LAST_WINDOW]! >> 2) {
    w[base + STATE] = w[base + STATE]! | ACK_DUE
    ctx.work.add(flow)
  }
  armPoll(ctx, flow)
}
