/**
 * A model of the kernel as far as spliced TCP sees it: our sockets, the peers behind them, pipes. Sockets are watched
 * edge-triggered, and the model insists on what that means: who is told "empty" or "full" must not ask again before an
 * event has said that this is over.
 *
 * What the engine must not do (use a closed descriptor, lose a pipe, write after the end) throws.
 */
import { EAGAIN, ECONNREFUSED, ECONNRESET, EINPROGRESS, EINVAL, EMFILE } from "../errno.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  ADDRESS_WORDS,
  ERROR_WORDS,
  EVENT_ERR,
  EVENT_HUP,
  EVENT_IN,
  EVENT_OUT,
  EVENT_RDHUP,
  INFO_WORDS,
  type Kernel,
  SPLICE_BULK,
  SPLICE_CONDITIONS,
  SPLICE_ENDING,
  SPLICE_PENDING,
  SPLICE_PIPE,
  SPLICE_WORDS,
  SPLICED_BULK,
  SPLICED_NO_PIPE,
  SPLICED_SOURCE_EMPTY,
  SPLICED_SOURCE_END,
  SPLICED_SOURCE_FAILED,
  SPLICED_TARGET_FAILED,
  SPLICED_TARGET_FULL,
  type SpliceKernel,
} from "../kernel.ts"
import { EVENT_MAX } from "../limits.ts"
import type { AddressRecord } from "./datagram-kernel.ts"

const FIRST_FD = 100

/** A process behind one of our sockets. */
export class SimPeer {
  /** What it has received and read. */
  readonly received: number[] = []
  /** Bytes that it reads as soon as they come. */
  appetite: number = Number.POSITIVE_INFINITY
  /** It has seen the end of our stream; a reset. */
  ended = false
  wasReset = false
  socket: SimStream

  constructor(socket: SimStream) {
    this.socket = socket
  }

  write(bytes: readonly number[]): void {
    this.socket.arrive(bytes)
  }
  end(): void {
    this.socket.arriveEnd()
  }
  reset(): void {
    this.socket.fail(ECONNRESET)
  }
  /** Reads `count` bytes more. */
  read(count: number): void {
    this.appetite += count
    this.socket.drain()
  }
}

/** One of our sockets. */
export class SimStream {
  readonly fd: number
  readonly place: number
  readonly peer: SimPeer
  /** Arrived and not read; the stream has ended behind it. */
  readonly inbox: number[] = []
  fin = false
  /** Written and not taken by the peer. */
  readonly outbox: number[] = []
  /** Room for the outbox, bytes. */
  capacity = 100
  shut = false
  error = 0
  dead = false
  connecting = false
  remote: AddressRecord | undefined
  local: AddressRecord | undefined
  ref = -1
  edge = 0
  /** Told so by the last call; an event has to come before the next. */
  toldEmpty = false
  toldFull = false

  constructor(fd: number, place: number) {
    this.fd = fd
    this.place = place
    this.peer = new SimPeer(this)
  }

  arrive(bytes: readonly number[]): void {
    if (this.fin || this.dead) throw new Error("the peer writes after its end")
    this.inbox.push(...bytes)
    this.edge |= EVENT_IN
  }
  arriveEnd(): void {
    if (this.dead) return
    this.fin = true
    this.edge |= EVENT_IN | EVENT_RDHUP | (this.shut ? EVENT_HUP : 0)
  }
  fail(errno: number): void {
    if (this.dead) return
    this.dead = true
    this.error = errno
    this.outbox.length = 0
    this.edge |= EVENT_IN | EVENT_OUT | EVENT_ERR | EVENT_HUP | EVENT_RDHUP
  }
  /** The peer takes what it has appetite for. */
  drain(): void {
    if (this.dead) return
    const { peer, outbox } = this
    const wasFull = outbox.length >= this.capacity
    const taken = outbox.splice(0, Math.min(outbox.length, peer.appetite))
    peer.appetite -= taken.length
    peer.received.push(...taken)
    if (outbox.length === 0 && this.shut) peer.ended = true
    if (wasFull && taken.length > 0) this.edge |= EVENT_OUT
  }
}

interface Listener {
  readonly fd: number
  readonly port: number
  readonly place: number
  /** SCAN_… */
  readonly kind: number
  ref: number
  readonly waiting: { socket: SimStream; remote: AddressRecord; local: AddressRecord }[]
}

