/**
 * UDP.
 *
 * A flow is one pair of ends on the guest's side, and one socket, bound and connected, on the host's: so the kernel sorts
 * what arrives, and tells which errors are whose. A datagram is forwarded at once or not at all; nothing is kept here, and
 * what the guest can't take yet waits in the socket's own buffer, which drops what is too much, as UDP has it.
 *
 * ```
 *   guest :5000 → 192.0.2.7:53    open: socket bound to port 5000 too if the host has it free, connected to 192.0.2.7:53
 *                                 (or to what stands for it, see forward/translate.ts)
 *   peer :4000 → our :80          accept: the datagram lies in the listening socket of a rule; the flow gets a socket of its
 *                                 own bound to the very address and port that the peer used, connected to the peer; what
 *                                 the peer sends from now on lands there. The flow outlives the rule.
 * ```
 *
 * What lies in a listening socket came before what lies in the sockets of flows that it led to: these wait until it has been
 * empty once, so that datagrams keep their order (for a while: others may keep it from ever being empty).
 *
 * Between bind and connect a socket takes anyone's datagrams. A new flow is therefore UNSORTED: its queue is read one by
 * one, with a look at each source, until it has been empty once.
 *
 * Events are edge-triggered. READABLE and FAILED remember them, the work queue gives each flow its turn, and a turn ends
 * after DATAGRAM_BATCH_MAX datagrams. A read asks for as many as the last ones brought, so that a question and its answer
 * don't prepare two megabytes of slots.
 *
 * Nobody ends a flow but silence (RFC 4787 section 4.3 asks for two minutes at least for streams): the times are conntrack's,
 * the shorter one while there was no more than a question and an answer.
 *
 * The guest sees errors as ICMP messages (datagram/errors.ts) and hop limits go through both ways, so traceroute and path MTU
 * discovery work. A datagram longer than the link's MTU goes to the guest as one frame: there is no fragmentation.
 *
 * Multicast and broadcast are not flows between two ends: see multicast/.
 *
 * Reads first: RFC 768, RFC 4787, RFC 8085 section 5; udp(7), ip(7): IP_RECVERR.
 */
import { type Context, REF_LISTENER, REF_SHIFT } from "../context.ts"
import { serveErrors } from "../datagram/errors.ts"
import { expireOrWait, silenceMs } from "../datagram/expiry.ts"
import { blocked } from "../datagram/keep-out.ts"
import { replayFromHost } from "../policy/replay.ts"
import { mustWait } from "../policy/shaper.ts"
import { sendBatch } from "../datagram/send.ts"
import { FAILED, isStream, LISTENER, READABLE, remember, UNSORTED, WAITED } from "../datagram/state.ts"
import { DIRECTION_TO_GUEST, FD, FLOW_SHIFT, STATE } from "../flow/table.ts"
import type { Listeners } from "../forward/listen.ts"
import type { Multicast } from "../multicast/multicast.ts"
import type { Protocol } from "../protocol.ts"
import { PROTOCOL_UDP } from "../wire/ipv4.ts"
import { HEADER_LENGTH } from "../wire/udp.ts"
import { EMPTY, NO_ROOM, serveListener, sortQueue } from "./from-host.ts"
import { openFromGuest, settled } from "./open.ts"
import type { UdpSplice } from "./splice/splice.ts"
import { serveDatagrams } from "./to-guest.ts"

/** Turns that a new flow waits for the listening socket it came from: 512 datagrams, more than a receive buffer of the
 * usual size can have held when the flow began. */
const WAIT_TURNS_MAX = 16

/** Listening sockets that are watched again per call. */
const RESUME_MAX = 64

export class Udp implements Protocol {
  readonly #ctx: Context
  readonly #listeners: Listeners
  /** Takes datagrams that don't go to the link. */
  readonly #splice: UdpSplice | undefined
  /** Takes datagrams to groups. */
  readonly #multicast: Multicast | undefined
  /** Milliseconds. */
  readonly #querySilence: number
  readonly #streamSilence: number
  /** Listening sockets that are not watched while the link is full or nobody is there: they would be readable all the
   * time. */
  readonly #paused: Int32Array
  #pausedCount = 0
  /** Per listening socket: 1 while its queue has not been seen empty. */
  readonly #behind: Uint8Array

