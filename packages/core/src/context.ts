/**
 * What every part of the engine shares: its two neighbours (kernel, link), its tables, and the clock of this turn.
 */
import { type TranslationConfig, Translator } from "./forward/translate.ts"
import { BATCH_HEAD, BATCH_TAIL, FD, FLOW_SHIFT, FlowTable, KIND } from "./flow/table.ts"
import { TimerWheel } from "./flow/timers.ts"
import { WorkQueue } from "./flow/work.ts"
import type { FrameTable } from "./frames.ts"
import type { GuestState } from "./guest.ts"
import { RX_FRAME_MAX } from "./limits.ts"
import type { Kernel } from "./kernel.ts"
import type { Link } from "./link.ts"
import type { Responders } from "./responder.ts"
import { COUNTER_COUNT, type Counters } from "./stats.ts"
import type { ForwardRule } from "./forward/rule.ts"
import { Gate } from "./policy/gate.ts"
import type { PolicyOptions } from "./policy/rule.ts"

export type LogLevel = "error" | "warning" | "info" | "debug" | "trace"

/** A mirror of the host's neighbour table: which MAC address the guest should see behind an address. */
export interface Neighbours {
  /** @returns a row of `macs`, or -1 for our own MAC address */
  lookup(words: Int32Array, index: number): number
  /** Six bytes per row. */
  readonly macs: Uint8Array
  /** Another number whenever an answer of `lookup` may have changed. */
  readonly generation: number
}

/** For a guest that is a network namespace of this host: what comes from loopback addresses goes from socket to socket. */
export interface SpliceConfig {
  /** Whether connections from the host's loopback addresses to forwarded ports are spliced; else they go over the link. */
  readonly inbound: boolean
  /** Whether those that were made to a loopback address lead to the namespace's loopback address, not its public one. */
  readonly toLoopback: boolean
  /** There is no link: what can't be spliced is refused. */
  readonly only?: boolean
}

export interface EngineConfig {
  readonly kernel: Kernel
  readonly link: Link
  readonly guest: GuestState
  /** Four words of entropy: hash key, initial sequence numbers. */
  readonly secret: Int32Array
  readonly translation: TranslationConfig
  readonly responders: Responders
  readonly neighbours?: Neighbours
  readonly rules: readonly ForwardRule[]
  /** Absent: there is no namespace. Needs Kernel.splice. */
  readonly splice?: SpliceConfig
  readonly tcp: boolean
  readonly udp: boolean
  readonly icmp: boolean
  /** Source address of sockets for the guest; all zero: the kernel's choice. */
  readonly outbound4: Int32Array
  readonly outbound6: Int32Array
  /** Interface that those sockets are bound to; empty: any. */
  readonly outboundDevice4: string
  readonly outboundDevice6: string
  /** Interface that multicast and broadcast use, by index, to begin with; 0: the kernel's choice. Absent: for IPv6 `linkLocalScope`, for IPv4 0. */
  readonly groupScope4?: number
  readonly groupScope6?: number
  /** Interface index for link-local IPv6 destinations, to begin with; 0: none. */
  readonly linkLocalScope: number
  readonly freebind: boolean
  /** Retransmissions of a SYN, the first `synLinear` of them one second apart (net.ipv4.tcp_syn_retries,
   * tcp_syn_linear_timeouts). */
  readonly synRetries: number
  readonly synLinear: number
  /** Upper limit of the retransmission timeout, milliseconds (net.ipv4.tcp_rto_max_ms). */
  readonly rtoMaxMs: number
  /** Seconds without traffic after which a UDP flow ends: one-way, and with answers (nf_conntrack_udp_timeout…). */
  readonly udpTimeout: number
  readonly udpStreamTimeout: number
  /** Flows to allow; FLOW_MAX unless told. */
  readonly flowMax?: number
  /** What may begin: absent, everything, and it costs nothing. */
  readonly policy?: PolicyOptions
  /** Called for what an operator should know; cold, rate-limited by whoever implements it per `site`. */
  readonly log?: (level: LogLevel, site: string, message: string) => void
  /** Called when a flow begins, its ends set, and before it ends: for an operator who debugs. */
  readonly onFlow?: (flow: number, begins: boolean) => void
}

/** Kinds of what an event's ref names: the kind in the top 4 bits, an index in the rest. */
export const REF_SHIFT = 27
export const REF_INDEX_MASK: number = (1 << REF_SHIFT) - 1
export const REF_FLOW = 0
export const REF_LISTENER = 1
export const REF_LINK = 2
/** For the program around the engine: netlink, signals, control. */
export const REF_EXTERNAL = 3
/** A socket of a spliced flow: the index is twice the flow, plus the side. */
export const REF_SPLICE = 4
/** A socket of an overheard connection to a resolver: the index is its place among those. */
export const REF_RELAY = 5

