/** The hold pool against a model that is nothing but a map from sequence numbers to bytes. */
import fc from "fast-check"
import { expect, test } from "vitest"

import { FLOW_SHIFT } from "../flow/table.ts"
import { TcpScene } from "../sim/tcp-scene.ts"
import { HOLD_BLOCKS, HoldPool } from "./hold.ts"
import { HOLD_COUNT, HOLD_HEAD } from "./state.ts"

const scene = new TcpScene()
const { ctx } = scene.engine
const { frames } = scene.link
const LONGEST = 10_000

test("what is held is what was given, once, in order, whatever overlaps; and all of it is given back", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0, 0x7fffffff - 9000, -9000),
      fc.array(
        fc.record({
          from: fc.nat(20_000),
          length: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: LONGEST })),
        }),
        { maxLength: 20 },
      ),
      fc.nat(25_000),
      (origin, pieces, cut) => {
        const pool = new HoldPool(ctx)
        const base = 1 << FLOW_SHIFT
        ctx.words[base + HOLD_HEAD] = -1
        ctx.words[base + HOLD_COUNT] = 0
        const model = new Set<number>()
        frames.offset[0] = 0
        frames.length[0] = LONGEST
        for (const { from, length } of pieces) {
          // Each byte tells its position.
          for (let i = 0; i < length; i++) frames.arena[i] = byteAt(from + i)
          expect(pool.insert(base, 0, 0, length, (origin + from) | 0)).toBe(true)
          for (let i = 0; i < length; i++) model.add(from + i)
        }
        if (cut % 2 === 1) {
          pool.truncate(base, (origin + cut) | 0)
          for (const position of model) if (position >= cut) model.delete(position)
        }
        let end = cut
        while (model.has(end)) end++
        expect((pool.contiguous(base, (origin + cut) | 0) - origin) | 0).toBe(end)

        let previous = -1
        let bytes = 0
        while (ctx.words[base + HOLD_HEAD]! >= 0) {
          const block = ctx.words[base + HOLD_HEAD]!
          const from = (pool.sequence[block]! - origin) | 0
          const length = pool.length[block]!
          expect(from).toBeGreaterThanOrEqual(previous)
          for (let i = 0; i < length; i++) {
            if (frames.arena[pool.offset[block]! + i] !== byteAt(from + i)) throw new Error(`wrong byte at ${from + i}`)
          }
          bytes += length
          // In two steps, as a socket does that takes a part.
          const part = (length >> 1) + 1
          pool.consume(base, (pool.sequence[block]! + part) | 0)
          if (part < length) {
            expect(pool.offset[block]! % 4096).toBe(part)
            pool.consume(base, (origin + from + length) | 0)
          }
          previous = from + length
        }
        expect(bytes).toBe(model.size)
        expect([pool.used, ctx.words[base + HOLD_COUNT]]).toEqual([0, 0])
      },
    ),
    { numRuns: 200 },
  )
})

test("truncation to the byte", () => {
  const pool = new HoldPool(ctx)
  const base = 1 << FLOW_SHIFT
  ctx.words[base + HOLD_HEAD] = -1
  ctx.words[base + HOLD_COUNT] = 0
  frames.length[0] = LONGEST
  for (const from of [0, 10, 30]) pool.insert(base, 0, 0, 10, from)
  pool.truncate(base, 40)
  expect([pool.used, pool.contiguous(base, 30)]).toEqual([3, 40])
  pool.truncate(base, 39)
  expect([pool.used, pool.contiguous(base, 30)]).toEqual([3, 39])
  pool.truncate(base, 10)
  expect([pool.used, pool.contiguous(base, 0)]).toEqual([1, 10])
  pool.truncate(base, 0)
  expect([pool.used, ctx.words[base + HOLD_HEAD]]).toEqual([0, -1])
})

test("a flow gets half of the pool, two get all, and what one gives back the other can have", () => {
  const pool = new HoldPool(ctx)
  const bases = [1, 2, 3].map((flow) => flow << FLOW_SHIFT)
  for (const base of bases) {
    ctx.words[base + HOLD_HEAD] = -1
    ctx.words[base + HOLD_COUNT] = 0
  }
  frames.length[0] = LONGEST
  const fill = (base: number): number => {
    let taken = 0
    while (pool.insert(base, 0, 0, 1, 2 * ctx.words[base + HOLD_COUNT]!)) taken++
    return taken
  }
  expect(bases.map(fill)).toEqual([HOLD_BLOCKS / 2, HOLD_BLOCKS / 2, 0])
  pool.release(bases[0]!)
  expect(pool.used).toBe(HOLD_BLOCKS / 2)
  expect(fill(bases[2]!)).toBe(HOLD_BLOCKS / 2)
  for (const base of bases) pool.release(base)
  expect(pool.used).toBe(0)
})

function byteAt(position: number): number {
  return (position * 31 + (position >> 8)) & 0xff
}
