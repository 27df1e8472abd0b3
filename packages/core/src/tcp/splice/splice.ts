/**
 * Spliced TCP: connections between loopback addresses of the host and of a namespace, from socket to socket.
 *
 * Theory of operation
 * -------------------
 * Loopback addresses can't cross a link, and what stays on one machine needs no segments: here the kernel's TCP on both
 * sides does everything, and we move bytes between two of its sockets.
 *
 * ```
 *              side 0, accepted                                side 1, connected
 *   client ─── socket ──▶ recv, send: short messages ───────▶ socket ─── server
 *                    └──▶ splice ▶ pipe ▶ splice: bulk ──────▶
 *                    ◀──────────── the same, back ────────────
 * ```
 *
 * - Bulk is moved by splice(2), as references to pages. A pipe belongs to nobody: a direction takes one while it moves data, and
 *   keeps it only if the target did not take everything. So idle connections cost two descriptors, not six.
 * - Short messages are copied, which costs half the system calls; what the target does not take goes into a pipe.
 * - Sockets are watched edge-triggered. What they told is remembered as flags (state.ts), and a direction runs when its source
 *   may have data and its target has room. One share of bytes per direction and turn, then the next flow: the work queue is
 *   the engine's second one, for the link has no part in this.
 * - The client is accepted before the server is asked: it sees a refusal as a reset right after the connection was made.
 * - The end of a stream is passed on once all before it is delivered (half-close, both ways); a connection whose
 *   directions have both ended is closed. Nothing else ends one: there is no limit to its silence.
 * - A side that fails (a reset, a timeout) can't be written to, but what it sent before is still read and delivered; then the
 *   other side gets a reset, after its own send queue has drained, for a reset discards that. The wait is bounded.
 *
 * Reads first: splice(2), pipe(7), tcp(7); RFC 9293 section 3.6 (half-close, resets).
 */
import { type Context, REF_SHIFT, REF_SPLICE, type SpliceConfig } from "../../context.ts"
import { EADDRINUSE, EADDRNOTAVAIL, EINPROGRESS } from "../../errno.ts"
import {
  DIRECTION_FROM_GUEST,
  DIRECTION_TO_GUEST,
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HOST_FAMILY,
  KIND,
  KIND_TCP_SPLICE,
  OUR,
  PEER,
  PORT,
  STATE,
} from "../../flow/table.ts"
import type { Listeners } from "../../forward/listen.ts"
import { isChosenLoopback, NO_WAY, OVER_LINK, spliceTarget } from "../../forward/splice.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  ADDRESS_WORDS,
  EVENT_ERR,
  EVENT_HUP,
  EVENT_OUT,
  EVENT_PRI,
  EVENT_RDHUP,
  PLACE_HOST,
  PLACE_NAMESPACE,
  SPLICE_BULK,
  SPLICE_CONDITIONS,
  SPLICE_ENDING,
  SPLICE_PENDING,
  SPLICE_PIPE,
  SPLICE_URGENT,
  SPLICED_BULK,
  SPLICED_NO_PIPE,
  SPLICED_SOURCE_EMPTY,
  SPLICED_SOURCE_END,
  SPLICED_SOURCE_FAILED,
  SPLICED_TARGET_FAILED,
  SPLICED_TARGET_FULL,
  type SpliceKernel,
} from "../../kernel.ts"
import { DIRECTION_IN, DIRECTION_OUT } from "../../policy/matcher.ts"
import { mustWait, roomOf } from "../../policy/shaper.ts"
import { WAITING } from "../../policy/verdict.ts"
import { COUNTER } from "../../stats.ts"
import { copy, format, isMapped } from "../../wire/address.ts"
import {
  BULK,
  CONNECTING,
  DEADLINE,
  DONE,
  DRAINING,
  ENDED,
  ENDING,
  FD1,
  fdOf,
  FULL,
  LOST,
  PENDING,
  PIPE,
  PLACE,
  READABLE,
  STARVED,
  URGENT,
} from "./state.ts"

/** How long what a dead side had sent may take to reach the other, milliseconds. */
const LOST_MS = 5000
/** How often to look whether a send queue has drained, and for a pipe, milliseconds. */
const LOOK_MS = 10
/** Connections within one or two times TIME_WAIT after which ports are chosen by ourselves: half of the even ports, which
 * the kernel prefers. */
