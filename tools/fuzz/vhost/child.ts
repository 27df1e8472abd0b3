/**
 * The vhost-user link against a front-end that does what it likes (front-end.cc), in a process that may die of it:
 * `child.ts PROGRAM SEED CASES`. Ends with 0 when the link is, after each case, as it was before it: without descriptors and mappings of the
 * front-end's, and ready for the next one.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setImmediate } from "node:timers/promises"
import { FrameTable, RX_FRAME_MAX } from "../../../packages/core/src/index.ts"
import { NativeKernel } from "../../../native/src/index.ts"
import { VhostLink } from "../../../packages/transport-vhost/src/index.ts"
import { Random } from "../random.ts"
import { Failure } from "../target.ts"

const LINK_REF = 0x4000_0000
const CASE_MS = 20_000
const TURNS_MAX = 200

const [program, first, cases] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])]

const descriptors = () => readdirSync("/proc/self/fd").length
/** Mappings of files that only a front-end can have brought. */
const mappings = () =>
  readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => /memfd:(guest|fuzz|vhost)/.test(line))

function queueFrames(link: VhostLink, frames: FrameTable, r: Random): void {
  for (let i = r.below(6); i > 0; i--) {
    const length = r.pick([14, 60, 90, 1514, 9000, 60_000])
    const row = link.reserve(length)
    if (row < 0) return
    if (row < RX_FRAME_MAX) throw new Failure(`row ${row} of the receive area`)
    const at = frames.offset[row]!
    frames.arena.set([0x52, 0x54, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17], at)
    for (let j = 26; j < 38 && j < length; j++) frames.arena[at + j] = r.below(256)
    frames.length[row] = length
    link.commit(row)
  }
}

async function runCase(link: VhostLink, kernel: NativeKernel, frames: FrameTable, path: string, seed: number) {
  const r = new Random(seed)
  const front = spawn(program, [path, String(seed)], { stdio: ["ignore", "inherit", "inherit"] })
  let status: number | string | undefined
  front.on("exit", (code, signal) => (status = signal ?? code ?? -1))
  const deadline = performance.now() + CASE_MS
  for (let idle = 0; idle < 3;) {
    if (performance.now() > deadline) throw new Failure(`seed ${seed}: it does not end`)
    const events = kernel.wait(1)
    link.handleEvent(0, 1)
    let turns = 0
    do {
      const rows = link.receive()
      for (let row = 0; row < rows; row++) {
        const length = frames.length[row]!
        if (length < 14 || frames.offset[row]! + length > frames.arena.length) throw new Failure(`a frame of ${length}`)
      }
    } while (link.more && ++turns < TURNS_MAX)
    if (link.connected) queueFrames(link, frames, r)
    link.flush()
    await setImmediate()
    idle = status !== undefined && events <= 0 ? idle + 1 : 0
  }
  if (status !== 0) throw new Failure(`seed ${seed}: the front-end ended with ${status}`)
}

const folder = mkdtempSync(join(tmpdir(), "passt-fuzz-"))
try {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  const reasons = new Map<string, number>()
  const link = new VhostLink(kernel, frames, {
    disconnected: (_errno, reason) => reasons.set(reason, (reasons.get(reason) ?? 0) + 1),
    saveState: () => new Uint8Array(62),
    loadState: (state) => state.length > 60,
  })
  const path = join(folder, "socket")
  if (link.listen(path) < 0) throw new Failure("can't listen")
  link.watch(LINK_REF)
  // The first case opens what stays open: Node's own descriptors for children.
  await runCase(link, kernel, frames, path, first)
  const before = descriptors()
  for (let i = 1; i < cases; i++) {
    await runCase(link, kernel, frames, path, first + i)
    if (link.connected) throw new Failure(`seed ${first + i}: the front-end is gone, and its rings run`)
    if (descriptors() > before) throw new Failure(`seed ${first + i}: ${descriptors()} descriptors after ${before}`)
    if (mappings().length > 0) throw new Failure(`seed ${first + i}: still mapped:\n${mappings().join("\n")}`)
  }
  if (process.env["FUZZ_VERBOSE"]) console.log(reasons, { bad: link.badFrames, lost: link.lostFrames })
  link.close()
  kernel.destroy()
} finally {
  rmSync(folder, { recursive: true })
}