export class Context {
  readonly config: EngineConfig
  readonly kernel: Kernel
  readonly link: Link
  readonly frames: FrameTable
  /** The arena, for header fields. */
  readonly view: DataView<ArrayBuffer>
  readonly guest: GuestState
  readonly flows: FlowTable
  /** Forwarding rules by their number; undefined: removed. Changed by `forward/change.ts` while the engine runs. */
  readonly rules: (ForwardRule | undefined)[]
  /** The flow table's words. */
  readonly words: Int32Array<ArrayBuffer>
  readonly timers: TimerWheel
  /** Flows that owe the guest something; those that wait for a place on the link. */
  readonly work: WorkQueue
  /** Spliced flows that have something to move; they don't depend on the link. */
  readonly spliceWork: WorkQueue
  readonly translator: Translator
  /** Interface index for link-local IPv6 destinations; 0: none. */
  linkLocalScope: number
  /** Interface index for multicast and broadcast; 0: the kernel's choice. */
  groupScope4: number
  groupScope6: number
  readonly counters: Counters = new Float64Array(COUNTER_COUNT)
  /** Milliseconds, as of the start of this turn. */
  now: number
  /** Ethernet addresses of frames to the guest as three words: destination, source. Kept by emit.ts. */
  readonly ethernetWords: Int32Array = new Int32Array(3)
  ethernetGeneration = -1
  /** Flows whose frames of this batch wait to be handled, in order of their first frame. */
  readonly touched: Int32Array = new Int32Array(RX_FRAME_MAX)
  touchedCount = 0
  /** Whom every flow that is about to begin is shown to. */
  readonly gate: Gate | undefined

  constructor(config: EngineConfig) {
    this.config = config
    this.kernel = config.kernel
    this.link = config.link
    this.frames = config.link.frames
    this.view = this.frames.view
    this.guest = config.guest
    this.flows = new FlowTable(config.secret, config.flowMax)
    this.rules = [...config.rules]
    this.words = this.flows.words
    this.now = config.kernel.now()
    this.flows.now = this.now
    this.timers = new TimerWheel(this.words, this.now)
    this.work = new WorkQueue(this.words)
    this.spliceWork = new WorkQueue(this.words)
    this.linkLocalScope = config.linkLocalScope
    this.groupScope4 = config.groupScope4 ?? 0
    this.groupScope6 = config.groupScope6 ?? config.linkLocalScope
    this.translator = new Translator(config.translation, config.guest)
    if (config.policy !== undefined) this.gate = new Gate(this, config.policy)
  }

  /** Appends a frame to its flow's frames of this batch. */
  touch(flow: number, row: number): void {
    const w = this.words
    const base = flow << FLOW_SHIFT
    this.frames.next[row] = -1
    const tail = w[base + BATCH_TAIL]!
    if (tail >= 0) {
      this.frames.next[tail] = row
    } else {
      w[base + BATCH_HEAD] = row
      this.touched[this.touchedCount++] = flow
    }
    w[base + BATCH_TAIL] = row
  }

  /** Ends a flow: out of the index, timer off, socket closed (with a reset to the peer if `reset`). The row itself is
   * freed when the work queue comes to it, so that events and frames of this turn can still be recognised as late. */
  retire(flow: number, reset: boolean): void {
    const base = flow << FLOW_SHIFT
    const begun = this.gate === undefined || this.gate.ended(flow)
    if (begun && this.config.onFlow !== undefined) this.config.onFlow(flow, false)
    const fd = this.words[base + FD]!
    this.timers.disarm(flow)
    if (fd >= 0) {
      if (reset) this.kernel.reset(fd)
      else this.kernel.close(fd)
      this.words[base + FD] = -1
    }
    this.flows.retire(flow)
    // One that waits in the other queue is freed from there.
    this.work.add(flow)
  }

  /** Counts a flow that begins now, and tells of it. */
  begin(flow: number, counter: number): void {
    this.count(counter)
    if (this.config.onFlow !== undefined) this.config.onFlow(flow, true)
  }

  count(counter: number): void {
    this.counters[counter] = this.counters[counter]! + 1
  }

  add(counter: number, amount: number): void {
    this.counters[counter] = this.counters[counter]! + amount
  }

  /** Counts payload of a flow. @param counter COUNTER.bytes… @param direction DIRECTION_FROM_GUEST or DIRECTION_TO_GUEST
   * @param packets segments or datagrams that carried it, 0: nobody can say */
  addBytes(counter: number, flow: number, direction: number, amount: number, packets: number): void {
    const { bytes, kindBytes, packets: flowPackets, kindPackets } = this.flows
    const at = 2 * flow + direction
    const kind = 2 * this.words[(flow << FLOW_SHIFT) + KIND]! + direction
    this.counters[counter] = this.counters[counter]! + amount
    bytes[at] = bytes[at]! + amount
    kindBytes[kind] = kindBytes[kind]! + amount
    flowPackets[at] = flowPackets[at]! + packets
    kindPackets[kind] = kindPackets[kind]! + packets
  }

  log(level: LogLevel, site: string, message: string): void {
    this.config.log?.(level, site, message)
  }
}