const TIME_WAIT_MS = 60_000
const CROWD = 7000
/** Ports to choose from: as net.ipv4.ip_local_port_range is by default; and how many to try for one connection. */
const PORT_FIRST = 32_768
const PORT_LAST = 60_999
const PORT_TRIES = 8
/** Bytes that all flows together may move in a turn, and the most and the least of one direction: large shares find what they move
 * still in the cache, but while one flow has its turn all others wait, those of the link too. */
const TURN_BYTES = 32 << 20
const SHARE_MAX = 4 << 20
const SHARE_MIN = 256 << 10
const SITE = "tcp-splice"

export class TcpSplice {
  readonly #ctx: Context
  readonly #listeners: Listeners
  readonly #config: SpliceConfig
  readonly #splice: SpliceKernel
  /** Bytes that a direction may move in this turn. */
  #share: number = SHARE_MAX
  /** Connections made since a time, and in a period before. */
  #made = 0
  #madeBefore = 0
  #countedFrom: number
  /** The last port that was chosen. */
  #port: number = PORT_FIRST

  constructor(ctx: Context, listeners: Listeners, config: SpliceConfig, splice: SpliceKernel) {
    this.#ctx = ctx
    this.#listeners = listeners
    this.#config = config
    this.#splice = splice
    this.#countedFrom = ctx.now
  }

