import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

import {
  FRAME_LENGTH_MAX,
  FRAME_MAX,
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  RX_FRAME_MAX,
  TX_AREA,
  TX_ARENA_BYTES,
} from "@passt/core"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

import { type Client, pattern, unframed } from "./test-support/client.ts"
import { type Headers, headersOf, internetChecksum, padded, segmentsOf } from "./test-support/segment-model.ts"
import { queue, type Setting, setting } from "./test-support/setting.ts"

let s: Setting
let client: Client
beforeEach(() => {
  s = setting()
  client = s.connect()
  s.link.handleEvent(0, 1)
})
afterEach(() => {
  s.end()
})

/** Small deterministic numbers. */
function numbers(seed: number): (below: number) => number {
  let x = seed | 1
  return (below) => {
    x = (Math.imul(x, 1664525) + 1013904223) | 0
    return ((x >>> 8) % below) | 0
  }
}

/** Queues a large TCP segment to be cut. */
function queueSegment(h: Headers, headers: Buffer, payload: Buffer, mss: number): boolean {
  const length = headers.length + payload.length
  if (s.link.reserveRows(1, length) !== 1) return false
  const row = s.link.reservedRow
  s.frames.arena.set(headers, s.frames.offset[row]!)
  s.frames.arena.set(payload, s.frames.offset[row]! + headers.length)
  s.frames.length[row] = length
  s.frames.flags[row] = h.v6 ? FRAME_SEGMENT_TCP6 : FRAME_SEGMENT_TCP4
  s.frames.checksumStart[row] = headers.length - 20 - h.tcpOptions
  s.frames.checksumOffset[row] = 16
  s.frames.segmentSize[row] = mss
  s.link.commit(row)
  return true
}

/** Flushes while the client reads. @returns all that it got */
function drain(): Buffer {
  const parts: Buffer[] = []
  for (;;) {
    const left = s.link.flush()
    parts.push(client.read())
    if (left === 0) return Buffer.concat(parts)
  }
}

function exchange(): Buffer[] {
  return unframed(drain())
}

describe("plain frames", () => {
  test("short frames are padded with zeros, whatever lay there before", () => {
    s.frames.arena.fill(0xee, TX_AREA, TX_AREA + 1000)
    const sizes = [14, 42, 59, 60, 61]
    for (const size of sizes) queue(s, pattern(size, size))
    expect(exchange()).toEqual(sizes.map((size) => padded(pattern(size, size))))
  })

  test("a row that was reserved larger than it is used, and rows given back", () => {
    expect(s.link.reserveRows(3, 1000)).toBe(3)
    const first = s.link.reservedRow
    for (let i = 0; i < 2; i++) {
      s.frames.arena.set(pattern(100 + i, i), s.frames.offset[first + i]!)
      s.frames.length[first + i] = 100 + i
      s.link.commit(first + i)
    }
    expect(s.link.reserve(500)).toBe(first + 2)
    expect(s.link.reserve(70)).toBe(first + 2)
    queue(s, pattern(70, 9))
    expect(exchange()).toEqual([pattern(100, 0), pattern(101, 1), pattern(70, 9)])
  })

  test("the checksum is finished over odd and even lengths", () => {
    for (const length of [60, 61, 62, 1514, 1513, FRAME_LENGTH_MAX]) {
      const frame = pattern(length, length)
      const row = s.link.reserve(length)
      s.frames.arena.set(frame, s.frames.offset[row]!)
      s.frames.length[row] = length
      s.frames.flags[row] = FRAME_NEEDS_CHECKSUM
      s.frames.checksumStart[row] = 34
      s.frames.checksumOffset[row] = 16
      s.link.commit(row)
      // The field holds the pseudo-header's sum and is part of what is added up.
      frame.writeUInt16BE(internetChecksum(frame.subarray(34)), 50)
      expect(exchange()).toEqual([frame])
    }
  })

  // RFC 768: zero says that there is none, and RFC 8200 section 8.1 forbids that over IPv6; elsewhere it is a checksum.
  test.each([
    ["UDP", 6, 0xffff],
    ["TCP", 16, 0],
    ["ICMPv6", 2, 0],
  ])("a checksum of %s that computes to zero", (_, field, onWire) => {
    for (const bytes of [20, 21, 1001]) {
      const body = pattern(bytes, bytes)
      const pseudo = pattern(40, 3)
      // A word that makes the sum 0xffff, whose complement is zero.
      body.writeUInt16BE(0, field)
      body.writeUInt16BE(0, 10)
      body.writeUInt16BE(internetChecksum(Buffer.concat([pseudo, body])), 10)
      expect(internetChecksum(Buffer.concat([pseudo, body]))).toBe(0)
      body.writeUInt16BE(~internetChecksum(pseudo) & 0xffff, field)

      const frame = Buffer.concat([pattern(54), body])
      const row = s.link.reserve(frame.length)
      s.frames.arena.set(frame, s.frames.offset[row]!)
      s.frames.length[row] = frame.length
      s.frames.flags[row] = FRAME_NEEDS_CHECKSUM
      s.frames.checksumStart[row] = 54
      s.frames.checksumOffset[row] = field
      s.link.commit(row)
      const received = exchange()[0]!.subarray(54)
      expect(received.readUInt16BE(field)).toBe(onWire)
      // Either way the receiver finds it right.
      expect(internetChecksum(Buffer.concat([pseudo, received]))).toBe(0)
    }
  })

  test("rows whose columns contradict each other are left out, others are sent", () => {
    const spoil: ((row: number) => void)[] = [
      (row) => (s.frames.length[row] = 13),
      (row) => (s.frames.length[row] = FRAME_LENGTH_MAX + 1),
      (row) => (s.frames.length[row] = 0x7fff_ffff),
      (row) => (s.frames.length[row] = -0x8000_0000),
      (row) => (s.frames.offset[row] = -1),
      (row) => (s.frames.offset[row] = 0x7fff_ffff),
      (row) => (s.frames.checksumStart[row] = 99),
      (row) => (s.frames.checksumStart[row] = -1),
      (row) => (s.frames.checksumOffset[row] = 66),
      (row) => (s.frames.checksumOffset[row] = 0x7fff_ffff),
      (row) => (s.frames.flags[row] = FRAME_SEGMENT_TCP4),
      (row) => (s.frames.flags[row] = FRAME_SEGMENT_TCP6),
    ]
    spoil.forEach((wrong, i) => {
      const row = s.link.reserve(100)
      s.frames.arena.set(pattern(100), s.frames.offset[row]!)
      s.frames.flags[row] = FRAME_NEEDS_CHECKSUM
      s.frames.checksumStart[row] = 34
      s.frames.checksumOffset[row] = 6
      s.frames.segmentSize[row] = 0
      s.link.commit(row)
      wrong(row)
      // A good one behind it.
      queue(s, pattern(77, i))
      expect(exchange()).toEqual([pattern(77, i)])
      expect(s.link.refusedRows).toBe(i + 1)
    })
  })
})

