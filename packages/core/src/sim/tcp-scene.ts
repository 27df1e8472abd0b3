/**
 * An engine between modelled TCP sockets and a link in memory, in virtual time; and what must hold whenever it rests.
 */
import { REF_LINK, REF_SHIFT, type EngineConfig } from "../context.ts"
import { Engine } from "../engine.ts"
import {
  FD,
  FLOW_SHIFT,
  GUEST,
  KIND,
  KIND_FREE,
  KIND_RETIRED,
  KIND_TCP,
  PORT,
  STATE,
  TIMER_SLOT,
  WORK_NEXT,
} from "../flow/table.ts"
import type { GuestState } from "../guest.ts"
import { FLOW_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import { HOLD_BLOCKS } from "../tcp/hold.ts"
import {
  ACKED_BY_GUEST,
  ACK_SENT,
  ACK_TO_GUEST,
  EDGE_SENT,
  EDGE_TO_GUEST,
  ESTABLISHED,
  FIN_ACKED,
  FIN_SENT,
  GUEST_FIN,
  HOLD_COUNT,
  HOLD_HEAD,
  HOST_SHUT,
  PEEK_LOST,
  SENT_MAX,
  SEQ_FROM_GUEST,
  SEQ_TO_GUEST,
  WRITTEN,
} from "../tcp/state.ts"
import { Clock } from "./clock.ts"
import { newConfig, newGuest } from "./config.ts"
import { SimLink } from "./sim-link.ts"
import { TcpKernel } from "./tcp-kernel.ts"

export interface TcpSceneOptions extends Partial<EngineConfig> {
  readonly peekOffset?: boolean
  readonly epochMs?: number
  readonly descriptorMax?: number
  readonly segmentBytesMax?: number
  readonly windowMax?: number
}

export class TcpScene {
  readonly clock: Clock = new Clock()
  readonly link: SimLink
  readonly kernel: TcpKernel
  readonly guest: GuestState = newGuest()
  readonly engine: Engine
  /** Blocks of the hold pool that occupyHold took. */
  #occupied = 0

  constructor(options: TcpSceneOptions = {}) {
    this.link = new SimLink(options.segmentBytesMax, options.windowMax)
    this.kernel = new TcpKernel(this.clock, this.link.frames, {
      peekOffset: options.peekOffset ?? true,
      epochMs: options.epochMs ?? 1000,
      descriptorMax: options.descriptorMax ?? 1000,
    })
    this.kernel.linkEvents = this.link.takeEvents
    this.kernel.linkRef = REF_LINK << REF_SHIFT
    this.link.onEvent = this.kernel.wake
    this.engine = new Engine({
      ...newConfig(this.kernel, this.link, this.guest),
      udp: false,
      icmp: false,
      ...options,
    })
    this.engine.listen()
  }

  /** One turn, then all that must hold. @param timeoutMs longest time to wait for something to happen */
  turn(timeoutMs: number): void {
    this.engine.turn(timeoutMs)
    this.check()
  }

  counter(name: keyof typeof COUNTER): number {
    return this.engine.counters[COUNTER[name]]!
  }

  /** Flows alive. */
  get flows(): number {
    return this.engine.ctx.flows.count
  }

  /** Takes blocks of the hold pool for two flows that nobody sees, so that only `left` are left. */
  occupyHold(left: number): void {
    const { ctx, tcp } = this.engine
    for (const flow of [FLOW_MAX - 1, FLOW_MAX - 2]) {
      const base = flow << FLOW_SHIFT
      ctx.words[base + HOLD_HEAD] = -1
      ctx.frames.length[0] = 1
      while (tcp.hold.used < HOLD_BLOCKS - left) {
        // Every other byte, so that each takes a block.
        if (!tcp.hold.insert(base, 0, 0, 1, 2 * ctx.words[base + HOLD_COUNT]!)) break
      }
    }
    this.#occupied = tcp.hold.used
  }

  /** Word of the only flow. @throws Error when there is none, or more than one */
  word(index: number): number {
    const { flows, words: w } = this.engine.ctx
    let found = -1
    for (let flow = 0; flow < flows.highWater; flow++) {
      if (w[(flow << FLOW_SHIFT) + KIND] !== KIND_TCP) continue
      if (found >= 0) throw new Error("more than one flow")
      found = flow
    }
    if (found < 0) throw new Error("no flow")
    return w[(found << FLOW_SHIFT) + index]!
  }

  /** The invariants between turns. @throws Error */
  check(): void {
    const { ctx, tcp } = this.engine
    const w = ctx.words
    let rows = 0
    let timers = 0
    let queued = 0
    let held = 0
    let sockets = 0
    for (let flow = 0; flow < ctx.flows.highWater; flow++) {
      const base = flow << FLOW_SHIFT
      const kind = w[base + KIND]!
      if (kind === KIND_FREE) continue
      rows++
      if (w[base + TIMER_SLOT]! >= 0) timers++
      if (w[base + WORK_NEXT] !== -1) queued++
      if (kind === KIND_RETIRED) continue
      held += w[base + HOLD_COUNT]!
      sockets++
      if ((w[base + STATE]! & ESTABLISHED) !== 0) this.#checkFlow(base)
    }
    same("flows", rows, ctx.flows.count)
    same("timers", timers, ctx.timers.armed)
    same("work queue", queued, ctx.work.count)
    same("held blocks", held + this.#occupied, tcp.hold.used)
    const spare = this.kernel.sockets.size - sockets
    if (spare < 0 || spare > 1) throw new Error(`${this.kernel.sockets.size} sockets open for ${sockets} flows`)
  }

  #checkFlow(base: number): void {
    const w = this.engine.ctx.words
    const state = w[base + STATE]!
    const name = `flow of guest port ${w[base + GUEST + PORT]}`
    const socket = this.kernel.sockets.get(w[base + FD]!)
    if (socket === undefined) throw new Error(`${name}: its socket is closed`)
    const order = (what: string, low: number, high: number): void => {
      if (((high - low) | 0) < 0) throw new Error(`${name}: ${what}: ${low} is after ${high}`)
    }
    order("acknowledged by the guest, next", w[base + ACKED_BY_GUEST]!, w[base + SEQ_TO_GUEST]!)
    order("next to the guest, highest", w[base + SEQ_TO_GUEST]!, w[base + SENT_MAX]!)
    order("written, expected", w[base + WRITTEN]!, w[base + SEQ_FROM_GUEST]!)
    order("acknowledged to the guest, due", w[base + ACK_SENT]!, w[base + ACK_TO_GUEST]!)
    const fin = (state & (GUEST_FIN | HOST_SHUT)) === (GUEST_FIN | HOST_SHUT) ? 1 : 0
    order("acknowledged, written", w[base + ACK_TO_GUEST]!, (w[base + WRITTEN]! + fin) | 0)
    order("acknowledged, edge", w[base + ACK_TO_GUEST]!, w[base + EDGE_TO_GUEST]!)
    order("edge sent, edge", w[base + EDGE_SENT]!, w[base + EDGE_TO_GUEST]!)
    if (this.kernel.peekOffset4 && (state & PEEK_LOST) === 0) {
      let offset = (w[base + SEQ_TO_GUEST]! - w[base + ACKED_BY_GUEST]!) | 0
      if ((state & (FIN_SENT | FIN_ACKED)) === FIN_SENT && w[base + SEQ_TO_GUEST] === w[base + SENT_MAX]) offset--
      same(`${name}: peek offset`, socket.peekOffset, offset)
    }
  }

  /** What must hold when all is over: nothing is left but the listening sockets and the descriptor in reserve. */
  checkEmpty(): void {
    const { ctx, tcp } = this.engine
    same("flows left", ctx.flows.count, 0)
    same("timers left", ctx.timers.armed, 0)
    same("work left", ctx.work.count, 0)
    same("held blocks left", tcp.hold.used, this.#occupied)
    this.engine.close()
    same("descriptors left", this.kernel.open, 0)
  }
}

function same(what: string, found: number, expected: number): void {
  if (found !== expected) throw new Error(`${what}: ${found}, not ${expected}`)
}
