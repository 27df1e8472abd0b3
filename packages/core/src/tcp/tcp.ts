/**
 * TCP: one host socket per connection of the guest.
 *
 * Theory of operation
 * -------------------
 * The engine is not a TCP stack. Between the guest's TCP and the host kernel's, both of which do congestion control, ordering and
 * retransmission in full, it translates segments to socket calls and back, and keeps just the numbers that this takes:
 *
 * ```
 *   guest                       flow                          socket                peer
 *     ── data ────────▶ gathered per batch ──── sendmsg ────▶ send queue ─────────▶
 *     ◀─ ACK, window ── TCP_INFO, free send buffer ◀────────── acknowledged, window ◀
 *     ◀─ data ──────── segments ◀───────── recvmsg(MSG_PEEK) ── receive queue ◀─────
 *     ── ACK ─────────▶ recv(MSG_TRUNC): gone from the queue ── window ────────────▶
 * ```
 *
 * - A SYN of the guest is answered when the host's connection has an outcome (connect.ts); a connection accepted on a
 *   forwarded port sends a SYN to the guest.
 * - No payload is stored per connection: towards the guest it stays in the socket until acknowledged (to-guest.ts); from
 *   the guest it is written at once, or held in a bounded pool (from-guest.ts, hold.ts).
 * - Acknowledgements and windows mirror the kernel's (acknowledge.ts).
 * - Sockets are watched edge-triggered. What they told is remembered as flags, and flows that can send wait in the work
 *   queue for the link: a slow guest fills nothing but its own sockets.
 * - State is a set of events (state.ts) rather than the state machine of RFC 9293 section 3.3.2: three stages of the
 *   handshake, then flags for each FIN, sent, received, acknowledged, passed on.
 *
 * Reads first: RFC 9293 section 3.10 (what a segment does), RFC 5961 (blind attacks), RFC 7323 section 2 (window scale),
 * RFC 5681 and RFC 6582 (fast retransmit, recovery), RFC 6298 (timer).
 */
import type { Context } from "../context.ts"
import { EMFILE, ENFILE, ENOMEM } from "../errno.ts"
import { BATCH_HEAD, FD, FLOW_SHIFT, KIND, KIND_TCP, LAST_ACTIVE, STATE } from "../flow/table.ts"
import type { Listeners } from "../forward/listen.ts"
import { EVENT_ERR, EVENT_HUP, EVENT_IN, EVENT_OUT, EVENT_PRI, EVENT_RDHUP, PLACE_HOST } from "../kernel.ts"
import type { Protocol } from "../protocol.ts"
import { COUNTER } from "../stats.ts"
import * as wire from "../wire/tcp.ts"
import { armPoll, updateAck } from "./acknowledge.ts"
import { ACCEPT_MAX, DUPLICATES_MIN, HANDSHAKE_MS, INACTIVITY_MS, KEEPALIVE_MS, RETRIES_MAX } from "./constants.ts"
import { establish, hostConnected, openFromGuest, openFromHost, refuse, sendSyn, settled } from "./connect.ts"
import { emitBare, emitReset } from "./emit.ts"
import { BATCH_RESET_BY_GUEST, BATCH_SOCKET_FAILED, drainHeld, segmentsFromGuest } from "./from-guest.ts"
import { carryHopLimit } from "./hop-limit.ts"
import { HoldPool } from "./hold.ts"
import type { TcpSplice } from "./splice/splice.ts"
import {
  ACCEPTED,
  ACKED_BY_GUEST,
  ACK_ARMED,
  ACK_AT,
  ACK_DUE,
  ACK_SENT,
  ACK_TO_GUEST,
  CONNECTED,
  CONNECTING,
  DUPLICATES,
  EDGE_SENT,
  EDGE_TO_GUEST,
  ESTABLISHED,
  FIN_ACKED,
  FIN_SENT,
  HOST_ENDING,
  HOST_SHUT,
  KEEPALIVE_DUE,
  LAST_FROM_GUEST,
  LAST_WINDOW,
  MSS,
  PROBE,
  READABLE,
  RECOVERING,
  RESEND,
  RETRIES,
  RTO_ARMED,
  RTO_AT,
  SENT_MAX,
  SEQ_TO_GUEST,
  SYN_DUE,
  TRIPLE_ACK,
  URGENT,
  WINDOW_FROM_GUEST,
  WRITE_BLOCKED,
  WRITTEN,
} from "./state.ts"
import { alignPeek, armRetransmission, rewind, sendData } from "./to-guest.ts"

