/**
 * A link in memory. It finishes checksums and cuts large segments as a transport does, takes only as much as the guest's
 * side has room for, and hands every frame to whoever carries it on.
 */
import { FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4, FRAME_SEGMENT_TCP6, FrameTable, RX_AREA } from "../frames.ts"
import { EVENT_IN, EVENT_OUT } from "../kernel.ts"
import { FRAME_LENGTH_MAX, RX_ARENA_BYTES, RX_FRAME_MAX } from "../limits.ts"
import type { Link } from "../link.ts"
import { SendArea } from "../send-area.ts"
import { checksumOf, fold, pseudo4, pseudo6 } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as tcp from "../wire/tcp.ts"
import * as udp from "../wire/udp.ts"

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
    const o = frames.offset[row]!
    const length = frames.length[row]!
    const flags = frames.flags[row]!
    const frame = frames.arena.slice(o, o + length)
    if ((flags & (FRAME_SEGMENT_TCP4 | FRAME_SEGMENT_TCP6)) !== 0) {
      this.#cut(frame, row)
      return
    }
    if ((flags & FRAME_NEEDS_CHECKSUM) !== 0) {
      const d = new DataView(frame.buffer)
      const start = frames.checksumStart[row]!
      const sum = checksumOf(d, start, length - start)
      // RFC 768: a sum of zero is sent as all ones, for zero means that there is none.
      const isUdp = frames.checksumOffset[row]! === udp.CHECKSUM
      d.setUint16(start + frames.checksumOffset[row]!, isUdp && sum === 0 ? 0xffff : sum)
    }
    this.onFrame(frame)
  }

  /** Software segmentation of one row. */
  #cut(frame: Uint8Array, row: number): void {
    const { frames } = this
    const size = frames.segmentSize[row]!
    const v4 = (frames.flags[row]! & FRAME_SEGMENT_TCP4) !== 0
    const l4 = frames.checksumStart[row]!
    const whole = new DataView(frame.buffer)
    const headers = l4 + tcp.headerLength(whole, l4)
    const payload = frame.length - headers
    if (payload > this.segmentBytesMax) throw new Error(`${payload} bytes to cut are more than the link takes`)
    if (size <= 0 || payload <= size) throw new Error(`nothing to cut: ${payload} bytes in segments of ${size}`)
    if (whole.getUint16(l4 + tcp.CHECKSUM) !== pseudo(whole, v4, frame.length - l4)) {
      throw new Error("the pseudo-header's sum of a large segment is wrong")
    }
    for (let done = 0; done < payload; done += size) {
      const part = Math.min(size, payload - done)
      const last = done + part === payload
      const cut = new Uint8Array(headers + part)
      cut.set(frame.subarray(0, headers))
      cut.set(frame.subarray(headers + done, headers + done + part), headers)
      const d = new DataView(cut.buffer)
      const ip = ethernet.HEADER_LENGTH
      if (v4) {
        d.setUint16(ip + 2, cut.length - ip)
        d.setUint16(ip + 10, 0)
        d.setUint16(ip + 10, checksumOf(d, ip, ipv4.HEADER_LENGTH))
      } else {
        d.setUint16(ip + 4, cut.length - ip - ipv6.HEADER_LENGTH)
      }
      d.setInt32(l4 + tcp.SEQUENCE, (tcp.sequence(d, l4) + done) | 0)
      if (!last) d.setUint8(l4 + tcp.OFFSET_FLAGS + 1, tcp.flags(d, l4) & ~(tcp.FIN | tcp.PSH))
      d.setUint16(l4 + tcp.CHECKSUM, pseudo(d, v4, cut.length - l4))
      d.setUint16(l4 + tcp.CHECKSUM, checksumOf(d, l4, cut.length - l4))
      this.onFrame(cut)
    }
  }
}

function pseudo(d: DataView, v4: boolean, length: number): number {
  const ip = ethernet.HEADER_LENGTH
  if (v4) return pseudo4(ipv4.source(d, ip), ipv4.destination(d, ip), ipv4.PROTOCOL_TCP, length)
  const words = new Int32Array(8)
  for (let i = 0; i < 8; i++) words[i] = d.getInt32(ip + ipv6.SOURCE + 4 * i)
  return fold(pseudo6(words, 0, words, 4, ipv4.PROTOCOL_TCP, length))
}

/** Whether a frame to the guest is a question about its groups: IGMP, or ICMPv6 behind a hop-by-hop header. */
function isQuestion(frame: Uint8Array): boolean {
  if (frame[12] === 0x08 && frame[13] === 0x00) return frame[23] === ipv4.PROTOCOL_IGMP
  return frame[12] === 0x86 && frame[20] === 0
}
