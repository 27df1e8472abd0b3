/**
 * A kernel in a mood: every call does something that Linux might do, and which is left to a generator. What the engine
 * asks for is checked against the contract of core's kernel.ts: rows, ranges, descriptors.
 *
 * Streams hold a pattern instead of bytes: each byte follows from its place.
 */
import * as e from "../../../packages/core/src/errno.ts"
import { type FrameTable, HOLD_AREA } from "../../../packages/core/src/frames.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_OFFENDER,
  ADDRESS_REMOTE,
  ADDRESS_WORDS,
  ERROR_PAYLOAD,
  ERROR_WORDS,
  EVENT_ERR,
  EVENT_HUP,
  EVENT_IN,
  EVENT_OUT,
  EVENT_PRI,
  EVENT_RDHUP,
  type GroupKernel,
  INFO_WORDS,
  type Kernel,
  type RelayKernel,
} from "../../../packages/core/src/kernel.ts"
import {
  ARENA_BYTES,
  EVENT_MAX,
  FRAME_MAX,
  GATHER_MAX,
  HOLD_ARENA_BYTES,
  RX_FRAME_MAX,
} from "../../../packages/core/src/limits.ts"
import { address } from "../../../packages/core/src/wire/index.ts"
import { Random } from "../random.ts"
import { Failure } from "../target.ts"
import { GROUPS4, GROUPS6, GUEST4, GUEST6, ODD4, ODD6, PEERS4, PEERS6, words } from "./addresses.ts"
import { dnsStream } from "./dns.ts"
import type { FuzzLink } from "./link.ts"

interface Socket {
  /** Decides what happens to this socket, whatever happens to others: so that a failing case can lose what does not
   * matter. */
  random: Random
  /** What its numbers follow from, beside the step's seed. */
  key: number
  readonly fd: number
  readonly kind: "tcp" | "udp" | "ping"
  readonly family: number
  listening: boolean
  bound: boolean
  /** Ready for groups. */
  groups: boolean
  /** Address words and port. */
  remote: number[] | undefined
  /** What the kernel did with a connection: asked for, done, gone. */
  connecting: boolean
  dead: boolean
  ref: number
  level: boolean
  mask: number
  /** Stream: bytes in the receive queue, the place of the first, whether the end follows, where a peek goes on. */
  queued: number
  place: number
  ended: boolean
  peekAt: number
  shut: boolean
  datagrams: number
  errors: number
  error: number
  /** What a relay reads next: DNS, more or less. */
  said: Uint8Array
}

const FAILURES: readonly number[] = [
  e.ENETUNREACH,
  e.EHOSTUNREACH,
  e.ECONNREFUSED,
  e.EACCES,
  e.EADDRINUSE,
  e.ENOBUFS,
  e.EPERM,
]
const EXHAUSTED: readonly number[] = [e.EMFILE, e.ENFILE, e.ENOMEM, e.ENOBUFS]
/** The kernel lets no packet in that claims to come from a group. */
const notGroup = (text: string): boolean => !address.isMulticast(words(text), 0) && !address.isBroadcast(words(text), 0)
const ODD_PEERS4: readonly string[] = ODD4.filter(notGroup)
/** Sockets of IPv6 take no IPv4, unless they listen for both. */
const ODD_PEERS6: readonly string[] = ODD6.filter((text) => notGroup(text) && !text.startsWith("::ffff:"))
const FIRST_FD = 10
const STREAM_MAX = 256 << 10
const PERIOD = 251
const PATTERN = Uint8Array.from({ length: 66_000 + PERIOD }, (_, i) => i % PERIOD)