export class SpliceModel implements Kernel, SpliceKernel {
  readonly events: Int32Array = new Int32Array(2 * EVENT_MAX)
  readonly address: Int32Array = new Int32Array(3 * ADDRESS_WORDS)
  readonly info: Int32Array = new Int32Array(INFO_WORDS)
  readonly error: Int32Array = new Int32Array(ERROR_WORDS)
  readonly result: Int32Array = new Int32Array(SPLICE_WORDS)
  readonly peekOffset4 = false
  readonly peekOffset6 = false
  readonly splice: SpliceKernel = this
  readonly sockets: Map<number, SimStream> = new Map()
  readonly listeners: Map<number, Listener> = new Map()
  readonly pipes: Map<number, number[]> = new Map()
  /** Errno that the next calls of a name give, in order; 0 lets one pass. */
  readonly script: Map<string, number[]> = new Map()
  /** Asked before every call: a positive errno makes it fail. */
  fault: ((call: string) => number) | undefined
  /** Descriptors there may be. */
  descriptorMax: number = Number.POSITIVE_INFINITY
  pipeMax: number = Number.POSITIVE_INFINITY
  pipeCapacity = 60
  /** Bytes that one call moves at most; and those that one step moves. */
  share = 200
  step: () => number = () => 50
  /** What becomes of a connection that we make. */
  onConnect: (socket: SimStream) => "accept" | "refuse" | "hang" = () => "accept"
  /** Who listens, by place and kind: place * 2 + kind. */
  readonly listening: Set<number>[] = [new Set(), new Set(), new Set(), new Set()]
  readonly calls: string[] = []
  timeMs = 1000
  /** Calls of stream that moved nothing and told nothing new. */
  idle = 0
  #next = FIRST_FD
  #nextPipe = 0