  /** A connection was accepted: ADDRESS_REMOTE and ADDRESS_LOCAL hold its ends.
   * @returns false when it is to go over the link; else the socket is taken care of */
  accept(listener: number, fd: number): boolean {
    const ctx = this.#ctx
    const { kernel } = ctx
    const { address } = kernel
    const w = ctx.words
    const rule = ctx.rules[this.#listeners.rule[listener]!]!
    const port = this.#listeners.port[listener]!
    const flow = ctx.flows.allocate(KIND_TCP_SPLICE)
    if (flow < 0) {
      // Nor would there be a row for it over the link.
      ctx.count(COUNTER.dropNoFlow)
      ctx.log("warning", SITE, "Flow table is full, connection refused")
      kernel.reset(fd)
      return true
    }
    const base = flow << FLOW_SHIFT
    w[base + FD1] = -1
    w[base + PIPE] = -1
    w[base + PIPE + 1] = -1
    const way = spliceTarget(ctx, this.#config, rule, address, ADDRESS_REMOTE, ADDRESS_LOCAL, port, w, base + GUEST)
    if (way === OVER_LINK) {
      ctx.gate?.ended(flow)
      ctx.flows.retire(flow)
      ctx.flows.free(flow)
      return false
    }
    w[base + FD] = fd
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      w[base + PEER + i] = address[ADDRESS_REMOTE + i]!
      w[base + OUR + i] = address[ADDRESS_LOCAL + i]!
    }
    w[base + HOST_FAMILY] = isMapped(w, base + PEER) ? 4 : 6
    w[base + GUEST_FAMILY] = isMapped(w, base + GUEST) ? 4 : 6
    if (way === NO_WAY) {
      ctx.count(COUNTER.dropNoGuest)
      ctx.log("warning", "tcp-splice-address", `No way for a connection from ${format(w, base + PEER)}`)
      this.#end(flow, true)
      return true
    }
    w[base + PLACE] = rule.place ?? PLACE_HOST
    if (ctx.gate !== undefined) {
      const verdict = ctx.gate.ask(flow, w[base + PLACE] === PLACE_NAMESPACE ? DIRECTION_OUT : DIRECTION_IN)
      if (verdict === WAITING) ctx.gate.wait(flow)
      else if (verdict > WAITING) this.#end(flow, true)
      if (verdict >= WAITING) {
        w[base + STATE] = CONNECTING
        return true
      }
    }
    this.#begin(flow)
    return true
  }

  /** The policy has decided about a connection that has waited. */
  settled(flow: number): void {
    if (this.#ctx.gate!.verdicts[flow]! >= WAITING) this.#end(flow, true)
    else this.#begin(flow)
  }

  #begin(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    ctx.begin(flow, COUNTER.tcpSpliceFlows)
    const place = w[base + PLACE] === PLACE_NAMESPACE ? PLACE_HOST : PLACE_NAMESPACE
    if (this.#connect(flow, base, place) < 0) this.#end(flow, true)
  }

  /** @returns 0, or -errno: the connection is to be refused */
  #connect(flow: number, base: number, place: number): number {
    const ctx = this.#ctx
    const w = ctx.words
    const ours = isChosenLoopback(w, base + PEER) && place === PLACE_HOST
    let result = !ours && this.#isCrowded() ? -EADDRNOTAVAIL : this.#tryPort(base, place, 0)
    for (let i = 0; i < PORT_TRIES && !ours && (result === -EADDRNOTAVAIL || result === -EADDRINUSE); i++) {
      this.#port = this.#port === PORT_LAST ? PORT_FIRST : this.#port + 1
      result = this.#tryPort(base, place, this.#port)
    }
    if (result < 0 && result !== -EINPROGRESS) return result
    w[base + STATE] = result < 0 ? CONNECTING : 0
    const ref = (REF_SPLICE << REF_SHIFT) | (flow << 1)
    const watched = ctx.kernel.watch(w[base + FD]!, ref)
    return watched < 0 ? watched : ctx.kernel.watch(w[base + FD1]!, ref | 1)
  }

  /** Whether so many connections were made lately that ports are better chosen by ourselves. A port whose last connection to the
   * same target is in TIME_WAIT is not handed out by the kernel, which looks at them one by one: half of the range used up
   * makes that take 2 ms. One that is bound by number it lets us have (tcp_twsk_unique), which timestamps make safe (RFC 6191). */
  #isCrowded(): boolean {
    const { now } = this.#ctx
    if (((now - this.#countedFrom) | 0) >= TIME_WAIT_MS) {
      this.#madeBefore = ((now - this.#countedFrom) | 0) >= 2 * TIME_WAIT_MS ? 0 : this.#made
      this.#made = 0
      this.#countedFrom = now
    }
    this.#made++
    return this.#made + this.#madeBefore > CROWD
  }

  /** Makes side 1 and connects it. @param port to bind to; 0: the kernel's choice @returns as connect, or -errno */
  #tryPort(base: number, place: number, port: number): number {
    const ctx = this.#ctx
    const { kernel } = ctx
    const { address } = kernel
    const w = ctx.words
    const family = w[base + GUEST_FAMILY]!
    if (w[base + FD1]! >= 0) kernel.close(w[base + FD1]!)
    const fd = kernel.tcpSocket(family, place)
    w[base + FD1] = fd
    if (fd < 0) {
      ctx.count(COUNTER.dropNoFlow)
      ctx.log("warning", SITE, "Can't open another socket, connection refused")
      return fd
    }
    // So that its port can be bound again while it is in TIME_WAIT.
    kernel.setReuseAddress(fd)
    const chosen = isChosenLoopback(w, base + PEER) && place === PLACE_HOST
    if (chosen || port !== 0) {
      address.fill(0, ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS)
      if (chosen) copy(address, ADDRESS_LOCAL, w, base + PEER)
      address[ADDRESS_LOCAL + PORT] = port
      const bound = kernel.bind(fd, family)
      if (bound < 0) return bound
    }
    for (let i = 0; i < ADDRESS_WORDS; i++) address[ADDRESS_REMOTE + i] = w[base + GUEST + i]!
    return kernel.connect(fd, family)
  }

  /** Something changed at one of a flow's sockets. @param mask EVENT_… bits */
  event(flow: number, side: number, mask: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    let state = w[base + STATE]!
    if ((state & CONNECTING) !== 0 && side === 1) {
      if ((mask & (EVENT_ERR | EVENT_HUP)) !== 0) {
        this.#end(flow, true)
        return
      }
      if ((mask & EVENT_OUT) === 0) return
      state &= ~CONNECTING
    } else if ((mask & ~EVENT_OUT) === 0 && (state & (FULL << side)) === 0) {
      return
    }
    if ((mask & EVENT_OUT) !== 0) state &= ~(FULL << side)
    if ((mask & ~EVENT_OUT) !== 0) state |= READABLE << side
    if ((mask & (EVENT_RDHUP | EVENT_HUP | EVENT_ERR)) !== 0) state |= ENDING << side
    if ((mask & EVENT_ERR) !== 0) state |= LOST << side
    if ((mask & EVENT_PRI) !== 0) state |= URGENT << side
    w[base + STATE] = state
    if ((state & CONNECTING) === 0) ctx.spliceWork.add(flow)
  }

  /** A turn of the engine's second work queue begins. @param flows how many are in it */
  beginTurn(flows: number): void {
    const share = (TURN_BYTES / flows) | 0
    this.#share = share > SHARE_MAX ? SHARE_MAX : share < SHARE_MIN ? SHARE_MIN : share
  }

  /** The flow's turn in the work queue. */
  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if ((w[base + STATE]! & DRAINING) !== 0) {
      this.#drain(flow, base)
      return
    }
    this.#move(flow, base, 0)
    this.#move(flow, base, 1)
    this.#settle(flow, base)
  }