/** Shares of the flow table, of which one is swept each second: a flow comes up every KEEPALIVE_MS. */
const SWEEP_SHARES: number = KEEPALIVE_MS / 1000

export class Tcp implements Protocol {
  readonly #ctx: Context
  readonly #listeners: Listeners
  /** Takes connections that don't go to the link. */
  readonly #splice: TcpSplice | undefined
  readonly hold: HoldPool
  /** Share of the flow table that comes next. */
  #sweepShare = 0
  /** A descriptor in reserve: given up to accept and refuse a connection when there is no other left. */
  #reserve: number

  constructor(ctx: Context, listeners: Listeners, splice?: TcpSplice) {
    this.#ctx = ctx
    this.#listeners = listeners
    this.#splice = splice
    this.hold = new HoldPool(ctx)
    this.#reserve = ctx.kernel.tcpSocket(4, PLACE_HOST)
  }

  open(row: number): number {
    return openFromGuest(this.#ctx, row)
  }

  fromGuest(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    let row = w[base + BATCH_HEAD]!
    // The handshake takes one segment at a time; the rest of the batch may follow at once.
    while ((w[base + STATE]! & ESTABLISHED) === 0) {
      if (row < 0 || !this.#handshake(flow, row)) return
      if ((w[base + STATE]! & ESTABLISHED) !== 0) {
        // Our SYN's answer is done with; the acknowledgement of our SYN,ACK may carry data.
        const l4 = ctx.frames.offset[row]! + ctx.frames.checksumStart[row]!
        if ((wire.flags(ctx.view, l4) & wire.SYN) === 0) break
      }
      row = ctx.frames.next[row]!
    }
    if (row < 0) return
    carryHopLimit(ctx, flow, row)
    const outcome = segmentsFromGuest(ctx, flow, this.hold, row)
    if (outcome === BATCH_RESET_BY_GUEST) {
      this.#end(flow, true)
    } else if (outcome === BATCH_SOCKET_FAILED) {
      this.#fail(flow)
    } else {
      this.#finish(flow)
    }
  }

  settled(flow: number): void {
    settled(this.#ctx, flow)
  }

  /** @returns false when the flow has ended */
  #handshake(flow: number, row: number): boolean {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const l4 = ctx.frames.offset[row]! + ctx.frames.checksumStart[row]!
    const flags = wire.flags(ctx.view, l4)
    const state = w[base + STATE]!
    if ((flags & wire.RST) !== 0) {
      // RFC 9293 section 3.10.7.3: believed if it acknowledges our SYN; or, before that, if it follows the guest's.
      const acknowledges =
        (flags & wire.ACK) !== 0 && wire.acknowledgement(ctx.view, l4) === w[base + SENT_MAX] && (state & SYN_DUE) === 0
      const follows = (state & ACCEPTED) === 0 && wire.sequence(ctx.view, l4) === w[base + ACK_TO_GUEST]
      if (!acknowledges && !follows) {
        ctx.count(COUNTER.dropTcpSequence)
        return true
      }
      this.#end(flow, true)
      return false
    }
    if ((state & CONNECTING) !== 0) return true
    if ((state & CONNECTED) !== 0 && (flags & (wire.SYN | wire.ACK)) === wire.SYN) {
      // The guest repeats its SYN: our answer was lost.
      w[base + STATE] = state | SYN_DUE
      ctx.work.add(flow)
      return true
    }
    if (!establish(ctx, flow, row)) return true
    alignPeek(ctx, flow)
    w[base + STATE] = w[base + STATE]! | READABLE
    w[base + LAST_FROM_GUEST] = ctx.now
    if ((state & ACCEPTED) !== 0) w[base + STATE] = w[base + STATE]! | ACK_DUE
    ctx.work.add(flow)
    return true
  }

  event(flow: number, mask: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if ((mask & EVENT_PRI) !== 0) w[base + STATE] = w[base + STATE]! | URGENT
    if ((mask & (EVENT_RDHUP | EVENT_HUP)) !== 0) w[base + STATE] = w[base + STATE]! | HOST_ENDING
    const state = w[base + STATE]!
    if ((state & CONNECTING) !== 0) {
      const error = ctx.kernel.socketError(w[base + FD]!)
      if (error !== 0 || (mask & (EVENT_ERR | EVENT_HUP)) !== 0) {
        refuse(ctx, flow, error)
        return
      }
      if ((mask & EVENT_OUT) === 0) return
      const result = hostConnected(ctx, flow)
      if (result < 0) refuse(ctx, flow, -result)
      return
    }
    if ((mask & EVENT_ERR) !== 0) {
      this.#fail(flow)
      return
    }
    if ((mask & (EVENT_IN | EVENT_RDHUP | EVENT_HUP)) !== 0) {
      w[base + STATE] = w[base + STATE]! | READABLE
      if ((state & ESTABLISHED) !== 0) ctx.work.add(flow)
      else if ((mask & EVENT_HUP) !== 0) {
        // Gone before the guest has answered.
        this.#fail(flow)
        return
      }
    }
    if ((mask & EVENT_OUT) !== 0 && (state & WRITE_BLOCKED) !== 0) {
      w[base + STATE] = w[base + STATE]! & ~WRITE_BLOCKED
      if (drainHeld(ctx, flow, this.hold) < 0) {
        this.#fail(flow)
        return
      }
      updateAck(ctx, flow, true)
      w[base + STATE] = w[base + STATE]! | ACK_DUE
      ctx.work.add(flow)
      this.#finish(flow)
    }
  }

  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if ((w[base + STATE]! & SYN_DUE) !== 0) {
      if (!sendSyn(ctx, flow)) ctx.work.add(flow)
      return
    }
    if ((w[base + STATE]! & ESTABLISHED) === 0) return
    if ((w[base + STATE]! & KEEPALIVE_DUE) !== 0) {
      w[base + STATE] = w[base + STATE]! & ~KEEPALIVE_DUE
      // Whoever has the connection answers a number that it has acknowledged (RFC 9293 section 3.8.4).
      emitBare(ctx, flow, (w[base + ACKED_BY_GUEST]! - 1) | 0, 0)
    }
    // What travels with data, or alone, is the latest.
    if (((w[base + WRITTEN]! - w[base + ACK_TO_GUEST]!) | 0) > 0) updateAck(ctx, flow, false)
    if ((w[base + STATE]! & TRIPLE_ACK) !== 0 && !this.#threeDuplicates(flow)) {
      ctx.work.add(flow)
      return
    }
    const result = sendData(ctx, flow)
    if (result < 0) {
      this.#fail(flow)
      return
    }
    if (result > 0) ctx.work.add(flow)
    if ((w[base + STATE]! & ACK_DUE) !== 0 && !emitBare(ctx, flow, w[base + SEQ_TO_GUEST]!, 0)) ctx.work.add(flow)
    armPoll(ctx, flow)
  }

  /** An acknowledgement that tells something new, if there is, and three that repeat it: one that moves the window does not
   * count as a duplicate (RFC 5681 section 2). @returns false when there was no room */
  #threeDuplicates(flow: number): boolean {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const repeats = w[base + ACK_TO_GUEST] === w[base + ACK_SENT] && w[base + EDGE_TO_GUEST] === w[base + EDGE_SENT]
    for (let i = repeats ? 1 : 0; i <= DUPLICATES_MIN; i++) {
      if (!emitBare(ctx, flow, w[base + SEQ_TO_GUEST]!, 0)) return false
    }
    w[base + STATE] = w[base + STATE]! & ~TRIPLE_ACK
    return true
  }

