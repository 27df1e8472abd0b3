/**
 * A model of the host's kernel as far as TCP flows see it: sockets with peers behind them (tcp-socket.ts), listening
 * sockets, virtual time. `wait` lets the world go on until something is ready. Any call can be told to fail.
 *
 * What the engine must not do (close a descriptor twice, read before a connection is made, write bytes that are not the
 * guest's) throws.
 */
import { EAGAIN, EINPROGRESS, EINVAL, EMFILE, ENOTCONN, EPIPE } from "../errno.ts"
import type { FrameTable } from "../frames.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_OFFENDER,
  ADDRESS_REMOTE,
  ADDRESS_WORDS,
  ERROR_PAYLOAD,
  ERROR_WORDS,
  EVENT_IN,
  INFO_BYTES_ACKED,
  INFO_DELIVERY_RATE,
  INFO_MIN_RTT,
  INFO_RTT,
  INFO_SEND_BUFFER,
  INFO_SEND_MSS,
  INFO_SEND_QUEUED,
  INFO_SEND_WINDOW,
  INFO_UNACKNOWLEDGED,
  INFO_WORDS,
  type Kernel,
} from "../kernel.ts"
import { EVENT_MAX } from "../limits.ts"
import type { Clock } from "./clock.ts"
import type { AddressRecord } from "./datagram-kernel.ts"
import { pattern } from "./pattern.ts"
import type { PeerScript } from "./peer-script.ts"
import { TcpSocket } from "./tcp-socket.ts"

const FIRST_FD = 100
/** Bytes that a peek can pass over. */
const PEEK_SKIP_MAX: number = 16 << 20
/** What a turn costs beside waiting, microseconds. */
const TURN_MICROS = 3

interface Listener {
  readonly fd: number
  readonly port: number
  ref: number
  readonly waiting: { socket: TcpSocket; script: PeerScript; remote: AddressRecord; local: AddressRecord }[]
}

export interface TcpKernelOptions {
  readonly peekOffset: boolean
  /** Value of the millisecond clock when the world begins, so that its wrap can be met. */
  readonly epochMs: number
  readonly descriptorMax: number
}

export class TcpKernel implements Kernel {
  readonly events: Int32Array = new Int32Array(2 * EVENT_MAX)
  readonly address: Int32Array = new Int32Array(3 * ADDRESS_WORDS)
  readonly info: Int32Array = new Int32Array(INFO_WORDS)
  readonly error: Int32Array = new Int32Array(ERROR_WORDS)
  readonly peekOffset4: boolean
  readonly peekOffset6: boolean
  /** Open sockets by descriptor. */
  readonly sockets: Map<number, TcpSocket> = new Map()
  readonly listeners: Map<number, Listener> = new Map()
  /** Every socket that ever was connected or accepted, by the id of its script. */
  readonly byId: Map<number, TcpSocket> = new Map()
  /** Errno that the next calls of a name give, in order; 0 lets one pass. */
  readonly script: Map<string, number[]> = new Map()
  /** Asked before every call: a positive errno makes it fail. */
  fault: ((call: string, socket: TcpSocket | undefined) => number) | undefined
  /** The guest's streams are not those of pattern.ts. */
  anyBytes = false
  /** How much of what is written a socket takes at most. */
  shortWrite: ((bytes: number) => number) | undefined
  /** Who answers at an address; undefined: nobody, ever. */
  onConnect: ((remote: AddressRecord, local: AddressRecord) => PeerScript | undefined) | undefined
  /** Ready bits of the link's descriptor, taken by the call. */
  linkEvents: (() => number) | undefined
  linkRef = 0
  descriptorMax: number
  readonly #clock: Clock
  readonly #epochMs: number
  readonly #frames: FrameTable
  #nextFd = FIRST_FD
  #ready = true
  readonly #bound: Map<number, AddressRecord> = new Map()

  constructor(clock: Clock, frames: FrameTable, options: TcpKernelOptions) {
    this.#clock = clock
    this.#frames = frames
    this.#epochMs = options.epochMs
    this.peekOffset4 = options.peekOffset
    this.peekOffset6 = options.peekOffset
    this.descriptorMax = options.descriptorMax
  }

  /** Something may be ready: `wait` looks. */
  readonly wake = (): void => {
    this.#ready = true
  }

  /** Stops the world: the engine did what it must not. */
  readonly violation = (what: string): never => {
    throw new Error(`at ${this.#clock.now} us: ${what}`)
  }

