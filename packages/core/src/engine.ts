/**
 * The engine: one turn of everything.
 *
 * ```
 *   wait ─▶ socket events ─▶ one batch of frames ─▶ work queue ─▶ timers ─▶ flush ─▶ again
 * ```
 * A turn never blocks but in `wait`, and its work is bounded: EVENT_MAX events, one batch, each queued flow once.
 */
import {
  Context,
  type EngineConfig,
  type Neighbours,
  REF_EXTERNAL,
  REF_FLOW,
  REF_INDEX_MASK,
  REF_LINK,
  REF_LISTENER,
  REF_RELAY,
  REF_SHIFT,
  REF_SPLICE,
} from "./context.ts"
import { hasMoved } from "./datagram/moved.ts"
import { LISTENER } from "./datagram/state.ts"
import {
  BATCH_HEAD,
  BATCH_TAIL,
  FD,
  FLOW_SHIFT,
  KIND,
  KIND_GROUP,
  KIND_GROUP_PORT,
  KIND_MEMBERSHIP,
  KIND_PING,
  KIND_RETIRED,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
  FAR,
  NEIGHBOUR,
  SIDE_GUEST,
} from "./flow/table.ts"
import { AutoPorts } from "./forward/auto.ts"
import { prepareScans } from "./forward/auto-groups.ts"
import { closeRule, openRule, type RuleChange } from "./forward/change.ts"
import { type RulesUpdate, updateRules } from "./forward/update.ts"
import { Listeners } from "./forward/listen.ts"
import type { ForwardRule } from "./forward/rule.ts"
import type { FormerAddresses, TranslationConfig } from "./forward/translate.ts"
import { Ping } from "./icmp/ping.ts"
import { EVENT_OUT } from "./kernel.ts"
import {
  directionOf,
  type FlowClass,
  type FlowView,
  rehearseViews,
  viewFlow,
  visitClasses,
  visitFlows,
} from "./live/flows.ts"
import { Multicast } from "./multicast/multicast.ts"
import { isMld } from "./multicast/reports.ts"
import type { LatencyHistogram } from "./live/latency.ts"
import type { Gate } from "./policy/gate.ts"
import { WAITING } from "./policy/verdict.ts"
import type { Protocol } from "./protocol.ts"
import type { Responder } from "./responder.ts"
import { COUNTER, type Counters } from "./stats.ts"
import { TcpSplice } from "./tcp/splice/splice.ts"
import { Tcp } from "./tcp/tcp.ts"
import { UdpSplice } from "./udp/splice/splice.ts"
import { Udp } from "./udp/udp.ts"
import * as arp from "./wire/arp.ts"
import { isLinkLocal, isLoopback, isMulticast, isUnspecified, read6, setMapped } from "./wire/address.ts"
import * as ethernet from "./wire/ethernet.ts"
import * as icmp from "./wire/icmp.ts"
import * as ipv4 from "./wire/ipv4.ts"
import * as ipv6 from "./wire/ipv6.ts"
import * as tcp from "./wire/tcp.ts"
import * as udp from "./wire/udp.ts"

/** Period of the work that needs no exact time, milliseconds. */
const SWEEP_MS = 1000
/** Payload queued for the guest after which a flush comes early, so that what is sent is still in the cache. */
const FLUSH_BYTES: number = 512 << 10
/** Payload sent to the guest after which no further round of the work queue begins in a turn; and how much a round must have sent for another one
 * to follow. */
const TURN_BYTES: number = 1 << 20
const ROUND_BYTES_MIN: number = 128 << 10
const PORT_DHCP_SERVER = 67
const PORT_DHCPV6_SERVER = 547

/** What may change while the engine runs. */
export interface Reconfiguration {
  /** Interface index for link-local IPv6 destinations; 0: none. */
  readonly linkLocalScope: number
  /** Interfaces of multicast and broadcast, as in EngineConfig. */
  readonly groupScope4?: number
  readonly groupScope6?: number
  readonly translation: TranslationConfig
  readonly former: FormerAddresses
}