  timer(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if ((w[base + STATE]! & ACK_ARMED) !== 0 && ((w[base + ACK_AT]! - ctx.now) | 0) <= 0) this.#ackTimer(flow)
    if ((w[base + STATE]! & RTO_ARMED) !== 0 && ((w[base + RTO_AT]! - ctx.now) | 0) <= 0) {
      w[base + STATE] = w[base + STATE]! & ~RTO_ARMED
      if (!this.#retransmissionTimer(flow)) return
    }
    const state = w[base + STATE]!
    if ((state & ACK_ARMED) !== 0) ctx.timers.armAtLatest(flow, w[base + ACK_AT]!)
    if ((state & RTO_ARMED) !== 0) ctx.timers.armAtLatest(flow, w[base + RTO_AT]!)
  }

  /** The window, or the peer's acknowledgement, is looked at again. */
  #ackTimer(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    w[base + STATE] = w[base + STATE]! & ~ACK_ARMED
    if ((w[base + STATE]! & ESTABLISHED) === 0) return
    updateAck(ctx, flow, true)
    const opened = (w[base + EDGE_TO_GUEST]! - w[base + EDGE_SENT]!) | 0
    const owed = (w[base + ACK_TO_GUEST]! - w[base + ACK_SENT]!) | 0
    if (owed > 0 || opened >= w[base + MSS]! || opened > w[base + LAST_WINDOW]! >> 1) {
      w[base + STATE] = w[base + STATE]! | ACK_DUE
      ctx.work.add(flow)
    }
    armPoll(ctx, flow)
  }

