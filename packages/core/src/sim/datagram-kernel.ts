/**
 * A model of the kernel's datagram sockets, as far as UDP and ping flows see them: ports, connected sockets before
 * listening ones, error queues, edge- and level-triggered events. What the network would do is told from outside:
 * `arrive`, `report`; what the engine sent lies in `sent`. Any call can be told to fail once or for ever.
 */
import { EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EINVAL, EMSGSIZE, ENOTCONN } from "../errno.ts"
import type { FrameTable } from "../frames.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_OFFENDER,
  ADDRESS_REMOTE,
  ADDRESS_WORDS,
  ERROR_PAYLOAD,
  ERROR_WORDS,
  EVENT_ERR,
  EVENT_IN,
  type GroupKernel,
  INFO_WORDS,
  type Kernel,
} from "../kernel.ts"
import { EVENT_MAX } from "../limits.ts"
import { format, isMapped, isMulticast, isUnspecified } from "../wire/address.ts"

/** An address record, see kernel.ts. */
export type AddressRecord = readonly number[]

export interface SimDatagram {
  readonly remote: AddressRecord
  readonly local: AddressRecord
  readonly bytes: Uint8Array
  readonly hopLimit?: number
}

export interface SimError {
  readonly errno: number
  readonly origin: number
  readonly type: number
  readonly code: number
  readonly info: number
  /** All zero: none. */
  readonly offender: AddressRecord
  /** What the kernel quotes: payload for UDP, the ICMP message for ping. */
  readonly quote: Uint8Array
}

export interface SimSent {
  readonly fd: number
  readonly hopLimit: number
  readonly remote: AddressRecord
  readonly local: AddressRecord
  readonly bytes: Uint8Array
}

export interface SimSocket {
  readonly fd: number
  readonly kind: "udp" | "ping" | "tcp"
  readonly family: number
  listening: boolean
  dualStack: boolean
  reuse: boolean
  device: string
  hopLimit: number
  /** Whether received datagrams tell theirs. */
  tellsHopLimits: boolean
  /** Groups that it has joined, as text; undefined: it hears those of the whole host. */
  joined: string[] | undefined
  local: AddressRecord
  /** Source chosen when it was connected. */
  chosen?: AddressRecord
  /** Undefined until connected. */
  remote: AddressRecord | undefined
  readonly queue: SimDatagram[]
  readonly errors: SimError[]
  pendingError: number
  /** Reference and mode of the watch; -1: not watched. */
  ref: number
  edge: boolean
  mask: number
}

const NOWHERE: AddressRecord = [0, 0, 0, 0, 0, 0]
/** What the host's own address is, where a socket is bound to none. */
const HOST_ADDRESS4: AddressRecord = [0, 0, 0xffff, 0xcb007109 | 0]
const HOST_ADDRESS6: AddressRecord = [0x20010db8, 0x00020000, 0, 9]
const FIRST_FD = 100
const FIRST_EPHEMERAL = 40_000

export class DatagramKernel implements Kernel {
  readonly groups: GroupKernel
  readonly events: Int32Array = new Int32Array(2 * EVENT_MAX)
  readonly address: Int32Array = new Int32Array(3 * ADDRESS_WORDS)
  readonly info: Int32Array = new Int32Array(INFO_WORDS)
  readonly error: Int32Array = new Int32Array(ERROR_WORDS)
  readonly peekOffset4 = false
  readonly peekOffset6 = false
  readonly sockets: Map<number, SimSocket> = new Map()
  readonly sent: SimSent[] = []
  /** Names of calls, in order. */
  readonly calls: string[] = []
  /** Errno that the next calls of a name give, in order; 0 lets one pass. */
  readonly script: Map<string, number[]> = new Map()
  /** Errno that every call of a name gives. */
  readonly always: Map<string, number> = new Map()
  /** Most datagrams that one sendDatagrams takes. */
  sendMax = 1024
  /** Called inside `connect`, before it takes effect: the moment for strays. */
  onConnect: ((socket: SimSocket) => void) | undefined
  /** Ports of other processes. */
  readonly takenPorts: Set<number> = new Set()
  timeMs = 1000
  #frames: FrameTable | undefined
  #nextFd = FIRST_FD
  #nextPort = FIRST_EPHEMERAL

