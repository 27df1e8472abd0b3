/** A control socket without a kernel: what clients write lies in arrays, and the server's side takes as much as the test allows. */
import { EAGAIN, EVENT_IN, EVENT_OUT, EVENT_RDHUP } from "@passt/core"
import type { Open } from "../client.ts"
import { type Background, ControlServer } from "../server.ts"
import type { ControlSockets } from "../sockets.ts"

const LISTENER = 3

interface Peer {
  readonly input: Buffer[]
  readonly descriptors: number[]
  readonly ref: number
  output: string
  ended: boolean
  closed: boolean
  /** Bytes that the server may write before it has to wait. */
  room: number
}

export class Wire implements ControlSockets {
  readonly server: ControlServer
  readonly closed: number[] = []
  /** Time, milliseconds. */
  now = 1000
  readonly #peers = new Map<number, Peer>()
  readonly #refs = new Map<number, number>()
  readonly #waiting: number[] = []
  #fd = 10

  constructor(open: Open, background: Background = { isBusy: false, step: () => {} }) {
    this.server = new ControlServer(this, (index) => index, open, background, this.now)
    if (this.server.listen("/run/control") !== 0) throw new Error("listen failed")
  }

  listen(): number {
    return LISTENER
  }
  accept(): number {
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
    const length = Math.min(to - from, peer.room)
    if (length === 0) return -EAGAIN
    peer.room -= length
    peer.output += Buffer.from(bytes.subarray(from, from + length)).toString()
    return length
  }
  close(fd: number): void {
    this.closed.push(fd)
    const peer = this.#peers.get(fd)
    if (peer) peer.closed = true
  }
  watch(fd: number, ref: number): number {
    this.#refs.set(fd, ref)
    return 0
  }

  /** A client that connects; the server has seen it. */
  connect(): number {
    const fd = this.#fd++
    this.#peers.set(fd, { input: [], descriptors: [], ref: 0, output: "", ended: false, closed: false, room: 1 << 30 })
    this.#waiting.push(fd)
    this.server.event(0, EVENT_IN, this.now)
    this.run()
    return fd
  }
  write(fd: number, text: string | Buffer, descriptor = -1): void {
    const peer = this.#peers.get(fd)!
    peer.input.push(Buffer.from(text))
    if (descriptor >= 0) peer.descriptors.push(descriptor)
    this.#event(fd, EVENT_IN)
  }
  end(fd: number): void {
    this.#peers.get(fd)!.ended = true
    this.#event(fd, EVENT_IN | EVENT_RDHUP)
  }
  /** Lets the server write so many bytes more. */
  allow(fd: number, bytes: number): void {
    this.#peers.get(fd)!.room = bytes
    this.#event(fd, EVENT_OUT)
  }
  isClosed(fd: number): boolean {
    return this.#peers.get(fd)!.closed
  }
  output(fd: number): string {
    return this.#peers.get(fd)!.output
  }
  /** Takes the lines that a client has received. */
  lines(fd: number): Record<string, unknown>[] {
    const peer = this.#peers.get(fd)!
    const text = peer.output
    peer.output = ""
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  /** Runs the server as long as it has something to do now. @returns steps */
  run(max = 10_000): number {
    let steps = 0
    while (this.server.isDue && ((this.server.dueAt - this.now) | 0) <= 0 && steps < max) {
      this.server.run(this.now)
      steps++
    }
    return steps
  }
  /** Lets time pass. */
  pass(ms: number): void {
    this.now += ms
    this.run()
  }
  #event(fd: number, mask: number): void {
    this.server.event(this.#refs.get(fd)!, mask, this.now)
    this.run()
  }
}
