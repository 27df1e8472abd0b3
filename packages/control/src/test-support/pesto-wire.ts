/** pesto's socket without a kernel, and a client that writes and reads as the test likes. */
import { EAGAIN, EVENT_IN, EVENT_OUT, EVENT_RDHUP } from "@passt/core"
import type { ForwardRule, PortContext } from "@passt/cli"
import type { Forwards } from "../forwards.ts"
import { PestoServer } from "../pesto/server.ts"
import { NAME_BYTES, RULE_BYTES, writeRule } from "../pesto/wire.ts"
import type { ControlSockets } from "../sockets.ts"

const LISTENER = 3

interface Peer {
  readonly input: Buffer[]
  readonly descriptors: number[]
  output: Buffer
  ended: boolean
  closed: boolean
  /** Bytes that the server may write before it has to wait. */
  room: number
}

/** A table as a client is told. */
export interface ToldTable {
  readonly id: number
  readonly name: string
  readonly capabilities: number
  /** Its rules, in hexadecimal digits. */
  readonly rules: readonly string[]
}

/** A rule in hexadecimal digits. */
export function hexRule(rule: ForwardRule): string {
  const bytes = Buffer.alloc(RULE_BYTES)
  writeRule(bytes, 0, rule)
  return bytes.toString("hex")
}

/** A table as a client sends it. */
export function table(id: number, rules: readonly (ForwardRule | Buffer)[], count: number = rules.length): Buffer {
  const head = Buffer.from([id, 0, 0, 0, 0])
  head.writeUInt32BE(count, 1)
  return Buffer.concat([
    head,
    ...rules.map((rule) => (Buffer.isBuffer(rule) ? rule : Buffer.from(hexRule(rule), "hex"))),
  ])
}

export const END: Buffer = Buffer.from([0])

/** Reads a greeting. @throws Error if it is none, or not whole */
export function readGreeting(bytes: Buffer): ToldTable[] {
  if (bytes.toString("hex", 0, 20) !== "626173696c3a7300000000020000008000000010") throw new Error("no such head")
  const tables: ToldTable[] = []
  let at = 20
  for (; bytes.readUInt8(at) !== 0;) {
    const id = bytes.readUInt8(at++)
    const name = bytes.toString("latin1", at, at + NAME_BYTES).replace(/\0+$/, "")
    at += NAME_BYTES
    const [capabilities, count] = [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)]
    at += 8
    const rules = Array.from({ length: count }, (_, i) => {
      const end = at + (i + 1) * RULE_BYTES
      if (end > bytes.length) throw new Error("cut off")
      return bytes.toString("hex", end - RULE_BYTES, end)
    })
    at += count * RULE_BYTES
    tables.push({ id, name, capabilities, rules })
  }
  if (at + 1 !== bytes.length) throw new Error(`${bytes.length - at - 1} bytes too many`)
  return tables
}

export class PestoWire implements ControlSockets {
  readonly server: PestoServer
  readonly log: string[] = []
  readonly closed: number[] = []
  /** What accept fails with; 0: it doesn't. */
  acceptError = 0
  /** Time, milliseconds. */
  now = 1000
  /** Mode of the socket. */
  mode = -1
  readonly #peers = new Map<number, Peer>()
  readonly #waiting: number[] = []
  #fd = 10

  constructor(forwards: Forwards, context: PortContext) {
    this.server = new PestoServer({
      sockets: this,
      ref: (index) => index,
      forwards,
      context,
      log: { info: (line) => this.log.push(line), warning: (line) => this.log.push(`warning: ${line}`) },
      drives: true,
      now: this.now,
    })
    if (this.server.listen("/run/pesto") !== 0) throw new Error("listen failed")
  }

  listen(_path: string, mode = 0o600): number {
    this.mode = mode
    return LISTENER
  }
  accept(): number {
    if (this.acceptError !== 0) return this.acceptError
    return this.#waiting.shift() ?? -EAGAIN
  }
  receive(fd: number, bytes: Uint8Array, from: number, passed: Int32Array): number {
    const peer = this.#peers.get(fd)!
    passed[0] = peer.descriptors.shift() ?? -1
    const next = peer.input.shift()
    if (next === undefined) return peer.ended ? 0 : -EAGAIN
    const taken = next.copy(bytes, from)
    if (taken < next.length) peer.input.unshift(next.subarray(taken))
    return taken
  }
  send(fd: number, bytes: Uint8Array, from: number, to: number): number {
    const peer = this.#peers.get(fd)!
    if (peer.ended) return -32
    const length = Math.min(to - from, peer.room)
    if (length === 0) return -EAGAIN
    peer.room -= length
    peer.output = Buffer.concat([peer.output, bytes.subarray(from, from + length)])
    return length
  }
  close(fd: number): void {
    this.closed.push(fd)
    const peer = this.#peers.get(fd)
    if (peer) peer.closed = true
  }
  watch(): number {
    return 0
  }

  /** A client that connects. */
  connect(room: number = 1 << 30): number {
    const fd = this.#fd++
    this.#peers.set(fd, { input: [], descriptors: [], output: Buffer.alloc(0), ended: false, closed: false, room })
    this.#waiting.push(fd)
    this.server.event(0, EVENT_IN, this.now)
    this.run()
    return fd
  }
  write(fd: number, bytes: Buffer, descriptor = -1): void {
    const peer = this.#peers.get(fd)!
    if (bytes.length > 0) peer.input.push(Buffer.from(bytes))
    if (descriptor >= 0) peer.descriptors.push(descriptor)
    this.server.event(1, EVENT_IN, this.now)
    this.run()
  }
  /** The client closes its end. */
  end(fd: number): void {
    this.#peers.get(fd)!.ended = true
    this.server.event(1, EVENT_IN | EVENT_RDHUP, this.now)
    this.run()
  }
  /** The client reads so many bytes of what waits for it. */
  give(fd: number, room: number): void {
    this.#peers.get(fd)!.room += room
    this.server.event(1, EVENT_OUT, this.now)
    this.run()
  }
  output(fd: number): Buffer {
    return this.#peers.get(fd)!.output
  }
  isClosed(fd: number): boolean {
    return this.#peers.get(fd)!.closed
  }
  /** What the client is told. */
  told(fd: number): ToldTable[] {
    return readGreeting(this.output(fd))
  }

  /** As many steps as the server wants now. @returns how many they were @throws Error when it never ends */
  run(): number {
    for (let steps = 0; steps < 100_000; steps++) {
      if (!this.server.isDue || ((this.server.dueAt - this.now) | 0) > 0) return steps
      this.server.run(this.now)
    }
    throw new Error("the server never ends")
  }
  /** Lets time pass. */
  pass(ms: number): void {
    this.now += ms
    if (this.server.isDue && ((this.server.dueAt - this.now) | 0) <= 0) this.server.run(this.now)
    this.run()
  }

  /** pesto from begin to end: reads, writes, leaves. @returns what it was told */
  exchange(...parts: readonly Buffer[]): ToldTable[] {
    const fd = this.connect()
    const told = this.told(fd)
    for (const part of parts) this.write(fd, part)
    this.end(fd)
    return told
  }
}