describe("segmentation", () => {
  const shapes: [string, Headers][] = [
    ["IPv4", { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 1000, flags: 0x10 }],
    ["IPv4, PSH and FIN", { v6: false, ipOptions: 0, tcpOptions: 0, sequence: -700, flags: 0x19 }],
    ["IPv4, options", { v6: false, ipOptions: 40, tcpOptions: 40, sequence: 0x7fff_fff0, flags: 0x18 }],
    ["IPv6", { v6: true, ipOptions: 0, tcpOptions: 0, sequence: -1, flags: 0x11 }],
    ["IPv6, options", { v6: true, ipOptions: 0, tcpOptions: 12, sequence: 5, flags: 0x18 }],
  ]
  test.each(shapes)("%s: frames equal the model's, byte by byte", (_, h) => {
    const cases: [number, number][] = [
      [0, 1460],
      [1, 1460],
      [1460, 1460],
      [1461, 1460],
      [2920, 1460],
      [4000, 536],
      [61_320, 1460],
      [65_000, 1220],
      [100, 7],
      [64, 1],
      [60_000, 65_000],
      [9001, 8961],
    ]
    for (const [bytes, mss] of cases) {
      const headers = headersOf(h, (length) => pattern(length, bytes + mss))
      const payload = pattern(bytes, mss)
      expect(queueSegment(h, headers, payload, mss)).toBe(true)
      const got = exchange()
      const want = segmentsOf(h, headers, payload, mss)
      expect(got.length, `${bytes} by ${mss}`).toBe(want.length)
      for (let i = 0; i < want.length; i++) expect(got[i], `${bytes} by ${mss}, frame ${i}`).toEqual(want[i])
    }
  })

  test("a row of one byte per frame needs many more pieces than one call takes", () => {
    const h: Headers = { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 1, flags: 0x18 }
    const headers = headersOf(h, (length) => pattern(length))
    const payload = pattern(5000)
    queueSegment(h, headers, payload, 1)
    queue(s, pattern(80))
    const got = exchange()
    const want = [...segmentsOf(h, headers, payload, 1), pattern(80)]
    expect(got.length).toBe(want.length)
    for (let i = 0; i < want.length; i++) expect(got[i]!.equals(want[i]!), `frame ${i}`).toBe(true)
  })

  test("a segment of the largest MTU in one row", () => {
    for (const v6 of [false, true]) {
      const h: Headers = { v6, ipOptions: 0, tcpOptions: 0, sequence: 1, flags: 0x10 }
      const headers = headersOf(h, (length) => pattern(length))
      const mss = 65_520 - (v6 ? 60 : 40)
      expect(mss).toBeLessThanOrEqual(s.link.segmentBytesMax)
      const payload = pattern(mss)
      queueSegment(h, headers, payload, mss)
      expect(exchange()).toEqual(segmentsOf(h, headers, payload, mss))
    }
    // As much as the link promises, cut to that MTU.
    const h: Headers = { v6: true, ipOptions: 0, tcpOptions: 0, sequence: 1, flags: 0x10 }
    const headers = headersOf(h, (length) => pattern(length))
    const payload = pattern(s.link.segmentBytesMax)
    queueSegment(h, headers, payload, 65_460)
    expect(exchange()).toEqual(segmentsOf(h, headers, payload, 65_460))
  })
})

