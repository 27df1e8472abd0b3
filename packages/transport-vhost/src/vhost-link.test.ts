import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  FRAME_SEGMENT_UDP,
  RX_FRAME_MAX,
} from "@passt/core"
import { afterAll, afterEach, describe, expect, test } from "vitest"

import {
  completeHeaders,
  frameOf,
  type Headers,
  headersOf,
  internetChecksum,
  pattern,
} from "../../core/src/test-support/frames.ts"
import { FEATURE, mask, OFFERED } from "./features.ts"
import { answer, flow, queueFrame } from "./test-support/flows.ts"
import { buildFrontEnd, FrontEnd } from "./test-support/front-end.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
const program = buildFrontEnd(folder)
afterAll(() => rmSync(folder, { recursive: true }))

const EVERYTHING = OFFERED & ~mask(FEATURE.packed)
const LAYOUTS = [
  { layout: "split", features: EVERYTHING },
  { layout: "packed", features: OFFERED },
] as const

let f: FrontEnd
afterEach(() => f.end())

const v4: Headers = { v6: false, ipOptions: 0, tcpOptions: 12, sequence: 77, flags: 0x18 }
const HEADER_BYTES = 12

const queue = (frame: Uint8Array): number => queueFrame(f, frame)

/** virtio's header (VIRTIO 1.2 section 5.1.6), little-endian. */
function virtio(
  flags: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  start: number,
  offset: number,
): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.set([flags, gsoType])
  for (const [i, value] of [headerLength, gsoSize, start, offset].entries()) header.writeUInt16LE(value, 2 + 2 * i)
  return header
}

/** As the engine queues datagrams over IPv6, with a checksum to finish. */
function queueDatagram(bytes: number): Buffer {
  const frame = frameOf(62 + bytes, bytes)
  frame.writeUInt16BE(0x86dd, 12)
  frame.set([0x60, 0, 0, 1, 0, 0, 17, 64], 14)
  frame.writeUInt16BE(8 + bytes, 18)
  frame.fill(0xfd, 22, 54)
  frame.writeUInt32BE(0x00070009, 54)
  frame.writeUInt16BE(8 + bytes, 58)
  const end = Buffer.from([0, 17, (8 + bytes) >> 8, (8 + bytes) & 255])
  frame.writeUInt16BE(~internetChecksum(Buffer.concat([frame.subarray(22, 54), end])) & 0xffff, 60)
  const row = queue(frame)
  f.frames.flags[row] = FRAME_NEEDS_CHECKSUM
  f.frames.checksumStart[row] = 54
  f.frames.checksumOffset[row] = 6
  return frame
}

describe.each(LAYOUTS)("a driver with every offload, $layout queues", ({ features }) => {
  test.each([false, true])("a large segment crosses whole, IPv6: %s", (v6) => {
    f = new FrontEnd(program, features)
    const h = { ...v4, v6 }
    const payload = pattern(60_000, 5)
    const headers = completeHeaders(h, headersOf(h), payload.length)
    const whole = Buffer.concat([headers, payload])
    expect(f.link.reserveRows(1, whole.length)).toBe(1)
    const row = f.link.reservedRow
    f.frames.arena.set(whole, f.frames.offset[row]!)
    f.frames.flags[row] = FRAME_NEEDS_CHECKSUM | (v6 ? FRAME_SEGMENT_TCP6 : FRAME_SEGMENT_TCP4)
    f.frames.checksumStart[row] = headers.length - 32
    f.frames.checksumOffset[row] = 16
    f.frames.segmentSize[row] = 1400
    f.link.commit(row)
    expect(f.link.flush()).toBe(0)
    const got = f.exchange([])
    expect(got.length).toBe(1)
    const header = virtio(1, v6 ? 4 : 1, headers.length, 1400, headers.length - 32, 16)
    // Buffers of 4 KiB.
    header.writeUInt16LE(Math.ceil((HEADER_BYTES + whole.length) / 4096), 10)
    expect(got[0]!.subarray(0, HEADER_BYTES)).toEqual(header)
    expect(got[0]!.subarray(HEADER_BYTES).equals(whole)).toBe(true)
  })

  test("datagrams of one flow cross as one frame", () => {
    f = new FrontEnd(program, features)
    const sent = Array.from({ length: 9 }, () => queueDatagram(700))
    expect(f.link.flush()).toBe(0)
    const [got, ...more] = f.exchange([])
    expect(more).toEqual([])
    expect([got![0], got![1], got!.readUInt16LE(4), got!.readUInt16LE(6), got!.readUInt16LE(8)]).toEqual([
      1, 5, 700, 54, 6,
    ])
    expect(got!.readUInt16BE(HEADER_BYTES + 58)).toBe(8 + 9 * 700)
    for (const [i, one] of sent.entries()) {
      const at = HEADER_BYTES + 62 + 700 * i
      expect(got!.subarray(at, at + 700).equals(one.subarray(62)), `datagram ${i}`).toBe(true)
    }
  })

  test("the guest's super-frames are taken, what makes no sense is dropped", () => {
    f = new FrontEnd(program, features)
    const frame = frameOf(60_000, 3)
    f.exchange([frame], virtio(1, 1, 66, 1400, 34, 16))
    expect(f.link.receive()).toBe(1)
    expect([f.frames.flags[0], f.frames.length[0], f.frames.segmentSize[0]]).toEqual([FRAME_NEEDS_CHECKSUM, 60_000, 0])
    f.exchange([frame], virtio(1, 5, 42, 1000, 34, 6))
    expect(f.link.receive()).toBe(1)
    expect([f.frames.flags[0], f.frames.segmentSize[0]]).toEqual([FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_UDP, 1000])
    f.exchange([frame], virtio(1, 5, 42, 0, 34, 6))
    f.exchange([frame], virtio(0, 77, 0, 0, 0, 0))
    f.exchange([frameOf(13, 1), frameOf(65_554, 1)])
    expect(f.link.receive()).toBe(0)
    expect(f.link.badFrames).toBe(4)
  })
})

