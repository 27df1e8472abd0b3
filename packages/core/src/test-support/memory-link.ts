/**
 * A link of memory for tests of responders: one frame from the guest at a time, and a list of what went to the guest.
 */
import { FrameTable, TX_AREA } from "../frames.ts"
import { RX_FRAME_MAX } from "../limits.ts"
import type { Link } from "../link.ts"

/** Bytes around a received frame that a responder must never read into an answer. */
const POISON = 0xa5

export class MemoryLink implements Link {
  readonly frames: FrameTable = new FrameTable()
  readonly segmentBytesMax = 65_480
  readonly windowMax = 0
  readonly more = false
  readonly blocked = false
  readonly reservedRow = -1
  connected = true
  /** What was committed, oldest first: copies. */
  sent: Uint8Array[] = []
  /** While true, `reserve` finds no room. */
  full = false
  #reservedBytes = 0

  /** Puts a frame into row 0, with poison behind it. @returns its offset in the arena. */
  receiveFrame(frame: Uint8Array): number {
    const offset = 64
    this.frames.arena.fill(POISON, 0, offset + frame.length + 2048)
    this.frames.arena.set(frame, offset)
    this.frames.offset[0] = offset
    this.frames.length[0] = frame.length
    this.frames.window[0] = frame.length
    this.frames.flags[0] = 0
    return offset
  }

  reserve(bytes: number): number {
    if (this.full) return -1
    const row = RX_FRAME_MAX
    this.#reservedBytes = bytes
    this.frames.offset[row] = TX_AREA + 64
    this.frames.length[row] = -1
    this.frames.flags[row] = -1
    this.frames.arena.fill(POISON, TX_AREA, TX_AREA + 64 + bytes + 2048)
    return row
  }

  commit(row: number): void {
    const offset = this.frames.offset[row]
    const length = this.frames.length[row]
    if (length < 0 || length > this.#reservedBytes)
      throw new Error(`length ${length} of ${this.#reservedBytes} reserved`)
    if (this.frames.flags[row] !== 0) throw new Error("flags were not set")
    const { arena } = this.frames
    const behind = arena.subarray(offset + this.#reservedBytes, offset + this.#reservedBytes + 2048)
    const before = arena.subarray(offset - 64, offset)
    if (![...before, ...behind].every((byte) => byte === POISON)) throw new Error("wrote outside of the reserved room")
    this.sent.push(arena.slice(offset, offset + length))
  }

  handleEvent(): void {}
  receive(): number {
    return 0
  }
  pull(row: number): number {
    return this.frames.length[row]
  }
  reserveRows(): number {
    return 0
  }
  reserveStream(): number {
    return 0
  }
  flush(): number {
    return 0
  }
}