test("a capture holds the frames as cut, padded and summed up", () => {
  const file = join(s.folder, "cut.pcap")
  expect(s.kernel.openCapture(file)).toBe(0)
  const h: Headers = { v6: true, ipOptions: 0, tcpOptions: 8, sequence: 1, flags: 0x18 }
  const headers = headersOf(h, (length) => pattern(length))
  queueSegment(h, headers, pattern(10_001), 1400)
  queue(s, pattern(30))
  const sent = exchange()
  s.kernel.closeCapture()
  const bytes = readFileSync(file)
  const captured: Buffer[] = []
  for (let at = 24; at < bytes.length; at += 16 + bytes.readUInt32LE(at + 8))
    captured.push(bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8)))
  expect(sent.length).toBe(9)
  expect(captured).toEqual(sent)
})

test("receiving and sending leave no garbage", () => {
  const folder = import.meta.dirname
  const file = join(s.folder, "child.ts")
  writeFileSync(
    file,
    `
    import { FRAME_MAX, FRAME_SEGMENT_TCP4, HOLD_AREA } from ${JSON.stringify(join(folder, "../../core/src/index.ts"))}
    import { framed, pattern } from ${JSON.stringify(join(folder, "test-support/client.ts"))}
    import { setting } from ${JSON.stringify(join(folder, "test-support/setting.ts"))}
    const s = setting()
    const client = s.connect()
    s.link.handleEvent(0, 1)
    const bytes = framed(pattern(60), pattern(1514), pattern(9000))
    const { frames, kernel, link } = s
    // The client's side with calls that are known to leave nothing: node:fs does.
    frames.arena.set(bytes, HOLD_AREA)
    const sink = FRAME_MAX - 1
    frames.offset[sink] = HOLD_AREA + 100_000
    frames.window[sink] = 100_000
    let sum = 0
    function turn() {
      sum = (sum + kernel.sendHeld(client.fd, HOLD_AREA, bytes.length)) | 0
      sum = (sum + kernel.wait(0)) | 0
      link.handleEvent(0, 1)
      sum = (sum + link.receive() + (link.more ? 1 : 0) + link.pull(0, 20)) | 0
      const row = link.reserve(54)
      frames.length[row] = 54
      link.commit(row)
      sum = (sum + link.reserveRows(4, 1500)) | 0
      for (let i = 0; i < 4; i++) link.commit(link.reservedRow + i)
      if (link.reserveRows(1, 20_000) === 1) {
        const large = link.reservedRow
        frames.arena[frames.offset[large]! + 14] = 0x45
        frames.arena[frames.offset[large]! + 46] = 0x50
        frames.flags[large] = FRAME_SEGMENT_TCP4
        frames.checksumStart[large] = 34
        frames.checksumOffset[large] = 16
        frames.segmentSize[large] = 1460
        link.commit(large)
      }
      sum = (sum + link.flush() + (link.blocked ? 1 : 0)) | 0
      sum = (sum + kernel.receiveDatagrams(client.fd, sink, 1, 100_000)) | 0
    }
    for (let i = 0; i < 20_000; i++) turn()
    await new Promise((done) => setTimeout(done, 100))
    gc()
    console.log("measured part begins")
    for (let i = 0; i < 100_000; i++) turn()
    console.log("measured part ends", link.refusedRows, link.connected, link.blocked)
    s.end()
    process.exit(0)
  `,
  )
  const flags = ["--expose-gc", "--trace-gc", "--min-semi-space-size=1", "--max-semi-space-size=1"]
  const out = execFileSync(process.execPath, [...flags, file], { encoding: "utf8" })
  expect(out).toContain("measured part ends 0 true false")
  const part = out.slice(out.indexOf("measured part begins"), out.indexOf("measured part ends"))
  expect(part.split("\n").filter((line) => /Scavenge|Mark-Compact/.test(line))).toEqual([])
})

