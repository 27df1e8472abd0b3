/**
 * Spliced UDP: datagrams between loopback addresses of the host and of a namespace, from socket to socket.
 *
 * ```
 *   client 127.0.0.1:4000 → :53      the first datagram lies in the listening socket of a rule
 *     side 0   a socket of the flow's own, bound to the very address and port that the client used, connected to the client
 *     side 1   in the other place: bound to port 4000 there too if it is free, connected to the target
 * ```
 * From then on the kernel sorts, and batches of datagrams go from one connected socket to the other (native code, one call
 * per batch; runs of equal length in one piece). Nothing is kept here: what the target does not take is gone, as UDP has it.
 *
 * As with flows to the guest (udp.ts): a new flow is UNSORTED until its socket towards the client has been empty once, it
 * waits for the listening socket that it came from, and only silence ends it.
 *
 * Errors can't be passed on: to tell a client that its port is unreachable takes a socket that is not there, and ours is.
 *
 * Reads first: udp(7), UDP_SEGMENT and UDP_GRO; udp/udp.ts.
 */
import { type Context, REF_SHIFT, REF_SPLICE, type SpliceConfig } from "../../context.ts"
import { isExhaustion } from "../../datagram/begin.ts"
import { silenceMs } from "../../datagram/expiry.ts"
import { connectInbound } from "../../datagram/socket.ts"
import { isStream, LISTENER, noteFromGuest, noteToGuest, SLOT_BYTES, UNSORTED, WAITED } from "../../datagram/state.ts"
import { EAGAIN } from "../../errno.ts"
import {
  DIRECTION_FROM_GUEST,
  DIRECTION_TO_GUEST,
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HASH_NEXT,
  HOST_FAMILY,
  KIND,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
  LAST_ACTIVE,
  NOT_INDEXED,
  OUR,
  PEER,
  PORT,
  SIDE_HOST,
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
  EVENT_IN,
  PLACE_HOST,
  PLACE_NAMESPACE,
  SPLICE_BYTES,
  SPLICE_DATAGRAM_MAX,
  SPLICE_DELIVERED,
  type SpliceKernel,
} from "../../kernel.ts"
import { DIRECTION_IN, DIRECTION_OUT } from "../../policy/matcher.ts"
import { replayToSocket } from "../../policy/replay.ts"
import { mustWait } from "../../policy/shaper.ts"
import { WAITING } from "../../policy/verdict.ts"
import { COUNTER } from "../../stats.ts"
import { copy, equal, isMapped, isUnicast, isUnspecified } from "../../wire/address.ts"
import { FD1, SIDE_READABLE } from "./state.ts"

/** Datagrams of a listening socket that are served at once. */
const LISTENER_SHARE = 32
/** Batches that one side may send in a turn. */
const BATCHES_MAX = 4
/** Turns that a new flow waits for the listening socket it came from. */
const WAIT_TURNS_MAX = 16
const SITE = "udp-splice"

export class UdpSplice {
  readonly #ctx: Context
  readonly #listeners: Listeners
  readonly #config: SpliceConfig
  readonly #splice: SpliceKernel
  /** Milliseconds. */
  readonly #querySilence: number
  readonly #streamSilence: number
  /** Per listening socket: 1 while its queue has not been seen empty. */
  readonly #behind: Uint8Array
  /** Record of a target, before there is a row for it. */
  readonly #target: Int32Array = new Int32Array(ADDRESS_WORDS)

  constructor(ctx: Context, listeners: Listeners, config: SpliceConfig, splice: SpliceKernel) {
    this.#ctx = ctx
    this.#listeners = listeners
    this.#config = config
    this.#splice = splice
    this.#querySilence = silenceMs(ctx.config.udpTimeout)
    this.#streamSilence = silenceMs(ctx.config.udpStreamTimeout)
    this.#behind = new Uint8Array(listeners.fd.length)
  }

  /** Forwards what waits on a listening socket, up to a share.
   * @returns false when the datagram at the head of the queue is for the link */
  serve(listener: number): boolean {
    const fd = this.#listeners.fd[listener]!
    this.#behind[listener] = 1
    for (let i = 0; i < LISTENER_SHARE; i++) {
      const waiting = this.#splice.peekAddresses(fd)
      if (waiting === -EAGAIN) {
        this.#behind[listener] = 0
        return true
      }
      if (waiting < 0) continue
      const way = this.#way(listener)
      if (way === OVER_LINK) return false
      this.#forward(fd, way === NO_WAY ? -1 : this.#flowOf(listener))
    }
    return true
  }

  /** Whether the datagram whose ends are in the address records is not for the link. */
  takes(listener: number): boolean {
    return this.#way(listener) !== OVER_LINK
  }

