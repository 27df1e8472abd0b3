/**
 * core's Link over a UNIX stream socket, as QEMU's `-netdev stream` speaks it: each frame follows its length (four
 * bytes, big-endian). Framing, checksums and segmentation are native (native/cpp/unix-link.cc, transmit.cc); this side
 * hands out rows and tells the program who comes and goes.
 *
 * Reads first: native/cpp/unix-link.cc for the life of a byte, core's send-area.ts for the life of a row.
 */
import { AreaLink, FRAME_LENGTH_MAX, type FrameTable } from "@passt/core"
import { listenOnPath, type NativeKernel, type RawUnixLink } from "@passt/native"

/** Words that native code writes; the order is StateWord's in unix-link.cc. */
const STATE_CONNECTED = 0
const STATE_MORE = 1
const STATE_BLOCKED = 2
const STATE_CLIENTS = 3
const STATE_CLIENT_PID = 4
const STATE_TURNED_AWAY = 5
const STATE_TURNED_AWAY_PID = 6
const STATE_REFUSED_ROWS = 7
const STATE_WORDS = 8

/** Bytes of the length before each frame. */
const PREFIX_BYTES = 4

/** Ethernet, IPv4 and TCP headers without options: what a segment-sized payload needs besides itself. */
const HEADER_BYTES_MIN = 54

/** What a program may want to log, or to end on. Called between batches, never on the data path. */
export interface UnixLinkObserver {
  /** A client was attached. @param pid its process, 0 when unknown */
  connected?(pid: number): void
  /** The client is gone. @param errno ECONNRESET when it closed, EPROTO when it broke the framing, or what the socket
   * reported */
  disconnected?(errno: number): void
  /** Another client tried while one is attached, and was turned away. */
  turnedAway?(pid: number): void
}

export class UnixLink extends AreaLink {
  /** Everything up to a frame of 65,535 bytes at MTU 65520, so that one row carries a segment of any MTU. */
  readonly segmentBytesMax: number = FRAME_LENGTH_MAX - HEADER_BYTES_MIN
  /** A stream socket pushes back. */
  readonly windowMax: number = 0
  /** Where clients connect; empty before `listen` and with an adopted descriptor. */
  path = ""

  readonly #raw: RawUnixLink
  readonly #state: Int32Array<ArrayBuffer> = new Int32Array(STATE_WORDS)
  readonly #observer: UnixLinkObserver
  #clientsSeen = 0
  #turnedAwaySeen = 0

  /** @param kernel has `frames` attached
   * @throws when native code can't make another link */
  constructor(kernel: NativeKernel, frames: FrameTable, observer: UnixLinkObserver = {}) {
    super(frames, PREFIX_BYTES)
    const raw = kernel.raw.createUnixLink(this.#state)
    if (typeof raw === "number") throw new Error(`cannot create a link: errno ${-raw}`)
    this.#raw = raw
    this.#observer = observer
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

  /** Takes a connected stream socket as the one client; the descriptor belongs to the link from then on.
   * @returns 0 or -errno */
  adopt(fd: number): number {
    const result = this.#raw.adopt(fd)
    if (result === 0) this.#notice()
    return result
  }

  /** Takes a UNIX stream socket that listens already, in place of `listen`; the descriptor belongs to the link from then on.
   * @returns 0 or -errno: -EAFNOSUPPORT, -EPROTOTYPE or -EINVAL for a socket of another kind */
  adoptListener(fd: number): number {
    return this.#raw.adoptListener(fd)
  }

  /** Has the kernel's `wait` report `ref` when there is something to do: then call `handleEvent`, `receive` (until
   * `more` is false) and `flush`, whatever the event's mask says. Covers the listening socket and every client, now and
   * later; writability is watched only while `blocked`.
   * @returns 0 or -errno */
  watch(ref: number): number {
    return this.#raw.watch(ref)
  }

  /** Takes a client that has just connected; all else is done by `receive` and `flush`. */
  handleEvent(_index: number, _mask: number): void {
    if (this.connected) return
    this.#raw.accept()
    this.#notice()
  }

  get connected(): boolean {
    return this.#state[STATE_CONNECTED] !== 0
  }
  get more(): boolean {
    return this.#state[STATE_MORE] !== 0
  }
  get blocked(): boolean {
    return this.#state[STATE_BLOCKED] !== 0
  }
  /** Rows that were thrown away because their columns contradicted each other: a fault of the engine's. */
  get refusedRows(): number {
    return this.#state[STATE_REFUSED_ROWS]!
  }

  /** As the interface says; also accepts clients. -ECONNRESET: the client closed; -EPROTO: it sent a length outside of
   * 14…65535 and was dropped. */
  receive(): number {
    const rows = this.#raw.receive()
    this.#notice()
    if (rows < 0) {
      this.area.reset()
      this.#observer.disconnected?.(-rows)
    }
    return rows
  }

  /** Tells of clients that came or were turned away since the last look. */
  #notice(): void {
    if (this.#state[STATE_CLIENTS] !== this.#clientsSeen) {
      this.#clientsSeen = this.#state[STATE_CLIENTS]!
      this.area.reset()
      this.#observer.connected?.(this.#state[STATE_CLIENT_PID]!)
    }
    if (this.#state[STATE_TURNED_AWAY] !== this.#turnedAwaySeen) {
      this.#turnedAwaySeen = this.#state[STATE_TURNED_AWAY]!
      this.#observer.turnedAway?.(this.#state[STATE_TURNED_AWAY_PID]!)
    }
  }

  /** As the interface says. Without a client, frames go nowhere and 0 is returned. */
  flush(): number {
    if (this.area.empty) return 0
    const left = this.#raw.flush(this.area.next)
    if (left === 0) this.area.reset()
    return left
  }

  /** Drops the client, if there is one; the listening socket stays. */
  disconnect(): void {
    this.#raw.disconnect()
    this.area.reset()
  }

  /** Drops the client and stops listening. The socket's file stays where it is. */
  close(): void {
    this.disconnect()
    this.#raw.close()
  }
}