/** Feeds a slow client with anything and compares every byte. */
describe("back-pressure", () => {
  test.each([1, 2, 3, 4])("a slow client gets everything, once and in order (%i)", (seed) => {
    const n = numbers(seed)
    const want: Buffer[] = []
    const got: Buffer[] = []
    let blocked = 0
    for (let turn = 0; turn < 400; turn++) {
      for (let i = n(20); i > 0; i--) {
        if (n(3) === 0) {
          const v6 = n(2) === 1
          const h: Headers = { v6, ipOptions: v6 ? 0 : 4 * n(11), tcpOptions: 4 * n(11), sequence: turn, flags: 0x18 }
          const headers = headersOf(h, (length) => pattern(length, turn))
          const mss = 1 + n(9000)
          const payload = pattern(n(Math.min(60_000, mss * 50)), turn)
          if (queueSegment(h, headers, payload, mss)) want.push(...segmentsOf(h, headers, payload, mss))
        } else {
          const frame = pattern(14 + n(n(2) === 0 ? 100 : 9000), turn)
          if (queue(s, frame)) want.push(padded(frame))
        }
      }
      const left = s.link.flush()
      expect(s.link.blocked).toBe(left > 0)
      if (left > 0) blocked++
      got.push(client.read(n(60_000)))
    }
    got.push(drain())
    expect(blocked).toBeGreaterThan(10)
    const stream = unframed(Buffer.concat(got))
    expect(stream.length).toBe(want.length)
    for (let i = 0; i < want.length; i++) expect(stream[i]!.equals(want[i]!), `frame ${i}`).toBe(true)
  })

  test("what flush returns is what still comes", () => {
    let queued = 0
    while (!s.link.blocked) {
      for (let i = 0; i < 100; i++) if (queue(s, pattern(8000, i))) queued++
      s.link.flush()
    }
    const left = s.link.flush()
    expect(left).toBeGreaterThan(0)
    const first = client.read()
    expect(first.length + left).toBe(queued * 8004)
    expect(s.link.flush()).toBe(0)
    expect(client.read().length).toBe(left)
  })

  test("writability is watched only while blocked", () => {
    expect(s.kernel.wait(0)).toBe(0)
    while (!s.link.blocked) {
      for (let i = 0; i < 100; i++) queue(s, pattern(8000, i))
      s.link.flush()
    }
    expect(s.kernel.wait(0)).toBe(0)
    client.read()
    expect(s.kernel.wait(1000)).toBe(1)
    expect(s.kernel.events[1]! & 4).toBe(4)
    expect(s.link.flush()).toBe(0)
    expect(s.kernel.wait(0)).toBe(0)
  })

  test("data leaves room for control frames: in bytes", () => {
    // A stuck client.
    while (!s.link.blocked) {
      for (let i = 0; i < 100; i++) queue(s, pattern(9000, i))
      s.link.flush()
    }
    let data = 0
    while (s.link.reserveRows(1, 60_000) === 1) {
      s.link.commit(s.link.reservedRow)
      data++
    }
    expect(s.link.reserve(60_000)).toBe(-1)
    expect(s.link.reserveRows(4, 60_000)).toBe(0)
    let control = 0
    while (queue(s, pattern(54, control))) control++
    expect(control).toBeGreaterThanOrEqual(100)
    expect(data).toBeGreaterThan(1)
    // When the client reads again everything comes, and there is room again.
    const frames = exchange()
    expect(frames.slice(-control)).toEqual(Array.from({ length: control }, (_, i) => padded(pattern(54, i))))
    expect(s.link.reserveRows(100, 60_000)).toBe(100)
  })

  test("data leaves room for control frames: in rows", () => {
    let data = 0
    while (s.link.reserveRows(1, 100) === 1) {
      s.link.commit(s.link.reservedRow)
      data++
    }
    expect(data).toBe(FRAME_MAX - RX_FRAME_MAX - 256)
    expect(s.link.reserve(3000)).toBe(-1)
    let control = 0
    while (queue(s, pattern(2048, control))) control++
    expect(control).toBeGreaterThanOrEqual(120)
    expect(exchange().length).toBe(data + control)
  })

  test("no more rows are prepared than fit", () => {
    const rows = s.link.reserveRows(2000, 65_535)
    expect(rows).toBeGreaterThan(100)
    const last = s.link.reservedRow + rows - 1
    expect(s.frames.offset[last]! + 65_535).toBeLessThanOrEqual(TX_AREA + TX_ARENA_BYTES)
    expect(s.link.reserveRows(0, 100)).toBe(0)
  })
})