  /** Lets the next calls of a name fail with these errors. */
  failNext(call: string, ...errnos: number[]): void {
    this.script.set(call, [...(this.script.get(call) ?? []), ...errnos])
  }

  /** Descriptors that are open. */
  get open(): number {
    return this.sockets.size + this.listeners.size
  }

  /** A connection of a peer to a listening socket. @returns false if nobody listens there */
  arrive(port: number, script: PeerScript, remote: AddressRecord, local: AddressRecord): boolean {
    for (const listener of this.listeners.values()) {
      if (listener.port !== port) continue
      const socket = this.#make(remote[2] === 0xffff ? 4 : 6, false)
      this.byId.set(script.id, socket)
      listener.waiting.push({ socket, script, remote, local })
      this.#ready = true
      return true
    }
    return false
  }

  wait(timeoutMs: number): number {
    const clock = this.#clock
    while (clock.step(clock.now + TURN_MICROS)) {}
    const end = timeoutMs < 0 ? Number.POSITIVE_INFINITY : clock.now + timeoutMs * 1000
    for (;;) {
      if (this.#ready) {
        this.#ready = false
        const count = this.#collect()
        if (count > 0) return count
      }
      if (clock.now >= end) return 0
      if (clock.next === undefined && end === Number.POSITIVE_INFINITY) return 0
      if (!clock.step(end)) return 0
    }
  }

