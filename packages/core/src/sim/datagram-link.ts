/**
 * A link in memory: frames that a test hands in, frames that the engine sent, checksums finished as a transport would.
 */
import { FRAME_NEEDS_CHECKSUM, FrameTable, RX_AREA } from "../frames.ts"
import { FRAME_LENGTH_MAX, RX_ARENA_BYTES, RX_FRAME_MAX } from "../limits.ts"
import type { Link } from "../link.ts"
import { SendArea } from "../send-area.ts"
import { checksumOf } from "../wire/checksum.ts"
import * as udp from "../wire/udp.ts"

/** What a UNIX socket puts before a frame. */
const HEADROOM = 4

export class DatagramLink implements Link {
  readonly frames: FrameTable = new FrameTable()
  readonly segmentBytesMax = 65_000
  readonly windowMax = 0
  connected = true
  /** While true, nothing leaves. */
  stalled = false
  /** Frames that left, whole. */
  readonly sent: Uint8Array[] = []
  readonly #area: SendArea = new SendArea(this.frames, HEADROOM)
  readonly #waiting: Uint8Array[] = []
  #committed = -1

  /** Hands in a frame from the guest. */
  push(frame: Uint8Array): void {
    if (frame.length > FRAME_LENGTH_MAX) throw new Error("no link carries such a frame")
    this.#waiting.push(frame)
  }

  handleEvent(): void {}

  receive(): number {
    let rows = 0
    let at = RX_AREA
    while (rows < RX_FRAME_MAX && this.#waiting.length > 0) {
      const frame = this.#waiting[0]!
      if (at + frame.length > RX_AREA + RX_ARENA_BYTES) break
      this.#waiting.shift()
      this.frames.arena.set(frame, at)
      this.frames.offset[rows] = at
      this.frames.length[rows] = frame.length
      this.frames.window[rows] = frame.length
      this.frames.flags[rows] = 0
      at += frame.length
      rows++
    }
    return rows
  }

  get more(): boolean {
    return this.#waiting.length > 0
  }

  pull(row: number, bytes: number): number {
    return bytes <= this.frames.length[row]! ? this.frames.length[row]! : -1
  }

  reserve(bytes: number): number {
    return this.#area.reserve(bytes)
  }

  reserveRows(count: number, bytes: number): number {
    return this.#area.reserveRows(count, bytes)
  }

  get reservedRow(): number {
    return this.#area.reservedRow
  }

  /** @throws Error when rows are not committed in order, without gaps */
  commit(row: number): void {
    if (row !== this.#area.next) throw new Error(`row ${row} committed, but ${this.#area.next} is next`)
    if (this.frames.length[row]! > FRAME_LENGTH_MAX) throw new Error(`frame of ${this.frames.length[row]!} bytes`)
    if (this.frames.length[row]! > this.frames.window[row]!) throw new Error("frame is longer than what was reserved")
    this.#area.commit(row)
    this.#committed = row
  }

  flush(): number {
    if (this.stalled) return this.#area.empty ? 0 : 1
    if (!this.#area.empty) {
      for (let row = RX_FRAME_MAX; row <= this.#committed; row++) this.#send(row)
      this.#area.reset()
    }
    return 0
  }

  get blocked(): boolean {
    return this.stalled && !this.#area.empty
  }

  #send(row: number): void {
    const { frames } = this
    const o = frames.offset[row]!
    if ((frames.flags[row]! & FRAME_NEEDS_CHECKSUM) !== 0) {
      const start = o + frames.checksumStart[row]!
      const sum = checksumOf(frames.view, start, o + frames.length[row]! - start)
      // RFC 768: a sum of zero is sent as all ones, for zero means that there is none.
      const isUdp = frames.checksumOffset[row]! === udp.CHECKSUM
      frames.view.setUint16(start + frames.checksumOffset[row]!, isUdp && sum === 0 ? 0xffff : sum)
    }
    this.sent.push(frames.arena.slice(o, o + frames.length[row]!))
  }
}