  failNext(call: string, ...errnos: number[]): void {
    this.script.set(call, [...(this.script.get(call) ?? []), ...errnos])
  }
  #enter(call: string): number {
    this.calls.push(call)
    const scripted = this.script.get(call)?.shift()
    if (scripted !== undefined) return -scripted
    return -(this.fault?.(call) ?? 0)
  }

  /** Descriptors that are open, those of pipes included. */
  get open(): number {
    return this.sockets.size + this.listeners.size + 2 * this.pipes.size
  }
  #full(more: number): boolean {
    return this.open + more > this.descriptorMax
  }
  #socket(fd: number): SimStream {
    const socket = this.sockets.get(fd)
    if (socket === undefined) throw new Error(`no such socket: ${fd}`)
    return socket
  }

  /** A client connects to a listening socket. */
  arrive(port: number, place: number, remote: AddressRecord, local: AddressRecord): SimPeer {
    for (const listener of this.listeners.values()) {
      if (listener.port !== port || listener.place !== place) continue
      const socket = new SimStream(this.#next++, place)
      socket.remote = remote
      socket.local = local
      listener.waiting.push({ socket, remote, local })
      return socket.peer
    }
    throw new Error(`nobody listens on port ${port}`)
  }

  wait(timeoutMs: number): number {
    let count = 0
    for (const listener of this.listeners.values()) {
      if (listener.ref < 0 || listener.waiting.length === 0) continue
      this.events[2 * count] = listener.ref
      this.events[2 * count++ + 1] = EVENT_IN
    }
    for (const socket of this.sockets.values()) {
      if (socket.ref < 0 || socket.edge === 0 || count >= EVENT_MAX) continue
      if ((socket.edge & ~EVENT_OUT) !== 0) socket.toldEmpty = false
      if ((socket.edge & EVENT_OUT) !== 0) socket.toldFull = false
      this.events[2 * count] = socket.ref
      this.events[2 * count++ + 1] = socket.edge
      socket.edge = 0
    }
    if (count === 0 && timeoutMs > 0) this.timeMs += timeoutMs
    return count
  }
  now(): number {
    return this.timeMs | 0
  }
  nowMicros(): number {
    return Math.imul(this.timeMs, 1000)
  }
  watch(fd: number, ref: number): number {
    const failure = this.#enter("watch")
    if (failure < 0) return failure
    const socket = this.#socket(fd)
    socket.ref = ref
    // What is so already is an event.
    if (!socket.connecting) socket.edge |= EVENT_OUT
    if (socket.inbox.length > 0) socket.edge |= EVENT_IN
    return 0
  }
  watchLevel(fd: number, ref: number): number {
    const failure = this.#enter("watchLevel")
    if (failure < 0) return failure
    this.listeners.get(fd)!.ref = ref
    return 0
  }
  unwatch(): number {
    return 0
  }
  close(fd: number): number {
    return this.#close(fd, false)
  }
  reset(fd: number): number {
    return this.#close(fd, true)
  }
  #close(fd: number, reset: boolean): number {
    const listener = this.listeners.get(fd)
    if (listener !== undefined) {
      for (const { socket } of listener.waiting) socket.peer.wasReset = true
      this.listeners.delete(fd)
      return 0
    }
    const socket = this.#socket(fd)
    // Unread data make a close a reset (RFC 9293 section 3.6.1).
    if (reset || socket.inbox.length > 0) {
      socket.outbox.length = 0
      socket.peer.wasReset = true
    } else {
      socket.shut = true
      socket.drain()
    }
    this.sockets.delete(fd)
    return 0
  }

  tcpSocket(_family: number, place: number): number {
    const failure = this.#enter("tcpSocket")
    if (failure < 0) return failure
    if (this.#full(1)) return -EMFILE
    const socket = new SimStream(this.#next++, place)
    this.sockets.set(socket.fd, socket)
    return socket.fd
  }
  bind(fd: number): number {
    const failure = this.#enter("bind")
    if (failure < 0) return failure
    this.#socket(fd).local = Array.from(this.address.subarray(ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS))
    return 0
  }
  bindToDevice(): number {
    return this.#enter("bindToDevice")
  }
  connect(fd: number): number {
    const failure = this.#enter("connect")
    if (failure < 0) return failure
    const socket = this.#socket(fd)
    socket.remote = Array.from(this.address.subarray(ADDRESS_REMOTE, ADDRESS_REMOTE + ADDRESS_WORDS))
    socket.connecting = true
    const outcome = this.onConnect(socket)
    if (outcome === "accept") this.establish(socket)
    else if (outcome === "refuse") socket.fail(ECONNREFUSED)
    return -EINPROGRESS
  }
  /** A connection that hung is made. */
  establish(socket: SimStream): void {
    socket.connecting = false
    socket.edge |= EVENT_OUT
  }
  #listen(call: string, place: number): number {
    const failure = this.#enter(call)
    if (failure < 0) return failure
    if (this.#full(1)) return -EMFILE
    const fd = this.#next++
    this.listeners.set(fd, {
      fd,
      port: this.address[ADDRESS_LOCAL + 4]!,
      place,
      kind: call === "listenTcp" ? 0 : 1,
      ref: -1,
      waiting: [],
    })
    return fd
  }
  listenTcp(_family: number, _dualStack: boolean, _device: string, _freebind: boolean, place: number): number {
    return this.#listen("listenTcp", place)
  }
  listenUdp(_family: number, _dualStack: boolean, _device: string, _freebind: boolean, place: number): number {
    return this.#listen("listenUdp", place)
  }
  accept(fd: number): number {
    const failure = this.#enter("accept")
    if (failure < 0) return failure
    const listener = this.listeners.get(fd)
    if (listener === undefined) throw new Error("accept on a socket that does not listen")
    const first = listener.waiting[0]
    if (first === undefined) return -EAGAIN
    if (this.#full(1)) return -EMFILE
    listener.waiting.shift()
    this.sockets.set(first.socket.fd, first.socket)
    this.address.set(first.remote, ADDRESS_REMOTE)
    this.address.set(first.local, ADDRESS_LOCAL)
    return first.socket.fd
  }
  socketError(fd: number): number {
    const socket = this.#socket(fd)
    const { error } = socket
    socket.error = 0
    return error
  }
  shutdownWrite(fd: number): number {
    const failure = this.#enter("shutdownWrite")
    const socket = this.#socket(fd)
    if (failure < 0) {
      socket.fail(-failure)
      return failure
    }
    if (socket.shut) throw new Error("the end was told twice")
    if (socket.dead) return -ECONNRESET
    socket.shut = true
    socket.drain()
    if (socket.fin) socket.edge |= EVENT_HUP
    return 0
  }

  stream(from: number, to: number, pipe: number, pending: number, flags: number, share: number): number {
    if (share < 1) throw new Error("a share of nothing")
    const source = this.#socket(from)
    const target = this.#socket(to)
    if (source.connecting || target.connecting) throw new Error("moving data before the connection is made")
    let held = pipe
    if (pipe >= 0 !== pending > 0) throw new Error("a pipe without bytes, or bytes without a pipe")
    if (pipe >= 0 && this.pipes.get(pipe)?.length !== pending) throw new Error("the pipe holds something else")
    if (target.toldFull && !target.dead) throw new Error("asked again though the target is full")
    if (pending === 0 && source.toldEmpty && !source.dead) throw new Error("asked again though the source is empty")
    if (target.shut) throw new Error("data after the end")
    let conditions = 0
    let moved = 0
    let seen = 0
    while (conditions === 0) {
      const content = held >= 0 ? this.pipes.get(held)! : []
      if (content.length > 0) {
        const failure = this.#enter("write")
        if (target.dead || failure < 0) {
          if (!target.dead) target.fail(-failure)
          target.error = 0
          conditions |= SPLICED_TARGET_FAILED
          this.pipes.delete(held)
          held = -1
          break
        }
        const room = Math.min(target.capacity - target.outbox.length, this.step())
        if (target.capacity <= target.outbox.length) {
          conditions |= SPLICED_TARGET_FULL
          target.toldFull = true
          break
        }
        const bytes = content.splice(0, room)
        moved += bytes.length
        target.outbox.push(...bytes)
        target.drain()
        continue
      }
      if (moved >= this.share) break
      if (held < 0) {
        if (this.pipes.size >= this.pipeMax || this.#full(2)) {
          conditions |= SPLICED_NO_PIPE
          break
        }
        held = this.#nextPipe++
        this.pipes.set(held, [])
      }
      const failure = this.#enter("read")
      if (failure < 0) source.fail(-failure)
      if (source.inbox.length > 0) {
        const bytes = source.inbox.splice(0, Math.min(this.pipeCapacity, this.step()))
        seen += bytes.length
        this.pipes.get(held)!.push(...bytes)
        continue
      }
      if (source.error !== 0) {
        source.error = 0
        conditions |= SPLICED_SOURCE_FAILED
      } else if (source.fin || source.dead) {
        conditions |= SPLICED_SOURCE_END
      } else {
        conditions |= SPLICED_SOURCE_EMPTY
        source.toldEmpty = true
      }
    }
    if (moved === 0 && seen === 0 && (conditions & SPLICED_SOURCE_EMPTY) !== 0 && (flags & SPLICE_ENDING) === 0)
      this.idle++
    if (held >= 0 && this.pipes.get(held)!.length === 0) {
      this.pipes.delete(held)
      held = -1
    }
    this.result[SPLICE_PIPE] = held
    this.result[SPLICE_PENDING] = held >= 0 ? this.pipes.get(held)!.length : 0
    this.result[SPLICE_CONDITIONS] = conditions | (flags & SPLICE_BULK || moved > 100 ? SPLICED_BULK : 0)
    return moved
  }
  dropPipe(pipe: number): number {
    if (!this.pipes.delete(pipe)) throw new Error("no such pipe")
    return 0
  }
  unsent(fd: number): number {
    return this.#socket(fd).outbox.length
  }
  scan(place: number, kind: number, map: Uint8Array): number {
    const failure = this.#enter("scan")
    if (failure < 0) return failure
    map.fill(0)
    const ports = this.listening[place * 2 + kind]!
    for (const port of ports) map[port >> 3] = map[port >> 3]! | (1 << (port & 7))
    // Our own sockets are seen as well.
    for (const { place: where, kind: what, port } of this.listeners.values()) {
      if (where === place && what === kind) map[port >> 3] = map[port >> 3]! | (1 << (port & 7))
    }
    return ports.size
  }

  // There are no segments and no datagrams here.
  peekAddresses(): number {
    return -EAGAIN
  }
  datagrams(): number {
    return -EAGAIN
  }
  wantMerged(): number {
    return -EINVAL
  }
  setMss(): number {
    return -EINVAL
  }
  setKeepalive(): number {
    return -EINVAL
  }
  queueErrors(): number {
    return -EINVAL
  }
  setHopLimit(): number {
    return -EINVAL
  }
  tcpInfo(): number {
    return -EINVAL
  }
  sendFrames(): number {
    return -EINVAL
  }
  sendHeld(): number {
    return -EINVAL
  }
  holdPayload(): number {
    return -EINVAL
  }
  peekIntoFrames(): number {
    return -EINVAL
  }
  setPeekOffset(): number {
    return -EINVAL
  }
  discard(): number {
    return -EINVAL
  }
  udpSocket(): number {
    return -EINVAL
  }
  wantHopLimits(): number {
    return -EINVAL
  }
  setReuseAddress(): number {
    return 0
  }
  receiveFrom(): number {
    return -EINVAL
  }
  sendDatagrams(): number {
    return -EINVAL
  }
  receiveDatagrams(): number {
    return -EINVAL
  }
  pingSocket(): number {
    return -EINVAL
  }
  readError(): number {
    return 0
  }
}