export class Engine {
  readonly ctx: Context
  readonly listeners: Listeners
  readonly tcp: Tcp
  readonly udp: Udp
  readonly ping: Ping
  /** Absent: UDP is off, or the kernel has no multicast. */
  readonly multicast: Multicast | undefined
  /** Present where there is a namespace to splice to. */
  readonly tcpSplice: TcpSplice | undefined
  readonly udpSplice: UdpSplice | undefined
  readonly auto: AutoPorts
  /** How long turns take; undefined: not measured. */
  latency: LatencyHistogram | undefined
  /** Receives events whose ref is of kind REF_EXTERNAL: index and mask. */
  onExternal: ((index: number, mask: number) => void) | undefined
  #sweepAt: number
  #wasConnected = false
  #receive = false
  /** Flow of the last TCP or UDP packet: consecutive packets are often of one flow. */
  #lastFlow = -1
  /** Words 0, 1: the guest's MAC address as read by #learnMac. */
  #macHigh = -1
  #macLow = -1
  /** Payload bytes sent to the guest when the last flush was made. */
  #flushedAt = 0
  #neighbourGeneration = 0

  constructor(config: EngineConfig) {
    this.ctx = new Context(config)
    this.listeners = new Listeners(this.ctx)
    this.auto = new AutoPorts(this.ctx, this.listeners)
    if (config.splice !== undefined && config.kernel.splice !== undefined) {
      this.tcpSplice = new TcpSplice(this.ctx, this.listeners, config.splice, config.kernel.splice)
      this.udpSplice = new UdpSplice(this.ctx, this.listeners, config.splice, config.kernel.splice)
    }
    this.tcp = new Tcp(this.ctx, this.listeners, this.tcpSplice)
    if (config.udp && config.kernel.groups !== undefined) {
      this.multicast = new Multicast(this.ctx, config.kernel.groups, this.listeners)
    }
    this.udp = new Udp(this.ctx, this.listeners, this.udpSplice, this.multicast)
    this.ping = new Ping(this.ctx)
    this.#sweepAt = this.ctx.now
    if (this.ctx.gate !== undefined) {
      this.ctx.gate.onSettled = (flow) => this.#settled(flow)
      this.ctx.gate.relays.onStuck = (flow) => this.tcp.abort(flow)
    }
    this.listeners.onClosed = (first, last) => this.#listenersClosed(first, last)
  }

  get counters(): Counters {
    return this.ctx.counters
  }

  /** What decides which flows may begin; undefined: EngineConfig.policy was absent, and all may. */
  get policy(): Gate | undefined {
    return this.ctx.gate
  }

  /** Flows that are alive, by kind. */
  alive(): { readonly tcp: number; readonly udp: number; readonly ping: number; readonly spliced: number } {
    const { counts } = this.ctx.flows
    const spliced = counts[KIND_TCP_SPLICE]! + counts[KIND_UDP_SPLICE_IN]! + counts[KIND_UDP_SPLICE_OUT]!
    return { tcp: counts[KIND_TCP]!, udp: counts[KIND_UDP]! + counts[KIND_GROUP]!, ping: counts[KIND_PING]!, spliced }
  }

  /** What the host has become: holds for everything that begins from now on. Addresses and gateways are in `GuestState`. */
  reconfigure(change: Reconfiguration): void {
    this.ctx.linkLocalScope = change.linkLocalScope
    this.ctx.groupScope4 = change.groupScope4 ?? 0
    this.ctx.groupScope6 = change.groupScope6 ?? change.linkLocalScope
    this.ctx.translator.reconfigure(change.translation, change.former)
    this.multicast?.moved()
  }

  /** After a change of the host's addresses or routes: ends flows of datagrams whose socket has an address that is gone, or that
   * the kernel would not choose any more. The guest's next datagram begins them anew. Connections can't change their
   * address; they wait for it to come back, as on any machine.
   * @param from flow to begin with, 0 first @param count flows to look at
   * @returns the flow to go on with, -1 when all have been looked at */
  endMovedFlows(from: number, count: number): number {
    const { ctx } = this
    const end = Math.min(from + count, ctx.flows.highWater)
    for (let flow = from; flow < end; flow++) {
      const kind = ctx.words[(flow << FLOW_SHIFT) + KIND]!
      if (kind !== KIND_UDP && kind !== KIND_PING) continue
      // Without a socket: the policy has not let it begin.
      if (ctx.words[(flow << FLOW_SHIFT) + FD]! < 0 || !hasMoved(ctx, flow << FLOW_SHIFT)) continue
      ctx.retire(flow, false)
      ctx.count(COUNTER.movedFlows)
    }
    return end < ctx.flows.highWater ? end : -1
  }

