/**
 * A world for TCP: an engine, its guest's connections (guest-tcp.ts), their peers (tcp-socket.ts), a network between guest
 * and engine that loses, repeats, delays and reorders, and whatever else may happen: all drawn from a seed, so that a
 * failure can be seen again.
 *
 * Checked all the time, for each connection:
 *   - bytes arrive once, in order and right, in both directions (guest-tcp.ts and tcp-socket.ts look at each of them);
 *   - the guest is not told that something arrived before the socket took it, nor of an end that was not passed on;
 *   - acknowledgements and the right edge of the window never move back;
 *   - nothing is sent beyond the guest's window but a probe of one byte, or a FIN;
 *   - the engine's tables agree with each other (tcp-scene.ts).
 * And at the end: connections that nothing stood in the way of are complete, and nothing is left behind.
 */
import {
  EACCES,
  EADDRNOTAVAIL,
  EAGAIN,
  ECONNABORTED,
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  EINVAL,
  EMFILE,
  ENETUNREACH,
  ENFILE,
  ENOBUFS,
  ENOMEM,
  ENOTCONN,
  EPIPE,
  ETIMEDOUT,
} from "../errno.ts"
import { hash11 } from "../flow/hash.ts"
import { KIND_TCP } from "../flow/table.ts"
import * as tcp from "../wire/tcp.ts"
import { forwardRule, GUEST4, GUEST6, record, words } from "./config.ts"
import { GuestTcp } from "./guest-tcp.ts"
import type { PeerScript } from "./peer-script.ts"
import { Random } from "./random.ts"
import { buildFrame, describeSegment, extent, readFrame, type Segment } from "./segment.ts"
import { TcpScene } from "./tcp-scene.ts"
import type { TcpSocket } from "./tcp-socket.ts"
import { readUnreachable } from "./unreachable.ts"

/** What kind of world to draw. */
export const CLIMATES = [
  "fair",
  "lossy",
  "slow",
  "closed windows",
  "outages",
  "resets",
  "faults",
  "many short",
  "exhaustion",
  "silence",
] as const
export type Climate = (typeof CLIMATES)[number]

/** Plausible errors of each call. */
const ERRNOS: Record<string, readonly number[]> = {
  tcpSocket: [EMFILE, ENFILE, ENOBUFS, ENOMEM],
  bind: [EADDRNOTAVAIL, EINVAL],
  connect: [ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EACCES, EADDRNOTAVAIL, EAGAIN],
  watch: [ENOMEM],
  accept: [EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM],
  sendFrames: [EAGAIN, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ETIMEDOUT],
  sendHeld: [EAGAIN, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ETIMEDOUT],
  peekIntoFrames: [ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM],
  discard: [EAGAIN, ECONNRESET],
  setPeekOffset: [EINVAL],
  setKeepalive: [EINVAL],
  shutdownWrite: [ENOTCONN],
  tcpInfo: [EINVAL],
}

const PORTS = 20_000
const SECOND = 1_000_000
/** Virtual time that connections have, and what is left has until it is gone. */
const LIFE = 900 * SECOND
const AFTERLIFE = 400 * SECOND

interface Connection {
  readonly id: number
  readonly inbound: boolean
  readonly startAt: number
  readonly guest: GuestTcp
  readonly peer: PeerScript
  readonly far: string
  readonly farPort: number
  /** Whether nothing stands in its way. */
  readonly hopeful: boolean
  /** What the engine told the guest: highest acknowledgement and right edge, once `told`. */
  told: boolean
  ack: number
  edge: number
  /** Right edge of the guest's window that has reached the engine, once `heard`. */
  heard: boolean
  guestEdge: number
}

export class TcpWorld {
  readonly seed: number
  readonly climate: Climate
  readonly scene: TcpScene
  turns = 0
  /** The last frames, for failures. */
  readonly #trace: { at: number; direction: string; segment: Segment }[] = []
  readonly #random: Random
  readonly #connections: Connection[] = []
  readonly #byGuestPort: Map<number, Connection> = new Map()
  readonly #byFarPort: Map<number, Connection> = new Map()
  #loss = 0
  #duplication = 0
  #delayMin = 20
  #delayMax = 100
  #late = 0
  #lateMax = 0
  #silent = false
  #over = false

