/**
 * A link in memory. It finishes checksums and cuts large segments as a transport does, takes only as much as the guest's
 * side has room for, and hands every frame to whoever carries it on.
 */
import { finishRow, pseudoTcp } from "../finish.ts"
import { FRAME_SEGMENT_TCP4, FRAME_SEGMENT_TCP6, FrameTable, RX_AREA } from "../frames.ts"
import { EVENT_IN, EVENT_OUT } from "../kernel.ts"
import { FRAME_LENGTH_MAX, RX_ARENA_BYTES, RX_FRAME_MAX } from "../limits.ts"
import type { Link } from "../link.ts"
import { SendArea } from "../send-area.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as tcp from "../wire/tcp.ts"

/** What a UNIX socket puts before a frame. */
const HEADROOM = 4

export class SimLink implements Link {
  readonly frames: FrameTable = new FrameTable()
  readonly segmentBytesMax: number
  readonly windowMax: number
  connected = true
  /** Frames that the guest's side takes until it has room again. */
  room: number = Number.POSITIVE_INFINITY
  /** Frames that left, whole; unless somebody takes them at once. */
  readonly sent: Uint8Array[] = []
  /** Of these, IGMP and MLD: they come by the clock, and are nobody's answer. */
  readonly questions: Uint8Array[] = []
  onFrame: (frame: Uint8Array) => void = (frame) => (isQuestion(frame) ? this.questions : this.sent).push(frame)
  /** Called when an event of the link's descriptor is pending. */
  onEvent: () => void = () => {}
  readonly #area: SendArea = new SendArea(this.frames, HEADROOM)
  readonly #incoming: Uint8Array[] = []
  #taken = 0
  #committed: number = RX_FRAME_MAX - 1
  #gone: number = RX_FRAME_MAX
  #events = 0

  constructor(segmentBytesMax = 65_000, windowMax = 0) {
    this.segmentBytesMax = segmentBytesMax
    this.windowMax = windowMax
  }

  /** A frame from the guest. */
  push(frame: Uint8Array): void {
    if (frame.length > FRAME_LENGTH_MAX) throw new Error(`no link carries a frame of ${frame.length} bytes`)
    if (!this.connected) return
    this.#incoming.push(frame)
    this.#raise(EVENT_IN)
  }

  /** While true, nothing leaves. */
  get stalled(): boolean {
    return this.room <= 0
  }
  set stalled(stalled: boolean) {
    this.drained(stalled ? 0 : Number.POSITIVE_INFINITY)
  }

  /** The guest's side has room for `count` frames from now on. */
  drained(count: number): void {
    const { blocked } = this
    this.room = count
    if (blocked && count > 0) this.#raise(EVENT_OUT)
  }

  /** The guest's side is gone, or there again; what was on its way is lost. */
  attach(connected: boolean): void {
    this.connected = connected
    this.#incoming.length = 0
    this.#taken = 0
    this.#empty()
    this.#raise(EVENT_IN)
  }

  #empty(): void {
    this.#area.reset()
    this.#committed = RX_FRAME_MAX - 1
    this.#gone = RX_FRAME_MAX
  }

  /** Takes the pending events of the link's descriptor. */
  readonly takeEvents = (): number => {
    const events = this.#events
    this.#events = 0
    return events
  }

  #raise(mask: number): void {
    this.#events |= mask
    this.onEvent()
  }

  handleEvent(): void {}

  receive(): number {
    const { frames } = this
    let rows = 0
    let at = RX_AREA
    while (rows < RX_FRAME_MAX && this.#taken < this.#incoming.length) {
      const frame = this.#incoming[this.#taken]!
      if (at + frame.length > RX_AREA + RX_ARENA_BYTES) break
      this.#taken++
      frames.arena.set(frame, at)
      frames.offset[rows] = at
      frames.length[rows] = frame.length
      frames.window[rows] = frame.length
      frames.flags[rows] = 0
      at += frame.length
      rows++
    }
    if (this.#taken === this.#incoming.length) {
      this.#incoming.length = 0
      this.#taken = 0
    }
    return rows
  }

  get more(): boolean {
    return this.#taken < this.#incoming.length
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
  reserveStream(count: number, bytes: number, _flow: number): number {
    return this.#area.reserveRows(count, bytes)
  }
  get reservedRow(): number {
    return this.#area.reservedRow
  }

  /** @throws Error when rows are not committed in order, or hold more than was reserved */
  commit(row: number): void {
    const { frames } = this
    if (row !== this.#area.next) throw new Error(`row ${row} committed, but ${this.#area.next} is next`)
    if (frames.length[row]! > FRAME_LENGTH_MAX) throw new Error(`frame of ${frames.length[row]} bytes`)
    if (frames.length[row]! > frames.window[row]!) throw new Error("frame is longer than what was reserved")
    this.#area.commit(row)
    this.#committed = row
  }

  flush(): number {
    if (!this.connected) this.#empty()
    while (this.#gone <= this.#committed && this.room > 0) {
      this.room--
      this.#transmit(this.#gone++)
    }
    if (this.#gone <= this.#committed) return 1
    this.#empty()
    return 0
  }

  get blocked(): boolean {
    return this.room <= 0 && this.#gone <= this.#committed
  }

  #transmit(row: number): void {
    const { frames } = this
    if ((frames.flags[row]! & (FRAME_SEGMENT_TCP4 | FRAME_SEGMENT_TCP6)) !== 0) this.#checkCut(row)
    finishRow(frames, row, this.onFrame)
  }

  /** @throws Error for a large segment that is none, or whose checksum field is not what the cutter begins with */
  #checkCut(row: number): void {
    const { frames } = this
    const { view } = frames
    const o = frames.offset[row]!
    const size = frames.segmentSize[row]!
    const l4 = frames.checksumStart[row]!
    const payload = frames.length[row]! - l4 - tcp.headerLength(view, o + l4)
    if (payload > this.segmentBytesMax) throw new Error(`${payload} bytes to cut are more than the link takes`)
    if (size <= 0 || payload <= size) throw new Error(`nothing to cut: ${payload} bytes in segments of ${size}`)
    const length = frames.length[row]!
    const frame = new DataView(frames.arena.buffer, o, length)
    const v4 = (frames.flags[row]! & FRAME_SEGMENT_TCP4) !== 0
    if (frame.getUint16(l4 + tcp.CHECKSUM) !== pseudoTcp(frame, v4, length - l4)) {
      throw new Error("the pseudo-header's sum of a large segment is wrong")
    }
  }
}

/** Whether a frame to the guest is a question about its groups: IGMP, or ICMPv6 behind a hop-by-hop header. */
function isQuestion(frame: Uint8Array): boolean {
  if (frame[12] === 0x08 && frame[13] === 0x00) return frame[23] === ipv4.PROTOCOL_IGMP
  return frame[12] === 0x86 && frame[20] === 0
}