  #collect(): number {
    const { events } = this
    let count = 0
    const link = this.linkEvents?.() ?? 0
    if (link !== 0) {
      events[2 * count] = this.linkRef
      events[2 * count + 1] = link
      count++
    }
    for (const socket of this.sockets.values()) {
      if (!socket.changed || socket.ref < 0) continue
      if (count === EVENT_MAX) {
        this.#ready = true
        return count
      }
      socket.changed = false
      const mask = socket.mask()
      if (mask === 0) continue
      events[2 * count] = socket.ref
      events[2 * count + 1] = mask
      count++
    }
    for (const listener of this.listeners.values()) {
      if (listener.waiting.length === 0 || listener.ref < 0) continue
      // Level-triggered: it stays ready.
      this.#ready = true
      if (count === EVENT_MAX) return count
      events[2 * count] = listener.ref
      events[2 * count + 1] = EVENT_IN
      count++
    }
    return count
  }

  now(): number {
    return (Math.floor(this.#clock.now / 1000) + this.#epochMs) | 0
  }
  nowMicros(): number {
    return (this.#clock.now % 4294967296) | 0
  }

  #fault(call: string, fd: number): number {
    const errno = this.script.get(call)?.shift() ?? this.fault?.(call, this.sockets.get(fd)) ?? 0
    return errno > 0 ? -errno : 0
  }

  #socket(fd: number, call: string): TcpSocket {
    return this.sockets.get(fd) ?? this.violation(`${call} on descriptor ${fd}, which is not open`)
  }

  #make(family: number, active: boolean): TcpSocket {
    return new TcpSocket(this.#nextFd++, family, active, this.#clock, this.wake, this.violation)
  }

  watch(fd: number, ref: number): number {
    const fault = this.#fault("watch", fd)
    if (fault < 0) return fault
    this.#socket(fd, "watch").watch(ref)
    return 0
  }
  watchLevel(fd: number, ref: number): number {
    const listener = this.listeners.get(fd)
    if (listener === undefined) return this.violation(`watchLevel on descriptor ${fd}`)
    const fault = this.#fault("watchLevel", fd)
    if (fault < 0) return fault
    listener.ref = ref
    this.#ready = true
    return 0
  }
  unwatch(fd: number): number {
    const listener = this.listeners.get(fd)
    if (listener !== undefined) {
      listener.ref = -1
      return 0
    }
    this.#socket(fd, "unwatch").ref = -1
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
      for (const { socket } of listener.waiting) socket.peerReset = true
      this.listeners.delete(fd)
      return 0
    }
    const socket = this.#socket(fd, "close")
    socket.close(reset)
    this.sockets.delete(fd)
    this.#bound.delete(fd)
    return 0
  }

  tcpSocket(family: number): number {
    const fault = this.#fault("tcpSocket", -1)
    if (fault < 0) return fault
    if (this.open >= this.descriptorMax) return -EMFILE
    const socket = this.#make(family, true)
    this.sockets.set(socket.fd, socket)
    return socket.fd
  }
  bind(fd: number): number {
    const fault = this.#fault("bind", fd)
    if (fault < 0) return fault
    this.#bound.set(fd, this.#record(ADDRESS_LOCAL))
    return 0
  }
  bindToDevice(fd: number): number {
    return this.#fault("bindToDevice", fd)
  }
  connect(fd: number, family: number): number {
    const socket = this.#socket(fd, "connect")
    if (socket.family !== family) this.violation("connect with another family than the socket's")
    const fault = this.#fault("connect", fd)
    if (fault < 0) return fault
    const local = this.#bound.get(fd) ?? [0, 0, 0, 0, 0, 0]
    const script = this.onConnect?.(this.#record(ADDRESS_REMOTE), local)
    if (script === undefined) {
      socket.phase = "connecting"
      return -EINPROGRESS
    }
    this.byId.set(script.id, socket)
    return socket.connect(script)
  }
  listenTcp(family: number): number {
    const fault = this.#fault("listenTcp", family)
    if (fault < 0) return fault
    const port = this.address[ADDRESS_LOCAL + 4]!
    const fd = this.#nextFd++
    this.listeners.set(fd, { fd, port, ref: -1, waiting: [] })
    return fd
  }
  accept(fd: number): number {
    const listener = this.listeners.get(fd) ?? this.violation("accept on a socket that does not listen")
    this.#ready = true
    const fault = this.#fault("accept", fd)
    if (fault < 0) return fault
    const first = listener.waiting[0]
    if (first === undefined) return -EAGAIN
    if (this.open >= this.descriptorMax) return -EMFILE
    listener.waiting.shift()
    const { socket, script, remote, local } = first
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      this.address[ADDRESS_REMOTE + i] = remote[i]!
      this.address[ADDRESS_LOCAL + i] = local[i]!
    }
    this.sockets.set(socket.fd, socket)
    socket.establish(script)
    return socket.fd
  }
  socketError(fd: number): number {
    return this.#socket(fd, "getsockopt").takeError()
  }
  shutdownWrite(fd: number): number {
    const socket = this.#socket(fd, "shutdown")
    const fault = this.#fault("shutdownWrite", fd)
    if (fault < 0) return fault
    if (socket.phase !== "connected") return -ENOTCONN
    socket.shutdown()
    return 0
  }
  setMss(fd: number): number {
    this.#socket(fd, "setsockopt")
    return this.#fault("setMss", fd)
  }
  setKeepalive(fd: number): number {
    const socket = this.#socket(fd, "setsockopt")
    const fault = this.#fault("setKeepalive", fd)
    if (fault < 0) return fault
    socket.keepalive = true
    return 0
  }
  queueErrors(fd: number, _family: number, on: boolean): number {
    const socket = this.#socket(fd, "setsockopt")
    const fault = this.#fault("queueErrors", fd)
    if (fault < 0) return fault
    socket.queuesErrors = on
    if (!on) socket.errors.length = 0
    return 0
  }
  setHopLimit(fd: number, family: number, hopLimit: number): number {
    const socket = this.#socket(fd, "setsockopt")
    const fault = this.#fault("setHopLimit", fd)
    if (fault < 0) return fault
    if (family !== socket.family || hopLimit < 1 || hopLimit > 255) this.violation(`hop limit ${hopLimit}`)
    socket.hopLimits.push(hopLimit)
    return 0
  }
  tcpInfo(fd: number): number {
    const socket = this.#socket(fd, "getsockopt")
    const fault = this.#fault("tcpInfo", fd)
    if (fault < 0) return fault
    const { info } = this
    // The kernel counts the SYN of a connection that it made, and its FIN.
    info[INFO_BYTES_ACKED] = socket.acked + (socket.active ? 1 : 0) + (socket.finAcked ? 1 : 0)
    info[INFO_SEND_WINDOW] = socket.peerWindow
    info[INFO_RTT] = socket.rtt
    info[INFO_MIN_RTT] = socket.rtt
    info[INFO_DELIVERY_RATE] = socket.rate
    info[INFO_SEND_BUFFER] = socket.sendBuffer
    info[INFO_SEND_QUEUED] = socket.memory
    info[INFO_SEND_MSS] = 1448
    info[INFO_UNACKNOWLEDGED] = socket.written - socket.acked
    return 0
  }

  sendFrames(fd: number, start: number, count: number): number {
    const socket = this.#socket(fd, "sendmsg")
    const fault = this.#fault("sendFrames", fd)
    if (fault < 0) return this.#writeFails(socket, fault)
    const frames = this.#frames
    const pieces: Uint8Array[] = []
    for (let i = start; i < start + count; i++) {
      const row = frames.gather[i]!
      const from = frames.offset[row]! + frames.payload[row]!
      pieces.push(frames.arena.subarray(from, from + frames.payloadLength[row]!))
    }
    return this.#write(socket, pieces)
  }
  sendHeld(fd: number, offset: number, length: number): number {
    const socket = this.#socket(fd, "sendmsg")
    const fault = this.#fault("sendHeld", fd)
    if (fault < 0) return this.#writeFails(socket, fault)
    return this.#write(socket, [this.#frames.arena.subarray(offset, offset + length)])
  }
  #write(socket: TcpSocket, pieces: readonly Uint8Array[]): number {
    return socket.write(pieces, this.shortWrite ?? whole, !this.anyBytes)
  }
  /** An error that was asked for has the consequences that a real one has. */
  #writeFails(socket: TcpSocket, result: number): number {
    if (result === -EAGAIN) socket.refuseForNow()
    else socket.broken ||= result === -EPIPE
    return result
  }
  holdPayload(row: number, from: number, length: number, to: number): number {
    const frames = this.#frames
    if (from + length > frames.length[row]!) this.violation("holds bytes beyond a frame")
    const at = frames.offset[row]! + from
    frames.arena.copyWithin(to, at, at + length)
    return 0
  }
  peekIntoFrames(fd: number, row: number, count: number, bytes: number, skip: number): number {
    const socket = this.#socket(fd, "recvmsg")
    const fault = this.#fault("peekIntoFrames", fd)
    if (fault < 0) return fault
    if (this.peekOffset4 && (skip !== 0 || socket.peekOffset < 0)) this.violation("peek offset is not in use")
    // As native code.
    if (skip > PEEK_SKIP_MAX) return -EINVAL
    const { from, length } = socket.peek(count * bytes, skip)
    const frames = this.#frames
    for (let done = 0; done < length; row++) {
      const part = Math.min(bytes, length - done)
      if (frames.payload[row]! + bytes > frames.window[row]!) this.violation("reads beyond a frame's room")
      const at = frames.offset[row]! + frames.payload[row]!
      frames.arena.set(pattern(2 * socket.script.id + 1, from + done, part), at)
      done += part
    }
    return length
  }
  setPeekOffset(fd: number, offset: number): number {
    const socket = this.#socket(fd, "setsockopt")
    const fault = this.#fault("setPeekOffset", fd)
    if (fault < 0) return fault
    if (!this.peekOffset4) return -EINVAL
    if (offset < 0) this.violation(`peek offset ${offset}`)
    socket.peekOffset = offset
    return 0
  }
  discard(fd: number, bytes: number): number {
    const socket = this.#socket(fd, "recv")
    const fault = this.#fault("discard", fd)
    if (fault < 0) return fault
    return socket.discard(bytes)
  }

  #record(at: number): AddressRecord {
    return Array.from(this.address.subarray(at, at + ADDRESS_WORDS))
  }

  // There are no datagrams here.
  udpSocket(): number {
    return -EINVAL
  }
  listenUdp(): number {
    return -EINVAL
  }
  wantHopLimits(): number {
    return -EINVAL
  }
  setReuseAddress(): number {
    return -EINVAL
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
  readError(fd: number, row: number, bytes: number): number {
    const socket = this.#socket(fd, "recvmsg")
    const fault = this.#fault("readError", fd)
    if (fault < 0) return fault
    const frames = this.#frames
    if (frames.payload[row]! + bytes > frames.window[row]!) this.violation("reads an error beyond a frame's room")
    const error = socket.errors.shift()
    if (error === undefined) return 0
    const quoted = Math.min(bytes, error.quote.length)
    frames.arena.set(error.quote.subarray(0, quoted), frames.offset[row]! + frames.payload[row]!)
    this.error.set([error.errno, error.origin, error.type, error.code, error.info, 0])
    this.error[ERROR_PAYLOAD] = quoted
    for (let i = 0; i < ADDRESS_WORDS; i++) this.address[ADDRESS_OFFENDER + i] = error.offender[i]!
    return 1
  }
}

function whole(bytes: number): number {
  return bytes
}
