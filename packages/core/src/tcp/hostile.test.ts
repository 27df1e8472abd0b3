/**
 * A guest that sends whatever it likes: nothing throws, no table disagrees with another, no window moves back, and nothing is
 * left behind. What it sends may well end its own connections.
 *
 * SIM_SEEDS and SIM_SEED as in simulation.test.ts.
 */
import { env } from "node:process"
import { expect, test } from "vitest"

import { ECONNRESET, EHOSTUNREACH, ETIMEDOUT } from "../errno.ts"
import { forwardRule, GUEST4, GUEST6, record, words } from "../sim/config.ts"
import { packet } from "../sim/packet.ts"
import { QUIET_PEER } from "../sim/peer-script.ts"
import { Random } from "../sim/random.ts"
import { buildFrame, readFrame } from "../sim/segment.ts"
import { TcpScene } from "../sim/tcp-scene.ts"
import { readUnreachable } from "../sim/unreachable.ts"
import * as tcp from "../wire/tcp.ts"

const only = env["SIM_SEED"]
const count = Number(env["SIM_SEEDS"] ?? 40)
const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(only)]

const FARS = ["198.51.100.7", "2001:db8:1::7"]
const LISTENING = 5000

interface Told {
  readonly sequence: number
  readonly ack: number
  readonly edge: number
  /** -1: unknown. */
  readonly scale: number
  /** Whether acknowledgement and edge are more than those of a SYN. */
  readonly known: boolean
}

function keyOf(far: Int32Array, farPort: number, guest: Int32Array, guestPort: number): string {
  return `${far.join(" ")} ${farPort} ${guest.join(" ")} ${guestPort}`
}

class HostileWorld {
  readonly scene: TcpScene
  readonly #random: Random
  /** What the engine told of each connection (far and ports): its next number, its acknowledgement, its edge. */
  readonly #told = new Map<string, Told>()
  #peers = 0

  constructor(seed: number) {
    const random = new Random(seed)
    this.#random = random
    this.scene = new TcpScene({
      peekOffset: random.chance(0.5),
      rules: [forwardRule("tcp", { first: LISTENING })],
      flowMax: random.pick([2, 100]),
      segmentBytesMax: random.pick([1460, 65_000]),
    })
    const { kernel, link } = this.scene
    // Its bytes are not those of a stream.
    kernel.anyBytes = true
    kernel.onConnect = () => ({
      ...QUIET_PEER,
      id: ++this.#peers,
      connectDelay: random.pick([-1, 0, 5000]),
      connectError: random.chance(0.1) ? random.pick([ECONNRESET, EHOSTUNREACH, ETIMEDOUT]) : 0,
      bytes: random.pick([0, 100, 200_000]),
      closes: random.chance(0.5) ? "after-send" : "after-eof",
      urgentAt: random.chance(0.2) ? random.between(0, 1000) : -1,
      sendBuffer: random.pick([4000, 1 << 18]),
      rate: random.pick([-1, 1000]),
    })
    kernel.shortWrite = (bytes) => (random.chance(0.2) ? random.between(0, bytes) : bytes)
    link.onFrame = (frame) => this.#hear(frame)
  }