  constructor() {
    this.groups = {
      prepare: (fd) => this.#prepare(fd),
      joinGroup: (fd) => this.#joinGroup(fd),
      localAddress: (fd) => this.#localAddress(fd),
      setHopLimit: (fd, family, hopLimit) => this.setHopLimit(fd, family, hopLimit),
      send: (fd, _family, start, count) => this.#sendTo(fd, start, count),
      receive: (fd, row) => this.#receiveGroup(fd, row),
    }
  }

  attach(frames: FrameTable): void {
    this.#frames = frames
  }

  get table(): FrameTable {
    return this.#frames!
  }

  /** The sockets that are open, in order of their descriptors. */
  get open(): SimSocket[] {
    return [...this.sockets.values()]
  }

  /** Lets the next calls of a name fail with these errors. */
  failNext(call: string, ...errnos: number[]): void {
    this.script.set(call, [...(this.script.get(call) ?? []), ...errnos])
  }

  /** A datagram arrives from the network: the connected socket gets it, else a bound one. @returns the socket */
  arrive(remote: AddressRecord, local: AddressRecord, bytes: Uint8Array, hopLimit = 0): SimSocket | undefined {
    let best: SimSocket | undefined
    let bestScore = 0
    for (const s of this.sockets.values()) {
      if (s.kind !== "udp" || s.local[4] !== local[4] || s.local[4] === 0) continue
      const mapped = isMapped(Int32Array.from(local), 0)
      if (mapped !== (s.family === 4) && !(mapped && s.dualStack)) continue
      let score = s.family === 4 ? 2 : 1
      if (!isUnspecified(Int32Array.from(s.local), 0)) {
        if (!sameAddress(s.local, local)) continue
        score += 4
      }
      if (s.remote !== undefined) {
        if (!sameAddress(s.remote, remote) || s.remote[4] !== remote[4]) continue
        score += 8
      }
      if (score > bestScore) {
        best = s
        bestScore = score
      }
    }
    if (best !== undefined) this.put(best, remote, local, bytes, hopLimit)
    return best
  }

  /** A datagram to a group or a broadcast address arrives, from the network or by the host's own loop: every socket that may hear
   * it does. @returns them */
  arriveAtGroup(remote: AddressRecord, group: AddressRecord, bytes: Uint8Array, hopLimit = 0): SimSocket[] {
    const to = Int32Array.from(group)
    const family = isMapped(to, 0) ? 4 : 6
    const name = format(to)
    const heard = [...this.sockets.values()].filter((s) => {
      if (s.kind !== "udp" || s.local[4] !== group[4] || s.remote !== undefined) return false
      if (s.family !== family && !(family === 4 && s.dualStack)) return false
      if (s.joined === undefined) return isUnspecified(Int32Array.from(s.local), 0)
      return sameAddress(s.local, group) && (!isMulticast(to, 0) || s.joined.includes(name))
    })
    for (const s of heard) {
      s.queue.push({ remote, local: group, bytes, hopLimit })
      s.mask |= EVENT_IN
    }
    return heard
  }

  /** Puts a datagram into a socket's queue, whoever sent it. */
  put(socket: SimSocket, remote: AddressRecord, local: AddressRecord, bytes: Uint8Array, hopLimit = 0): void {
    socket.queue.push({ remote, local, bytes, hopLimit })
    socket.mask |= EVENT_IN
  }

  /** An error arrives for a socket. */
  report(socket: SimSocket, error: SimError): void {
    socket.errors.push(error)
    socket.pendingError = error.errno
    socket.mask |= EVENT_ERR
  }