export class FuzzKernel implements Kernel {
  /** Calls of relays, if there are to be any. */
  relay: RelayKernel | undefined
  readonly groups: GroupKernel = {
    prepare: (fd, family) => this.#prepare(fd, family),
    joinGroup: (fd, family) => this.#joinGroup(fd, family),
    localAddress: (fd) => this.#localAddress(fd),
    setHopLimit: (fd, family, hopLimit) => this.setHopLimit(fd, family, hopLimit),
    send: (fd, family, start, count) => this.#sendTo(fd, family, start, count),
    receive: (fd, row) => this.#receiveGroup(fd, row),
  }
  readonly events: Int32Array = new Int32Array(2 * EVENT_MAX)
  readonly address: Int32Array = new Int32Array(3 * ADDRESS_WORDS)
  readonly info: Int32Array = new Int32Array(INFO_WORDS)
  readonly error: Int32Array = new Int32Array(ERROR_WORDS)
  readonly peekOffset4: boolean
  readonly peekOffset6: boolean
  readonly sockets: Map<number, Socket> = new Map()
  /** Digest of all that the engine did: equal for equal engines. */
  digest = 0
  timeMs: number
  /** How often calls fail, 0…1. */
  trouble = 0
  readonly #link: FuzzLink
  readonly #frames: FrameTable
  /** For what belongs to no socket. */
  #random = new Random(0)
  #seed = 0
  #nextFd = FIRST_FD

  constructor(link: FuzzLink, peekOffset: boolean, timeMs: number) {
    this.#link = link
    this.#frames = link.frames
    this.peekOffset4 = peekOffset
    this.peekOffset6 = peekOffset
    this.timeMs = timeMs
  }

  /** What happens from here on follows from the seed. */
  reseed(seed: number): void {
    this.#seed = seed
    this.#random = new Random(seed)
    for (const s of this.sockets.values()) s.random = new Random(seed ^ s.key)
  }

  /** Names a socket by where it leads to. */
  #rename(s: Socket): void {
    s.key = s.remote!.reduce((key, word) => Math.imul(key ^ word, 0x01000193), s.kind.length)
    s.random = new Random(this.#seed ^ s.key)
  }

