/**
 * One TCP connection, segment by segment: a test says what the guest sends and what the peer does, and sees what the guest
 * hears. Sequence numbers are distances from each side's first: 0 is a SYN, 1 the first byte.
 */
import * as tcp from "../wire/tcp.ts"
import { forwardRule, GUEST4, GUEST6, record, words } from "./config.ts"
import { pattern } from "./pattern.ts"
import { type PeerScript, QUIET_PEER } from "./peer-script.ts"
import { buildFrame, readFrame } from "./segment.ts"
import { TcpScene, type TcpSceneOptions } from "./tcp-scene.ts"
import type { TcpSocket } from "./tcp-socket.ts"
import { readUnreachable, type Unreachable } from "./unreachable.ts"

/** A segment that the guest heard. */
export interface Heard {
  /** Milliseconds since the dialogue began, rounded to ten. */
  readonly at: number
  /** First letters of SYN, FIN, RST, PSH, ACK, in this order. */
  readonly flags: string
  readonly seq: number
  readonly ack: number
  /** Bytes. */
  readonly window: number
  readonly length: number
  /** Options of a SYN, -1: absent. */
  readonly mss: number
  readonly scale: number
}

/** A segment that the guest sends; what is not told follows from the dialogue. */
export interface Said {
  readonly seq?: number
  readonly ack?: number
  /** As in the field, not scaled. */
  readonly window?: number
  /** Bytes of the guest's stream, those that belong at `seq`. */
  readonly length?: number
  readonly mss?: number
  readonly scale?: number
  /** Default 64. */
  readonly hopLimit?: number
  /** Destination of the frame, instead of our address. */
  readonly mac?: readonly number[]
}

const LETTERS: readonly (readonly [string, number])[] = [
  ["S", tcp.SYN],
  ["F", tcp.FIN],
  ["R", tcp.RST],
  ["P", tcp.PSH],
  ["A", tcp.ACK],
  ["U", tcp.URG],
]
const ID = 1
export const PEER4 = "198.51.100.7"
const PORT_OUT = 80
const PORT_IN = 5000
const PORT_FAR = 40_000

export interface DialogueOptions extends TcpSceneOptions {
  readonly peer?: Partial<PeerScript>
  /** Initial sequence number of the guest. */
  readonly iss?: number
  /** Address of the peer. */
  readonly far?: string
}

export class TcpDialogue extends TcpScene {
  /** What the peer does, and the host's buffers. */
  readonly peer: PeerScript
  readonly iss: number
  /** What the guest sends next, and acknowledges, unless a segment says otherwise. */
  seq = 0
  ack = 0
  window = 0xffff
  readonly #far: string
  #inbound = false
  #isn: number | undefined
  #scaled = false
  readonly #heard: Heard[] = []
  /** ICMP errors that the guest got. */
  readonly errors: Unreachable[] = []

  constructor(options: DialogueOptions = {}) {
    super({ rules: [forwardRule("tcp", { first: PORT_IN })], ...options })
    this.peer = { ...QUIET_PEER, automatic: false, id: ID, rtt: 20_000, ...options.peer }
    this.iss = options.iss ?? 1_000_000
    this.#far = options.far ?? PEER4
    this.kernel.onConnect = () => this.peer
    this.link.onFrame = (frame) => this.#hear(frame)
  }

  /** The host's socket. @throws Error when there is none */
  get socket(): TcpSocket {
    const socket = this.kernel.byId.get(ID)
    if (socket === undefined) throw new Error("no connection was made")
    return socket
  }

  /** Whether the host's socket is still open. */
  get open(): boolean {
    return this.kernel.sockets.has(this.socket.fd)
  }

