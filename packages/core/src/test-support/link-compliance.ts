/**
 * What every Link must do whatever carries its frames, as tests over the interface: a transport's own tests run them
 * with a guest on the other end of its medium.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest"

import {
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  type FrameTable,
  type Link,
  RX_FRAME_MAX,
  TX_AREA,
  TX_ARENA_BYTES,
} from "../index.ts"
import {
  completeHeaders,
  frameOf,
  type Headers,
  headersOf,
  internetChecksum,
  pattern,
  sameButIdentification,
  segmentsOf,
} from "./frames.ts"

/** A link, with what stands at the guest's end of its medium. */
export interface Stage {
  readonly link: Link & { close(): void; readonly refusedRows: number }
  readonly frames: FrameTable
  /** Largest frame that the medium takes. */
  readonly frameBytesMax: number
  /** Whether frames shorter than 60 bytes come out padded. */
  readonly pads: boolean
  /** Ways to the guest; over several, frames keep only their flow's order. Default: 1. */
  readonly queues?: number
  /** Sends frames as the guest; all of them are there when it returns. */
  send(frames: readonly Uint8Array[]): void
  /** Flushes the link, and takes what has come to the guest: segments are cut, checksums finished. */
  exchange(): Buffer[]
  /** Waits up to a second. @returns whether the link's event has come */
  wait(timeoutMs: number): boolean
  end(): void
}