  constructor(seed: number, climate: Climate) {
    this.seed = seed
    this.climate = climate
    const random = new Random(Math.imul(seed, CLIMATES.length) + CLIMATES.indexOf(climate))
    this.#random = random
    const exhausted = climate === "exhaustion"
    const first = PORTS + 1
    // A third of all worlds meet the wrap of sequence numbers, or of their sign, and of the clock.
    const secret = Int32Array.of(random.next(), random.next(), random.next(), random.next())
    if (random.chance(0.33)) bringIsnToWrap(secret, random, first)
    this.scene = new TcpScene({
      secret,
      peekOffset: random.chance(0.5),
      epochMs: random.pick([0, 1_000_000, -5000, 0x7fffffff - 3000]),
      descriptorMax: exhausted && random.chance(0.6) ? random.between(3, 6) : 1000,
      flowMax: exhausted ? random.between(1, 4) : 256,
      segmentBytesMax: random.pick([1460, 8000, 65_000]),
      windowMax: random.chance(0.2) ? random.between(3000, 200_000) : 0,
      rules: [forwardRule("tcp", { first: PORTS, last: PORTS })],
      outbound4: random.chance(0.2) ? words("203.0.113.9") : new Int32Array(4),
    })
    this.scene.guest.mtu = random.pick([0, 576, 1280, 1500, 9000, 65_520])
    this.#weather()
    const count = climate === "many short" ? random.between(10, 40) : random.between(1, exhausted ? 12 : 5)
    for (let i = 0; i < count; i++) this.#draw(i + 1)
    this.scene.link.onFrame = (frame) => this.#toGuest(frame)
    this.scene.kernel.onConnect = (remote) => this.#answer(this.#byFarPort.get(remote[4]!)!)
    for (const c of this.#connections) this.scene.clock.after(c.startAt, () => this.#start(c))
  }

  // What the world is like.

  #weather(): void {
    const { climate, scene } = this
    const random = this.#random
    const { clock, kernel, link } = scene
    this.#delayMax = random.pick([20, 100, 2000])
    const calm = climate === "fair" || climate === "many short"
    if (climate === "lossy" || random.chance(calm ? 0.1 : 0.5)) {
      // What opens a closed window again must get lost at times.
      this.#loss = random.pick(climate === "closed windows" ? [0.1, 0.2] : [0.001, 0.01, 0.05, 0.1])
      this.#duplication = random.pick([0, 0.01, 0.1])
      this.#late = random.pick([0, 0.02, 0.2])
      this.#lateMax = random.pick([500, 5000, 300_000])
    }
    if (climate === "faults" || climate === "exhaustion") {
      const often = random.pick([0.002, 0.01, 0.05])
      const only = random.chance(0.4) ? random.pick(Object.keys(ERRNOS)) : ""
      kernel.fault = (call) => {
        const errnos = ERRNOS[call]
        if (this.#over || errnos === undefined || (only !== "" && only !== call)) return 0
        return random.chance(only === "" ? often : 4 * often) ? random.pick(errnos) : 0
      }
    }
    if (random.chance(0.2)) scene.occupyHold(random.between(0, 12))
    if (climate === "slow" || climate === "faults" || random.chance(0.2)) {
      const often = random.pick([0.02, 0.2])
      kernel.shortWrite = (bytes) => (random.chance(often) ? random.between(0, bytes) : bytes)
      // A guest that is slow to take frames.
      const room = random.between(1, 40)
      const interval = random.between(50, 5000)
      const drain = (): void => {
        if (this.#over) {
          link.drained(Number.POSITIVE_INFINITY)
          return
        }
        link.drained(room)
        clock.after(interval, drain)
      }
      if (random.chance(0.5)) drain()
    }
    if (climate === "outages") {
      for (let i = random.between(1, 4); i > 0; i--) {
        const at = random.between(0, 4 * SECOND)
        const length = random.between(1000, 2 * SECOND)
        if (random.chance(0.5)) {
          clock.after(at, () => link.attach(false))
          clock.after(at + length, () => link.attach(true))
        } else {
          clock.after(at, () => link.drained(0))
          clock.after(at + length, () => link.drained(Number.POSITIVE_INFINITY))
        }
      }
    }
    if (climate === "silence") {
      // The guest dies: for good, or it comes back without memory.
      clock.after(random.between(0, 300_000), () => {
        this.#silent = true
      })
      if (random.chance(0.5)) {
        clock.after(random.between(1, 400) * SECOND, () => {
          this.#silent = false
          for (const c of this.#connections) c.guest.forget()
        })
      }
    }
  }

  #draw(id: number): void {
    const { climate, scene } = this
    const random = this.#random
    const short = climate === "many short"
    const slow = climate === "slow" || climate === "closed windows"
    const mishaps = climate === "resets" || climate === "faults" || climate === "exhaustion"
    const bytes = (): number => {
      const most = random.pick(short ? [0, 10, 3000] : [0, 1, 2000, 50_000, 400_000])
      return random.between(most >> 1, most)
    }
    const v4 = random.chance(0.6)
    const inbound = random.chance(0.4)
    const far = v4 ? "198.51.100.7" : "2001:db8:1::7"
    const farPort = 30_000 + id
    const guestPort = inbound ? PORTS : PORTS + id
    const buffer = random.pick(climate === "closed windows" ? [1000, 3000, 8000] : [3000, 16_000, 65_535, 1 << 20])
    const resets = (p: number): boolean => mishaps && random.chance(p)
    const connectError = resets(0.15) ? random.pick([ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT, ECONNRESET]) : 0
    const peerResetAt = resets(0.25) ? random.between(0, 200_000) : -1
    const guestResetAfter = resets(0.25) ? random.between(0, 20_000) : -1
    // Both must not wait for the other.
    const guestWaits = random.chance(0.3)
    const uneven = random.chance(0.4)
    const peerBytes = bytes()
    const peer: PeerScript = {
      automatic: true,
      id,
      connectError,
      connectDelay: random.pick([-1, 0, 300, 50_000, 2 * SECOND]),
      bytes: peerBytes,
      // Not byte by byte for ever.
      chunk: Math.max(random.pick([1, 1000, 20_000, 1 << 18]), peerBytes >> 10),
      interval: random.pick(slow ? [50, 20_000] : [10, 200]),
      closes: !guestWaits && random.chance(0.5) ? "after-eof" : "after-send",
      readChunk: random.pick(slow ? [500, 5000, 1 << 20] : [20_000, 1 << 20]),
      readInterval: random.pick(slow ? [100, 30_000, 400_000] : [10, 500]),
      window: random.pick(climate === "closed windows" ? [2000, 10_000] : [4000, 65_535, 1 << 20]),
      rtt: random.pick([30, 800, 20_000, 150_000]),
      rate: random.pick([-1, 0, 1000, 1_000_000, 100_000_000]),
      sendBuffer: random.pick([5000, 40_000, 1 << 18, 4 << 20]),
      receiveBuffer: random.pick([3000, 1 << 16, 1 << 20]),
      resetAt: peerResetAt,
      urgentAt: random.chance(0.1) ? random.between(0, 3000) : -1,
    }
    const guest = new GuestTcp(
      {
        local: words(v4 ? GUEST4 : GUEST6),
        remote: words(far),
        localPort: guestPort,
        remotePort: farPort,
      },
      {
        id,
        bytes: bytes(),
        closes: guestWaits ? "after-eof" : "after-send",
        readChunk: random.pick(slow ? [300, 5000, 1 << 20] : [10_000, 1 << 20]),
        readInterval: random.pick(slow ? [100, 30_000, 1_500_000] : [10, 1000]),
        buffer,
        mss: random.pick([-1, 100, 536, 1460, 1460, 8960, 65_495]),
        scale: random.pick([-1, 0, 2, 7, 14]),
        resetAfter: guestResetAfter,
        delayedAck: random.chance(0.5),
        cut: uneven ? (most) => random.between(Math.max(1, most >> 2), most) : (most) => most,
      },
      random.pick([random.next(), -random.between(0, 100_000), 0x7fffffff - random.between(0, 100_000)]),
      scene.clock,
      (s) => this.#fromGuest(s),
      (what) => scene.kernel.violation(`guest of connection ${id}: ${what}`),
    )
    // A connection that trickles must end before its world does.
    const trickles =
      (peer.bytes / Math.min(peer.chunk, peer.receiveBuffer)) * peer.interval +
      (peer.bytes / Math.min(guest.script.readChunk, buffer)) * guest.script.readInterval +
      (guest.script.bytes / peer.readChunk) * peer.readInterval
    const connection: Connection = {
      id,
      inbound,
      startAt: random.pick([0, random.between(0, 10_000), random.between(0, 3 * SECOND)]),
      guest,
      peer,
      far,
      farPort,
      hopeful: !mishaps && climate !== "silence" && trickles < LIFE / 8,
      told: false,
      ack: 0,
      edge: 0,
      heard: false,
      guestEdge: 0,
    }
    this.#connections.push(connection)
    this.#byFarPort.set(farPort, connection)
    if (!inbound) this.#byGuestPort.set(guestPort, connection)
  }

  /** Who answers a connection from the guest. A late copy of its SYN may ask again, when all is over. */
  #answer(c: Connection): PeerScript {
    if (this.scene.kernel.byId.has(c.id)) return { ...c.peer, id: -c.id, connectDelay: 300, connectError: ECONNREFUSED }
    return c.peer
  }