  #hear(frame: Uint8Array): void {
    const error = readUnreachable(frame)
    if (error !== undefined) {
      this.errors.push(error)
      return
    }
    const s = readFrame(frame)
    // A SYN, or a reset before there was one, tells where our numbers begin.
    if ((s.flags & tcp.SYN) !== 0) this.#isn = s.sequence
    if ((s.flags & tcp.SYN) !== 0 && (this.#inbound || s.scale >= 0)) this.#scaled = s.scale >= 0
    const scale = this.#scaled && (s.flags & tcp.SYN) === 0 ? 8 : 0
    this.#heard.push({
      at: Math.round(this.clock.now / 10_000) * 10,
      flags: LETTERS.map(([letter, bit]) => ((s.flags & bit) !== 0 ? letter : "")).join(""),
      seq: this.#isn === undefined ? s.sequence : (s.sequence - this.#isn) | 0,
      ack: (s.flags & tcp.ACK) !== 0 ? (s.acknowledgement - this.iss) | 0 : 0,
      window: s.window << scale,
      length: s.payload.length,
      mss: s.mss,
      scale: s.scale,
    })
  }

  /** Takes what the guest has heard since the last call. */
  heard(): Heard[] {
    return this.#heard.splice(0)
  }

  /** The same, as one line each: flags, numbers, length. */
  lines(): string[] {
    return this.heard().map((h) => `${h.flags} seq ${h.seq} ack ${h.ack}${h.length > 0 ? ` len ${h.length}` : ""}`)
  }

  /** Lets the engine work until nothing is left to do at this moment. */
  settle(): void {
    for (let i = 0; i < 4; i++) this.turn(0)
  }

  /** Lets time pass. */
  pass(ms: number): void {
    const end = this.clock.now + 1000 * ms
    while (this.clock.now < end) this.turn(Math.ceil((end - this.clock.now) / 1000))
  }

  /** Puts a segment of the guest on the link. @param flags letters as in Heard */
  put(flags: string, said: Said = {}): void {
    let bits = 0
    for (const [letter, bit] of LETTERS) if (flags.includes(letter)) bits |= bit
    const seq = said.seq ?? this.seq
    const length = said.length ?? 0
    const frame = buildFrame({
      source: words(this.#far.includes(":") ? GUEST6 : GUEST4),
      destination: words(this.#far),
      sourcePort: this.#inbound ? PORT_IN : PORT_FAR,
      destinationPort: this.#inbound ? PORT_FAR : PORT_OUT,
      sequence: (this.iss + seq) | 0,
      acknowledgement: (bits & tcp.ACK) !== 0 ? ((this.#isn ?? 0) + (said.ack ?? this.ack)) | 0 : 0,
      flags: bits,
      window: said.window ?? this.window,
      mss: said.mss ?? -1,
      scale: said.scale ?? -1,
      payload: pattern(2 * ID, seq - 1, length),
      hopLimit: said.hopLimit ?? 64,
    })
    if (said.mac !== undefined) frame.set(said.mac)
    this.link.push(frame)
    const next = seq + length + ((bits & (tcp.SYN | tcp.FIN)) !== 0 ? 1 : 0)
    if (said.seq === undefined && (bits & tcp.RST) === 0) this.seq = next
  }

  /** The guest sends a segment, and the engine deals with it. */
  say(flags: string, said: Said = {}): void {
    this.put(flags, said)
    this.settle()
  }

  /** The guest connects: its SYN, the host's connection, SYN,ACK, ACK. */
  connect(said: Said = {}): void {
    this.say("S", { mss: 1460, scale: 0, ...said })
    this.socket.establish(this.peer)
    this.settle()
    this.ack = 1
    this.say("A")
    this.heard()
  }

  /** A connection arrives on the forwarded port; the guest has not answered its SYN. */
  arrive(): void {
    this.#inbound = true
    this.kernel.arrive(PORT_IN, this.peer, record(this.#far, PORT_FAR), record("203.0.113.9", PORT_IN))
    this.settle()
  }

  /** The same, and the guest accepts. */
  accept(said: Said = {}): void {
    this.arrive()
    this.ack = 1
    this.say("SA", { mss: 1460, scale: 0, ...said })
    this.heard()
  }

  /** The peer sends `bytes`. */
  arriveData(bytes: number): void {
    this.socket.arrive(bytes)
    this.settle()
  }
}