export function linkCompliance(name: string, make: () => Stage): void {
  let s: Stage
  beforeEach(() => {
    s = make()
  })
  afterEach(() => {
    s.end()
  })

  function receiveAll(): Buffer[] {
    const got: Buffer[] = []
    do {
      const rows = s.link.receive()
      expect(rows).toBeGreaterThanOrEqual(0)
      expect(rows).toBeLessThanOrEqual(RX_FRAME_MAX)
      for (let row = 0; row < rows; row++) {
        const at = s.frames.offset[row]!
        got.push(Buffer.from(s.frames.arena.subarray(at, at + s.frames.length[row]!)))
      }
    } while (s.link.more)
    return got
  }
  function queue(frame: Uint8Array): boolean {
    const row = s.link.reserve(frame.length)
    if (row < 0) return false
    s.frames.arena.set(frame, s.frames.offset[row]!)
    s.frames.length[row] = frame.length
    s.link.commit(row)
    return true
  }
  function padded(frame: Buffer): Buffer {
    return s.pads && frame.length < 60 ? Buffer.concat([frame, Buffer.alloc(60 - frame.length)]) : frame
  }
  function queueSegment(h: Headers, headers: Buffer, payload: Buffer, mss: number): boolean {
    const length = headers.length + payload.length
    if (s.link.reserveRows(1, length) !== 1) return false
    const row = s.link.reservedRow
    s.frames.arena.set(completeHeaders(h, headers, payload.length), s.frames.offset[row]!)
    s.frames.arena.set(payload, s.frames.offset[row]! + headers.length)
    s.frames.length[row] = length
    s.frames.flags[row] = FRAME_NEEDS_CHECKSUM | (h.v6 ? FRAME_SEGMENT_TCP6 : FRAME_SEGMENT_TCP4)
    s.frames.checksumStart[row] = headers.length - 20 - h.tcpOptions
    s.frames.checksumOffset[row] = 16
    s.frames.segmentSize[row] = mss
    s.link.commit(row)
    return true
  }

  describe(`${name}: from the guest`, () => {
    test("frames come out as they went in, in order", () => {
      const sent = [60, 61, 1514, 14 + 46, 9014, s.frameBytesMax, 64].map((length, i) => frameOf(length, i))
      s.send(sent)
      expect(s.wait(1000)).toBe(true)
      expect(receiveAll()).toEqual(sent)
      expect(s.link.receive()).toBe(0)
    })

    test("a row tells all of its frame, and no more can be pulled than it has", () => {
      s.send([frameOf(100, 1)])
      s.frames.flags[0] = -1
      expect(s.link.receive()).toBe(1)
      expect(s.frames.length[0]).toBe(100)
      expect(s.frames.window[0]).toBe(100)
      expect(s.frames.flags[0]).toBe(0)
      expect(s.link.pull(0, 14)).toBe(100)
      expect(s.link.pull(0, 100)).toBe(100)
      expect(s.link.pull(0, 101)).toBe(-1)
    })

    test("more frames than rows: the link says that there is more", () => {
      const sent = Array.from({ length: RX_FRAME_MAX * 2 + 10 }, (_, i) => frameOf(64, i))
      s.send(sent)
      expect(s.link.receive()).toBe(RX_FRAME_MAX)
      expect(s.link.more).toBe(true)
      const rest = receiveAll()
      expect(rest).toEqual(sent.slice(RX_FRAME_MAX))
      expect(s.link.more).toBe(false)
    })

    test("an event tells of frames, once they are there, and no more when they were taken", () => {
      expect(receiveAll()).toEqual([])
      expect(s.wait(0)).toBe(false)
      s.send([frameOf(64, 1)])
      expect(s.wait(1000)).toBe(true)
      expect(receiveAll()).toEqual([frameOf(64, 1)])
      expect(s.wait(0)).toBe(false)
      s.send([frameOf(64, 2)])
      expect(s.wait(1000)).toBe(true)
      expect(receiveAll()).toEqual([frameOf(64, 2)])
    })
  })

  describe(`${name}: to the guest`, () => {
    test("frames come out as they went in, in order", () => {
      const sent = [60, 61, 1514, 42, 9014, s.frameBytesMax, 64].map((length, i) => frameOf(length, i))
      for (const frame of sent) expect(queue(frame)).toBe(true)
      expect(s.exchange()).toEqual(sent.map(padded))
      expect(s.exchange()).toEqual([])
    })

    test("a row that was reserved larger than it is used, and rows given back", () => {
      expect(s.link.reserveRows(3, 1000)).toBe(3)
      const first = s.link.reservedRow
      for (let i = 0; i < 2; i++) {
        s.frames.arena.set(frameOf(100 + i, i), s.frames.offset[first + i]!)
        s.frames.length[first + i] = 100 + i
        s.link.commit(first + i)
      }
      expect(s.link.reserve(500)).toBe(first + 2)
      expect(s.link.reserve(70)).toBe(first + 2)
      queue(frameOf(70, 9))
      expect(s.exchange()).toEqual([frameOf(100, 0), frameOf(101, 1), frameOf(70, 9)])
    })

    test("no more rows are prepared than fit, and control frames have room of their own", () => {
      const rows = s.link.reserveRows(2000, 65_535)
      expect(rows).toBeGreaterThan(100)
      const last = s.link.reservedRow + rows - 1
      expect(s.frames.offset[last]! + 65_535).toBeLessThanOrEqual(TX_AREA + TX_ARENA_BYTES)
      for (let row = s.link.reservedRow; row <= last; row++) {
        s.frames.length[row] = 65_535
        s.link.commit(row)
      }
      expect(s.link.reserve(65_535)).toBe(-1)
      expect(s.link.reserve(54)).toBeGreaterThan(last)
      expect(s.link.reserveRows(0, 100)).toBe(0)
    })

    test("the checksum is finished over odd and even lengths", () => {
      for (const length of [64, 65, 1514, 1513, s.frameBytesMax]) {
        const frame = udpFrame(length)
        const row = s.link.reserve(length)
        s.frames.arena.set(frame, s.frames.offset[row]!)
        s.frames.length[row] = length
        s.frames.flags[row] = FRAME_NEEDS_CHECKSUM
        s.frames.checksumStart[row] = 34
        s.frames.checksumOffset[row] = 6
        s.link.commit(row)
        // The field holds the pseudo-header's sum and is part of what is added up.
        frame.writeUInt16BE(internetChecksum(frame.subarray(34)), 40)
        expect(s.exchange()).toEqual([frame])
      }
    })

    test("rows whose columns contradict each other are left out, others are sent", () => {
      const { frames } = s
      const spoil: ((row: number) => void)[] = [
        (row) => (frames.length[row] = 13),
        (row) => (frames.length[row] = 65_536),
        (row) => (frames.offset[row] = -1),
        (row) => (frames.offset[row] = 0x7fff_ffff),
        (row) => (frames.checksumStart[row] = 99),
        (row) => (frames.checksumStart[row] = -1),
        (row) => (frames.checksumOffset[row] = 66),
        (row) => (frames.checksumOffset[row] = 0x7fff_ffff),
        (row) => (frames.flags[row] = FRAME_SEGMENT_TCP4),
        (row) => (frames.flags[row] = FRAME_SEGMENT_TCP6),
      ]
      spoil.forEach((wrong, i) => {
        const row = s.link.reserve(100)
        frames.arena.set(frameOf(100, 0), frames.offset[row]!)
        frames.flags[row] = FRAME_NEEDS_CHECKSUM
        frames.checksumStart[row] = 34
        frames.checksumOffset[row] = 6
        frames.segmentSize[row] = 0
        s.link.commit(row)
        wrong(row)
        // A good one behind it.
        queue(frameOf(77, i))
        expect(s.exchange()).toEqual([frameOf(77, i)])
        expect(s.link.refusedRows).toBe(i + 1)
      })
    })

    test.each<[string, Headers]>([
      ["IPv4", { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 1000, flags: 0x10 }],
      ["IPv4, PSH and FIN", { v6: false, ipOptions: 0, tcpOptions: 0, sequence: -700, flags: 0x19 }],
      ["IPv4, TCP options", { v6: false, ipOptions: 0, tcpOptions: 40, sequence: 0x7fff_fff0, flags: 0x18 }],
      ["IPv6", { v6: true, ipOptions: 0, tcpOptions: 0, sequence: -1, flags: 0x11 }],
      ["IPv6, TCP options", { v6: true, ipOptions: 0, tcpOptions: 12, sequence: 5, flags: 0x18 }],
    ])("a large segment over %s is cut as the model cuts it", (_, h) => {
      const cases: [number, number][] = [
        // Bridges cut the padding off shorter IPv4 packets.
        [6, 1400],
        [1400, 1400],
        [1406, 1400],
        [2800, 1400],
        [4000, 536],
        [61_320, 1400],
        [65_000, 1220],
        [9001, 8900],
        [64_800, 30_000],
      ]
      for (const [bytes, mss] of cases) {
        const headers = headersOf(h)
        const payload = pattern(bytes, mss)
        expect(queueSegment(h, headers, payload, mss)).toBe(true)
        const got = s.exchange()
        const want = segmentsOf(h, headers, payload, mss).map(padded)
        expect(got.length, `${bytes} by ${mss}`).toBe(want.length)
        for (let i = 0; i < want.length; i++) {
          if (!sameButIdentification(got[i]!, want[i]!))
            expect(got[i], `${bytes} by ${mss}, frame ${i}`).toEqual(want[i])
        }
      }
    })

    test("many rows of every kind keep their order", () => {
      const want: Buffer[] = []
      const h: Headers = { v6: true, ipOptions: 0, tcpOptions: 0, sequence: 9, flags: 0x18 }
      for (let i = 0; i < 40; i++) {
        const headers = headersOf(h)
        const payload = pattern(20_000 + i, i)
        expect(queueSegment(h, headers, payload, 1400)).toBe(true)
        want.push(...segmentsOf(h, headers, payload, 1400))
        const frame = frameOf(200 + i, i)
        expect(queue(frame)).toBe(true)
        want.push(frame)
      }
      const got = s.exchange()
      expect(got.length).toBe(want.length)
      // Over several queues: each flow its own order. The frames between the segments are of as many flows.
      const isSegment = (frame: Buffer): boolean => frame.length > 300
      const several = (s.queues ?? 1) > 1
      const sorted = (frames: Buffer[]): Buffer[] => frames.toSorted(Buffer.compare)
      for (const [came, meant] of several
        ? [
            [got.filter(isSegment), want.filter(isSegment)],
            [sorted(got), sorted(want)],
          ]
        : [[got, want]]) {
        for (let i = 0; i < meant!.length; i++) expect(came![i]!.equals(meant![i]!), `frame ${i}`).toBe(true)
      }
    })
  })

  test(`${name}: a closed link is quiet`, () => {
    queue(frameOf(64, 1))
    s.link.close()
    expect(s.link.connected).toBe(false)
    expect(s.link.flush()).toBe(0)
    expect(s.link.receive()).toBe(0)
    expect(s.link.more).toBe(false)
    expect(queue(frameOf(64, 2))).toBe(true)
    expect(s.link.flush()).toBe(0)
  })
}

/** A UDP datagram over IPv4 whose checksum field holds the sum of its pseudo-header. */
function udpFrame(length: number): Buffer {
  const frame = frameOf(length, length)
  frame.writeUInt16BE(0x0800, 12)
  pattern(length - 34, length).copy(frame, 34)
  frame.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2], 14)
  frame.writeUInt16BE(length - 14, 16)
  frame.writeUInt16BE(internetChecksum(frame.subarray(14, 34)), 24)
  frame.writeUInt16BE(length - 34, 38)
  const pseudo = Buffer.concat([frame.subarray(26, 34), Buffer.from([0, 17, (length - 34) >> 8, (length - 34) & 255])])
  frame.writeUInt16BE(~internetChecksum(pseudo) & 0xffff, 40)
  return frame
}