  #note(...values: readonly number[]): void {
    for (const value of values) this.digest = (Math.imul(this.digest ^ value, 0x01000193) + 0x9e37) | 0
  }

  #noteBytes(at: number, length: number): void {
    const { arena } = this.#frames
    for (let i = at; i < at + length; i++) this.digest = Math.imul(this.digest ^ arena[i]!, 0x01000193)
  }

  #socket(fd: number, kind?: Socket["kind"]): Socket {
    const s = this.sockets.get(fd)
    if (s === undefined) throw new Failure(`a call names descriptor ${fd}, which is not open`)
    if (kind !== undefined && s.kind !== kind) throw new Failure(`a call for ${kind} names a socket of ${s.kind}`)
    return s
  }

  #make(kind: Socket["kind"], family: number): number {
    if (family !== 4 && family !== 6) throw new Failure(`family ${family}`)
    this.#note(1, family)
    if (this.#random.chance(this.trouble))
      return -this.#random.pick(kind === "ping" ? [...EXHAUSTED, e.EACCES] : EXHAUSTED)
    const fd = this.#nextFd++
    this.sockets.set(fd, {
      random: this.#random,
      key: fd,
      fd,
      kind,
      family,
      listening: false,
      bound: false,
      groups: false,
      remote: undefined,
      connecting: false,
      dead: false,
      ref: -1,
      level: false,
      mask: 0,
      queued: 0,
      place: 0,
      ended: false,
      peekAt: 0,
      shut: false,
      datagrams: 0,
      errors: 0,
      error: 0,
      said: new Uint8Array(),
    })
    return fd
  }

  /** Lets there be relays. @param poison what their memory is full of before they write there */
  enableRelays(poison: number): void {
    let memory = new Uint8Array()
    const ends = new Int32Array(2)
    const within = (offset: number, length: number): void => {
      if (offset < 0 || length < 1 || offset + length > memory.length)
        throw new Failure(`relayed ${offset} + ${length}`)
    }
    this.relay = {
      ends,
      attach: (given) => {
        memory = given.fill(poison)
        return 0
      },
      pair: () => {
        this.#note(25)
        if (this.#random.chance(this.trouble)) return -this.#random.pick(EXHAUSTED)
        for (let i = 0; i < 2; i++) {
          const fd = this.#make("tcp", 4)
          if (fd < 0) {
            if (i === 1) this.close(ends[0]!)
            return fd
          }
          const s = this.#socket(fd)
          s.random = new Random(this.#seed ^ s.key)
          s.remote = [0, 0, 0, 0, 0, 0]
          ends[i] = fd
        }
        return 0
      },
      receive: (fd, offset, length) => {
        within(offset, length)
        const s = this.#socket(fd, "tcp")
        const r = s.random
        this.#note(26, fd, length)
        if (s.dead) return -e.ECONNRESET
        if (s.queued === 0) return s.ended ? 0 : -e.EAGAIN
        if (s.said.length === 0) s.said = dnsStream(r, s.remote?.[4] !== 0)
        const got = Math.min(s.queued, s.said.length, r.chance(0.7) ? length : r.between(1, length))
        memory.set(s.said.subarray(0, got), offset)
        s.said = s.said.subarray(got)
        s.queued -= got
        return got
      },
      send: (fd, offset, length) => {
        within(offset, length)
        this.#note(27, fd, length)
        const taken = this.#sendStream(this.#socket(fd, "tcp"), [])
        if (taken < 0) return taken
        const part = this.#socket(fd).random.between(1, length)
        for (let i = offset; i < offset + part; i++) this.digest = Math.imul(this.digest ^ memory[i]!, 0x01000193)
        return part
      },
    }
  }

  /** An address that a peer may have, of a family; of both where IPv4 is mapped.
   * @param connects whether it has done a handshake: others may call themselves what they like */
  #peer(r: Random, family: number, dual: boolean, connects = false): number[] {
    const v4 = family === 4 || (dual && r.chance(0.5))
    const odd = connects ? (v4 ? [GUEST4, "127.0.0.1", "127.1.2.3"] : [GUEST6, "::1"]) : v4 ? ODD_PEERS4 : ODD_PEERS6
    const text = r.chance(0.9) ? r.pick(v4 ? PEERS4 : PEERS6) : r.pick(odd)
    return [...words(text), connects || r.chance(0.98) ? r.between(1, 65_535) : 0, 0]
  }

  #put(record: number, values: readonly number[]): void {
    for (let i = 0; i < ADDRESS_WORDS; i++) this.address[record + i] = values[i]!
  }

  /** Something comes from the network for sockets that are watched. */
  #happen(): void {
    for (const s of this.sockets.values()) {
      const r = s.random
      if (s.ref < 0 || !r.chance(0.4)) continue
      if (s.listening) {
        s.datagrams = Math.min(s.datagrams + r.below(4), 8)
        continue
      }
      if (s.kind !== "tcp") {
        // Nothing comes from a group: a socket connected to one hears nothing, but for pings, whose source nobody looks at.
        const deaf = s.kind === "udp" && s.remote !== undefined && isGroup(s.remote)
        if (!deaf) s.datagrams += r.pick([0, 0, 1, 1, 2, 40])
        if (s.datagrams > 0) s.mask |= EVENT_IN
        if (r.chance(0.1)) {
          s.errors += r.between(1, 3)
          s.error = r.pick(FAILURES)
          s.mask |= EVENT_ERR
        }
        continue
      }
      if (s.connecting) {
        if (r.chance(0.7)) {
          s.connecting = false
          s.mask |= EVENT_OUT
        } else if (r.chance(0.3)) {
          s.connecting = false
          s.dead = true
          s.errors = r.below(3)
          s.error = r.pick(FAILURES)
          s.mask |= EVENT_ERR | EVENT_HUP
        }
        continue
      }
      if (r.chance(0.3)) s.mask |= EVENT_OUT
      if (s.ended || s.dead) continue
      if (r.chance(0.6)) {
        s.queued = Math.min(STREAM_MAX, s.queued + r.pick([1, 100, 1460, 5000, 70_000, 500_000]))
        s.mask |= EVENT_IN
      }
      if (r.chance(0.03)) s.mask |= EVENT_PRI
      if (r.chance(0.06)) {
        s.ended = true
        s.mask |= EVENT_IN | EVENT_RDHUP | (r.chance(0.3) ? EVENT_HUP : 0)
      }
      if (r.chance(0.02)) {
        s.dead = true
        s.error = e.ECONNRESET
        s.mask |= EVENT_ERR | EVENT_HUP | EVENT_IN
      }
    }
  }

  wait(): number {
    this.#happen()
    let count = 0
    for (const s of this.sockets.values()) {
      const mask = s.level ? (s.datagrams > 0 ? EVENT_IN : 0) : s.mask
      if (s.ref < 0 || mask === 0 || count === EVENT_MAX) continue
      s.mask = 0
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
  #watch(fd: number, ref: number, level: boolean): number {
    const s = this.#socket(fd)
    this.#note(2, fd, ref)
    if (s.random.chance(this.trouble)) return -e.ENOMEM
    s.ref = ref
    s.level = level
    return 0
  }
  watch(fd: number, ref: number): number {
    return this.#watch(fd, ref, false)
  }
  watchLevel(fd: number, ref: number): number {
    return this.#watch(fd, ref, true)
  }
  unwatch(fd: number): number {
    this.#note(3, fd)
    this.#socket(fd).ref = -1
    return 0
  }
  close(fd: number): number {
    this.#note(4, fd)
    this.#socket(fd)
    this.sockets.delete(fd)
    return 0
  }
  reset(fd: number): number {
    this.#note(5, fd)
    this.#socket(fd)
    this.sockets.delete(fd)
    return 0
  }

  tcpSocket(family: number): number {
    return this.#make("tcp", family)
  }
  udpSocket(family: number): number {
    return this.#make("udp", family)
  }
  pingSocket(family: number): number {
    return this.#make("ping", family)
  }
  #listen(kind: Socket["kind"], family: number): number {
    this.#note(6, ...this.address.subarray(ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS))
    const fd = this.#make(kind, family)
    if (fd >= 0) this.#socket(fd).listening = true
    return fd
  }
  listenTcp(family: number): number {
    return this.#listen("tcp", family)
  }
  listenUdp(family: number): number {
    return this.#listen("udp", family)
  }
  bind(fd: number, family: number): number {
    const s = this.#socket(fd)
    if (s.family !== family) throw new Failure(`bind with family ${family} to a socket of family ${s.family}`)
    this.#note(7, fd, ...this.address.subarray(ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS))
    if (s.random.chance(this.trouble * 2)) return -s.random.pick([e.EADDRINUSE, e.EACCES, e.EADDRNOTAVAIL])
    s.bound = true
    return 0
  }
  bindToDevice(fd: number): number {
    return this.#socket(fd).random.chance(this.trouble) ? -e.EPERM : 0
  }
  connect(fd: number, family: number): number {
    const s = this.#socket(fd)
    if (s.family !== family) throw new Failure(`connect with family ${family} of a socket of family ${s.family}`)
    const remote = Array.from(this.address.subarray(ADDRESS_REMOTE, ADDRESS_REMOTE + ADDRESS_WORDS))
    this.#note(8, fd, ...remote)
    if (s.remote !== undefined) throw new Failure("a socket is connected twice")
    if (s.random.chance(this.trouble)) return -s.random.pick(FAILURES)
    s.remote = remote
    this.#rename(s)
    if (s.kind !== "tcp") return 0
    // A socket that is not watched yet has no event to lose: the first watch tells all.
    s.connecting = s.random.chance(0.9)
    return s.connecting ? -e.EINPROGRESS : 0
  }
  accept(fd: number): number {
    const s = this.#socket(fd, "tcp")
    if (!s.listening) throw new Failure("accept of a socket that does not listen")
    if (s.datagrams === 0) return -e.EAGAIN
    if (s.random.chance(this.trouble)) return -s.random.pick([e.EMFILE, e.ECONNABORTED, e.ENOMEM])
    s.datagrams--
    const made = this.#make("tcp", s.family)
    if (made < 0) return made
    const peer = this.#peer(s.random, s.family, true, true)
    const accepted = this.#socket(made)
    accepted.remote = peer
    this.#rename(accepted)
    this.#put(ADDRESS_REMOTE, peer)
    this.#put(ADDRESS_LOCAL, this.#peer(s.random, peer[2] === 0xffff && peer[0] === 0 ? 4 : 6, false))
    return made
  }
  socketError(fd: number): number {
    const s = this.#socket(fd)
    const { error } = s
    s.error = 0
    return error
  }
  shutdownWrite(fd: number): number {
    const s = this.#socket(fd, "tcp")
    this.#note(9, fd)
    if (s.shut) throw new Failure("the write side is shut down twice")
    s.shut = true
    return s.dead ? -e.ENOTCONN : 0
  }
  setMss(fd: number): number {
    this.#socket(fd, "tcp")
    return 0
  }
  setKeepalive(fd: number): number {
    this.#socket(fd, "tcp")
    return 0
  }
  queueErrors(fd: number, family: number, on: boolean): number {
    const s = this.#socket(fd, "tcp")
    this.#note(20, fd, family, on ? 1 : 0)
    if (s.connecting && !on) throw new Failure("errors are turned off while a connection is made")
    return 0
  }
  setHopLimit(fd: number, family: number, hopLimit: number): number {
    const s = this.#socket(fd)
    this.#note(10, fd, family, hopLimit)
    if (hopLimit < 1 || hopLimit > 255) throw new Failure(`hop limit ${hopLimit}`)
    return s.random.chance(this.trouble) ? -e.EPERM : 0
  }
  wantHopLimits(fd: number, family: number): number {
    const s = this.#socket(fd)
    this.#note(21, fd, family)
    if (s.kind === "tcp" || s.family !== family) throw new Failure(`hop limits of ${s.kind}, family ${family}`)
    return 0
  }
  setReuseAddress(fd: number): number {
    this.#socket(fd)
    return 0
  }
  tcpInfo(fd: number): number {
    const s = this.#socket(fd, "tcp")
    const r = s.random
    if (s.dead) return r.chance(0.5) ? -e.ENOTCONN : 0
    const buffer = r.pick([4608, 87_040, 2 << 20, 6 << 20])
    this.info.set([
      r.pick([0, 1, 1000, r.word()]),
      r.pick([-1, 0, 1, 65_535, 1 << 20]),
      r.pick([0, 50, 20_000, 3_000_000]),
      r.pick([-1, 0, 50, 20_000]),
      r.pick([-1, 0, 1_000_000, 0x7fffffff]),
      buffer,
      r.below(buffer * 2),
      r.pick([0, 48, 536, 1448, 65_483]),
      r.below(1 << 20),
    ])
    return 0
  }

  /** Where a row's payload lies; it must be within its frame. */
  #payload(row: number, from: number, length: number): number {
    const { offset, length: frameLength } = this.#frames
    if (row < 0 || row >= FRAME_MAX || (row < RX_FRAME_MAX && row >= this.#link.rows)) throw new Failure(`row ${row}`)
    if (from < 0 || length < 0 || from + length > frameLength[row]!) {
      throw new Failure(`payload ${from} + ${length} of a frame of ${frameLength[row]} bytes`)
    }
    return offset[row]! + from
  }
  /** Where something may be written in a row that is reserved. */
  #room(row: number, length: number): number {
    const { offset, payload, window } = this.#frames
    if (row < RX_FRAME_MAX || row >= FRAME_MAX) throw new Failure(`room in row ${row}`)
    if (payload[row]! < 14 || length < 0 || payload[row]! + length > window[row]!) {
      throw new Failure(`room at ${payload[row]} + ${length} in a row of ${window[row]} bytes`)
    }
    return offset[row]! + payload[row]!
  }
  #gathered(start: number, count: number): number[] {
    if (start < 0 || count < 1 || start + count > GATHER_MAX) throw new Failure(`gather ${start} + ${count}`)
    return Array.from(this.#frames.gather.subarray(start, start + count))
  }
  /** Writes a pattern that depends on the place. */
  #fill(at: number, length: number, from: number): void {
    const start = ((from % PERIOD) + PERIOD) % PERIOD
    this.#frames.arena.set(PATTERN.subarray(start, start + length), at)
  }
  #sendStream(s: Socket, pieces: readonly (readonly [number, number])[]): number {
    const r = s.random
    if (s.shut) throw new Failure("data after the end of the stream")
    if (s.dead) return -r.pick([e.EPIPE, e.ECONNRESET])
    if (r.chance(0.02)) return -r.pick([e.EPIPE, e.ECONNRESET])
    if (r.chance(0.2)) return -e.EAGAIN
    const total = pieces.reduce((sum, piece) => sum + piece[1], 0)
    let left = r.chance(0.7) ? total : r.between(Math.min(1, total), total)
    const taken = left
    for (const [at, length] of pieces) {
      const part = Math.min(left, length)
      this.#noteBytes(at, part)
      left -= part
    }
    return taken
  }
  sendFrames(fd: number, start: number, count: number): number {
    const { payload, payloadLength } = this.#frames
    const rows = this.#gathered(start, count)
    const pieces = rows.map(
      (row) => [this.#payload(row, payload[row]!, payloadLength[row]!), payloadLength[row]!] as const,
    )
    this.#note(11, fd, ...pieces.map((piece) => piece[1]))
    return this.#sendStream(this.#socket(fd, "tcp"), pieces)
  }
  sendHeld(fd: number, offset: number, length: number): number {
    this.#note(12, fd, offset, length)
    if (offset < HOLD_AREA || length < 1 || offset + length > ARENA_BYTES)
      throw new Failure(`held ${offset} + ${length}`)
    return this.#sendStream(this.#socket(fd, "tcp"), [[offset, length]])
  }
  holdPayload(row: number, from: number, length: number, to: number): number {
    const at = this.#payload(row, from, length)
    if (to < HOLD_AREA || to + length > HOLD_AREA + HOLD_ARENA_BYTES) throw new Failure(`held at ${to} + ${length}`)
    this.#frames.arena.copyWithin(to, at, at + length)
    return 0
  }
  peekIntoFrames(fd: number, row: number, count: number, bytes: number, skip: number): number {
    const s = this.#socket(fd, "tcp")
    this.#note(13, fd, count, bytes, skip)
    for (let i = 0; i < count; i++) this.#room(row + i, bytes)
    const kept = s.family === 4 ? this.peekOffset4 : this.peekOffset6
    if (kept && skip !== 0) throw new Failure("bytes to pass over beside a peek offset")
    if (skip < 0 || bytes < 1 || count < 1) throw new Failure(`peek of ${count} rows of ${bytes} bytes behind ${skip}`)
    if (s.dead) return -e.ECONNRESET
    const from = kept ? s.peekAt : skip
    const there = s.queued - from
    // A read that passes over bytes of the queue does not see the end behind them.
    if (there <= 0) return s.ended && (kept || from === 0) ? 0 : -e.EAGAIN
    let left = Math.min(there, count * bytes)
    if (s.random.chance(0.1)) left = s.random.between(1, left)
    const got = left
    let place = s.place + from
    for (let i = 0; left > 0; i++) {
      const at = this.#room(row + i, bytes)
      const part = Math.min(left, bytes)
      this.#fill(at, part, place + fd)
      place += part
      left -= part
    }
    if (kept) s.peekAt += got
    return got
  }
  setPeekOffset(fd: number, offset: number): number {
    const s = this.#socket(fd, "tcp")
    this.#note(14, fd, offset)
    if (offset < 0) throw new Failure(`peek offset ${offset}`)
    s.peekAt = offset
    return 0
  }
  discard(fd: number, bytes: number): number {
    const s = this.#socket(fd, "tcp")
    this.#note(15, fd, bytes)
    if (bytes < 1) throw new Failure(`discard of ${bytes} bytes`)
    if (bytes > s.queued) throw new Failure(`${bytes} bytes thrown away of ${s.queued} that are there`)
    if (s.dead) return -e.ECONNRESET
    const gone = s.random.chance(0.9) ? bytes : s.random.between(1, bytes)
    s.queued -= gone
    s.place += gone
    s.peekAt = Math.max(0, s.peekAt - gone)
    return gone
  }

  #arrive(s: Socket, room: number): { length: number; fill: number } {
    const r = s.random
    const length = r.chance(0.05) ? Math.min(65_507, r.between(0, 65_507)) : r.length(3000)
    s.datagrams--
    return { length: Math.min(length, room + 1), fill: r.word() }
  }
  receiveFrom(fd: number, row: number, peek: boolean): number {
    const s = this.#socket(fd)
    if (s.kind === "tcp") throw new Failure("receiveFrom of a stream")
    this.#note(16, fd, peek ? 1 : 0)
    if (s.error !== 0) return -this.socketError(fd)
    if (s.datagrams <= 0) return -e.EAGAIN
    const r = s.random
    const room = this.#frames.window[row]! - this.#frames.payload[row]!
    const at = this.#room(row, room)
    const wanted = this.#arrive(s, room)
    // A datagram that is looked at is still there; who looks again may find another one, which is as good.
    if (peek) s.datagrams++
    const own = s.remote !== undefined && !isGroup(s.remote) && r.chance(0.9)
    const remote = own ? [...s.remote!] : this.#peer(r, s.family, s.listening)
    this.#put(ADDRESS_REMOTE, remote)
    const v4 = remote[0] === 0 && remote[2] === 0xffff
    const group = s.listening && r.chance(0.2) ? r.pick(v4 ? GROUPS4 : GROUPS6) : undefined
    this.#put(ADDRESS_LOCAL, group === undefined ? this.#peer(r, v4 ? 4 : 6, false) : [...words(group), 5001, 0])
    if (wanted.length > room && !peek) return -e.EMSGSIZE
    const length = Math.min(wanted.length, room)
    this.#fill(at, length, wanted.fill)
    this.#frames.payloadLength[row] = length
    this.#frames.hopLimit[row] = r.pick([0, 1, 64, 255])
    return wanted.length
  }
  receiveDatagrams(fd: number, row: number, count: number, bytes: number): number {
    const s = this.#socket(fd)
    this.#note(17, fd, count, bytes)
    if (s.kind === "tcp" || s.remote === undefined) throw new Failure("receiveDatagrams of another kind of socket")
    for (let i = 0; i < count; i++) this.#room(row + i, bytes)
    if (s.error !== 0) return -this.socketError(fd)
    if (s.datagrams <= 0) return -e.EAGAIN
    const got = Math.min(count, s.datagrams)
    for (let i = 0; i < got; i++) {
      const at = this.#room(row + i, bytes)
      const { length, fill } = this.#arrive(s, bytes)
      const kept = Math.min(length, bytes)
      this.#fill(at, kept, fill)
      this.#frames.payloadLength[row + i] = kept
      this.#frames.hopLimit[row + i] = s.random.pick([0, 1, 64, 255])
    }
    return got
  }
  sendDatagrams(fd: number, start: number, count: number): number {
    const s = this.#socket(fd)
    if (s.kind === "tcp" || s.remote === undefined) throw new Failure("sendDatagrams of another kind of socket")
    const rows = this.#gathered(start, count)
    this.#note(18, fd, count)
    if (s.error !== 0) return -this.socketError(fd)
    if (s.random.chance(this.trouble)) return -s.random.pick([...FAILURES, e.EAGAIN, e.EMSGSIZE])
    const taken = s.random.chance(0.9) ? count : s.random.between(1, count)
    for (const row of rows.slice(0, taken)) {
      const length = this.#frames.payloadLength[row]!
      const at = this.#payload(row, this.#frames.payload[row]!, length)
      if (s.kind === "ping" && length < 8) throw new Failure(`an echo request of ${length} bytes`)
      this.#noteBytes(at, length)
    }
    return taken
  }
  readError(fd: number, row: number, bytes: number): number {
    const s = this.#socket(fd)
    const r = s.random
    this.#note(19, fd, bytes)
    const at = this.#room(row, bytes)
    if (s.errors === 0) return 0
    s.errors--
    const length = Math.min(bytes, r.length(2000))
    for (let i = 0; i < length; i++) this.#frames.arena[at + i] = i
    this.error.set([r.pick([...FAILURES, e.EMSGSIZE]), r.pick([0, 1, 2, 2, 3, 3, 4]), r.below(256), r.below(256), 0, 0])
    if (r.chance(0.7))
      this.error.set([r.pick([1, 2, 3, 4, 5, 11, 12]), r.below(16), r.pick([0, 576, 1280, r.word()])], 2)
    this.error[ERROR_PAYLOAD] = length
    const offender = r.chance(0.2) ? [0, 0, 0, 0, 0, 0] : this.#peer(r, s.family, r.chance(0.1))
    this.#put(ADDRESS_OFFENDER, offender)
    this.#put(ADDRESS_REMOTE, s.remote ?? [0, 0, 0, 0, 0, 0])
    return 1
  }

  /** Of a UDP socket that is ready for groups. */
  #groupSocket(fd: number, family?: number): Socket {
    const s = this.#socket(fd, "udp")
    if (!s.groups && !s.listening) throw new Failure("a call for groups names another socket")
    if (family !== undefined && s.family !== family) throw new Failure(`family ${family} of a socket of ${s.family}`)
    return s
  }
  #prepare(fd: number, family: number): number {
    const s = this.#socket(fd, "udp")
    if (s.bound || s.family !== family) throw new Failure("prepare of a bound socket, or of another family's")
    this.#note(20, fd)
    s.groups = true
    return s.random.chance(this.trouble) ? -e.ENOMEM : 0
  }
  #joinGroup(fd: number, family: number): number {
    const s = this.#groupSocket(fd, family)
    const group = this.address.slice(ADDRESS_LOCAL, ADDRESS_LOCAL + 4)
    if (!address.isMulticast(group, 0) || address.isMapped(group, 0) !== (family === 4)) {
      throw new Failure(`${address.format(group)} is no group to join`)
    }
    this.#note(21, fd, ...group)
    return s.random.chance(this.trouble) ? -e.ENOBUFS : 0
  }
  #localAddress(fd: number): number {
    const s = this.#groupSocket(fd)
    this.#note(22, fd)
    this.#put(ADDRESS_LOCAL, [...words(s.family === 4 ? "203.0.113.9" : "2001:db8:2::9"), 30_000 + fd, 0])
    return s.random.chance(this.trouble) ? -e.ENOMEM : 0
  }
  #sendTo(fd: number, family: number, start: number, count: number): number {
    const s = this.#groupSocket(fd, family)
    const to = this.address.slice(ADDRESS_REMOTE, ADDRESS_REMOTE + ADDRESS_WORDS)
    if (!s.bound || to[4] === 0 || address.isMapped(to, 0) !== (family === 4)) throw new Failure("a send to nowhere")
    const rows = this.#gathered(start, count)
    this.#note(23, fd, count, ...to)
    if (s.error !== 0) return -this.socketError(fd)
    if (s.random.chance(this.trouble)) return -s.random.pick([...FAILURES, e.EAGAIN, e.EMSGSIZE])
    const taken = s.random.chance(0.9) ? count : s.random.between(1, count)
    for (const row of rows.slice(0, taken)) {
      const length = this.#frames.payloadLength[row]!
      this.#noteBytes(this.#payload(row, this.#frames.payload[row]!, length), length)
    }
    return taken
  }
  #receiveGroup(fd: number, row: number): number {
    const s = this.#groupSocket(fd)
    const r = s.random
    this.#note(24, fd, row)
    const payload = this.#frames.payload[row]!
    const at = this.#room(row, this.#frames.window[row]! - payload)
    if (s.error !== 0) return -this.socketError(fd)
    if (s.datagrams === 0) return -e.EAGAIN
    s.datagrams--
    const length = r.length(r.chance(0.02) ? 66_000 : 2000)
    if (length > this.#frames.window[row]! - payload) return -e.EMSGSIZE
    this.#fill(at, length, r.below(PERIOD))
    this.#frames.payloadLength[row] = length
    // From whom a datagram comes that the last peek has shown is known.
    if (!s.listening) this.#put(ADDRESS_REMOTE, this.#peer(r, s.family, false))
    this.#frames.hopLimit[row] = r.below(256)
    return length
  }
}

/** Whether an address is no single node's: multicast, broadcast, or none. */
function isGroup(remote: readonly number[]): boolean {
  const words = Int32Array.from(remote)
  return !address.isUnicast(words, 0)
}
