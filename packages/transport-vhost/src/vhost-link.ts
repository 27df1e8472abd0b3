/**
 * core's Link over vhost-user: a UNIX socket on which a front-end (QEMU, another machine monitor) hands over its guest's memory
 * and virtqueues. Native code moves frames (native/cpp/vhost-link.cc); this side speaks the protocol (session.ts), hands out rows,
 * and tells the program who comes and goes.
 *
 * Reads first: native/cpp/vhost-link.cc for the life of a buffer, session.ts for that of a connection.
 */
import { AreaLink, FRAME_LENGTH_MAX, type FrameTable } from "@passt/core"
import { entropy, listenOnPath, type NativeKernel, type RawVhostLink } from "@passt/native"

import { DeviceConfig, MAC_BYTES } from "./config.ts"
import { FEATURE } from "./features.ts"
import { MESSAGE_BYTES_MAX, ProtocolError } from "./message.ts"
import { type Device, Session } from "./session.ts"

/** Words that native code writes; the order is StateWord's in vhost-link.h. */
const STATE_CONNECTED = 0
const STATE_MORE = 1
const STATE_BLOCKED = 2
const STATE_CLIENTS = 3
const STATE_CLIENT_PID = 4
const STATE_TURNED_AWAY = 5
const STATE_TURNED_AWAY_PID = 6
const STATE_REFUSED_ROWS = 7
const STATE_BAD_FRAMES = 8
const STATE_LOST_FRAMES = 9
const STATE_BROKEN_RINGS = 10
const STATE_MESSAGE_BYTES = 11
const STATE_DESCRIPTORS = 12
const STATE_OWING = 13
/** MAC addresses that drivers have set, and the last one. */
const STATE_MACS = 14
const STATE_MAC_HIGH = 15
const STATE_MAC_LOW = 16
const STATE_WORDS = 17

/** Bytes before each frame, where transmit.h puts a length when it cuts segments. */
const PREFIX_BYTES = 4
/** Ethernet, IPv4 and TCP headers without options: what a segment-sized payload needs besides itself. */
const HEADER_BYTES_MIN = 54

const EPROTO = 71
const EMSGSIZE = 90
const E2BIG = 7
const EFAULT = 14

/** Pairs of queues: pairMax in native/cpp/vhost-link.h. */
export const QUEUE_PAIRS = 8
/** Bytes of a device's state that native code keeps: stateBytesMax. */
const STATE_BYTES_MAX = 256
const EINVAL = 22

/** Messages that are handled before frames get their turn: a front-end must not keep us from them. */
const MESSAGES_MAX = 64

/** What a program may want to log, or to end on. Called between batches, never on the data path. */
export interface VhostLinkObserver {
  /** A front-end was attached. @param pid its process, 0 when unknown */
  connected?(pid: number): void
  /** The front-end is gone. @param errno ECONNRESET when it closed, EPROTO when it broke the rules, or what the socket reported
   * @param reason what it did wrong, in words; empty if nothing */
  disconnected?(errno: number, reason: string): void
  /** Another front-end tried while one is attached, and was turned away. */
  turnedAway?(pid: number): void
  /** The guest's driver has written nonsense into a queue, which stands still until the driver sets it up anew. */
  queueBroken?(): void
  /** The front-end wants the guest to have this MTU, bytes. */
  mtu?(mtu: number): void
  /** The guest is about to go on elsewhere. @returns what the back-end there must know, at most 256 bytes */
  saveState?(): Uint8Array
  /** The guest comes from elsewhere. @param state from the back-end there, its first 256 bytes
   * @returns whether it makes sense */
  loadState?(state: Uint8Array): boolean
  /** The guest's driver has chosen features. @param names of those that it takes */
  features?(names: readonly string[]): void
}

export class VhostLink extends AreaLink {
  /** Everything up to a frame of 65,535 bytes: the guest's driver cuts, or native code. */
  readonly segmentBytesMax: number = FRAME_LENGTH_MAX - HEADER_BYTES_MIN
  /** A queue that is full pushes back. */
  readonly windowMax: number = 0
  /** Where front-ends connect; empty before `listen` and with an adopted descriptor. */
  path = ""

  readonly #raw: RawVhostLink
  readonly #state: Int32Array<ArrayBuffer> = new Int32Array(STATE_WORDS)
  readonly #message: Uint8Array<ArrayBuffer> = new Uint8Array(MESSAGE_BYTES_MAX)
  readonly #reply: Uint8Array<ArrayBuffer> = new Uint8Array(MESSAGE_BYTES_MAX)
  readonly #observer: VhostLinkObserver
  readonly #config: DeviceConfig
  #session: Session
  #clientsSeen = 0
  #turnedAwaySeen = 0
  #brokenSeen = 0
  #featuresSeen = 0n
  #macsSeen = 0

