/** An engine without a link over the model of spliced TCP, with clients and servers on both sides. */
import type { EngineConfig } from "../context.ts"
import { Engine } from "../engine.ts"
import { PLACE_HOST, PLACE_NAMESPACE } from "../kernel.ts"
import { NoLink } from "../no-link.ts"
import { forwardRule, newConfig, newGuest, record } from "./config.ts"
import { type SimPeer, type SimStream, SpliceModel } from "./splice-kernel.ts"

export interface Dialogue {
  readonly client: SimPeer
  /** Undefined while the engine has not made the connection. */
  readonly server: () => SimPeer
}

export class SpliceWorld {
  readonly kernel: SpliceModel = new SpliceModel()
  readonly engine: Engine
  readonly log: string[] = []
  /** Sockets that the engine connected, in order. */
  readonly connected: SimStream[] = []
  /** Descriptors that are open while nothing is going on. */
  readonly idleDescriptors: number

  constructor(options: Partial<EngineConfig> = {}) {
    const link = new NoLink()
    const guest = newGuest()
    this.engine = new Engine({
      ...newConfig(this.kernel, link, guest),
      rules: [
        forwardRule("tcp", { first: 80, targetFirst: 8080 }),
        forwardRule("tcp", { first: 5432, targetFirst: 5433, place: PLACE_NAMESPACE, device: "lo" }),
      ],
      splice: { inbound: true, toLoopback: false },
      log: (level, site, message) => this.log.push(`${level} ${site}: ${message}`),
      ...options,
    })
    const { onConnect } = this.kernel
    this.kernel.onConnect = (socket) => {
      this.connected.push(socket)
      return onConnect(socket)
    }
    this.engine.listen()
    this.idleDescriptors = this.kernel.open
  }

  /** What becomes of the connections that the engine makes from now on. */
  answer(how: "accept" | "refuse" | "hang"): void {
    this.kernel.onConnect = (socket) => {
      this.connected.push(socket)
      return how
    }
  }

  /** A client connects, and the engine goes on with it. */
  connect(from = "127.0.0.1", to = "127.0.0.1", place: number = PLACE_HOST): Dialogue {
    const before = this.connected.length
    const port = place === PLACE_HOST ? 80 : 5432
    const client = this.kernel.arrive(port, place, record(from, 40_000 + before), record(to, port))
    this.turn()
    return { client, server: () => this.connected[before]!.peer }
  }

  /** Runs turns until nothing is left to do. */
  turn(max = 5000): void {
    for (let i = 0; i < max; i++) {
      this.engine.turn(0)
      const busy = [...this.kernel.sockets.values()].some((s) => s.ref >= 0 && s.edge !== 0)
      const waiting = [...this.kernel.listeners.values()].some((l) => l.ref >= 0 && l.waiting.length > 0)
      if (!busy && !waiting && this.engine.ctx.spliceWork.count === 0) return
    }
    throw new Error(`still busy after ${max} turns`)
  }

  /** Lets time pass. */
  pass(ms: number): void {
    const end = this.kernel.timeMs + ms
    while (this.kernel.timeMs < end) {
      this.kernel.timeMs = Math.min(end, this.kernel.timeMs + 10)
      this.turn()
    }
  }

  /** @throws when anything is left of connections */
  expectNothingLeft(): void {
    this.turn()
    const { flows } = this.engine.ctx
    if (flows.count !== 0) throw new Error(`${flows.count} flows left`)
    if (this.kernel.pipes.size !== 0) throw new Error(`${this.kernel.pipes.size} pipes left`)
    if (this.kernel.open !== this.idleDescriptors) {
      throw new Error(`${this.kernel.open - this.idleDescriptors} descriptors left`)
    }
    if (this.engine.ctx.timers.armed !== 0) throw new Error("a timer is left")
  }
}
