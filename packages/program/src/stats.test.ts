import { COUNTER, COUNTER_COUNT, type Engine } from "@passt/core"
import { expect, test } from "vitest"
import { StatsTable } from "./stats.ts"

function setting(): { engine: Engine; lines: string[]; counters: Float64Array } {
  const counters = new Float64Array(COUNTER_COUNT)
  const alive = { tcp: 3, udp: 2, ping: 1, spliced: 0 }
  const engine = { counters, ctx: { now: 0x7fff_ff00 }, alive: () => alive } as unknown as Engine
  return { engine, lines: [], counters }
}

test("a row when something has happened, with rates and drops by reason since the last one", () => {
  const { engine, lines, counters } = setting()
  const start = engine.ctx.now
  const table = new StatsTable(engine, 2, (line) => void lines.push(line))
  expect((table.dueAt - start) | 0).toBe(2000)
  counters[COUNTER.turns] = 9
  table.run((start + 2000) | 0)
  expect(lines).toEqual([])
  counters[COUNTER.framesFromGuest] = 10
  counters[COUNTER.bytesToGuest] = 5e6
  counters[COUNTER.dropTcpSequence] = 4
  counters[COUNTER.dropIp] = 1
  table.run((start + 4000) | 0)
  expect(lines).toHaveLength(2)
  const words = lines[1]!.trim().split(/\s+/)
  expect(words.slice(0, 5)).toEqual(["4.0", "3", "2", "1", "0"])
  expect(lines[1]).toMatch(/ 10 +0 +0\.0 +20\.0 .* {2}ip 1, tcp-sequence 4$/)
  expect(lines[0]!.indexOf("frames<") + 7).toBe(lines[1]!.indexOf(" 10 ") + 3)
  counters[COUNTER.framesToGuest] = 1
  table.run((start + 6000) | 0)
  expect(lines[2]).toMatch(/ {2}-$/)
})

test("a header every 20 rows", () => {
  const { engine, lines, counters } = setting()
  const table = new StatsTable(engine, 1, (line) => void lines.push(line))
  for (let i = 1; i <= 41; i++) {
    counters[COUNTER.framesFromGuest] = i
    table.run((engine.ctx.now + 1000 * i) | 0)
  }
  expect(lines.flatMap((line, i) => (line.includes("seconds") ? [i] : []))).toEqual([0, 21, 42])
})