  /** @param kernel has `frames` attached @param mtu that front-ends are told which ask for it, bytes, 68 to 65535
   * @throws when native code can't make another link */
  constructor(kernel: NativeKernel, frames: FrameTable, observer: VhostLinkObserver = {}, mtu = 65_520) {
    super(frames, PREFIX_BYTES)
    const raw = kernel.raw.createVhostLink(this.#state, this.#message, this.#reply)
    if (typeof raw === "number") throw new Error(`cannot create a link: errno ${-raw}`)
    this.#raw = raw
    this.#observer = observer
    const mac = new Uint8Array(MAC_BYTES)
    entropy(mac)
    // Locally administered, of one station.
    mac[0] = (mac[0]! & 0xfc) | 2
    this.#config = new DeviceConfig(mac, QUEUE_PAIRS, mtu)
    this.#session = this.#newSession()
  }

  #newSession(): Session {
    const raw = this.#raw
    const device: Device = {
      setFeatures: (features) => raw.setFeatures(features),
      clearMemory: () => raw.clearMemory(),
      addMemory: (descriptor, guest, size, user, offset) => raw.addMemory(descriptor, guest, size, user, offset),
      removeMemory: (guest, size, user) => raw.removeMemory(guest, size, user),
      startLog: (descriptor, size, offset) => raw.startLog(descriptor, size, offset),
      setLogFd: (descriptor) => raw.setLogFd(descriptor),
      setRingSize: (ring, size) => raw.setRingSize(ring, size),
      setRingAddresses: (ring, logged, descriptors, used, available, log) =>
        raw.setRingAddresses(ring, logged, descriptors, used, available, log),
      setRingBase: (ring, base) => raw.setRingBase(ring, base),
      stopRing: (ring) => raw.stopRing(ring),
      setRingKick: (ring, descriptor) => raw.setRingKick(ring, descriptor),
      setRingCall: (ring, descriptor) => raw.setRingCall(ring, descriptor),
      setRingError: (ring, descriptor) => raw.setRingError(ring, descriptor),
      enableRing: (ring, on) => raw.enableRing(ring, on),
      resetDevice: () => raw.resetDevice(),
      makeInflight: (queues, entries) => raw.makeInflight(queues, entries),
      setInflight: (descriptor, size, offset, queues, entries) =>
        raw.setInflight(descriptor, size, offset, queues, entries),
      saveState: (descriptor) => raw.saveState(descriptor, this.#observer.saveState?.() ?? new Uint8Array()),
      loadState: (descriptor) => raw.loadState(descriptor),
      takeState: () => this.#takeState(),
      setMtu: (mtu) => this.#observer.mtu?.(mtu),
    }
    return new Session(device, QUEUE_PAIRS, this.#config)
  }

  #takeState(): number {
    const bytes = new Uint8Array(STATE_BYTES_MAX)
    const length = this.#raw.takeState(bytes)
    if (length < 0) return length
    const { loadState } = this.#observer
    return loadState === undefined || loadState(bytes.subarray(0, length)) ? 0 : -EINVAL
  }

  /** Listens on `path`, taking the place of a socket that nobody serves any more; without one, on the first
   * /tmp/passt_N.socket (N from 1 to 99) that is free. `this.path` tells which.
   * @returns 0 or -errno; -EADDRINUSE when somebody serves that path, or all of the numbered ones */
  listen(path?: string): number {
    return listenOnPath(path, (candidate) => {
      const result = this.#raw.listen(candidate)
      if (result === 0) this.path = candidate
      return result
    })
  }

  /** Takes a connected stream socket as the one front-end; the descriptor belongs to the link from then on.
   * @returns 0 or -errno */
  adopt(fd: number): number {
    const result = this.#raw.adopt(fd)
    if (result === 0) this.#notice()
    return result
  }

  /** Takes a listening socket that somebody else has opened; it belongs to the link from then on.
   * @returns 0 or -errno */
  adoptListener(fd: number): number {
    return this.#raw.adoptListener(fd)
  }

  /** Has the kernel's `wait` report `ref` when there is something to do: then call `handleEvent`, `receive` (until
   * `more` is false) and `flush`, whatever the event's mask says. To be called before a front-end comes.
   * @returns 0 or -errno */
  watch(ref: number): number {
    return this.#raw.watch(ref)
  }

  /** Attends to front-ends that come, and to their messages; frames are taken by `receive`. */
  handleEvent(_index: number, _mask: number): void {
    for (let i = 0; i < MESSAGES_MAX; i++) {
      const result = this.#raw.readMessage()
      this.#notice()
      if (result === 0) return
      if (result > 0) this.#attend()
      else this.#ended(-result, reasonOf(-result))
    }
  }

  /** Takes on the address that the driver has given the card: the front-end may ask for it. */
  #takeMac(): void {
    const state = this.#state
    if (state[STATE_MACS] === this.#macsSeen) return
    this.#macsSeen = state[STATE_MACS]!
    const mac = new DataView(new ArrayBuffer(MAC_BYTES))
    mac.setUint16(0, state[STATE_MAC_HIGH]!)
    mac.setInt32(2, state[STATE_MAC_LOW]!)
    this.#config.write(0, new Uint8Array(mac.buffer))
  }

  #attend(): void {
    const state = this.#state
    this.#takeMac()
    try {
      const length = state[STATE_MESSAGE_BYTES]!
      const descriptors = state[STATE_DESCRIPTORS]!
      const replyBytes = this.#session.handle(this.#message, length, descriptors, this.#reply)
      const sent = this.#raw.endMessage(replyBytes)
      if (sent < 0) throw new ProtocolError(`it does not take a reply: errno ${-sent}`)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#raw.disconnect()
      this.#ended(EPROTO, error.message)
      return
    }
    // A ring that stopped takes what was queued for it along.
    if (!this.connected) this.area.reset()
    const { features } = this.#session
    if (features === this.#featuresSeen) return
    this.#featuresSeen = features
    const names = Object.entries(FEATURE).filter(([, bit]) => (features & (1n << BigInt(bit))) !== 0n)
    this.#observer.features?.(names.map(([name]) => name))
  }

  /** The front-end is gone, and all that belonged to it. */
  #ended(errno: number, reason: string): void {
    this.area.reset()
    this.#session = this.#newSession()
    this.#featuresSeen = 0n
    this.#observer.disconnected?.(errno, reason)
  }

