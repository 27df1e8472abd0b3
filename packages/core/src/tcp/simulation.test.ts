/**
 * TCP in worlds drawn from seeds (sim/tcp-world.ts, which says what is checked): loss, reordering, slow ends, closed windows,
 * outages, resets, errors of every kernel call, exhaustion, silence.
 *
 * A failure names its seed. Environment:
 *   SIM_SEED=17     runs the worlds of this seed only
 *   SIM_SEEDS=5000  runs so many seeds of each climate instead of a few
 */
import { env } from "node:process"
import { describe, expect, test } from "vitest"

import { CLIMATES, TcpWorld } from "../sim/tcp-world.ts"

const only = env["SIM_SEED"]
const count = Number(env["SIM_SEEDS"] ?? 25)
const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(only)]

describe("no byte is lost, repeated or reordered, and nothing is left behind", () => {
  for (const climate of CLIMATES) {
    test(climate, { timeout: 60_000 + 1000 * seeds.length }, () => {
      let turns = 0
      for (const seed of seeds) {
        const world = new TcpWorld(seed, climate)
        world.run()
        turns += world.turns
      }
      expect(turns).toBeGreaterThan(seeds.length)
    })
  }
})
