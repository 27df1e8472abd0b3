import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { hash11 } from "./hash.ts"
import {
  FAR,
  FD,
  FLOW_SHIFT,
  FlowTable,
  GUEST,
  HASH_NEXT,
  KIND,
  KIND_FREE,
  KIND_PING,
  KIND_RETIRED,
  KIND_TCP,
  KIND_UDP,
  OUR,
  PEER,
  PORT,
  SIDE_GUEST,
  SIDE_HOST,
} from "./table.ts"

const SECRET = Int32Array.of(0x12345678, -1)

/** Addresses and ports of both sides, from one small number, so that keys repeat. */
function fill(table: FlowTable, flow: number, seed: number): void {
  const base = flow << FLOW_SHIFT
  const w = table.words
  for (let i = 0; i < 4; i++) {
    w[base + GUEST + i] = seed
    w[base + FAR + i] = seed + i
    w[base + PEER + i] = seed * 2
    w[base + OUR + i] = -seed
  }
  w[base + GUEST + PORT] = seed & 1
  w[base + FAR + PORT] = 80
  w[base + PEER + PORT] = seed & 3
  w[base + OUR + PORT] = 443
}

function ask(table: FlowTable, kind: number, seed: number, side: number): number {
  const { key } = table
  key[0] = kind
  for (let i = 0; i < 4; i++) {
    key[1 + i] = side === SIDE_GUEST ? seed : seed * 2
    key[5 + i] = side === SIDE_GUEST ? seed + i : -seed
  }
  key[9] = side === SIDE_GUEST ? seed & 1 : seed & 3
  key[10] = side === SIDE_GUEST ? 80 : 443
  return table.find(side)
}

describe("the flow table", () => {
  test("hands out rows up to its limit, freed ones first", () => {
    const table = new FlowTable(SECRET, 3)
    expect([
      table.allocate(KIND_TCP),
      table.allocate(KIND_UDP),
      table.allocate(KIND_PING),
      table.allocate(KIND_TCP),
    ]).toEqual([0, 1, 2, -1])
    expect(table.count).toBe(3)
    table.retire(1)
    expect(table.allocate(KIND_TCP)).toBe(-1)
    expect(table.counts[KIND_RETIRED]).toBe(1)
    table.free(1)
    expect(table.allocate(KIND_TCP)).toBe(1)
    expect(table.counts[KIND_TCP]).toBe(2)
    expect(table.counts[KIND_UDP]).toBe(0)
    expect(table.counts[KIND_PING]).toBe(1)
    expect(table.counts[KIND_RETIRED]).toBe(0)
  })

  test("a row is clean when it is handed out again", () => {
    const table = new FlowTable(SECRET, 3)
    table.allocate(KIND_TCP)
    table.words.fill(77, 1, 1 << FLOW_SHIFT)
    table.words.fill(-2, HASH_NEXT, HASH_NEXT + 2)
    table.retire(0)
    table.free(0)
    expect(table.words[KIND]).toBe(KIND_FREE)
    table.allocate(KIND_UDP)
    const row = [...table.words.subarray(0, 1 << FLOW_SHIFT)]
    expect(row[KIND]).toBe(KIND_UDP)
    expect(row[FD]).toBe(-1)
    expect(row.filter((v) => v === 77)).toEqual([])
  })

  test("both sides are found by their own key, only by it, and only when indexed", () => {
    const table = new FlowTable(SECRET, 10)
    const flow = table.allocate(KIND_UDP)
    fill(table, flow, 5)
    expect(ask(table, KIND_UDP, 5, SIDE_GUEST)).toBe(-1)
    table.index(flow, SIDE_GUEST)
    expect(ask(table, KIND_UDP, 5, SIDE_GUEST)).toBe(flow)
    expect(table.isGuestSide(flow)).toBe(true)
    expect(ask(table, KIND_UDP, 5, SIDE_HOST)).toBe(-1)
    expect(ask(table, KIND_TCP, 5, SIDE_GUEST)).toBe(-1)
    expect(table.isGuestSide(flow)).toBe(false)
    for (let word = 0; word < 11; word++) {
      ask(table, KIND_UDP, 5, SIDE_GUEST)
      table.key[word]! ^= 1 << 16
      expect([word, table.find(SIDE_GUEST), table.isGuestSide(flow)]).toEqual([word, -1, false])
    }
    table.index(flow, SIDE_HOST)
    expect(ask(table, KIND_UDP, 5, SIDE_HOST)).toBe(flow)
    table.retire(flow)
    expect(ask(table, KIND_UDP, 5, SIDE_GUEST)).toBe(-1)
    expect(ask(table, KIND_UDP, 5, SIDE_HOST)).toBe(-1)
  })

  test("does what a map would, under any sequence of calls", () => {
    type Command = { readonly what: number; readonly seed: number; readonly pick: number; readonly host: boolean }
    const command: fc.Arbitrary<Command> = fc.record({
      what: fc.nat(3),
      seed: fc.nat(15),
      pick: fc.nat(31),
      host: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
        const table = new FlowTable(SECRET, 16)
        const live = new Map<number, { seed: number; kind: number; host: boolean }>()
        const retired: number[] = []
        for (const { what, seed, pick, host } of commands) {
          const flows = [...live.keys()]
          if (what === 0) {
            const kind = KIND_TCP + (pick % 3)
            // The engine never has two flows of one key.
            if ([...live.values()].some((f) => f.seed === seed && f.kind === kind)) continue
            const flow = table.allocate(kind)
            expect(flow >= 0).toBe(live.size + retired.length < 16)
            if (flow < 0) continue
            expect(live.has(flow) || retired.includes(flow)).toBe(false)
            fill(table, flow, seed)
            table.index(flow, SIDE_GUEST)
            if (host) table.index(flow, SIDE_HOST)
            live.set(flow, { seed, kind, host })
          } else if (what === 1 && flows.length > 0) {
            const flow = flows[pick % flows.length]!
            table.retire(flow)
            live.delete(flow)
            retired.push(flow)
          } else if (what === 2 && retired.length > 0) {
            table.free(retired.splice(pick % retired.length, 1)[0]!)
          }
          expect(table.count).toBe(live.size + retired.length)
          for (let s = 0; s < 16; s++) {
            for (let kind = KIND_TCP; kind <= KIND_PING; kind++) {
              const want = [...live].find(([, f]) => f.seed === s && f.kind === kind)
              expect(ask(table, kind, s, SIDE_GUEST)).toBe(want?.[0] ?? -1)
              expect(ask(table, kind, s, SIDE_HOST)).toBe(want?.[1].host ? want[0] : -1)
            }
          }
        }
      }),
      { numRuns: 30 },
    )
  })
})