  /** @returns false when the flow has ended */
  #retransmissionTimer(flow: number): boolean {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const state = w[base + STATE]!
    const retries = w[base + RETRIES]! + 1
    if ((state & ESTABLISHED) === 0) {
      if ((state & CONNECTING) !== 0) return true
      if (retries > ctx.config.synRetries) {
        this.#fail(flow)
        return false
      }
      w[base + RETRIES] = retries
      w[base + STATE] = state | SYN_DUE
      ctx.work.add(flow)
      return true
    }
    const inFlight = (w[base + SENT_MAX]! - w[base + ACKED_BY_GUEST]!) | 0
    if (inFlight === 0 && (state & READABLE) === 0) return true
    if (ctx.link.blocked) {
      // The guest does not read its link, so nothing can be said of this connection.
      armRetransmission(ctx, flow)
      return true
    }
    if (retries > RETRIES_MAX) {
      this.#fail(flow)
      return false
    }
    w[base + RETRIES] = retries
    // RFC 6582 section 4: a timeout ends fast recovery.
    w[base + STATE] = state & ~(RECOVERING | RESEND)
    w[base + DUPLICATES] = 0
    rewind(ctx, flow)
    if (w[base + WINDOW_FROM_GUEST] === 0) w[base + STATE] = w[base + STATE]! | PROBE
    ctx.count(COUNTER.tcpRetransmits)
    ctx.work.add(flow)
    armRetransmission(ctx, flow)
    return true
  }

  accept(listener: number): void {
    const ctx = this.#ctx
    const { kernel } = ctx
    const fd = this.#listeners.fd[listener]!
    if (fd < 0) return
    for (let i = 0; i < ACCEPT_MAX; i++) {
      const socket = kernel.accept(fd)
      if (socket >= 0) {
        if (this.#splice === undefined || !this.#splice.accept(listener, socket)) {
          openFromHost(ctx, this.#listeners, listener, socket)
        }
        continue
      }
      if (socket === -EMFILE || socket === -ENFILE || socket === -ENOMEM) this.#refuseOne(fd)
      return
    }
  }

  /** No descriptor is left: refuse the peer rather than let it wait, and let the listening socket be quiet again. */
  #refuseOne(fd: number): void {
    const ctx = this.#ctx
    const { kernel } = ctx
    ctx.count(COUNTER.dropNoFlow)
    ctx.log("warning", "tcp-accept", "Can't open another socket, connection refused")
    if (this.#reserve >= 0) kernel.close(this.#reserve)
    const socket = kernel.accept(fd)
    if (socket >= 0) kernel.reset(socket)
    this.#reserve = kernel.tcpSocket(4, PLACE_HOST)
  }

  sweep(): void {
    const ctx = this.#ctx
    const w = ctx.words
    const { flows } = ctx
    if (this.#reserve < 0) this.#reserve = ctx.kernel.tcpSocket(4, PLACE_HOST)
    const share = this.#sweepShare
    this.#sweepShare = share + 1 < SWEEP_SHARES ? share + 1 : 0
    for (let flow = share; flow < flows.highWater; flow += SWEEP_SHARES) {
      const base = flow << FLOW_SHIFT
      if (w[base + KIND] !== KIND_TCP) continue
      if ((w[base + STATE]! & ESTABLISHED) === 0) {
        // Its SYN can't be sent: there is no guest, or it does not read its link.
        const waited = (ctx.now - w[base + LAST_ACTIVE]!) | 0
        if ((w[base + STATE]! & SYN_DUE) !== 0 && waited >= HANDSHAKE_MS) this.#fail(flow)
        continue
      }
      if (((ctx.now - w[base + LAST_ACTIVE]!) | 0) >= INACTIVITY_MS) {
        this.#fail(flow)
      } else if (((ctx.now - w[base + LAST_FROM_GUEST]!) | 0) >= KEEPALIVE_MS) {
        w[base + STATE] = w[base + STATE]! | KEEPALIVE_DUE
        ctx.work.add(flow)
      }
    }
  }

  /** Closes the flow if both directions are done. */
  #finish(flow: number): void {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    const state = w[base + STATE]!
    if ((state & (FIN_SENT | FIN_ACKED | HOST_SHUT)) !== (FIN_SENT | FIN_ACKED | HOST_SHUT)) return
    // The last acknowledgement goes out before the row is forgotten.
    if ((state & ACK_DUE) !== 0) {
      updateAck(this.#ctx, flow, false)
      emitBare(this.#ctx, flow, w[base + SEQ_TO_GUEST]!, 0)
    }
    this.#end(flow, false)
  }

  /** The socket failed, or the guest is silent: reset both sides. */
  #fail(flow: number): void {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    // Into a closed window only the number that the guest expects is heard; a probe may have gone beyond. No window is
    // known before the guest's answer: then what follows our SYN is expected.
    const closed = (w[base + STATE]! & ESTABLISHED) !== 0 && w[base + WINDOW_FROM_GUEST] === 0
    const sequence = closed ? w[base + ACKED_BY_GUEST]! : w[base + SENT_MAX]!
    emitReset(this.#ctx, flow, sequence)
    this.#end(flow, true)
  }

  /** Ends a connection by a reset on both sides. */
  abort(flow: number): void {
    this.#fail(flow)
  }

  /** Closes all connections, their peers get a reset. */
  close(): void {
    const { flows, words, kernel } = this.#ctx
    for (let flow = 0; flow < flows.highWater; flow++) {
      if (words[(flow << FLOW_SHIFT) + KIND] === KIND_TCP) this.#end(flow, true)
    }
    if (this.#reserve >= 0) kernel.close(this.#reserve)
    this.#reserve = -1
  }

  #end(flow: number, reset: boolean): void {
    this.hold.release(flow << FLOW_SHIFT)
    this.#ctx.retire(flow, reset)
  }
}