test.each(LAYOUTS)("a guest that supplies no buffers, $layout, blocks the link, and loses nothing", ({ features }) => {
  f = new FrontEnd(program, features)
  f.signal("SIGSTOP")
  const sent: Buffer[] = []
  for (let i = 0; i < 100; i++) {
    sent.push(frameOf(60_000 + i, i))
    expect(queue(sent[i]!)).toBeGreaterThanOrEqual(RX_FRAME_MAX)
  }
  while (f.kernel.wait(0) > 0);
  expect(f.link.flush()).toBeGreaterThan(0)
  expect(f.link.blocked).toBe(true)
  // No spinning: nothing happens until the guest does something.
  expect(f.link.more).toBe(false)
  expect(f.kernel.wait(20)).toBe(0)
  f.signal("SIGCONT")
  let events = 0
  // A wait may end early, by the signal that tells of a child which goes on.
  for (let i = 0; i < 50 && events === 0; i++) events = f.kernel.wait(100)
  expect(events).toBe(1)
  const got = f.flush()
  expect(f.link.blocked).toBe(false)
  expect(got.length).toBe(sent.length)
  for (let i = 0; i < sent.length; i++) expect(got[i]!.equals(sent[i]!), `frame ${i}`).toBe(true)
})

test("a front-end that dies takes its frames along, and another may come", () => {
  f = new FrontEnd(program, EVERYTHING)
  queue(frameOf(64))
  f.signal("SIGKILL")
  for (let i = 0; i < 100 && f.told.length < 2; i++) if (f.kernel.wait(100) > 0) f.link.handleEvent(0, 1)
  expect(f.told).toEqual(["connected", "disconnected 104"])
  expect(f.link.connected).toBe(false)
  expect(f.link.flush()).toBe(0)
  expect(f.link.receive()).toBe(0)
})

describe.each(LAYOUTS)("several pairs of $layout queues", ({ features }) => {
  const PAIRS = 4
  test("a flow's frames go to the pair on which the guest has sent for it, also when it changes", () => {
    f = new FrontEnd(program, features & ~mask(FEATURE.controlQueue), PAIRS)
    for (const pair of [0, 3, 1, 2, 3]) {
      for (let port = 1000; port < 1010; port++) {
        f.exchange([flow(port)], undefined, pair)
        expect(f.link.receive()).toBe(1)
        expect(queue(answer(flow(port)))).toBeGreaterThanOrEqual(RX_FRAME_MAX)
        const [got, ...more] = f.flush()
        expect(more).toEqual([])
        expect(got!.equals(answer(flow(port)))).toBe(true)
        expect(f.pairs).toEqual([pair])
      }
    }
  })

  test("flows that the guest has not sent for are spread, each on one pair; frames of none are on the first", () => {
    f = new FrontEnd(program, features & ~mask(FEATURE.controlQueue), PAIRS)
    const seen = new Map<number, number>()
    for (let round = 0; round < 2; round++) {
      for (let port = 1000; port < 1040; port++) {
        queue(answer(flow(port)))
        expect(f.flush().length).toBe(1)
        const [pair] = f.pairs
        expect(seen.get(port) ?? pair).toBe(pair)
        seen.set(port, pair!)
      }
    }
    expect(new Set(seen.values()).size).toBe(PAIRS)
    const arp = frameOf(60)
    arp.writeUInt16BE(0x0806, 12)
    queue(arp)
    f.flush()
    expect(f.pairs).toEqual([0])
  })

  test("frames of all pairs are taken, in each pair's order", () => {
    f = new FrontEnd(program, features & ~mask(FEATURE.controlQueue), PAIRS)
    for (let pair = 0; pair < PAIRS; pair++)
      f.exchange(
        [1, 2, 3].map((i) => flow(10 * pair + i)),
        undefined,
        pair,
      )
    const ports: number[] = []
    do {
      const rows = f.link.receive()
      for (let row = 0; row < rows; row++) {
        const at = f.frames.offset[row]!
        ports.push(Buffer.from(f.frames.arena.buffer, at, 100).readUInt16BE(34))
      }
    } while (f.link.more)
    expect(ports).toHaveLength(3 * PAIRS)
    for (let pair = 0; pair < PAIRS; pair++) {
      expect(ports.filter((port) => Math.floor(port / 10) === pair)).toEqual([1, 2, 3].map((i) => 10 * pair + i))
    }
  })
})