  #hear(frame: Uint8Array): void {
    const error = readUnreachable(frame)
    if (error !== undefined) {
      // The connection is gone, as by a reset.
      const { syn } = error
      this.#told.delete(keyOf(syn.destination, syn.destinationPort, syn.source, syn.sourcePort))
      return
    }
    const s = readFrame(frame)
    const key = keyOf(s.source, s.sourcePort, s.destination, s.destinationPort)
    if ((s.flags & tcp.RST) !== 0) {
      this.#told.delete(key)
      return
    }
    const syn = (s.flags & tcp.SYN) !== 0
    const known = (s.flags & tcp.ACK) !== 0
    const before = syn ? undefined : this.#told.get(key)
    // Whether a SYN of ours is scaled after it depends on the guest's answer, which this test does not follow.
    const scale = syn ? (known ? Math.max(0, s.scale) : -1) : (before?.scale ?? -1)
    const edge = (s.acknowledgement + (s.window << (syn || scale < 0 ? 0 : scale))) | 0
    if (before !== undefined && before.known && known) {
      expect((s.acknowledgement - before.ack) | 0).toBeGreaterThanOrEqual(0)
      if (scale >= 0) expect((edge - before.edge) | 0).toBeGreaterThanOrEqual(0)
    }
    this.#told.set(key, { sequence: (s.sequence + s.payload.length) | 0, ack: s.acknowledgement, edge, scale, known })
  }

  /** A number near one that matters, or anywhere. */
  #near(...numbers: number[]): number {
    const random = this.#random
    if (random.chance(0.1)) return random.next() | 0
    return (random.pick(numbers) + random.pick([0, 0, 0, 1, -1, random.between(-3000, 3000)])) | 0
  }

  /** The guest sends something. */
  send(): void {
    const random = this.#random
    const { link } = this.scene
    const v4 = random.chance(0.6)
    const far = FARS[v4 ? 0 : 1]!
    const inbound = random.chance(0.4)
    const sourcePort = inbound ? LISTENING : random.between(1000, 1003)
    const destinationPort = inbound ? random.between(30_000, 30_003) : 80
    const source = words(v4 ? GUEST4 : GUEST6)
    const told = this.#told.get(keyOf(words(far), destinationPort, source, sourcePort))
    if (random.chance(0.03)) {
      // No segment at all.
      const body = Uint8Array.from({ length: random.between(0, 70) }, () => random.between(0, 255))
      link.push(packet(source, words(far), 6, body, 64))
      return
    }
    const flags =
      told === undefined && random.chance(0.7)
        ? tcp.SYN
        : random.pick([
            tcp.ACK,
            tcp.ACK,
            tcp.ACK,
            tcp.ACK | tcp.PSH,
            tcp.SYN | tcp.ACK,
            tcp.ACK | tcp.FIN,
            random.chance(0.1) ? random.between(0, 63) : tcp.ACK,
          ])
    const frame = buildFrame({
      source,
      destination: words(far),
      sourcePort,
      destinationPort,
      sequence: this.#near(told?.ack ?? 0, told?.edge ?? 0),
      acknowledgement: this.#near(told?.sequence ?? 0, (told?.sequence ?? 0) + 1),
      flags,
      window: random.pick([0, 1, 500, 65_535]),
      mss: random.pick([-1, -1, 0, 1, 1460, 65_535]),
      scale: random.pick([-1, -1, 0, 7, 14, 255]),
      payload: new Uint8Array(random.pick([0, 0, 1, 100, 1400])),
    })
    // Now and then the header is damaged.
    if (random.chance(0.05)) frame[random.between(14, Math.min(frame.length, 80) - 1)] = random.between(0, 255)
    link.push(random.chance(0.02) ? frame.subarray(0, random.between(1, frame.length)) : frame)
  }

  /** Something happens at the host. */
  happen(): void {
    const random = this.#random
    const { kernel, link, clock } = this.scene
    const what = random.between(0, 2)
    if (what === 0) {
      const far = random.pick(FARS)
      const script = { ...QUIET_PEER, id: ++this.#peers, bytes: 5000, closes: "after-send" as const }
      kernel.arrive(LISTENING, script, record(far, random.between(30_000, 30_003)), record("203.0.113.9", LISTENING))
    } else if (what === 1) {
      link.stalled = true
      clock.after(random.between(0, 3_000_000), () => (link.stalled = false))
    } else {
      const sockets = [...kernel.sockets.values()].filter((s) => s.phase === "connected")
      if (sockets.length > 0) random.pick(sockets).peerResets()
    }
  }

  run(): void {
    const random = this.#random
    for (let turn = 0; turn < 600; turn++) {
      for (let i = random.between(0, 6); i > 0; i--) this.send()
      if (random.chance(0.1)) this.happen()
      this.scene.turn(random.pick([0, 0, 1, 50, 2000]))
    }
    // The guest is gone.
    this.scene.link.stalled = false
    this.scene.link.onFrame = () => {}
    const end = this.scene.clock.now + 9_000_000_000
    while (this.scene.clock.now < end && this.scene.flows > 0) this.scene.turn(60_000)
    this.scene.checkEmpty()
  }
}

test("a guest that sends whatever it likes", { timeout: 60_000 + 1000 * seeds.length }, () => {
  let flows = 0
  for (const seed of seeds) {
    const world = new HostileWorld(seed)
    try {
      world.run()
    } catch (error) {
      throw new Error(`SIM_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
    flows += world.scene.counter("tcpFlows")
  }
  expect(flows).toBeGreaterThan(10 * seeds.length)
})
