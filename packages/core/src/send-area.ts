/**
 * The send area of links whose frames lie whole in the arena: rows and bytes are handed out from one end to the other
 * and taken back all at once, when everything has been sent.
 *
 * ```
 *   rows    RX_FRAME_MAX … next … data limit … FRAME_MAX
 *   arena   [ room frame | room frame | room frame | free …… data limit …… | control ]
 *                                                   ^ top
 * ```
 *
 * `room` is headroom for the link's own framing. Frames are not aligned: full ones lie back to back, so that native
 * code can send many as one piece. The rows and bytes behind the data limit are for short frames only: a guest that
 * does not read gets its acknowledgements and resets all the same, as soon as it reads.
 */
import { type FrameTable, TX_AREA } from "./frames.ts"
import {
  FRAME_LENGTH_MIN,
  FRAME_MAX,
  RX_FRAME_MAX,
  TX_ARENA_BYTES,
  TX_CONTROL_BYTES,
  TX_CONTROL_FRAME_BYTES,
  TX_CONTROL_FRAMES,
} from "./limits.ts"

const END: number = TX_AREA + TX_ARENA_BYTES
const DATA_END: number = END - TX_CONTROL_BYTES
const DATA_ROW_END: number = FRAME_MAX - TX_CONTROL_FRAMES

export class SendArea {
  readonly #frames: FrameTable
  readonly #headroom: number
  /** First byte that is not committed. */
  #top: number = TX_AREA
  /** First row that is not committed: rows RX_FRAME_MAX … next-1 wait to be sent. */
  next: number = RX_FRAME_MAX
  /** First row of the last reserveRows. */
  reservedRow: number = RX_FRAME_MAX

  /** @param headroom bytes kept free before each frame */
  constructor(frames: FrameTable, headroom: number) {
    this.#frames = frames
    this.#headroom = headroom
  }

  get empty(): boolean {
    return this.next === RX_FRAME_MAX
  }

  /** See Link.reserve. */
  reserve(bytes: number): number {
    const control = bytes <= TX_CONTROL_FRAME_BYTES
    const row = this.next
    if (row >= (control ? FRAME_MAX : DATA_ROW_END)) return -1
    const offset = this.#top + this.#headroom
    if (offset + this.#space(bytes) > (control ? END : DATA_END)) return -1
    this.#prepare(row, offset, bytes)
    return row
  }

  /** See Link.reserveRows. */
  reserveRows(count: number, bytes: number): number {
    this.reservedRow = this.next
    const step = this.#headroom + this.#space(bytes)
    let offset = this.#top + this.#headroom
    let row = this.next
    const end = Math.min(row + count, DATA_ROW_END)
    while (row < end && offset - this.#headroom + step <= DATA_END) {
      this.#prepare(row, offset, bytes)
      offset += step
      row++
    }
    return row - this.reservedRow
  }

  /** See Link.commit. */
  commit(row: number): void {
    this.next = row + 1
    this.#top = this.#frames.offset[row]! + this.#space(this.#frames.length[row]!)
  }

  /** Takes everything back: all has been sent, or the guest is gone. */
  reset(): void {
    this.next = RX_FRAME_MAX
    this.#top = TX_AREA
  }

  #prepare(row: number, offset: number, bytes: number): void {
    const frames = this.#frames
    frames.offset[row] = offset
    frames.length[row] = bytes
    frames.window[row] = bytes
    frames.flags[row] = 0
  }

  /** Bytes that a frame takes: short ones are padded in place. */
  #space(bytes: number): number {
    return bytes < FRAME_LENGTH_MIN ? FRAME_LENGTH_MIN : bytes
  }
}
