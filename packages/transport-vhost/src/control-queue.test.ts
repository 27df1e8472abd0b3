/** Commands of the control queue (VIRTIO 1.2 section 5.1.6.5), as crosvm hands it over: what they do, and what nonsense does not do. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4 } from "@passt/core"
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest"

import {
  completeHeaders,
  type Headers,
  headersOf,
  pattern,
  sameButIdentification,
  segmentsOf,
} from "../../core/src/test-support/frames.ts"
import { FEATURE, mask, OFFERED } from "./features.ts"
import { REQUEST } from "./message.ts"
import { answer, flow, queueFrame } from "./test-support/flows.ts"
import { buildFrontEnd, FrontEnd } from "./test-support/front-end.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
const program = buildFrontEnd(folder)
afterAll(() => rmSync(folder, { recursive: true }))

const PAIRS = 4
const DONE = Buffer.of(0)
const ERROR = Buffer.of(1)

const usePairs = (pairs: number): Buffer => Buffer.of(4, 0, pairs & 255, pairs >> 8)
const setMac = (mac: readonly number[]): Buffer => Buffer.of(1, 1, ...mac)
const announced = Buffer.of(3, 0)
function setOffloads(bits: bigint): Buffer {
  const command = Buffer.alloc(10)
  command[0] = 5
  command.writeBigUInt64LE(bits, 2)
  return command
}
const OFFLOADS = mask(FEATURE.guestCsum, FEATURE.guestTso4, FEATURE.guestTso6, FEATURE.guestUso4, FEATURE.guestUso6)
const ECN = mask(9)

let f: FrontEnd
afterEach(() => f.end())

/** The pairs on which frames of many flows arrive. */
function pairsInUse(): number[] {
  const seen = new Set<number>()
  for (let port = 2000; port < 2050; port++) {
    queueFrame(f, answer(flow(port)))
    expect(f.flush().length).toBe(1)
    seen.add(f.pairs[0]!)
  }
  return [...seen].toSorted((a, b) => a - b)
}

/** What becomes of a large segment: "whole", or "cut" into right ones. */
function largeSegment(): string {
  const h: Headers = { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 5, flags: 0x18 }
  const headers = headersOf(h)
  const payload = pattern(9000, 1)
  const frame = Buffer.concat([completeHeaders(h, headers, payload.length), payload])
  const row = queueFrame(f, frame)
  f.frames.flags[row] = FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_TCP4
  f.frames.checksumStart[row] = headers.length - 20
  f.frames.checksumOffset[row] = 16
  f.frames.segmentSize[row] = 1400
  const got = f.flush()
  if (got.length === 1 && got[0]!.equals(frame)) return "whole"
  const want = segmentsOf(h, headers, payload, 1400)
  return got.length === want.length && got.every((one, i) => sameButIdentification(one, want[i]!)) ? "cut" : "wrong"
}

function macOfConfiguration(): number[] {
  const request = Buffer.alloc(12 + 6)
  request.writeUInt32LE(6, 4)
  return [...f.message(REQUEST.getConfig, request).subarray(12)]
}