  /** Whether the guest's driver takes frames. */
  get connected(): boolean {
    return this.#state[STATE_CONNECTED] !== 0
  }
  get more(): boolean {
    return this.#state[STATE_MORE] !== 0
  }
  get blocked(): boolean {
    return this.#state[STATE_BLOCKED] !== 0
  }
  /** Rows that were thrown away because their columns contradict each other: a fault of the engine's. */
  get refusedRows(): number {
    return this.#state[STATE_REFUSED_ROWS]!
  }
  /** Frames from the guest that were dropped: too short or too long, in buffers that make no sense, or with a header that doesn't. */
  get badFrames(): number {
    return this.#state[STATE_BAD_FRAMES]!
  }
  /** Frames to the guest that were dropped because its buffers made no sense, or were too small. */
  get lostFrames(): number {
    return this.#state[STATE_LOST_FRAMES]!
  }

  /** As the interface says. A frame may be longer than FRAME_LENGTH_MAX: an IP packet of 65,535 bytes.
   * -EFAULT: the front-end has made its memory shorter, and was dropped. */
  receive(): number {
    const rows = this.#raw.receive()
    if (this.#state[STATE_BROKEN_RINGS] !== this.#brokenSeen) this.#notice()
    if (rows < 0) {
      this.#ended(-rows, reasonOf(-rows))
      this.handleEvent(0, 0)
    }
    return rows
  }

  /** Tells of front-ends that came or were turned away since the last look, and of queues that broke. */
  #notice(): void {
    const state = this.#state
    if (state[STATE_CLIENTS] !== this.#clientsSeen) {
      this.#clientsSeen = state[STATE_CLIENTS]!
      this.area.reset()
      this.#observer.connected?.(state[STATE_CLIENT_PID]!)
    }
    if (state[STATE_TURNED_AWAY] !== this.#turnedAwaySeen) {
      this.#turnedAwaySeen = state[STATE_TURNED_AWAY]!
      this.#observer.turnedAway?.(state[STATE_TURNED_AWAY_PID]!)
    }
    if (state[STATE_BROKEN_RINGS] !== this.#brokenSeen) {
      this.#brokenSeen = state[STATE_BROKEN_RINGS]!
      this.#observer.queueBroken?.()
    }
  }

  /** Of a large segment of the guest's only the headers are here. */
  override pull(row: number, bytes: number): number {
    const window = this.frames.window[row]!
    return bytes <= window ? window : -1
  }

  override reserveStream(count: number, bytes: number, flow: number): number {
    const rows = this.area.reserveRows(count, bytes)
    return rows === 0 ? 0 : this.#raw.lendRows(this.area.next, rows, bytes, flow)
  }

  /** As the interface says. Without a driver, frames go nowhere and 0 is returned. */
  flush(): number {
    if (this.area.empty && this.#state[STATE_OWING] === 0) return 0
    const left = this.#raw.flush(this.area.next)
    if (left === 0) this.area.reset()
    return left
  }

  /** Drops the front-end, if there is one; the listening socket stays. */
  disconnect(): void {
    this.#raw.disconnect()
    this.area.reset()
    this.#session = this.#newSession()
  }

  /** Drops the front-end and stops listening. The socket's file stays where it is. */
  close(): void {
    this.disconnect()
    this.#raw.close()
  }
}

function reasonOf(errno: number): string {
  switch (errno) {
    case EMSGSIZE:
      return "a message that is too long"
    case E2BIG:
      return "a message with too many descriptors"
    case EFAULT:
      return "memory that is not there any more"
    default:
      return ""
  }
}
