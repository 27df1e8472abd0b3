/** Payload between sockets and the guest's memory, in one copy. */
import { mkdtempSync, readSync, rmSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { FRAME_ELSEWHERE, FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4, PLACE_HOST } from "@passt/core"
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest"

import { completeHeaders, type Headers, headersOf, pattern } from "../../core/src/test-support/frames.ts"
import { FEATURE, mask, OFFERED } from "./features.ts"
import { buildFrontEnd, FrontEnd } from "./test-support/front-end.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
const program = buildFrontEnd(folder)
afterAll(() => rmSync(folder, { recursive: true }))

const ADDRESS_REMOTE = 0
const ADDRESS_LOCAL = 6
const PORT = 4
const EAGAIN = 11
const EFAULT = 14
const HOLD_AREA = 9 << 20
const FLOW = 3

const h: Headers = { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 77, flags: 0x18 }
const HEADER_BYTES = headersOf(h).length

let f: FrontEnd
/** Two ends of a connection: ours, and the peer's. */
let ours: number
let peer: number

const LAYOUTS = [
  { layout: "split queues", features: OFFERED & ~mask(FEATURE.packed), pairs: 1 },
  { layout: "packed queues", features: OFFERED, pairs: 1 },
  { layout: "three pairs of queues", features: OFFERED & ~mask(FEATURE.packed, FEATURE.controlQueue), pairs: 3 },
] as const

function begin(features: bigint, pairs: number): void {
  f = new FrontEnd(program, features, pairs)
  const { kernel } = f
  const loopback = 0x7f00_0001
  kernel.address.fill(0)
  kernel.address[ADDRESS_LOCAL + 3] = loopback
  const listener = kernel.listenTcp(4, false, "", false, PLACE_HOST)
  expect(kernel.localAddress(listener, 4)).toBe(0)
  kernel.address[ADDRESS_REMOTE + 3] = loopback
  kernel.address[ADDRESS_REMOTE + PORT] = kernel.address[ADDRESS_LOCAL + PORT]!
  ours = kernel.tcpSocket(4, PLACE_HOST)
  kernel.connect(ours, 4)
  peer = kernel.accept(listener)
  expect(peer).toBeGreaterThan(0)
  kernel.close(listener)
  kernel.setPeekOffset(ours, 0)
}
afterEach(() => {
  f.kernel.close(ours)
  f.kernel.close(peer)
  f.end()
})

const segment = (payload: Buffer): Buffer => Buffer.concat([completeHeaders(h, headersOf(h), payload.length), payload])

/** What has come to the peer. */
function received(bytes: number): Buffer {
  const to = Buffer.alloc(bytes)
  let at = 0
  while (at < bytes) {
    try {
      const got = readSync(peer, to, at, bytes - at, null)
      if (got === 0) break
      at += got
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error
      break
    }
  }
  return to.subarray(0, at)
}

/** Describes the payload of received rows, as the engine does. @returns how many are not wholly in the arena */
function parse(rows: number): number {
  let elsewhere = 0
  for (let row = 0; row < rows; row++) {
    f.frames.payload[row] = HEADER_BYTES
    f.frames.payloadLength[row] = f.frames.length[row]! - HEADER_BYTES
    f.frames.gather[row] = row
    if ((f.frames.flags[row]! & FRAME_ELSEWHERE) !== 0) elsewhere++
  }
  return elsewhere
}

describe.each(LAYOUTS)("from the guest, $layout", ({ features, pairs }) => {
  beforeEach(() => begin(features, pairs))

  test("payload of large segments is sent from where it lies, small ones between them, in order", () => {
    const payloads = [40_000, 100, 30_000, 5, 4000, 20_000].map((bytes, i) => pattern(bytes, i + 1))
    f.exchange(payloads.map(segment))
    expect(f.link.receive()).toBe(6)
    expect(parse(6)).toBe(3)
    expect(f.frames.window[0]).toBeLessThan(1000)
    expect(f.link.pull(0, 200)).toBe(f.frames.window[0])
    expect(f.link.pull(0, 5000)).toBe(-1)
    const bytes = payloads.reduce((sum, one) => sum + one.length, 0)
    expect(f.kernel.sendFrames(ours, 0, 6)).toBe(bytes)
    expect(received(bytes).equals(Buffer.concat(payloads))).toBe(true)
  })

  test("a part of it is held, from any byte to any byte", () => {
    const payload = pattern(50_000, 3)
    f.exchange([segment(payload)])
    expect(f.link.receive()).toBe(1)
    expect(parse(1)).toBe(1)
    for (const [from, length] of [
      [0, 50_000],
      [1, 10],
      [49_999, 1],
      [200, 30_000],
    ] as const) {
      expect(f.kernel.holdPayload(0, HEADER_BYTES + from, length, HOLD_AREA)).toBe(0)
      const held = Buffer.from(f.frames.arena.buffer, HOLD_AREA, length)
      expect(held.equals(payload.subarray(from, from + length)), `from ${from}`).toBe(true)
    }
    expect(f.kernel.holdPayload(0, HEADER_BYTES + 49_999, 2, HOLD_AREA)).toBeLessThan(0)
    expect(f.kernel.holdPayload(0, -1, 2, HOLD_AREA)).toBeLessThan(0)
  })

  test("buffers go back with the flush, whether they were sent or not", () => {
    // More often than there are buffers.
    for (let i = 0; i < 180; i++) {
      f.exchange([...Array(5).fill(segment(pattern(30_000, i))), segment(pattern(9, i))])
      expect(f.link.receive()).toBe(6)
      expect(f.link.flush()).toBe(0)
    }
  })

  test("what is no segment, or is captured, is copied", () => {
    const datagram = segment(pattern(30_000))
    datagram[23] = 17
    const fragment = segment(pattern(30_000))
    fragment[20] = 0x20
    const syn = segment(pattern(30_000))
    syn[47] = 2
    f.exchange([datagram, fragment, syn])
    expect(f.link.receive()).toBe(3)
    expect(parse(3)).toBe(0)
    expect(Array.from(f.frames.window.subarray(0, 3))).toEqual([datagram.length, fragment.length, syn.length])
    expect(f.kernel.openCapture(join(folder, "capture"))).toBe(0)
    f.exchange([segment(pattern(30_000))])
    expect(f.link.receive()).toBe(1)
    expect(parse(1)).toBe(0)
  })

  test("memory that goes away meanwhile ends the connection with the front-end, nothing else", () => {
    f.exchange([segment(pattern(50_000))])
    expect(f.link.receive()).toBe(1)
    expect(parse(1)).toBe(1)
    f.shrink(4096)
    expect(f.kernel.sendFrames(ours, 0, 1)).toBe(-EFAULT)
    expect(f.link.more).toBe(true)
    expect(f.link.receive()).toBe(-EFAULT)
    expect(f.link.connected).toBe(false)
    expect(f.told.at(-1)).toBe("disconnected 14 memory that is not there any more")
  })
})

/** Sends as much as there is, as the engine does. @returns bytes, or -errno; -1: no room */
function forward(rows: number, each: number): number {
  const { frames, kernel, link } = f
  const got = link.reserveStream(rows, HEADER_BYTES + each, FLOW)
  if (got === 0) return -1
  const first = link.reservedRow
  for (let row = first; row < first + got; row++) frames.payload[row] = HEADER_BYTES
  const room = Math.min(each, frames.window[first]! - HEADER_BYTES)
  const bytes = kernel.peekIntoFrames(ours, first, got, room, 0)
  for (let left = bytes, row = first; left > 0; row++, left -= room) {
    const length = Math.min(left, room)
    const offset = frames.offset[row]!
    frames.arena.set(completeHeaders(h, headersOf(h), length), offset)
    frames.length[row] = HEADER_BYTES + length
    frames.flags[row] = frames.flags[row]! | FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_TCP4
    frames.payloadLength[row] = length
    frames.checksumStart[row] = HEADER_BYTES - 20
    frames.checksumOffset[row] = 16
    frames.segmentSize[row] = 1400
    link.commit(row)
  }
  if (bytes > 0) kernel.discard(ours, bytes)
  return bytes
}

const payloadsOf = (frames: readonly Buffer[]): Buffer[] => frames.map((one) => one.subarray(HEADER_BYTES))

describe.each(LAYOUTS)("to the guest, $layout", ({ features, pairs }) => {
  beforeEach(() => begin(features, pairs))

  test("payload is read into its buffers, as many as it takes, with headers in front", () => {
    const sent = pattern(110_000, 9)
    writeSync(peer, sent)
    expect(forward(3, 40_000)).toBe(110_000)
    // It was not put into the arena.
    const row = f.link.reservedRow
    const at = f.frames.offset[row]! + HEADER_BYTES
    expect(Buffer.from(f.frames.arena.buffer, at, 1000).equals(Buffer.alloc(1000))).toBe(true)
    const got = f.flush()
    expect(got.map((one) => one.length - HEADER_BYTES)).toEqual([40_000, 40_000, 30_000])
    expect(Buffer.concat(payloadsOf(got)).equals(sent)).toBe(true)
    for (const one of got) {
      expect(one.subarray(0, HEADER_BYTES)).toEqual(completeHeaders(h, headersOf(h), one.length - HEADER_BYTES))
    }
  })

  test("room that is not needed is there for what comes next, however often", () => {
    for (let i = 0; i < 100; i++) {
      const sent = pattern(1 + ((i * 37) % 9000), i)
      writeSync(peer, sent)
      const control = segment(pattern(20, i))
      // Nothing to read, then something, then a frame of another kind.
      if (i % 3 === 0) expect(f.link.reserveStream(4, HEADER_BYTES + 60_000, FLOW)).toBe(4)
      expect(forward(4, 60_000)).toBe(sent.length)
      expect(forward(4, 60_000)).toBe(-EAGAIN)
      const row = f.link.reserve(control.length)
      f.frames.arena.set(control, f.frames.offset[row]!)
      f.frames.length[row] = control.length
      f.link.commit(row)
      const got = f.flush()
      expect(got.map((one) => one.length)).toEqual([HEADER_BYTES + sent.length, control.length])
      expect(payloadsOf(got)[0]!.equals(sent)).toBe(true)
      expect(got[1]!.equals(control)).toBe(true)
    }
  })

  test("without buffers data waits in its socket, and nothing spins", () => {
    const sent = pattern(12 << 20, 5)
    const got: Buffer[] = []
    let written = 0
    let read = 0
    const write = (): void => {
      try {
        while (written < sent.length) written += writeSync(peer, sent, written)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error
      }
    }
    f.signal("SIGSTOP")
    for (let i = 0; i < 500 && !f.link.blocked; i++) {
      write()
      const bytes = forward(4, 60_000)
      if (bytes > 0) read += bytes
      if (bytes === -1) break
      expect(f.link.flush()).toBe(0)
    }
    expect(f.link.blocked).toBe(true)
    expect(f.link.flush()).toBe(0)
    expect(f.link.blocked).toBe(true)
    // All that was read is with the guest.
    expect(read).toBeGreaterThan(3 << 20)
    while (f.kernel.wait(0) > 0);
    expect(f.link.more).toBe(false)
    expect(f.kernel.wait(20)).toBe(0)
    f.signal("SIGCONT")
    let events = 0
    for (let i = 0; i < 50 && events === 0; i++) events = f.kernel.wait(100)
    expect(events).toBeGreaterThan(0)
    for (let i = 0; i < 2000 && read < sent.length; i++) {
      write()
      const bytes = f.link.blocked ? 0 : forward(4, 60_000)
      if (bytes > 0) read += bytes
      got.push(...f.flush())
    }
    expect(f.link.blocked).toBe(false)
    expect(Buffer.concat(payloadsOf(got)).equals(sent)).toBe(true)
  })

  test("a driver that can't cut, or whose frames are captured, gets it by way of the arena", () => {
    f.end()
    f = new FrontEnd(program, features & mask(FEATURE.version1, FEATURE.mergeable, FEATURE.guestCsum, FEATURE.packed))
    f.kernel.setPeekOffset(ours, 0)
    const sent = pattern(3000, 2)
    writeSync(peer, sent)
    expect(forward(1, 60_000)).toBe(3000)
    const got = f.flush()
    expect(got.length).toBe(3)
    expect(Buffer.concat(got.map((one) => one.subarray(HEADER_BYTES))).equals(sent)).toBe(true)
  })

  test("memory that goes away: the read fails, and the front-end is told goodbye", () => {
    writeSync(peer, pattern(100_000))
    const rows = f.link.reserveStream(2, HEADER_BYTES + 60_000, FLOW)
    const first = f.link.reservedRow
    for (let row = first; row < first + rows; row++) f.frames.payload[row] = HEADER_BYTES
    f.shrink(4096)
    expect(f.kernel.peekIntoFrames(ours, first, rows, 60_000, 0)).toBe(-EFAULT)
    expect(f.link.receive()).toBe(-EFAULT)
    expect(f.link.connected).toBe(false)
    expect(f.link.flush()).toBe(0)
  })
})

test("with several pairs of queues a flow's payload follows the guest, one batch later", () => {
  begin(OFFERED & ~mask(FEATURE.controlQueue), 4)
  // The other direction of what `forward` sends.
  const fromGuest = segment(pattern(10))
  const back = Buffer.from(fromGuest)
  fromGuest.copy(back, 26, 30, 34)
  fromGuest.copy(back, 30, 26, 30)
  fromGuest.copy(back, 34, 36, 38)
  fromGuest.copy(back, 36, 34, 36)
  for (const pair of [2, 0, 3, 1]) {
    f.exchange([back], undefined, pair)
    expect(f.link.receive()).toBe(1)
    for (const round of [1, 2, 3]) {
      const sent = pattern(90_000, round)
      writeSync(peer, sent)
      expect(forward(2, 50_000)).toBe(sent.length)
      const at = f.frames.offset[f.link.reservedRow]! + HEADER_BYTES
      // It was not put into the arena.
      expect(Buffer.from(f.frames.arena.buffer, at, 1000).equals(Buffer.alloc(1000))).toBe(true)
      const got = f.flush()
      expect(Buffer.concat(payloadsOf(got)).equals(sent)).toBe(true)
      if (round > 1) expect(f.pairs).toEqual([pair, pair])
    }
  }
})