  /** Moves a direction's share of bytes, and its end. */
  #move(flow: number, base: number, d: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const other = 1 - d
    let state = w[base + STATE]!
    if ((state & (DONE << d)) !== 0 || (state & ((FULL << other) | (LOST << other))) !== 0) return
    if ((state & (READABLE << d)) !== 0 || w[base + PENDING + d]! > 0) {
      let flags = (state & (BULK << d)) !== 0 ? SPLICE_BULK : 0
      if ((state & ((ENDING | LOST) << d)) !== 0) flags |= SPLICE_ENDING
      if ((state & (URGENT << d)) !== 0) flags |= SPLICE_URGENT
      const { gate } = ctx
      let share = this.#share
      if (gate !== undefined && gate.shaper.limited[flow] !== 0) {
        share = roomOf(ctx, flow, this.#directionOf(base, d), share)
        if (share === 0) {
          gate.shaper.wait(flow)
          return
        }
      }
      const splice = this.#splice
      const { result } = splice
      const moved = splice.stream(
        fdOf(w, base, d),
        fdOf(w, base, other),
        w[base + PIPE + d]!,
        w[base + PENDING + d]!,
        flags,
        share,
      )
      w[base + PIPE + d] = result[SPLICE_PIPE]!
      w[base + PENDING + d] = result[SPLICE_PENDING]!
      if (moved > 0) this.#countBytes(base, d, moved)
      state = this.#take(flow, state, result[SPLICE_CONDITIONS]!, d)
    }
    if ((state & (ENDED << d)) !== 0 && w[base + PENDING + d] === 0) {
      state |= DONE << d
      // Of a dead side there is no end to be told, but a reset; and the last end of two is told by closing.
      if ((state & ((LOST << d) | (DONE << other))) === 0 && ctx.kernel.shutdownWrite(fdOf(w, base, other)) < 0) {
        state |= LOST << other
      }
    }
    w[base + STATE] = state
  }