describe.each([
  { layout: "split", features: OFFERED & ~mask(FEATURE.packed) },
  { layout: "packed", features: OFFERED },
])("a $layout control queue", ({ features }) => {
  beforeEach(() => {
    f = new FrontEnd(program, features, PAIRS)
  })

  test("pairs: one at first, then as many as the driver says; numbers that make no sense change nothing", () => {
    expect(pairsInUse()).toEqual([0])
    expect(f.command(usePairs(PAIRS))).toEqual(DONE)
    expect(pairsInUse()).toEqual([0, 1, 2, 3])
    expect(f.command(usePairs(2))).toEqual(DONE)
    expect(pairsInUse()).toEqual([0, 1])
    for (const pairs of [0, 9, 256, 65_535]) expect(f.command(usePairs(pairs)), `${pairs}`).toEqual(ERROR)
    expect(pairsInUse()).toEqual([0, 1])
    // Not even for flows that the guest has sent on others.
    f.exchange([flow(9)], undefined, 3)
    expect(f.link.receive()).toBe(1)
    queueFrame(f, answer(flow(9)))
    f.flush()
    expect(f.pairs[0]).toBeLessThan(2)
    // More than there are: those are not running.
    expect(f.command(usePairs(8))).toEqual(DONE)
    expect(pairsInUse()).toEqual([0, 1, 2, 3])
  })

  test("offloads: off, on again; those that were not negotiated are refused", () => {
    expect(largeSegment()).toBe("whole")
    expect(f.command(setOffloads(0n))).toEqual(DONE)
    expect(largeSegment()).toBe("cut")
    expect(f.command(setOffloads(mask(FEATURE.guestCsum)))).toEqual(DONE)
    expect(largeSegment()).toBe("cut")
    for (const bits of [ECN, OFFLOADS | ECN, mask(FEATURE.csum), 1n << 63n, (1n << 64n) - 1n]) {
      expect(f.command(setOffloads(bits)), bits.toString(16)).toEqual(ERROR)
    }
    expect(largeSegment()).toBe("cut")
    expect(f.command(setOffloads(OFFLOADS))).toEqual(DONE)
    expect(largeSegment()).toBe("whole")
    // Without its checksum a segment can't be left to the driver.
    expect(f.command(setOffloads(mask(FEATURE.guestTso4)))).toEqual(DONE)
    expect(largeSegment()).toBe("cut")
  })

  test("the MAC address is in the configuration afterwards", () => {
    const first = macOfConfiguration()
    const mac = [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54]
    expect(f.command(setMac(mac.slice(0, 5)))).toEqual(ERROR)
    expect(macOfConfiguration()).toEqual(first)
    expect(f.command(setMac(mac))).toEqual(DONE)
    expect(macOfConfiguration()).toEqual(mac)
  })

  test("a guest has announced itself", () => {
    expect(f.command(announced)).toEqual(DONE)
  })

  test("commands in pieces of any size, and longer ones than they should be", () => {
    for (const each of [1, 2, 3, 7]) {
      expect(f.command(setOffloads(0n), 1, each), `by ${each}`).toEqual(DONE)
      expect(largeSegment()).toBe("cut")
      expect(f.command(setOffloads(OFFLOADS), 1, each), `by ${each}`).toEqual(DONE)
      expect(largeSegment()).toBe("whole")
    }
    expect(f.command(Buffer.concat([usePairs(2), Buffer.alloc(4000, 0xff)]))).toEqual(DONE)
    // One byte is the answer, however much room there is.
    expect(f.command(usePairs(2), 200)).toEqual(DONE)
  })

  test("what is no command is answered by an error, and the queue goes on", () => {
    const whole = [usePairs(3), setOffloads(0n), setMac([2, 0, 0, 0, 0, 1])]
    const short = whole.flatMap((command) => Array.from({ length: command.length }, (_, i) => command.subarray(0, i)))
    // Tables of addresses, promiscuous mode, VLANs and receive-side scaling are not offered.
    const others = [Buffer.of(1, 0, 0, 0, 0, 0), Buffer.of(0, 0, 1), Buffer.of(2, 0, 1, 0), Buffer.of(4, 1, 0, 0)]
    const unknown = [Buffer.of(3, 1), Buffer.of(5, 1, 0, 0), Buffer.of(255, 255), Buffer.alloc(2000, 0xa5)]
    for (const command of [...short, ...others, ...unknown]) {
      expect(f.command(command), command.subarray(0, 12).toString("hex")).toEqual(ERROR)
    }
    expect(largeSegment()).toBe("whole")
    expect(pairsInUse()).toEqual([0])
    expect(f.command(usePairs(3))).toEqual(DONE)
  })

  test("without room for an answer nothing is carried out, and nothing is written", () => {
    expect(f.command(usePairs(3), 0)).toEqual(Buffer.alloc(0))
    expect(pairsInUse()).toEqual([0])
    expect(f.link.connected).toBe(true)
  })

  test("more commands than the queue has entries", () => {
    for (let i = 0; i < 1500; i++) expect(f.command(usePairs(1 + (i % PAIRS)))).toEqual(DONE)
    expect(pairsInUse()).toEqual([0, 1, 2, 3])
  })

  test("what was not negotiated is refused", () => {
    f.end()
    f = new FrontEnd(program, features & ~mask(FEATURE.multiqueue, FEATURE.controlMac, FEATURE.controlOffloads))
    const before = macOfConfiguration()
    for (const command of [usePairs(1), setMac([2, 0, 0, 0, 0, 1]), setOffloads(OFFLOADS)]) {
      expect(f.command(command)).toEqual(ERROR)
    }
    expect(macOfConfiguration()).toEqual(before)
    expect(f.command(announced)).toEqual(DONE)
  })
})
