/**
 * The frame table: where frames are, never what they hold.
 *
 * ```
 *   row →      0 … RX_FRAME_MAX-1            RX_FRAME_MAX … FRAME_MAX-1
 *              from the guest (one batch)    to the guest (until the next flush)
 *   arena →    [ receive area ][ send area                    ][ hold area ]
 * ```
 *
 * A row names a frame. `offset` says where its header window begins in the arena; `length` is the frame's whole length.
 * On a UNIX socket and on a tap the whole frame lies at `offset`. On vhost-user only the first `window` bytes may, and
 * native code knows where the rest is (FRAME_ELSEWHERE): so the engine reads and writes headers through `view`, but names payload only as
 * (row, payload, payloadLength), in calls of Kernel and Link.
 *
 * Four columns, from `flags` on, describe work left to whoever transmits a frame, with the meaning of virtio-net's header
 * (VIRTIO 1.2, 5.1.6): finish a checksum, cut one large TCP or UDP payload into several frames.
 */
import { ARENA_BYTES, FRAME_MAX, GATHER_MAX, RX_ARENA_BYTES, TX_ARENA_BYTES } from "./limits.ts"

/** Columns in one shared Int32Array, `FRAME_MAX` words each, in this order. Native code uses the same numbers. */
export const COLUMN = {
  offset: 0,
  length: 1,
  window: 2,
  payload: 3,
  payloadLength: 4,
  next: 5,
  flags: 6,
  checksumStart: 7,
  checksumOffset: 8,
  segmentSize: 9,
  hopLimit: 10,
} as const
export const COLUMN_COUNT = 11

/** The transport checksum field holds the folded, not complemented, sum of the pseudo-header: add the bytes from
 * `checksumStart` to the end of the frame, complement, store at `checksumStart + checksumOffset`. */
export const FRAME_NEEDS_CHECKSUM = 1
/** `segmentSize` bytes of payload per frame: cut TCP over IPv4. Lengths, IPv4 header checksum, sequence numbers and
 * FIN/PSH (only on the last) are set by who cuts. Implies FRAME_NEEDS_CHECKSUM. */
export const FRAME_SEGMENT_TCP4 = 2
/** As FRAME_SEGMENT_TCP4, over IPv6. */
export const FRAME_SEGMENT_TCP6 = 4
/** From the guest only: the payload is several UDP datagrams of `segmentSize` bytes, the last one what is left. UDP and IP
 * lengths are those of the whole. Kernel.sendDatagrams sends them as what they are. */
export const FRAME_SEGMENT_UDP = 8
/** The payload does not lie in the arena but where the link knows, and only Kernel's calls that take rows find it: sendFrames, holdPayload,
 * peekIntoFrames. Writer: Link. */
export const FRAME_ELSEWHERE = 16

/** Where the areas begin in the arena, bytes. */
export const RX_AREA = 0
export const TX_AREA: number = RX_ARENA_BYTES
export const HOLD_AREA: number = RX_ARENA_BYTES + TX_ARENA_BYTES

export class FrameTable {
  /** All frame memory. Native code keeps a pointer to it for the life of the engine. */
  readonly arena: Uint8Array<ArrayBuffer>
  /** The arena for header fields: DataView reads and writes network byte order by default. */
  readonly view: DataView<ArrayBuffer>
  /** All columns, shared with native code. */
  readonly columns: Int32Array<ArrayBuffer>
  /** Where the header window begins, byte offset into the arena. Writer: Link. */
  readonly offset: Int32Array
  /** Length of the frame from its Ethernet header, without padding and without the link's own framing. Writer: Link
   * (from the guest), engine (to the guest). */
  readonly length: Int32Array
  /** Bytes of the frame that are readable at `offset`, at most `length`; of a reserved row: the bytes that were asked for. Writer: Link. */
  readonly window: Int32Array
  /** Start of the transport payload, bytes from the start of the frame. Writer: engine. */
  readonly payload: Int32Array
  /** Bytes of transport payload. Writer: engine; Kernel for datagrams that it received. */
  readonly payloadLength: Int32Array
  /** Next frame of the same flow in this batch, or -1. Engine only. */
  readonly next: Int32Array
  /** FRAME_… bits. Writer: engine (to the guest), Link (from the guest). */
  readonly flags: Int32Array
  /** Where the transport header begins, bytes from the start of the frame: what a checksum covers (to the guest); as found by the engine (from
   * the guest). */
  readonly checksumStart: Int32Array
  readonly checksumOffset: Int32Array
  readonly segmentSize: Int32Array
  /** Hop limit (TTL) of a datagram from the network, as it arrived; 0: unknown. Writer: Kernel. */
  readonly hopLimit: Int32Array
  /** Rows in the order in which Kernel.sendFrames and sendDatagrams take their payload. Writer: engine. */
  readonly gather: Int32Array<ArrayBuffer>

  constructor() {
    this.arena = new Uint8Array(new ArrayBuffer(ARENA_BYTES))
    this.view = new DataView(this.arena.buffer)
    this.columns = new Int32Array(new ArrayBuffer(COLUMN_COUNT * FRAME_MAX * 4))
    this.offset = this.#column(COLUMN.offset)
    this.length = this.#column(COLUMN.length)
    this.window = this.#column(COLUMN.window)
    this.payload = this.#column(COLUMN.payload)
    this.payloadLength = this.#column(COLUMN.payloadLength)
    this.next = this.#column(COLUMN.next)
    this.flags = this.#column(COLUMN.flags)
    this.checksumStart = this.#column(COLUMN.checksumStart)
    this.checksumOffset = this.#column(COLUMN.checksumOffset)
    this.segmentSize = this.#column(COLUMN.segmentSize)
    this.hopLimit = this.#column(COLUMN.hopLimit)
    this.gather = new Int32Array(new ArrayBuffer(GATHER_MAX * 4))
  }

  #column(index: number): Int32Array {
    return new Int32Array(this.columns.buffer, index * FRAME_MAX * 4, FRAME_MAX)
  }
}