describe("the hash", () => {
  /** HalfSipHash-1-3 as its authors describe it: words of a message with its length, in unsigned arithmetic. */
  function model(words: readonly number[], k0: number, k1: number): number {
    const mask = 0xffffffffn
    const rotate = (x: bigint, b: bigint): bigint => ((x << b) | (x >> (32n - b))) & mask
    const u = (x: number): bigint => BigInt(x >>> 0)
    const v = [u(k0), u(k1), 0x6c796765n ^ u(k0), 0x74656462n ^ u(k1)] as [bigint, bigint, bigint, bigint]
    const round = (): void => {
      v[0] = (v[0] + v[1]) & mask
      v[1] = rotate(v[1], 5n) ^ v[0]
      v[0] = rotate(v[0], 16n)
      v[2] = (v[2] + v[3]) & mask
      v[3] = rotate(v[3], 8n) ^ v[2]
      v[0] = (v[0] + v[3]) & mask
      v[3] = rotate(v[3], 7n) ^ v[0]
      v[2] = (v[2] + v[1]) & mask
      v[1] = rotate(v[1], 13n) ^ v[2]
      v[2] = rotate(v[2], 16n)
    }
    for (const word of [...words, (words.length * 4) << 24]) {
      v[3] ^= u(word)
      round()
      v[0] ^= u(word)
    }
    v[2] ^= 0xffn
    for (let i = 0; i < 3; i++) round()
    return Number((v[1] ^ v[3]) & mask) | 0
  }
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })

  test("is HalfSipHash-1-3", () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 11, maxLength: 11 }), word, word, (words, k0, k1) => {
        expect(hash11(Int32Array.from(words), k0, k1)).toBe(model(words, k0, k1))
      }),
    )
  })

  test("spreads neighbouring ports, differently for each secret", () => {
    const key = new Int32Array(11)
    const buckets = (secret: number): Set<number> => {
      const seen = new Set<number>()
      for (let port = 0; port < 4096; port++) {
        key[9] = port
        seen.add(hash11(key, secret, 0) & 0x3ffff)
      }
      return seen
    }
    const one = buckets(1)
    const two = buckets(2)
    expect(one.size).toBeGreaterThan(4000)
    expect([...one].filter((b) => two.has(b)).length).toBeLessThan(400)
  })
})