  constructor(ctx: Context, listeners: Listeners, splice?: UdpSplice, multicast?: Multicast) {
    this.#ctx = ctx
    this.#listeners = listeners
    this.#splice = splice
    this.#multicast = multicast
    this.#querySilence = silenceMs(ctx.config.udpTimeout)
    this.#streamSilence = silenceMs(ctx.config.udpStreamTimeout)
    this.#paused = new Int32Array(listeners.fd.length)
    this.#behind = new Uint8Array(listeners.fd.length)
  }

  open(row: number): number {
    return openFromGuest(this.#ctx, row, this.#querySilence)
  }

  fromGuest(flow: number): void {
    const ctx = this.#ctx
    if (ctx.words[(flow << FLOW_SHIFT) + FD] < 0) {
      blocked(ctx, flow)
      return
    }
    const { gate } = ctx
    if (gate !== undefined && gate.overheard[flow] !== 0 && !gate.dns.filterQueries(flow)) return
    sendBatch(ctx, flow)
  }

  /** The policy has decided about a flow that has waited: what was kept of it goes on, too. */
  settled(flow: number): void {
    const ctx = this.#ctx
    const inbound = ctx.words[(flow << FLOW_SHIFT) + LISTENER] >= 0
    if (!settled(ctx, this.#listeners, flow, this.#querySilence)) return
    if (inbound) replayFromHost(ctx, flow)
    else ctx.gate!.replayFrames(flow, this)
  }

  event(flow: number, mask: number): void {
    if (remember(this.#ctx, flow, mask)) this.#ctx.work.add(flow)
  }

  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const at = (flow << FLOW_SHIFT) + STATE
    if (ctx.gate !== undefined && mustWait(ctx, flow, DIRECTION_TO_GUEST)) return
    if ((w[at] & UNSORTED) !== 0 && this.#waits(flow)) {
      ctx.work.add(flow)
      return
    }
    const room =
      ((w[at] & UNSORTED) === 0 || sortQueue(ctx, this.#listeners, flow, this.#querySilence)) &&
      ((w[at] & FAILED) === 0 || serveErrors(ctx, flow, PROTOCOL_UDP, HEADER_LENGTH))
    if (room && (w[at] & (READABLE | UNSORTED)) === READABLE) serveDatagrams(ctx, flow)
    if ((w[at] & (READABLE | FAILED | UNSORTED)) !== 0) ctx.work.add(flow)
    if (this.#pausedCount > 0) this.sweep()
  }

  /** Whether a new flow has to wait: datagrams of its peer may still lie in the listening socket, and came before those in
   * its own. */
  #waits(flow: number): boolean {
    const w = this.#ctx.words
    const base = flow << FLOW_SHIFT
    const listener = w[base + LISTENER]
    if (listener < 0 || this.#behind[listener] === 0 || w[base + WAITED] >= WAIT_TURNS_MAX) return false
    w[base + WAITED]++
    return true
  }

  timer(flow: number): void {
    const stream = isStream(this.#ctx.words, flow << FLOW_SHIFT)
    expireOrWait(this.#ctx, flow, stream ? this.#streamSilence : this.#querySilence)
  }

  accept(listener: number): void {
    const ctx = this.#ctx
    const fd = this.#listeners.fd[listener]
    if (fd < 0) return
    if (this.#splice?.serve(listener)) return
    if (ctx.link.connected) {
      const left = serveListener(ctx, this.#listeners, listener, this.#querySilence, this.#splice, this.#multicast)
      this.#behind[listener] = left === EMPTY ? 0 : 1
      if (left !== NO_ROOM) return
    }
    ctx.kernel.unwatch(fd)
    this.#paused[this.#pausedCount++] = listener
  }

  sweep(): void {
    const ctx = this.#ctx
    if (!ctx.link.connected || ctx.link.blocked) return
    for (let i = 0; i < RESUME_MAX && this.#pausedCount > 0; i++) {
      const listener = this.#paused[--this.#pausedCount]
      const fd = this.#listeners.fd[listener]
      if (fd >= 0) ctx.kernel.watchLevel(fd, (REF_LISTENER << REF_SHIFT) | listener)
    }
  }
}
