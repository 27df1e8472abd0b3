/** A short run of each fuzzer with fixed seeds; and that the fuzzers would notice. */
import { describe, expect, test } from "vitest"
import { controlTarget } from "./control.ts"
import { engineTarget } from "./engine/engine.ts"
import { faultOf } from "./engine/well-formed.ts"
import { parserTarget } from "./parsers.ts"
import { pestoTarget } from "./pesto.ts"
import { policyTarget } from "./policy.ts"
import { Random } from "./random.ts"
import { minimise } from "./target.ts"
import { unixLinkTarget } from "./unix-link/unix-link.ts"
import { vhostTarget } from "./vhost/vhost.ts"

describe("fixed seeds", () => {
  // A machine that does other things besides takes its time.
  test.each([
    [engineTarget, 12],
    [unixLinkTarget, 2],
    [parserTarget, 12],
    [controlTarget, 12],
    [pestoTarget, 30],
    [policyTarget, 12],
    [vhostTarget, 1],
  ])("$name", { timeout: 240_000 }, ({ run, end }, cases) => {
    for (let seed = 1; seed <= cases; seed++) run(seed)
    end?.()
  })
})

/** An echo reply of 8 bytes over IPv4, all right. */
const REPLY = Buffer.from(
  "525400123456" + "9a559a559a55" + "0800" + "4500001c00004000ff01f7cfc0000201c000020f" + "0000ffff00000000",
  "hex",
)
const GUEST = "525400123456"
const OURS = new Set(["9a559a559a55"])
const faultIn = (frame: Uint8Array): string | undefined => faultOf({ frame, segmentSize: 0, by: "" }, GUEST, OURS)

test("a frame that is all right has no fault, and any bit of its headers that is wrong is one", () => {
  expect(faultIn(REPLY)).toBeUndefined()
  for (let bit = 0; bit < 42 * 8; bit++) {
    const frame = Buffer.from(REPLY)
    frame[bit >> 3]! ^= 1 << (bit & 7)
    expect(faultIn(frame), `bit ${bit}`).toBeDefined()
  }
  expect(faultIn(REPLY.subarray(0, 41))).toBeDefined()
  expect(faultIn(Buffer.concat([REPLY, Buffer.alloc(1)]))).toBeDefined()
})

test("a failing case loses what does not matter", () => {
  const items = Array.from({ length: 100 }, (_, i) => i)
  const fails = (part: readonly number[]): boolean => part.includes(17) && part.includes(80)
  expect(minimise(items, fails, 1000)).toEqual([17, 80])
})

test("numbers follow from the seed, and neighbouring seeds differ", () => {
  const numbers = (seed: number): number[] => {
    const r = new Random(seed)
    return Array.from({ length: 8 }, () => r.word())
  }
  expect(numbers(7)).toEqual(numbers(7))
  expect(new Set([1, 2, 3, 4].flatMap(numbers)).size).toBe(32)
})
