/** Native code of vhost-user against guests and front-ends that write what they like, watched by sanitizers. */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"

const CPP = join(import.meta.dirname, "../cpp")
const SOURCES = [
  "test/vhost-hostile.cc",
  "test/vhost-packed-test.cc",
  "vhost-ring.cc",
  "vhost-split.cc",
  "vhost-packed.cc",
  "vhost-inflight.cc",
  "vhost-memory.cc",
  "vhost-channel.cc",
]
const FLAGS = ["-std=c++20", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"]
const SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
const TIMEOUT_MS = 120_000

let folder: string
let program: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
  program = join(folder, "vhost-hostile")
  execFileSync("g++", [...FLAGS, ...SANITIZE, ...SOURCES.map((name) => join(CPP, name)), "-o", program])
}, TIMEOUT_MS)
afterAll(() => {
  rmSync(folder, { recursive: true })
})

const seeds = process.env["VHOST_SEED"] === undefined ? [1, 2, 3] : [Number(process.env["VHOST_SEED"])]
test.each(seeds)("seed %i", { timeout: TIMEOUT_MS }, (seed) => {
  // A runtime that a test of the addon has preloaded is not for this program.
  const result = spawnSync(program, ["20000", String(seed)], { encoding: "utf8", env: {} })
  expect([result.status, result.stdout, result.stderr]).toEqual([0, "nothing\n", ""])
})