  #enter(call: string): number {
    this.calls.push(call)
    const scripted = this.script.get(call)?.shift()
    if (scripted !== undefined && scripted !== 0) return -scripted
    const always = this.always.get(call)
    return always === undefined ? 0 : -always
  }

  #record(at: number): AddressRecord {
    return Array.from(this.address.subarray(at, at + ADDRESS_WORDS))
  }

  #put(at: number, record: AddressRecord): void {
    for (let i = 0; i < ADDRESS_WORDS; i++) this.address[at + i] = record[i]!
  }

  #make(call: string, kind: SimSocket["kind"], family: number): number {
    const failure = this.#enter(call)
    if (failure < 0) return failure
    const fd = this.#nextFd++
    this.sockets.set(fd, {
      fd,
      kind,
      family,
      listening: false,
      dualStack: false,
      reuse: false,
      device: "",
      hopLimit: 0,
      tellsHopLimits: false,
      joined: undefined,
      local: NOWHERE,
      remote: undefined,
      queue: [],
      errors: [],
      pendingError: 0,
      ref: -1,
      edge: false,
      mask: 0,
    })
    return fd
  }

  #bindTo(socket: SimSocket, local: AddressRecord): number {
    const port = local[4]!
    if (this.goneAddresses.some((gone) => gone.slice(0, 4).join() === local.slice(0, 4).join())) return -EADDRNOTAVAIL
    if (port !== 0) {
      if (this.takenPorts.has(port)) return -EADDRINUSE
      for (const other of this.sockets.values()) {
        if (other === socket || other.kind !== socket.kind || other.local[4] !== port) continue
        if (other.family !== socket.family && !other.dualStack && !socket.dualStack) continue
        const any = [other.local, local].some((address) => isUnspecified(Int32Array.from(address), 0))
        if (!any && !sameAddress(other.local, local)) continue
        if (!(other.reuse && socket.reuse)) return -EADDRINUSE
      }
    }
    socket.local = port === 0 ? [...local.slice(0, 4), this.#nextPort++, local[5]!] : local
    return 0
  }

  wait(): number {
    let count = 0
    for (const s of this.sockets.values()) {
      if (s.ref < 0) continue
      let mask = 0
      if (s.edge) {
        mask = s.mask
        s.mask = 0
      } else if (s.queue.length > 0) {
        mask = EVENT_IN
      }
      if (mask === 0 || count >= EVENT_MAX) continue
      this.events[2 * count] = s.ref
      this.events[2 * count + 1] = mask
      count++
    }
    return count
  }
  now(): number {
    return this.timeMs | 0
  }
  nowMicros(): number {
    return Math.imul(this.timeMs, 1000)
  }
  #watch(fd: number, ref: number, edge: boolean, call: string): number {
    const failure = this.#enter(call)
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    s.ref = ref
    s.edge = edge
    if (s.queue.length > 0) s.mask |= EVENT_IN
    return 0
  }
  watch(fd: number, ref: number): number {
    return this.#watch(fd, ref, true, "watch")
  }
  watchLevel(fd: number, ref: number): number {
    return this.#watch(fd, ref, false, "watchLevel")
  }
  unwatch(fd: number): number {
    this.#enter("unwatch")
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    s.ref = -1
    return 0
  }
  close(fd: number): number {
    this.#enter("close")
    return this.sockets.delete(fd) ? 0 : -EINVAL
  }
  reset(fd: number): number {
    return this.close(fd)
  }
  bind(fd: number, family: number): number {
    const failure = this.#enter("bind")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined || s.family !== family) return -EINVAL
    return this.#bindTo(s, this.#record(ADDRESS_LOCAL))
  }
  bindToDevice(fd: number, name: string): number {
    const failure = this.#enter("bindToDevice")
    if (failure < 0) return failure
    this.sockets.get(fd)!.device = name
    return 0
  }
  connect(fd: number, family: number): number {
    const failure = this.#enter("connect")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined || s.family !== family) return -EINVAL
    const remote = this.#record(ADDRESS_REMOTE)
    if (s.local[4] === 0) this.#bindTo(s, s.local)
    this.onConnect?.(s)
    s.remote = remote
    if (this.chosenSource !== undefined && isUnspecified(Int32Array.from(s.local), 0)) {
      s.chosen = [...this.chosenSource.slice(0, 4), s.local[4]!, 0]
    }
    return 0
  }
  /** What the kernel chooses as the source of connected sockets that are bound to no address; undefined: it stays unspecified. */
  chosenSource: AddressRecord | undefined
  /** First words of addresses that the host does not have. */
  readonly goneAddresses: AddressRecord[] = []
  localAddress(fd: number): number {
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    this.#put(ADDRESS_LOCAL, s.chosen ?? s.local)
    return 0
  }
  socketError(fd: number): number {
    const s = this.sockets.get(fd)
    const error = s?.pendingError ?? 0
    if (s !== undefined) s.pendingError = 0
    return error
  }
  queueErrors(): number {
    return -EINVAL
  }
  setHopLimit(fd: number, family: number, hopLimit: number): number {
    const failure = this.#enter("setHopLimit")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined || s.family !== family || hopLimit < 1 || hopLimit > 255) return -EINVAL
    s.hopLimit = hopLimit
    return 0
  }

  udpSocket(family: number): number {
    return this.#make("udpSocket", "udp", family)
  }
  pingSocket(family: number): number {
    return this.#make("pingSocket", "ping", family)
  }
  #listen(call: string, kind: SimSocket["kind"], family: number, dualStack: boolean, device: string): number {
    const fd = this.#make(call, kind, family)
    if (fd < 0) return fd
    const s = this.sockets.get(fd)!
    s.listening = true
    s.dualStack = dualStack
    s.device = device
    const result = this.#bindTo(s, this.#record(ADDRESS_LOCAL))
    s.reuse = true
    if (result < 0) this.sockets.delete(fd)
    return result < 0 ? result : fd
  }
  listenUdp(family: number, dualStack: boolean, device: string): number {
    return this.#listen("listenUdp", "udp", family, dualStack, device)
  }
  wantHopLimits(fd: number, family: number): number {
    const failure = this.#enter("wantHopLimits")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined || s.family !== family || s.kind === "tcp") return -EINVAL
    s.tellsHopLimits = true
    return 0
  }
  setReuseAddress(fd: number): number {
    this.sockets.get(fd)!.reuse = true
    return 0
  }
  receiveFrom(fd: number, row: number, peek: boolean): number {
    const failure = this.#enter("receiveFrom")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    if (s.pendingError !== 0) return -this.socketError(fd)
    const datagram = s.queue[0]
    if (datagram === undefined) return -EAGAIN
    if (!peek) s.queue.shift()
    const { table } = this
    const room = table.window[row]! - table.payload[row]!
    if (datagram.bytes.length > room && !peek) return -EMSGSIZE
    const bytes = datagram.bytes.subarray(0, room)
    table.arena.set(bytes, table.offset[row]! + table.payload[row]!)
    table.payloadLength[row] = bytes.length
    table.hopLimit[row] = s.tellsHopLimits ? (datagram.hopLimit ?? 0) : 0
    this.#put(ADDRESS_REMOTE, datagram.remote)
    this.#put(ADDRESS_LOCAL, datagram.local)
    return datagram.bytes.length
  }
  receiveDatagrams(fd: number, row: number, count: number, bytes: number): number {
    const failure = this.#enter("receiveDatagrams")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    const { table } = this
    for (let i = 0; i < count; i++) {
      if (s.pendingError !== 0) return i > 0 ? i : -this.socketError(fd)
      const datagram = s.queue.shift()
      if (datagram === undefined) return i > 0 ? i : -EAGAIN
      if (table.payload[row + i]! + bytes > table.window[row + i]!) return -EINVAL
      const part = datagram.bytes.subarray(0, bytes)
      table.arena.set(part, table.offset[row + i]! + table.payload[row + i]!)
      table.payloadLength[row + i] = part.length
      table.hopLimit[row + i] = s.tellsHopLimits ? (datagram.hopLimit ?? 0) : 0
    }
    return count
  }
  sendDatagrams(fd: number, start: number, count: number): number {
    const failure = this.#enter("sendDatagrams")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    if (s.remote === undefined) return -ENOTCONN
    if (s.pendingError !== 0) return -this.socketError(fd)
    const { table } = this
    const taken = Math.min(count, this.sendMax)
    for (let i = 0; i < taken; i++) {
      const row = table.gather[start + i]!
      const from = table.offset[row]! + table.payload[row]!
      const bytes = table.arena.slice(from, from + table.payloadLength[row]!)
      // A ping socket puts its own identifier into what it sends.
      if (s.kind === "ping") new DataView(bytes.buffer).setUint16(4, s.local[4]!)
      this.sent.push({ fd, hopLimit: s.hopLimit, remote: s.remote, local: s.local, bytes })
    }
    return taken
  }
  readError(fd: number, row: number, bytes: number): number {
    const failure = this.#enter("readError")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    const error = s.errors.shift()
    if (error === undefined) return 0
    s.pendingError = s.errors[0]?.errno ?? 0
    const { table } = this
    if (table.payload[row]! + bytes > table.window[row]!) return -EINVAL
    const quote = error.quote.subarray(0, bytes)
    table.arena.set(quote, table.offset[row]! + table.payload[row]!)
    this.error.set([error.errno, error.origin, error.type, error.code, error.info, 0])
    this.error[ERROR_PAYLOAD] = quote.length
    this.#put(ADDRESS_OFFENDER, error.offender)
    this.#put(ADDRESS_REMOTE, s.remote ?? NOWHERE)
    return 1
  }

  #prepare(fd: number): number {
    const failure = this.#enter("prepare")
    if (failure < 0) return failure
    this.sockets.get(fd)!.joined = []
    return 0
  }
  #joinGroup(fd: number): number {
    const failure = this.#enter("joinGroup")
    if (failure < 0) return failure
    this.sockets.get(fd)!.joined!.push(format(this.address, ADDRESS_LOCAL))
    return 0
  }
  #localAddress(fd: number): number {
    const failure = this.#enter("localAddress")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    const unspecified = s.family === 6 ? isUnspecified(Int32Array.from(s.local), 0) : s.local[3] === 0
    const own = s.family === 6 ? HOST_ADDRESS6 : HOST_ADDRESS4
    this.#put(ADDRESS_LOCAL, unspecified ? [...own, s.local[4]!, 0] : s.local)
    return 0
  }
  #sendTo(fd: number, start: number, count: number): number {
    const failure = this.#enter("sendTo")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    if (s.pendingError !== 0) return -this.socketError(fd)
    const remote = this.#record(ADDRESS_REMOTE)
    const { table } = this
    const taken = Math.min(count, this.sendMax)
    for (let i = 0; i < taken; i++) {
      const row = table.gather[start + i]!
      const from = table.offset[row]! + table.payload[row]!
      const bytes = table.arena.slice(from, from + table.payloadLength[row]!)
      this.sent.push({ fd, hopLimit: s.hopLimit, remote, local: s.local, bytes })
      // One that is bound to a group sends from the host's address.
      const source = sameAddress(s.local, remote) ? (s.family === 6 ? HOST_ADDRESS6 : HOST_ADDRESS4) : s.local
      this.arriveAtGroup([...source.slice(0, 4), s.local[4]!, 0], remote, bytes, s.hopLimit)
    }
    return taken
  }
  #receiveGroup(fd: number, row: number): number {
    const failure = this.#enter("receiveGroup")
    if (failure < 0) return failure
    const s = this.sockets.get(fd)
    if (s === undefined) return -EINVAL
    if (s.pendingError !== 0) return -this.socketError(fd)
    const datagram = s.queue.shift()
    if (datagram === undefined) return -EAGAIN
    const { table } = this
    const room = table.window[row]! - table.payload[row]!
    if (datagram.bytes.length > room) return -EMSGSIZE
    table.arena.set(datagram.bytes, table.offset[row]! + table.payload[row]!)
    table.payloadLength[row] = datagram.bytes.length
    this.#put(ADDRESS_REMOTE, datagram.remote)
    table.hopLimit[row] = datagram.hopLimit ?? 0
    return datagram.bytes.length
  }

  // There is no TCP here, but for listening sockets that nobody connects to.
  tcpSocket(): number {
    return -EINVAL
  }
  listenTcp(family: number, dualStack: boolean, device: string): number {
    return this.#listen("listenTcp", "tcp", family, dualStack, device)
  }
  accept(): number {
    return -EAGAIN
  }
  shutdownWrite(): number {
    return -EINVAL
  }
  setMss(): number {
    return -EINVAL
  }
  setKeepalive(): number {
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
}

function sameAddress(a: AddressRecord, b: AddressRecord): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3]
}