  #start(c: Connection): void {
    if (!c.inbound) c.guest.connect()
    else this.scene.kernel.arrive(PORTS, c.peer, record(c.far, c.farPort), record("203.0.113.9", PORTS))
  }

  // The network between guest and engine.

  #fromGuest(s: Segment): void {
    const c = this.#byFarPort.get(s.destinationPort)!
    this.#carry(() => {
      if (!this.scene.link.connected) return
      this.#note("<", s)
      if ((s.flags & tcp.RST) === 0) {
        const scaled = c.guest.script.scale >= 0 && c.guest.peerScale >= 0 && (s.flags & tcp.SYN) === 0
        const base = (s.flags & tcp.ACK) !== 0 ? s.acknowledgement : 0
        const edge = (base + (s.window << (scaled ? c.guest.script.scale : 0))) | 0
        if ((s.flags & tcp.ACK) !== 0 && (!c.heard || ((edge - c.guestEdge) | 0) > 0)) {
          c.heard = true
          c.guestEdge = edge
        }
      }
      this.scene.link.push(buildFrame(s))
    })
  }

  #toGuest(frame: Uint8Array): void {
    const error = readUnreachable(frame)
    if (error !== undefined) {
      const { syn } = error
      this.#carry(() => this.#byFarPort.get(syn.destinationPort)!.guest.unreachable(syn))
      return
    }
    const s = readFrame(frame)
    const c = this.#byFarPort.get(s.sourcePort)!
    this.#note(">", s)
    this.#inspect(c, s)
    this.#carry(() => {
      if (c.guest.receive(s)) return
      // RFC 9293 section 3.10.7.1.
      const hasAck = (s.flags & tcp.ACK) !== 0
      this.#fromGuest({
        ...s,
        source: s.destination,
        destination: s.source,
        sourcePort: s.destinationPort,
        destinationPort: s.sourcePort,
        sequence: hasAck ? s.acknowledgement : 0,
        acknowledgement: hasAck ? 0 : (s.sequence + extent(s)) | 0,
        flags: hasAck ? tcp.RST : tcp.RST | tcp.ACK,
        window: 0,
        mss: -1,
        scale: -1,
        payload: new Uint8Array(0),
      })
    })
  }

  #carry(deliver: () => void): void {
    const random = this.#random
    const { clock } = this.scene
    if (this.#silent) return
    for (let copies = random.chance(this.#duplication) ? 2 : 1; copies > 0; copies--) {
      if (random.chance(this.#loss)) continue
      let delay = random.between(this.#delayMin, this.#delayMax)
      if (random.chance(this.#late)) delay += random.between(0, this.#lateMax)
      clock.after(delay, deliver)
    }
  }

  #note(direction: string, s: Segment): void {
    if (this.#trace.length >= 400) this.#trace.splice(0, 200)
    this.#trace.push({ at: this.scene.clock.now, direction, segment: s })
  }

  /** What a segment to the guest may say. */
  #inspect(c: Connection, s: Segment): void {
    const { kernel } = this.scene
    const fail = (what: string): never => kernel.violation(`connection ${c.id}: ${what}: ${describeSegment(s)}`)
    if ((s.flags & tcp.RST) !== 0) return
    const socket = kernel.byId.get(c.id)
    const scaled = c.guest.peerScale >= 0 && c.guest.script.scale >= 0 && (s.flags & tcp.SYN) === 0
    if ((s.flags & tcp.ACK) !== 0) {
      const edge = (s.acknowledgement + (s.window << (scaled ? c.guest.peerScale : 0))) | 0
      if (c.told) {
        if (((s.acknowledgement - c.ack) | 0) < 0) fail("the acknowledgement moves back")
        if (((edge - c.edge) | 0) < 0) fail(`the window moves back by ${(c.edge - edge) | 0}`)
      }
      c.told = true
      c.ack = s.acknowledgement
      c.edge = edge
      const position = (s.acknowledgement - c.guest.iss - 1) | 0
      if (socket !== undefined && !socket.broken) {
        const taken = socket.written + (position > c.guest.script.bytes && socket.shut ? 1 : 0)
        if (position > taken) fail(`acknowledges ${position} bytes, the socket took ${socket.written}`)
      }
    }
    if (s.payload.length > 0) {
      const beyond = (s.sequence + s.payload.length - c.guestEdge) | 0
      if (!c.heard) fail("data before the guest's window is known")
      if (beyond > 0 && !(beyond === 1 && s.payload.length === 1)) fail(`${beyond} bytes beyond the guest's window`)
    }
  }

  // Running.

  /** Lets everything happen, to the end. @throws Error that names the seed */
  run(): void {
    try {
      this.#run(LIFE, () => this.#connections.every((c) => this.#ended(c)))
      for (const c of this.#connections) if (c.hopeful) this.#checkComplete(c)
      this.#tearDown()
      this.scene.checkEmpty()
    } catch (error) {
      const tail = this.#trace
        .slice(-60)
        .map((t) => `${t.at} ${t.direction} ${describeSegment(t.segment)}`)
        .join("\n")
      throw new Error(
        `${error instanceof Error ? error.message : String(error)}\n` +
          `  again: SIM_SEED=${this.seed} (${this.climate}), after ${this.turns} turns\n${tail}`,
        { cause: error },
      )
    }
  }

  #run(micros: number, done: () => boolean): void {
    const { scene } = this
    const end = scene.clock.now + micros
    while (scene.clock.now < end && !done()) {
      scene.turn(1000)
      this.turns++
    }
  }

  #socketIsOpen(socket: TcpSocket | undefined): boolean {
    return socket !== undefined && this.scene.kernel.sockets.has(socket.fd)
  }

  #ended(c: Connection): boolean {
    if (this.scene.clock.now < c.startAt) return false
    const socket = this.scene.kernel.byId.get(c.id)
    return c.guest.outcome !== "open" && !this.#socketIsOpen(socket) && (socket === undefined || socket.settled)
  }

  #checkComplete(c: Connection): void {
    const { guest, peer } = c
    const socket = this.scene.kernel.byId.get(c.id)
    const found = {
      toGuest: guest.received,
      endToGuest: guest.eof,
      toPeer: socket?.read ?? -1,
      endToPeer: socket?.peerEof ?? false,
      open: this.#socketIsOpen(socket),
    }
    const expected = {
      toGuest: peer.bytes,
      endToGuest: true,
      toPeer: guest.script.bytes,
      endToPeer: true,
      open: false,
    }
    const [a, b] = [JSON.stringify(found), JSON.stringify(expected)]
    if (a !== b) throw new Error(`connection ${c.id} (guest: ${guest.state}, ${guest.outcome}): ${a}, not ${b}`)
  }

  /** Ends what has not ended by itself: the guest gives up, then the peers do. */
  #tearDown(): void {
    const { scene } = this
    this.#over = true
    this.#loss = 0
    this.#late = 0
    this.#duplication = 0
    this.#silent = false
    scene.link.drained(Number.POSITIVE_INFINITY)
    const empty = (): boolean => scene.flows === 0 && this.#connections.every((c) => scene.clock.now >= c.startAt)
    for (const c of this.#connections) c.guest.abort()
    this.#run(AFTERLIFE, empty)
  }
}

/** Chooses a secret with which the first connection's numbers to the guest wrap, or change their sign, within its data. */
function bringIsnToWrap(secret: Int32Array, random: Random, guestPort: number): void {
  const key = new Int32Array(11)
  key[0] = KIND_TCP
  key.set(words(GUEST4), 1)
  key.set(words("198.51.100.7"), 5)
  key[9] = guestPort
  key[10] = 30_001
  const wrap = random.chance(0.5) ? 0 : -0x80000000
  for (let i = 0; i < 60_000; i++) {
    secret[2] = random.next()
    const distance = (wrap - hash11(key, secret[2]!, secret[3]!)) | 0
    if (distance > 0 && distance < 100_000) return
  }
}