  /** After new rules: judges flows that have begun, a slice at a time.
   * @param from flow to begin with, 0 first @param count flows to look at @param end whether those that are not allowed any more end
   * @returns the flow to go on with, -1 when all have been looked at */
  judgeFlows(from: number, count: number, end: boolean): number {
    const { gate, flows } = this.ctx
    if (gate === undefined) return -1
    const last = Math.min(from + count, flows.highWater)
    for (let flow = from; flow < last; flow++) {
      const direction = directionOf(this.ctx, flow)
      if (direction < 0 || gate.verdicts[flow]! >= WAITING || gate.judge(flow, direction) || !end) continue
      this.#end(flow)
      this.ctx.count(COUNTER.policyEnded)
    }
    return last < flows.highWater ? last : -1
  }

  /** Ends a flow that is alive: connections by a reset on both sides. */
  #end(flow: number): void {
    const kind = this.ctx.words[(flow << FLOW_SHIFT) + KIND]!
    if (kind === KIND_TCP) this.tcp.abort(flow)
    else if (kind === KIND_TCP_SPLICE) this.tcpSplice?.abort(flow)
    else if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.udpSplice?.end(flow)
    else this.ctx.retire(flow, false)
  }

  /** Hands out flows that are alive, a slice at a time: `flow` objects are made for the visit and belong to the visitor. What begins
   * or ends between slices may or may not be among them.
   * @param from row to begin with, 0 first @param count rows to look at, at least 1
   * @returns the row to go on with, -1 when all have been looked at */
  flows(from: number, count: number, visit: (flow: FlowView) => void): number {
    return visitFlows(this.ctx, from, count, visit)
  }

  /** The flow of one row. @returns undefined: there is none */
  flow(row: number): FlowView | undefined {
    return viewFlow(this.ctx, row)
  }

  /** As `flows`, for those who only count. */
  flowClasses(from: number, count: number, visit: (found: FlowClass) => void): number {
    return visitClasses(this.ctx, from, count, visit)
  }

  /** Begins to serve one more forwarding rule: a few ports per call of its `step`, between turns. Others are not touched. */
  addRule(rule: ForwardRule): RuleChange {
    return openRule(this.listeners, rule, () => this.#rulesChanged())
  }

  /** Before anything has begun: lets the runtime compile what lists of flows are made with, which it would do in the middle of the first long
   * one, for ten milliseconds. Takes 70 ms. */
  prepareLists(): void {
    rehearseViews(this.ctx)
  }

  /** For a process that will not be allowed to open anything but sockets of TCP and UDP: opens what `addRule` needs beside those. */
  prepareRules(): void {
    const { splice } = this.ctx.kernel
    if (splice !== undefined) prepareScans(splice)
  }

  /** Begins to end the service of a rule. Connections that it has brought go on, flows of datagrams end.
   * @param index of the rule, as `RuleChange.index` or the place in `EngineConfig.rules` */
  removeRule(index: number): RuleChange {
    return closeRule(this.ctx, this.listeners, index, () => this.#rulesChanged())
  }

  /** Begins to exchange rules for others, all or none; sockets that old and new ones have in common stay open.
   * @param remove indices, as of `removeRule` */
  updateRules(remove: readonly number[], add: readonly ForwardRule[]): RulesUpdate {
    return updateRules(this.ctx, this.listeners, remove, add, () => this.#rulesChanged())
  }

  #rulesChanged(): void {
    this.auto.rulesChanged()
    this.multicast?.memberships.rulesChanged()
  }

  /** Opens the sockets of all forwarding rules. @throws Error with one line for the user */
  listen(): void {
    this.listeners.open()
    if (this.auto.active) this.auto.scan()
  }

  /** Closes all sockets: listening ones, and those of flows, whose peers get a reset. */
  close(): void {
    const { ctx } = this
    this.listeners.close()
    this.auto.forget()
    this.tcp.close()
    this.tcpSplice?.close()
    this.udpSplice?.close()
    for (let flow = 0; flow < ctx.flows.highWater; flow++) {
      const kind = ctx.words[(flow << FLOW_SHIFT) + KIND]!
      if (kind !== 0 && kind !== KIND_RETIRED) ctx.retire(flow, false)
    }
    this.#service()
    this.#serviceSplice()
  }

  /** One turn.
   * @param timeoutMs longest time to block when there is nothing to do, -1 for no limit, 0 to not block */
  turn(timeoutMs: number): void {
    const { ctx } = this
    const { kernel, link } = ctx
    const { latency } = this
    if (latency !== undefined) latency.end(kernel.nowMicros())
    const ready = kernel.wait(this.#timeout(timeoutMs))
    if (latency !== undefined) latency.begin(kernel.nowMicros())
    ctx.now = kernel.now()
    ctx.flows.now = ctx.now
    ctx.count(COUNTER.turns)
    const { events } = kernel
    for (let i = 0; i < ready; i++) this.#event(events[2 * i]!, events[2 * i + 1]!)
    const { neighbours } = ctx.config
    if (neighbours !== undefined && neighbours.generation !== this.#neighbourGeneration)
      this.#renewNeighbours(neighbours)
    if (link.connected !== this.#wasConnected) this.#attachment()
    if (this.#receive || link.more) {
      this.#receive = false
      const count = link.receive()
      if (count > 0) this.#batch(count)
      else if (count < 0) this.#attachment()
    }
    // Timers before the queue: what they ask for is sent in this turn.
    for (let flow = ctx.timers.expire(ctx.now); flow >= 0; flow = ctx.timers.expire(ctx.now)) {
      this.#timer(flow)
    }
    if (((ctx.now - this.#sweepAt) | 0) >= 0) this.#sweep()
    if (this.auto.active && ((ctx.now - this.auto.due) | 0) >= 0) this.auto.scan()
    if (ctx.gate !== undefined && ctx.gate.shaper.waiting > 0 && ((ctx.now - ctx.gate.shaper.dueAt) | 0) >= 0) {
      ctx.gate.shaper.tick()
    }
    this.#service()
    link.flush()
    if (ctx.spliceWork.count > 0) this.#serviceSplice()
    this.#flushedAt = ctx.counters[COUNTER.bytesToGuest]!
  }

  /** Milliseconds until a turn is due though nothing happens; 0: there is more to do at once. For whoever watches the kernel's
   * descriptor in a loop of their own, and calls `turn(0)`. */
  due(): number {
    return this.#timeout(-1)
  }

  #timeout(limit: number): number {
    const { ctx } = this
    const { link } = ctx
    if (link.more || (ctx.work.count > 0 && link.connected && !link.blocked)) return 0
    if (ctx.spliceWork.count > 0) return 0
    let timeout = (this.#sweepAt - ctx.now) | 0
    if (this.auto.active && ((this.auto.due - ctx.now) | 0) < timeout) timeout = (this.auto.due - ctx.now) | 0
    const { gate } = ctx
    if (gate !== undefined && gate.shaper.waiting > 0 && ((gate.shaper.dueAt - ctx.now) | 0) < timeout) {
      timeout = (gate.shaper.dueAt - ctx.now) | 0
    }
    const timer = ctx.timers.delay(ctx.now)
    if (timer >= 0 && timer < timeout) timeout = timer
    if (limit >= 0 && limit < timeout) timeout = limit
    return timeout > 0 ? timeout : 0
  }

  #event(ref: number, mask: number): void {
    const { ctx } = this
    const index = ref & REF_INDEX_MASK
    switch (ref >>> REF_SHIFT) {
      case REF_FLOW: {
        const base = index << FLOW_SHIFT
        // A socket that was closed earlier in this turn may still be in the event table.
        if (ctx.words[base + FD]! < 0) return
        this.#protocolOf(ctx.words[base + KIND]!)?.event(index, mask)
        return
      }
      case REF_LISTENER: {
        const rule = ctx.rules[this.listeners.rule[index]!]!
        if (rule.protocol === "tcp") this.tcp.accept(index)
        else this.udp.accept(index)
        return
      }
      case REF_SPLICE:
        this.#spliceEvent(index >> 1, index & 1, mask)
        return
      case REF_LINK:
        ctx.link.handleEvent(index, mask)
        if ((mask & ~EVENT_OUT) !== 0) this.#receive = true
        return
      case REF_EXTERNAL:
        this.onExternal?.(index, mask)
        return
      case REF_RELAY:
        ctx.gate?.relays.event(index)
        return
      default:
    }
  }

  #spliceEvent(flow: number, side: number, mask: number): void {
    // A flow that ended earlier in this turn is of neither kind any more.
    const kind = this.ctx.words[(flow << FLOW_SHIFT) + KIND]!
    if (kind === KIND_TCP_SPLICE) this.tcpSplice?.event(flow, side, mask)
    else if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.udpSplice?.event(flow, side, mask)
  }

  /** Ports are not listened on any more, because their service is gone or nobody wants them forwarded: flows of datagrams end as
   * well, for their sockets keep the port from whoever wants it next. Connections end by themselves, and are in nobody's way. */
  #listenersClosed(first: number, last: number): void {
    const { ctx } = this
    const { words } = ctx
    for (let flow = 0; flow < ctx.flows.highWater; flow++) {
      const base = flow << FLOW_SHIFT
      const kind = words[base + KIND]!
      if (kind !== KIND_UDP && kind !== KIND_UDP_SPLICE_IN && kind !== KIND_UDP_SPLICE_OUT) continue
      const slot = words[base + LISTENER]!
      if (slot < first || slot > last) continue
      if (kind === KIND_UDP) ctx.retire(flow, false)
      else this.udpSplice?.end(flow)
    }
  }

  #settled(flow: number): void {
    const kind = this.ctx.words[(flow << FLOW_SHIFT) + KIND]!
    if (kind === KIND_TCP_SPLICE) this.tcpSplice?.settled(flow)
    else if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.udpSplice?.settled(flow)
    else this.#protocolOf(kind)?.settled?.(flow)
  }

  #timer(flow: number): void {
    const { gate } = this.ctx
    const kind = this.ctx.words[(flow << FLOW_SHIFT) + KIND]!
    if (gate !== undefined && gate.verdicts[flow]! >= WAITING) {
      gate.timer(flow)
      return
    }
    if (kind === KIND_TCP_SPLICE) this.tcpSplice?.timer(flow)
    else if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.udpSplice?.timer(flow)
    else this.#protocolOf(kind)?.timer(flow)
  }

  #protocolOf(kind: number): Protocol | undefined {
    switch (kind) {
      case KIND_TCP:
        return this.tcp
      case KIND_UDP:
        return this.udp
      case KIND_PING:
        return this.ping
      case KIND_GROUP:
      case KIND_MEMBERSHIP:
      case KIND_GROUP_PORT:
        return this.multicast
      default:
        return undefined
    }
  }

  /** Flows remember the row of their neighbour, so that a frame costs no lookup; the host's neighbours have changed. */
  #renewNeighbours(neighbours: Neighbours): void {
    this.#neighbourGeneration = neighbours.generation
    const { flows, words } = this.ctx
    for (let flow = 0; flow < flows.highWater; flow++) {
      const base = flow << FLOW_SHIFT
      const kind = words[base + KIND]!
      if (kind === KIND_TCP || kind === KIND_UDP || kind === KIND_PING) {
        words[base + NEIGHBOUR] = neighbours.lookup(words, base + FAR)
      }
    }
  }

  /** A guest came or went. */
  #attachment(): void {
    const { ctx } = this
    const { connected } = ctx.link
    if (connected === this.#wasConnected) return
    this.#wasConnected = connected
    if (!connected) {
      this.multicast?.detached()
      return
    }
    this.multicast?.attached()
    const { responders } = ctx.config
    responders.arp?.attached?.(ctx.now)
    responders.ndp?.attached?.(ctx.now)
    responders.dhcp?.attached?.(ctx.now)
    responders.dhcpv6?.attached?.(ctx.now)
    this.#sweepAt = ctx.now
  }

  #sweep(): void {
    const { ctx } = this
    this.#sweepAt = (ctx.now + SWEEP_MS) | 0
    this.tcp.sweep()
    this.udp.sweep()
    this.ping.sweep()
    this.multicast?.sweep()
    ctx.gate?.sweep()
    if (!ctx.link.connected) return
    const { responders } = ctx.config
    responders.arp?.tick?.(ctx.now)
    responders.ndp?.tick?.(ctx.now)
    responders.dhcp?.tick?.(ctx.now)
    responders.dhcpv6?.tick?.(ctx.now)
  }

  /** Serves each queued flow once, as long as the guest takes what is sent; and again while so little has been sent that another turn
   * would cost more than it can find out. */
  #service(): void {
    const { ctx } = this
    const { link, work, counters } = ctx
    const began = counters[COUNTER.bytesToGuest]!
    for (;;) {
      const before = counters[COUNTER.bytesToGuest]!
      this.#serveQueued()
      const now = counters[COUNTER.bytesToGuest]!
      if (now - before < ROUND_BYTES_MIN || now - began >= TURN_BYTES || work.count === 0 || link.blocked) return
      // The guest begins with what it has while we go on.
      link.flush()
      this.#flushedAt = now
    }
  }

  /** One round: each flow that is queued when it begins. */
  #serveQueued(): void {
    const { ctx } = this
    const { link, work, words } = ctx
    for (let left = work.count; left > 0; left--) {
      const flow = work.take()
      const kind = words[(flow << FLOW_SHIFT) + KIND]!
      if (kind === KIND_RETIRED) {
        ctx.flows.free(flow)
        if (flow === this.#lastFlow) this.#lastFlow = -1
        continue
      }
      if (!link.connected || link.blocked) {
        work.add(flow)
        continue
      }
      this.#protocolOf(kind)?.service(flow)
      if (ctx.counters[COUNTER.bytesToGuest]! - this.#flushedAt > FLUSH_BYTES) {
        link.flush()
        this.#flushedAt = ctx.counters[COUNTER.bytesToGuest]!
      }
    }
  }

  /** Serves each spliced flow that has something to move, once. */
  #serviceSplice(): void {
    const { ctx } = this
    const { spliceWork, words } = ctx
    this.tcpSplice?.beginTurn(spliceWork.count)
    for (let left = spliceWork.count; left > 0; left--) {
      const flow = spliceWork.take()
      const kind = words[(flow << FLOW_SHIFT) + KIND]!
      if (kind === KIND_TCP_SPLICE) this.tcpSplice?.service(flow)
      else if (kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT) this.udpSplice?.service(flow)
      else ctx.flows.free(flow)
    }
  }

  #batch(count: number): void {
    const { ctx } = this
    ctx.add(COUNTER.framesFromGuest, count)
    for (let row = 0; row < count; row++) this.#frame(row)
    const { touched, words } = ctx
    for (let i = 0; i < ctx.touchedCount; i++) {
      const flow = touched[i]!
      const base = flow << FLOW_SHIFT
      this.#protocolOf(words[base + KIND]!)?.fromGuest(flow)
      words[base + BATCH_HEAD] = -1
      words[base + BATCH_TAIL] = -1
    }
    ctx.touchedCount = 0
  }

  #frame(row: number): void {
    const { ctx } = this
    const { frames, view } = ctx
    const o = frames.offset[row]!
    const length = frames.length[row]!
    if (length < ethernet.HEADER_LENGTH) {
      ctx.count(COUNTER.dropEthernet)
      return
    }
    if (
      view.getInt32(o + ethernet.SOURCE) !== this.#macHigh ||
      view.getUint16(o + ethernet.SOURCE + 4) !== this.#macLow
    ) {
      this.#learnMac(o)
    }
    const end = o + length
    switch (ethernet.type(view, o)) {
      case ethernet.TYPE_IPV4:
        if (ctx.guest.ipv4) this.#ipv4(row, o, end)
        else ctx.count(COUNTER.dropIp)
        return
      case ethernet.TYPE_IPV6:
        if (ctx.guest.ipv6) this.#ipv6(row, o, end)
        else ctx.count(COUNTER.dropIp)
        return
      case ethernet.TYPE_ARP: {
        const l3 = o + ethernet.HEADER_LENGTH
        if (!ctx.guest.ipv4 || end - l3 < arp.LENGTH) {
          ctx.count(COUNTER.dropTransport)
          return
        }
        ctx.config.responders.arp?.respond(row, l3, l3, end)
        return
      }
      default:
        ctx.count(COUNTER.dropEthernet)
    }
  }

  #learnMac(o: number): void {
    const { guest, view } = this.ctx
    // A group address can't be a source (IEEE 802.3 section 3.2.3).
    if ((view.getUint8(o + ethernet.SOURCE) & 1) !== 0) return
    let changed = false
    for (let i = 0; i < 6; i++) {
      const byte = view.getUint8(o + ethernet.SOURCE + i)
      if (guest.mac[i] !== byte) {
        guest.mac[i] = byte
        changed = true
      }
    }
    this.#macHigh = view.getInt32(o + ethernet.SOURCE)
    this.#macLow = view.getUint16(o + ethernet.SOURCE + 4)
    if (!changed) return
    guest.macGeneration++
    this.ctx.log(
      "info",
      "guest-mac",
      `New guest MAC address observed: ${Array.from(guest.mac, (b) => b.toString(16).padStart(2, "0")).join(":")}`,
    )
  }

  #ipv4(row: number, o: number, frameEnd: number): void {
    const { ctx } = this
    const { frames, guest, view } = ctx
    const l3 = o + ethernet.HEADER_LENGTH
    const end = ipv4.check(view, l3, frameEnd)
    if (end < 0) {
      ctx.count(COUNTER.dropIp)
      return
    }
    if (ipv4.isFragment(view, l3)) {
      ctx.count(COUNTER.dropFragment)
      ctx.log("warning", "fragment", "IPv4 fragment from the guest dropped: there is no reassembly")
      return
    }
    const source = ipv4.source(view, l3)
    const destination = ipv4.destination(view, l3)
    if (source >>> 24 === 127 || destination >>> 24 === 127) {
      ctx.count(COUNTER.dropLoopback)
      return
    }
    const l4 = l3 + ipv4.headerLength(view, l3)
    const { key } = ctx.flows
    setMapped(key, 1, source)
    setMapped(key, 5, destination)
    if (source !== guest.seen4[3] && source !== 0 && !guest.fixed4 && source >>> 28 < 0xe) {
      setMapped(guest.seen4, 0, source)
    }
    switch (ipv4.protocol(view, l3)) {
      case ipv4.PROTOCOL_TCP:
        this.#tcp(row, o, l4, end)
        return
      case ipv4.PROTOCOL_UDP:
        if (end - l4 >= udp.HEADER_LENGTH && udp.destinationPort(view, l4) === PORT_DHCP_SERVER) {
          this.#respond(ctx.config.responders.dhcp, row, l3, l4, end)
          return
        }
        this.#udp(row, o, l4, end)
        return
      case ipv4.PROTOCOL_ICMP:
        if (end - l4 < icmp.HEADER_LENGTH) ctx.count(COUNTER.dropTransport)
        else if (icmp.type(view, l4) !== icmp.ECHO_REQUEST || icmp.code(view, l4) !== 0) ctx.count(COUNTER.dropProtocol)
        else this.#echo(row, o, l4, end)
        return
      case ipv4.PROTOCOL_IGMP:
        if (this.multicast === undefined) ctx.count(COUNTER.dropProtocol)
        else this.multicast.igmp(row, l4, end)
        return
      default:
        frames.next[row] = -1
        ctx.count(COUNTER.dropProtocol)
    }
  }

  #ipv6(row: number, o: number, frameEnd: number): void {
    const { ctx } = this
    const { guest, view } = ctx
    const l3 = o + ethernet.HEADER_LENGTH
    const end = ipv6.check(view, l3, frameEnd)
    if (end < 0) {
      ctx.count(COUNTER.dropIp)
      return
    }
    const transport = ipv6.transport(view, l3, end)
    if (transport < 0 && transport >= -3) {
      ctx.count(transport === -2 ? COUNTER.dropFragment : transport === -1 ? COUNTER.dropIp : COUNTER.dropProtocol)
      return
    }
    const { key } = ctx.flows
    read6(key, 1, view, l3 + ipv6.SOURCE)
    read6(key, 5, view, l3 + ipv6.DESTINATION)
    // Addresses in mapped form must not appear on the wire either: they would pass for IPv4 inside.
    if (isLoopback(key, 1) || isLoopback(key, 5) || isMappedWire(key, 1) || isMappedWire(key, 5)) {
      ctx.count(COUNTER.dropLoopback)
      return
    }
    const l4 = l3 + (transport & 0xffffff)
    const protocol = transport >>> 24
    if (protocol === ipv6.PROTOCOL_ICMPV6) {
      this.#icmpv6(row, o, l3, l4, end)
      return
    }
    if (isUnspecified(key, 1) || isMulticast(key, 1)) {
      ctx.count(COUNTER.dropAddress)
      return
    }
    this.#learn6(guest.seen6, guest.seenLinkLocal6)
    if (protocol === ipv4.PROTOCOL_TCP) {
      this.#tcp(row, o, l4, end)
    } else if (protocol === ipv4.PROTOCOL_UDP) {
      if (
        end - l4 >= udp.HEADER_LENGTH &&
        udp.destinationPort(view, l4) === PORT_DHCPV6_SERVER &&
        isMulticast(key, 5)
      ) {
        this.#respond(ctx.config.responders.dhcpv6, row, l3, l4, end)
        return
      }
      this.#udp(row, o, l4, end)
    } else {
      ctx.count(COUNTER.dropProtocol)
    }
  }

  /** Takes the source in the key as an address of the guest. */
  #learn6(global: Int32Array, linkLocal: Int32Array): void {
    const { guest, flows } = this.ctx
    const { key } = flows
    const seen = isLinkLocal(key, 1) ? linkLocal : global
    if (seen[3] === key[4] && seen[2] === key[3] && seen[1] === key[2] && seen[0] === key[1]) return
    if (seen === global && guest.fixed6) return
    for (let i = 0; i < 4; i++) seen[i] = key[1 + i]!
  }

  #icmpv6(row: number, o: number, l3: number, l4: number, end: number): void {
    const { ctx } = this
    const { key } = ctx.flows
    const { guest, view } = ctx
    if (end - l4 < icmp.HEADER_LENGTH) {
      ctx.count(COUNTER.dropTransport)
      return
    }
    const type = icmp.type(view, l4)
    if (!isUnspecified(key, 1) && !isMulticast(key, 1)) this.#learn6(guest.seen6, guest.seenLinkLocal6)
    if (type >= icmp.V6_ROUTER_SOLICITATION && type <= icmp.V6_REDIRECT) {
      this.#respond(ctx.config.responders.ndp, row, l3, l4, end)
    } else if (isMld(type) && ctx.config.icmp && this.multicast !== undefined) {
      this.multicast.mld(row, l3, l4, end)
    } else if (type === icmp.V6_ECHO_REQUEST && icmp.code(view, l4) === 0) {
      this.#echo(row, o, l4, end)
    } else {
      ctx.count(COUNTER.dropProtocol)
    }
  }

  #respond(responder: Responder | undefined, row: number, l3: number, l4: number, end: number): void {
    if (responder === undefined) this.ctx.count(COUNTER.dropProtocol)
    else responder.respond(row, l3, l4, end)
  }

  #tcp(row: number, o: number, l4: number, end: number): void {
    const { ctx } = this
    const { frames, view } = ctx
    if (!ctx.config.tcp) {
      ctx.count(COUNTER.dropProtocol)
      return
    }
    const room = end - l4
    const header = room >= tcp.HEADER_LENGTH ? tcp.headerLength(view, l4) : 0
    if (header < tcp.HEADER_LENGTH || header > room) {
      ctx.count(COUNTER.dropTransport)
      return
    }
    frames.checksumStart[row] = l4 - o
    frames.payload[row] = l4 - o + header
    frames.payloadLength[row] = room - header
    const { key } = ctx.flows
    key[0] = KIND_TCP
    key[9] = tcp.sourcePort(view, l4)
    key[10] = tcp.destinationPort(view, l4)
    this.#dispatch(row, this.tcp)
  }

  #udp(row: number, o: number, l4: number, end: number): void {
    const { ctx } = this
    const { frames, view } = ctx
    if (!ctx.config.udp) {
      ctx.count(COUNTER.dropProtocol)
      return
    }
    const room = end - l4
    const length = room >= udp.HEADER_LENGTH ? udp.length(view, l4) : 0
    if (length < udp.HEADER_LENGTH || length > room) {
      ctx.count(COUNTER.dropTransport)
      return
    }
    frames.checksumStart[row] = l4 - o
    frames.payload[row] = l4 - o + udp.HEADER_LENGTH
    frames.payloadLength[row] = length - udp.HEADER_LENGTH
    const { key } = ctx.flows
    key[0] = KIND_UDP
    key[9] = udp.sourcePort(view, l4)
    key[10] = udp.destinationPort(view, l4)
    if (this.multicast !== undefined && this.multicast.takes(key, 5)) {
      key[0] = KIND_GROUP
      this.#dispatch(row, this.multicast)
      return
    }
    this.#dispatch(row, this.udp)
  }

  #echo(row: number, o: number, l4: number, end: number): void {
    const { ctx } = this
    const { frames, view } = ctx
    if (!ctx.config.icmp) {
      ctx.count(COUNTER.dropProtocol)
      return
    }
    frames.checksumStart[row] = l4 - o
    frames.payload[row] = l4 - o
    frames.payloadLength[row] = end - l4
    const { key } = ctx.flows
    key[0] = KIND_PING
    key[9] = icmp.identifier(view, l4)
    key[10] = key[9]!
    this.#dispatch(row, this.ping)
  }

  #dispatch(row: number, protocol: Protocol): void {
    const { ctx } = this
    let flow = this.#lastFlow
    if (flow < 0 || !ctx.flows.isGuestSide(flow)) {
      flow = ctx.flows.find(SIDE_GUEST)
      if (flow < 0) flow = protocol.open(row)
      this.#lastFlow = flow
      if (flow < 0) return
    }
    ctx.touch(flow, row)
  }
}

function isMappedWire(key: Int32Array, i: number): boolean {
  return key[i] === 0 && key[i + 1] === 0 && key[i + 2] === 0xffff
}
