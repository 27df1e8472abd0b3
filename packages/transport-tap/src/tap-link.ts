/**
 * core's Link over a tap device, one frame per system call, with super-frames and unfinished checksums both ways
 * (native/cpp/tap-link.cc). This side hands out rows, and says how large a window the device's queue bears.
 *
 * Reads first: native/cpp/tap-link.cc for the life of a byte, core's send-area.ts for the life of a row.
 */
import { AreaLink, FRAME_LENGTH_MAX, type FrameTable } from "@passt/core"
import type { NativeKernel, RawTapLink } from "@passt/native"

/** Words that native code writes; the order is StateWord's in tap-link.cc. */
const STATE_CONNECTED = 0
const STATE_MORE = 1
const STATE_REFUSED_ROWS = 2
const STATE_LOST_FRAMES = 3
const STATE_BAD_FRAMES = 4
const STATE_OFFLOADS = 5
const STATE_MAC_HIGH = 6
const STATE_MAC_LOW = 7
const STATE_INDEX = 8
const STATE_QUEUE = 9
const STATE_WORDS = 10

/** Bytes of virtio's header before each frame. */
const VNET_HEADER_BYTES = 10

/** Ethernet, IPv4 and TCP headers without options: what a segment-sized payload needs besides itself. */
const HEADER_BYTES_MIN = 54

/** Frames that the device is to hold for us. A flow's window is at most 500 segments (core's WINDOW_SEGMENTS_MAX), each a
 * frame at worst, so this is room for many flows at full speed; it costs 8 bytes of kernel memory each while they are
 * free. The kernel's own 1,000 overflow with two flows. */
export const QUEUE_FRAMES = 4096

/** Largest window to offer: a few batches of the native link (native/cpp/tap-link.cc), so that a sender has one under way while
 * we work on another. What waits in the device's queue beyond that would only have left the processor's cache when it is read. */
export const WINDOW_BYTES_MAX: number = 2 << 20

export interface TapLinkOptions {
  /** Frames that the device's queue holds; QUEUE_FRAMES unless told. */
  readonly queue?: number
  /** false: no super-frames, every checksum finished, as on a kernel without virtio's header. */
  readonly offloads?: boolean
}

/** What a program may want to log, or to end on. Called between batches, never on the data path. */
export interface TapLinkObserver {
  /** The device is gone, with its namespace or on its own. @param errno what the kernel said */
  disconnected?(errno: number): void
}

export class TapLink extends AreaLink {
  /** Everything up to a frame of 65,535 bytes: the namespace's kernel cuts. */
  readonly segmentBytesMax: number = FRAME_LENGTH_MAX - HEADER_BYTES_MIN
  readonly windowMax: number = WINDOW_BYTES_MAX
  /** Nothing ever waits: what the namespace does not take at once is lost. */
  readonly blocked: boolean = false

  readonly #raw: RawTapLink
  readonly #state: Int32Array<ArrayBuffer> = new Int32Array(STATE_WORDS)
  readonly #observer: TapLinkObserver

  /** @param kernel has `frames` attached
   * @throws when native code can't make another link */
  constructor(kernel: NativeKernel, frames: FrameTable, observer: TapLinkObserver = {}) {
    super(frames, VNET_HEADER_BYTES)
    const raw = kernel.raw.createTapLink(this.#state)
    if (typeof raw === "number") throw new Error(`cannot create a link: errno ${-raw}`)
    this.#raw = raw
    this.#observer = observer
  }

  /** Makes the device, in the namespace that the kernel has entered, else in the current one; or attaches to one of that
   * name that waits for its program. It is down, and without addresses: that is configuration, not ours.
   * @param name at most 15 bytes; with `%d` in it, the first number that is free; `this.name` tells
   * @returns 0 or -errno; -EBUSY when another program has it */
  open(name: string, options: TapLinkOptions = {}): number {
    return this.#raw.open(name, options.queue ?? QUEUE_FRAMES, options.offloads === false ? 0 : 1)
  }

  /** Takes a descriptor that carries one frame per read and write; it belongs to the link from then on.
   * @param vnetHeader whether frames come and go behind virtio's header; a tap device knows itself
   * @returns 0 or -errno */
  adopt(fd: number, vnetHeader = false): number {
    return this.#raw.adopt(fd, vnetHeader ? 1 : 0)
  }

  /** Name of the device; empty without one. */
  get name(): string {
    return this.#raw.name()
  }
  /** Interface index of the device in its namespace; 0 without one. */
  get index(): number {
    return this.#state[STATE_INDEX]!
  }
  /** Bits of TUNSETOFFLOAD that the kernel agreed to. */
  get offloads(): number {
    return this.#state[STATE_OFFLOADS]!
  }
  /** Frames that the device's queue holds. */
  get queue(): number {
    return this.#state[STATE_QUEUE]!
  }
  /** The MAC address that the device had when it was opened: the guest's, until it has spoken. */
  readMac(to: Uint8Array): void {
    const high = this.#state[STATE_MAC_HIGH]!
    const low = this.#state[STATE_MAC_LOW]!
    to[0] = high >> 8
    to[1] = high
    for (let i = 0; i < 4; i++) to[2 + i] = low >> (24 - 8 * i)
  }

  /** Has the kernel's `wait` report `ref` when there are frames: then call `receive` until `more` is false.
   * @returns 0 or -errno */
  watch(ref: number): number {
    return this.#raw.watch(ref)
  }

  /** Nothing to attend to: frames are all that happens here. */
  handleEvent(_index: number, _mask: number): void {}

  get connected(): boolean {
    return this.#state[STATE_CONNECTED] !== 0
  }
  get more(): boolean {
    return this.#state[STATE_MORE] !== 0
  }
  /** Rows that were thrown away because their columns contradict each other: a fault of the engine's. */
  get refusedRows(): number {
    return this.#state[STATE_REFUSED_ROWS]!
  }
  /** Frames to the guest that the device did not take: it was down, or memory was short. */
  get lostFrames(): number {
    return this.#state[STATE_LOST_FRAMES]!
  }
  /** Frames from the guest that were dropped: too short, or with a virtio header that makes no sense. */
  get badFrames(): number {
    return this.#state[STATE_BAD_FRAMES]!
  }

  /** As the interface says. A frame may be longer than FRAME_LENGTH_MAX: an IP packet of 65,535 bytes.
   * Negative: the device is gone, as the observer is told. */
  receive(): number {
    const rows = this.#raw.receive()
    if (rows < 0) {
      this.area.reset()
      this.#observer.disconnected?.(-rows)
    }
    return rows
  }

  /** As the interface says; always 0. */
  flush(): number {
    if (this.area.empty) return 0
    this.#raw.flush(this.area.next)
    this.area.reset()
    return 0
  }

  /** Closes the device, which goes with it. */
  close(): void {
    this.#raw.close()
    this.area.reset()
  }
}
