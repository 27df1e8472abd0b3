/**
 * A link that trusts nobody: around each frame lies poison, in columns that the engine has to write before it reads them
 * too, and so in the room for frames to the guest. Two links with different poison must not make a difference.
 */
import { FRAME_LENGTH_MAX, RX_ARENA_BYTES, RX_FRAME_MAX } from "../../../packages/core/src/limits.ts"
import {
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  FrameTable,
  RX_AREA,
} from "../../../packages/core/src/frames.ts"
import type { Link } from "../../../packages/core/src/link.ts"
import { SendArea } from "../../../packages/core/src/send-area.ts"
import { checksum, udp } from "../../../packages/core/src/wire/index.ts"
import { Failure } from "../target.ts"
import type { Emitted } from "./well-formed.ts"

const HEADROOM = 4
/** Ethernet, IPv4 and TCP headers, as UnixLink reckons. */
const HEADERS_MIN = 54
/** Bytes of poison between frames: more than any length field of theirs can reach over. */
const GAP_MAX = 66_000
/** Bytes of a reserved row that get poison: all of short ones, of others the headers. */
const ROW_POISON_MAX = 2048

export class FuzzLink implements Link {
  readonly frames: FrameTable = new FrameTable()
  readonly segmentBytesMax: number = FRAME_LENGTH_MAX - HEADERS_MIN
  readonly windowMax: number
  connected = true
  stalled = false
  /** Whether a batch waits that the engine has not been told of. */
  get more(): boolean {
    return this.waiting.length > 0
  }
  /** Frames that left since somebody took them. */
  readonly sent: Emitted[] = []
  /** The next batch. */
  waiting: readonly Uint8Array[] = []
  /** Rows of the batch at hand. */
  rows = 0
  /** Who commits frames at the moment, and who committed those that wait. */
  by = ""
  readonly #by: string[] = []
  readonly #area: SendArea = new SendArea(this.frames, HEADROOM)
  readonly #poison: number

  constructor(windowMax: number, poison: number) {
    this.windowMax = windowMax
    this.#poison = poison
    this.frames.arena.fill(poison)
    this.frames.columns.fill(this.#columnPoison)
  }

  /** Large, so that an index computed with it is none. */
  get #columnPoison(): number {
    return this.#poison * 0x01010101
  }

  handleEvent(): void {}

  receive(): number {
    const { arena, offset, length, window, flags, columns } = this.frames
    const batch = this.waiting
    this.waiting = []
    const total = batch.reduce((sum, frame) => sum + frame.length, 0)
    const gap = Math.min(GAP_MAX, Math.floor((RX_ARENA_BYTES - total) / (batch.length + 1)))
    if (gap < 0 || batch.length > RX_FRAME_MAX) throw new Error("a batch must fit the receive area")
    for (let column = 0; column * FRAME_COLUMN < columns.length; column++) {
      columns.fill(this.#columnPoison, column * FRAME_COLUMN, column * FRAME_COLUMN + RX_FRAME_MAX)
    }
    let at = RX_AREA
    batch.forEach((frame, row) => {
      arena.fill(this.#poison, at, at + gap)
      at += gap
      arena.set(frame, at)
      offset[row] = at
      length[row] = frame.length
      window[row] = frame.length
      // Some media leave checksums to the receiver; which frames these are follows from the frames themselves.
      flags[row] = frame[frame.length - 1]! % 8 === 7 ? FRAME_NEEDS_CHECKSUM : 0
      at += frame.length
    })
    arena.fill(this.#poison, at, Math.min(at + GAP_MAX, RX_ARENA_BYTES))
    this.rows = batch.length
    return batch.length
  }

  pull(row: number, bytes: number): number {
    return bytes <= this.frames.length[row]! ? this.frames.length[row]! : -1
  }

  reserve(bytes: number): number {
    const row = this.#area.reserve(bytes)
    if (row >= 0) this.#spoil(row)
    return row
  }

  reserveRows(count: number, bytes: number): number {
    const rows = this.#area.reserveRows(count, bytes)
    for (let i = 0; i < rows; i++) this.#spoil(this.#area.reservedRow + i)
    return rows
  }

  reserveStream(count: number, bytes: number, _flow: number): number {
    return this.reserveRows(count, bytes)
  }

  #spoil(row: number): void {
    const { frames } = this
    const at = frames.offset[row]!
    frames.arena.fill(this.#poison, at, at + Math.min(frames.window[row]!, ROW_POISON_MAX))
    for (const column of [
      frames.payload,
      frames.payloadLength,
      frames.next,
      frames.checksumStart,
      frames.checksumOffset,
      frames.segmentSize,
    ]) {
      column[row] = this.#columnPoison
    }
  }

  get reservedRow(): number {
    return this.#area.reservedRow
  }

  commit(row: number): void {
    const { frames } = this
    if (row !== this.#area.next) throw new Failure(`row ${row} committed, but ${this.#area.next} is next`)
    if (frames.length[row]! > frames.window[row]!) {
      throw new Failure(`a frame of ${frames.length[row]} bytes where ${frames.window[row]} were reserved`)
    }
    this.#area.commit(row)
    this.#by[row] = this.by
  }

  flush(): number {
    if (this.#area.empty) return 0
    if (this.stalled) return 1
    const end = this.#area.next
    for (let row = RX_FRAME_MAX; row < end; row++) this.#send(row)
    this.#area.reset()
    return 0
  }

  /** The guest is gone, and what was meant for it. */
  disconnect(): void {
    this.connected = false
    this.stalled = false
    this.#area.reset()
  }

  get blocked(): boolean {
    return this.stalled && !this.#area.empty
  }

  /** Finishes checksums as a transport does. */
  #send(row: number): void {
    const { frames } = this
    const o = frames.offset[row]!
    const frame = frames.arena.slice(o, o + frames.length[row]!)
    const flags = frames.flags[row]!
    const cut = (flags & (FRAME_SEGMENT_TCP4 | FRAME_SEGMENT_TCP6)) !== 0
    if (cut && frames.segmentSize[row]! <= 0) throw new Failure(`a row to be cut into ${frames.segmentSize[row]} bytes`)
    const start = frames.checksumStart[row]!
    const field = frames.checksumOffset[row]!
    if ((flags & ~(FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_TCP4 | FRAME_SEGMENT_TCP6)) !== 0) {
      throw new Failure(`flags ${flags} of a row`)
    }
    if (flags !== 0 && (start < 0 || field < 0 || start + field + 2 > frame.length)) {
      throw new Failure(`a checksum at ${start} + ${field} of ${frame.length} bytes`)
    }
    if (flags === FRAME_NEEDS_CHECKSUM) {
      const sum = checksum.checksumOf(new DataView(frame.buffer), start, frame.length - start)
      // RFC 768: zero is sent as all ones.
      const value = sum === 0 && field === udp.CHECKSUM ? 0xffff : sum
      frame[start + field] = value >> 8
      frame[start + field + 1] = value & 255
    }
    this.sent.push({ frame, segmentSize: cut ? frames.segmentSize[row]! : 0, by: this.#by[row]! })
  }
}

/** Words of one column. */
const FRAME_COLUMN: number = new FrameTable().offset.length