  /** What a direction's last move has shown. @returns the new state */
  #take(flow: number, before: number, conditions: number, d: number): number {
    const other = 1 - d
    let state = before & ~(BULK << d)
    if ((conditions & SPLICED_BULK) !== 0) state |= BULK << d
    if ((conditions & SPLICED_SOURCE_EMPTY) !== 0) {
      state &= ~((READABLE | URGENT) << d)
      // A dead side has no more to say.
      if ((state & (LOST << d)) !== 0) state |= ENDED << d
    }
    if ((conditions & (SPLICED_SOURCE_END | SPLICED_SOURCE_FAILED)) !== 0) {
      state = (state & ~(READABLE << d)) | (ENDED << d)
      if ((conditions & SPLICED_SOURCE_FAILED) !== 0) state |= LOST << d
    }
    if ((conditions & SPLICED_TARGET_FULL) !== 0) state |= FULL << other
    if ((conditions & SPLICED_TARGET_FAILED) !== 0) state |= LOST << other
    if ((conditions & SPLICED_NO_PIPE) !== 0) {
      const ctx = this.#ctx
      ctx.log("warning", "tcp-splice-pipe", "No descriptor or memory left for a pipe: spliced connections wait")
      state |= STARVED
      ctx.timers.armAtLatest(flow, (ctx.now + LOOK_MS) | 0)
    }
    return state
  }

  /** Sees what follows from the state that both directions are in. */
  #settle(flow: number, base: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    let state = w[base + STATE]!
    for (let side = 0; side < 2; side++) {
      if (((state >> side) & LOST) === 0) continue
      // What was on its way to the dead side has no use any more; what it had sent has.
      this.#dropPipe(base, 1 - side)
      state |= DONE << (1 - side)
      if (((state >> side) & ENDED) === 0) state |= READABLE << side
      if (w[base + DEADLINE] === 0) {
        w[base + DEADLINE] = (ctx.now + LOST_MS) | 0 || 1
        ctx.timers.armAtLatest(flow, w[base + DEADLINE]!)
      }
    }
    w[base + STATE] = state
    if ((state & DONE) !== 0 && (state & (DONE << 1)) !== 0) {
      if ((state & (LOST | (LOST << 1))) === 0) this.#end(flow, false)
      else this.#drain(flow, base)
      return
    }
    if ((state & STARVED) === 0 && (this.#canMove(flow, state, 0) || this.#canMove(flow, state, 1))) {
      ctx.spliceWork.add(flow)
    }
  }

  #canMove(flow: number, state: number, d: number): boolean {
    const other = 1 - d
    if ((state & (READABLE << d)) === 0 || (state & ((DONE << d) | (FULL << other) | (LOST << other))) !== 0)
      return false
    const { gate } = this.#ctx
    return gate === undefined || !mustWait(this.#ctx, flow, this.#directionOf(flow << FLOW_SHIFT, d))
  }

  /** Resets the side that is left as soon as it has sent all that it has. */
  #drain(flow: number, base: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const state = w[base + STATE]!
    const left = (state & LOST) !== 0 ? 1 : 0
    const late = ((ctx.now - w[base + DEADLINE]!) | 0) >= 0
    if (late || (state & (LOST << left)) !== 0 || this.#splice.unsent(fdOf(w, base, left)) <= 0) {
      this.#end(flow, true)
      return
    }
    w[base + STATE] = state | DRAINING
    ctx.timers.arm(flow, (ctx.now + LOOK_MS) | 0)
  }

  timer(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const state = w[base + STATE]!
    if (w[base + DEADLINE] !== 0 && ((ctx.now - w[base + DEADLINE]!) | 0) >= 0) {
      this.#end(flow, true)
      return
    }
    w[base + STATE] = state & ~STARVED
    if (w[base + DEADLINE] !== 0) ctx.timers.arm(flow, w[base + DEADLINE]!)
    ctx.spliceWork.add(flow)
  }

  #directionOf(base: number, d: number): number {
    const fromGuest = (this.#ctx.words[base + PLACE] === PLACE_NAMESPACE) === (d === 0)
    return fromGuest ? DIRECTION_FROM_GUEST : DIRECTION_TO_GUEST
  }

  #countBytes(base: number, d: number, bytes: number): void {
    const ctx = this.#ctx
    const flow = base >> FLOW_SHIFT
    if (this.#directionOf(base, d) === DIRECTION_FROM_GUEST) {
      ctx.addBytes(COUNTER.bytesSplicedOut, flow, DIRECTION_FROM_GUEST, bytes, 0)
    } else ctx.addBytes(COUNTER.bytesSplicedIn, flow, DIRECTION_TO_GUEST, bytes, 0)
  }

  #dropPipe(base: number, d: number): void {
    const w = this.#ctx.words
    if (w[base + PIPE + d]! >= 0) this.#splice.dropPipe(w[base + PIPE + d]!)
    w[base + PIPE + d] = -1
    w[base + PENDING + d] = 0
  }

  /** Closes both sockets, with a reset to both peers if `reset`. */
  #end(flow: number, reset: boolean): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    this.#dropPipe(base, 0)
    this.#dropPipe(base, 1)
    const fd = w[base + FD1]!
    w[base + FD1] = -1
    if (fd >= 0) {
      if (reset) ctx.kernel.reset(fd)
      else ctx.kernel.close(fd)
    }
    ctx.retire(flow, reset)
  }

  /** Ends a connection by a reset on both sides. */
  abort(flow: number): void {
    this.#end(flow, true)
  }

  /** Ends all connections, their peers get a reset. */
  close(): void {
    const { flows, words } = this.#ctx
    for (let flow = 0; flow < flows.highWater; flow++) {
      if (words[(flow << FLOW_SHIFT) + KIND] === KIND_TCP_SPLICE) this.#end(flow, true)
    }
  }
}