  #way(listener: number): number {
    const ctx = this.#ctx
    const { address } = ctx.kernel
    const rule = ctx.rules[this.#listeners.rule[listener]!]!
    const port = this.#listeners.port[listener]!
    return spliceTarget(ctx, this.#config, rule, address, ADDRESS_REMOTE, ADDRESS_LOCAL, port, this.#target, 0)
  }

  /** Moves one datagram from a socket towards a flow's target. @param flow -1: nowhere */
  #forward(fd: number, flow: number): void {
    const ctx = this.#ctx
    if (flow < 0) {
      this.#splice.datagrams(fd, -1, 1)
      return
    }
    const base = flow << FLOW_SHIFT
    if (ctx.words[base + FD1]! < 0) {
      this.#keep(fd, flow)
      return
    }
    const moved = this.#splice.datagrams(fd, ctx.words[base + FD1]!, 1)
    if (moved > 0) this.#note(base, 0, moved)
  }

  /** Takes one datagram of a flow that has no socket (yet) from another one. */
  #keep(fd: number, flow: number): void {
    const ctx = this.#ctx
    const { link } = ctx
    if (ctx.gate!.verdicts[flow] === WAITING && link.reserveRows(1, SLOT_BYTES) > 0) {
      const row = link.reservedRow
      ctx.frames.payload[row] = 0
      if (ctx.kernel.receiveFrom(fd, row, false) >= 0) ctx.gate!.holdPayload(flow, row)
      return
    }
    this.#splice.datagrams(fd, -1, 1)
    ctx.count(COUNTER.dropPolicy)
  }

  /** The policy has decided about a flow that has waited. */
  settled(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if (ctx.gate!.verdicts[flow]! >= WAITING) {
      if (!ctx.gate!.remember(flow)) this.end(flow)
      return
    }
    if (this.#enter(flow) < 0) return
    const bytes = replayToSocket(ctx, flow, w[base + FD1]!)
    if (bytes <= 0) return
    if (w[base + KIND] === KIND_UDP_SPLICE_IN) ctx.addBytes(COUNTER.bytesSplicedIn, flow, DIRECTION_TO_GUEST, bytes, 1)
    else ctx.addBytes(COUNTER.bytesSplicedOut, flow, DIRECTION_FROM_GUEST, bytes, 1)
    noteFromGuest(ctx, base, 1)
  }

  /** Counts what the last call moved. @param read datagrams read */
  #note(base: number, side: number, read: number): void {
    const ctx = this.#ctx
    const { result } = this.#splice
    const delivered = result[SPLICE_DELIVERED]!
    if (delivered < read) ctx.add(COUNTER.dropDatagram, read - delivered)
    const inward = (ctx.words[base + KIND] === KIND_UDP_SPLICE_IN) === (side === 0)
    const bytes = result[SPLICE_BYTES]!
    if (inward) ctx.addBytes(COUNTER.bytesSplicedIn, base >> FLOW_SHIFT, DIRECTION_TO_GUEST, bytes, delivered)
    else ctx.addBytes(COUNTER.bytesSplicedOut, base >> FLOW_SHIFT, DIRECTION_FROM_GUEST, bytes, delivered)
    if (side === 0) noteFromGuest(ctx, base, read)
    else noteToGuest(ctx, base, read)
  }

  /** Finds the flow of a datagram from a listening socket, whose ends are in the address records and whose target was
   * found, or opens one. @returns the flow, or -1: counted */
  #flowOf(listener: number): number {
    const ctx = this.#ctx
    const { flows, kernel } = ctx
    const { address } = kernel
    const { key } = flows
    const w = ctx.words
    const rule = ctx.rules[this.#listeners.rule[listener]!]!
    const ourPort = this.#listeners.port[listener]!
    const peerPort = address[ADDRESS_REMOTE + PORT]!
    if (peerPort === 0 || !isUnicast(address, ADDRESS_LOCAL)) {
      ctx.count(COUNTER.dropAddress)
      return -1
    }
    const kind = rule.place === PLACE_NAMESPACE ? KIND_UDP_SPLICE_OUT : KIND_UDP_SPLICE_IN
    key[0] = kind
    copy(key, 1, address, ADDRESS_REMOTE)
    copy(key, 5, address, ADDRESS_LOCAL)
    key[9] = peerPort
    key[10] = ourPort
    const known = flows.find(SIDE_HOST)
    if (known >= 0) return known

    const flow = flows.allocate(kind)
    if (flow < 0) {
      ctx.count(COUNTER.dropNoFlow)
      ctx.log("warning", SITE, "The flow table is full: new flows are refused")
      return -1
    }
    const base = flow << FLOW_SHIFT
    copy(w, base + PEER, address, ADDRESS_REMOTE)
    w[base + PEER + PORT] = peerPort
    copy(w, base + OUR, address, ADDRESS_LOCAL)
    w[base + OUR + PORT] = ourPort
    for (let i = 0; i < ADDRESS_WORDS; i++) w[base + GUEST + i] = this.#target[i]!
    w[base + HOST_FAMILY] = isMapped(w, base + PEER) ? 4 : 6
    w[base + GUEST_FAMILY] = isMapped(w, base + GUEST) ? 4 : 6
    w[base + LISTENER] = listener
    w[base + LAST_ACTIVE] = ctx.now
    w[base + FD1] = -1
    if (ctx.gate !== undefined) {
      const verdict = ctx.gate.ask(flow, kind === KIND_UDP_SPLICE_OUT ? DIRECTION_OUT : DIRECTION_IN)
      if (verdict >= WAITING) {
        flows.index(flow, SIDE_HOST)
        if (verdict === WAITING) ctx.gate.wait(flow)
        else if (!ctx.gate.remember(flow)) {
          this.end(flow)
          return -1
        }
        return flow
      }
    }
    return this.#enter(flow)
  }

  /** Opens both sockets of a new flow. @returns the flow, or -1: it has ended, counted */
  #enter(flow: number): number {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const rule = ctx.rules[this.#listeners.rule[w[base + LISTENER]!]!]
    w[base + STATE] = UNSORTED
    const result = rule === undefined ? -EAGAIN : this.#open(flow, base, rule.place ?? PLACE_HOST, rule.device)
    if (result < 0) {
      if (isExhaustion(result)) {
        ctx.count(COUNTER.dropNoFlow)
        ctx.log("warning", SITE, "No descriptor or memory left for a UDP socket: new flows are refused")
      } else {
        ctx.count(COUNTER.dropDatagram)
        ctx.log("warning", "udp-splice-socket", "Couldn't open the sockets of a spliced flow: a datagram was dropped")
      }
      this.end(flow)
      return -1
    }
    if (w[base + HASH_NEXT + SIDE_HOST] === NOT_INDEXED) ctx.flows.index(flow, SIDE_HOST)
    ctx.timers.arm(flow, (ctx.now + this.#querySilence) | 0)
    ctx.begin(flow, COUNTER.udpSpliceFlows)
    ctx.spliceWork.add(flow)
    return flow
  }

  /** Opens both sockets of a flow. @param place of side 0 @returns 0 or -errno */
  #open(flow: number, base: number, place: number, device: string): number {
    const ctx = this.#ctx
    const { kernel } = ctx
    const w = ctx.words
    const near = kernel.udpSocket(w[base + HOST_FAMILY]!, ctx.config.freebind, place)
    if (near < 0) return near
    w[base + FD] = near
    kernel.setReuseAddress(near)
    let result = connectInbound(ctx, near, base, device)
    if (result < 0) return result
    const far = kernel.udpSocket(w[base + GUEST_FAMILY]!, false, 1 - place)
    if (far < 0) return far
    w[base + FD1] = far
    result = this.#connectFar(base, far, place === PLACE_NAMESPACE)
    if (result < 0) return result
    this.#splice.wantMerged(near)
    this.#splice.wantMerged(far)
    const ref = (REF_SPLICE << REF_SHIFT) | (flow << 1)
    result = kernel.watch(near, ref)
    return result < 0 ? result : kernel.watch(far, ref | 1)
  }

  /** Binds to the client's own port number if it is free, and connects to the target. @param outward to the host */
  #connectFar(base: number, fd: number, outward: boolean): number {
    const ctx = this.#ctx
    const { kernel } = ctx
    const { address } = kernel
    const w = ctx.words
    const family = w[base + GUEST_FAMILY]!
    address.fill(0, ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS)
    if (outward && isChosenLoopback(w, base + PEER)) copy(address, ADDRESS_LOCAL, w, base + PEER)
    address[ADDRESS_LOCAL + PORT] = w[base + PEER + PORT]!
    kernel.setReuseAddress(fd)
    let result = kernel.bind(fd, family)
    const sameNumber = result >= 0
    if (result < 0) {
      address[ADDRESS_LOCAL + PORT] = 0
      result = isUnspecified(address, ADDRESS_LOCAL) ? 0 : kernel.bind(fd, family)
      if (result < 0) return result
    }
    for (let i = 0; i < ADDRESS_WORDS; i++) address[ADDRESS_REMOTE + i] = w[base + GUEST + i]!
    result = kernel.connect(fd, family)
    if (result < 0) return result
    // Nobody has been asked yet, so whatever has come until now is a stranger's.
    if (sameNumber) while (this.#splice.datagrams(fd, -1, SPLICE_DATAGRAM_MAX) === SPLICE_DATAGRAM_MAX) continue
    return 0
  }

  /** Something changed at one of a flow's sockets. @param mask EVENT_… bits */
  event(flow: number, side: number, mask: number): void {
    if ((mask & (EVENT_IN | EVENT_ERR | EVENT_HUP)) === 0) return
    const ctx = this.#ctx
    const at = (flow << FLOW_SHIFT) + STATE
    ctx.words[at] = ctx.words[at]! | (SIDE_READABLE << side)
    ctx.spliceWork.add(flow)
  }

  /** The flow's turn in the work queue. */
  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if (
      ctx.gate !== undefined &&
      (mustWait(ctx, flow, DIRECTION_TO_GUEST) || mustWait(ctx, flow, DIRECTION_FROM_GUEST))
    ) {
      return
    }
    if ((w[base + STATE]! & UNSORTED) !== 0) {
      if (this.#waits(base) || !this.#sort(base)) ctx.spliceWork.add(flow)
    } else if ((w[base + STATE]! & SIDE_READABLE) !== 0) {
      this.#move(base, 0)
    }
    if ((w[base + STATE]! & (SIDE_READABLE << 1)) !== 0) this.#move(base, 1)
    if ((w[base + STATE]! & (SIDE_READABLE | (SIDE_READABLE << 1))) !== 0) ctx.spliceWork.add(flow)
  }

  /** Whether datagrams of the same client may still lie in the listening socket, and came before those of the flow's own. */
  #waits(base: number): boolean {
    const w = this.#ctx.words
    if (this.#behind[w[base + LISTENER]!] === 0 || w[base + WAITED]! >= WAIT_TURNS_MAX) return false
    w[base + WAITED] = w[base + WAITED]! + 1
    return true
  }

  /** Takes what the socket towards the client received before it was connected: anyone's. @returns whether it is empty now */
  #sort(base: number): boolean {
    const ctx = this.#ctx
    const { address } = ctx.kernel
    const w = ctx.words
    const fd = w[base + FD]!
    for (let i = 0; i < LISTENER_SHARE; i++) {
      const waiting = this.#splice.peekAddresses(fd)
      if (waiting === -EAGAIN) {
        w[base + STATE] = w[base + STATE]! & ~UNSORTED
        return true
      }
      if (waiting < 0) continue
      if (w[base + PEER + PORT] === address[ADDRESS_REMOTE + PORT] && equal(w, base + PEER, address, ADDRESS_REMOTE)) {
        if (this.#splice.datagrams(fd, w[base + FD1]!, 1) > 0) this.#note(base, 0, 1)
        continue
      }
      copy(address, ADDRESS_LOCAL, w, base + OUR)
      const way = this.#way(w[base + LISTENER]!)
      // What is for the link can't be put back; such a sender has but one datagram on its way to a socket of a moment's.
      this.#forward(fd, way === OVER_LINK || way === NO_WAY ? -1 : this.#flowOf(w[base + LISTENER]!))
    }
    return false
  }

  /** Moves a share of what one side received to the other. */
  #move(base: number, side: number): void {
    const w = this.#ctx.words
    const from = side === 0 ? w[base + FD]! : w[base + FD1]!
    const to = side === 0 ? w[base + FD1]! : w[base + FD]!
    let failed = false
    for (let i = 0; i < BATCHES_MAX; i++) {
      const read = this.#splice.datagrams(from, to, SPLICE_DATAGRAM_MAX)
      if (read < 0) {
        // The error that the socket had pending is gone with this call; datagrams behind it are not.
        if (read !== -EAGAIN && !failed) {
          failed = true
          continue
        }
        w[base + STATE] = w[base + STATE]! & ~(SIDE_READABLE << side)
        return
      }
      this.#note(base, side, read)
      if (read < SPLICE_DATAGRAM_MAX) {
        w[base + STATE] = w[base + STATE]! & ~(SIDE_READABLE << side)
        return
      }
    }
  }

  timer(flow: number): void {
    const ctx = this.#ctx
    const base = flow << FLOW_SHIFT
    const silence = isStream(ctx.words, base) ? this.#streamSilence : this.#querySilence
    const due = (ctx.words[base + LAST_ACTIVE]! + silence) | 0
    if (((due - ctx.now) | 0) <= 0) this.end(flow)
    else ctx.timers.arm(flow, due)
  }

  /** Ends a flow. */
  end(flow: number): void {
    const ctx = this.#ctx
    const at = (flow << FLOW_SHIFT) + FD1
    const fd = ctx.words[at]!
    ctx.words[at] = -1
    if (fd >= 0) ctx.kernel.close(fd)
    ctx.retire(flow, false)
  }

  /** Ends all flows. */
  close(): void {
    const { flows, words } = this.#ctx
    for (let flow = 0; flow < flows.highWater; flow++) {
      const kind = words[(flow << FLOW_SHIFT) + KIND]
      if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.end(flow)
    }
  }
}
