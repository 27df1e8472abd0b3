/**
 * Where our program's CPU time goes, from `perf` (Debian: linux-perf), which sees the kernel, the addon and V8's compiled
 * code alike; V8's own profiler counts a system call as part of the JavaScript function that made it.
 *
 * A sample is JavaScript's if it fell into code that V8 generated (`--perf-basic-prof` names it) or into the runtime
 * itself (builtins, the way from JavaScript into the addon), the collector's if such a frame says so, and native if it fell
 * into the addon, the C library or the kernel. A process that waits is not sampled.
 */

import { spawn, spawnSync, type ChildProcess } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"

/** Samples per second; not a divisor of anything that ticks. */
const FREQUENCY = 1997

export interface ProfileShares {
  /** Shares of the samples; they add up to 1. */
  javascript: number
  native: number
  collector: number
  samples: number
  /** The most sampled functions, with their share. */
  top: { name: string; share: number }[]
}

type Kind = "javascript" | "native" | "collector"

const kindOf = (symbol: string, object: string): Kind => {
  if (/Scavenge|MarkCompact|Sweep|GarbageCollect/.test(symbol)) return "collector"
  if (/\/perf-\d+\.map$/.test(object) || object.endsWith("/node")) return "javascript"
  return "native"
}

/**
 * Sums up lines of `perf script -F time,ip,sym,dso` between two moments.
 *
 * @param fromMs first moment, milliseconds of the system's monotonic clock
 */
export const shareOut = (script: string, fromMs: number, toMs: number): ProfileShares => {
  const counts: Record<Kind, number> = { javascript: 0, native: 0, collector: 0 }
  const byName = new Map<string, number>()
  for (const line of script.split("\n")) {
    // "  1234.567890:  7f77df1c1f38 name of the symbol (/path/of/object)"
    const parts = /^\s*(\d+\.\d+):\s+[0-9a-f]+ (.*) \(([^()]*)\)$/.exec(line)
    if (parts === null) continue
    const atMs = Number(parts[1]) * 1000
    if (atMs < fromMs || atMs > toMs) continue
    const symbol = parts[2]!
    const object = parts[3]!
    const kind = kindOf(symbol, object)
    counts[kind]++
    // V8 names code "JS:*function /path/file:line:column"; the mark tells how it was compiled.
    const short = symbol.replace(/^JS:[*^~+']?/, "").replace(/ \S*\/([^/ ]+)$/, " $1")
    const name = `${short} [${kind === "native" ? object.slice(object.lastIndexOf("/") + 1) : kind}]`
    byName.set(name, (byName.get(name) ?? 0) + 1)
  }
  const samples = counts.javascript + counts.native + counts.collector
  const share = (count: number): number => (samples === 0 ? 0 : count / samples)
  return {
    javascript: share(counts.javascript),
    native: share(counts.native),
    collector: share(counts.collector),
    samples,
    top: [...byName]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 15)
      .map(([name, count]) => ({ name, share: share(count) })),
  }
}

export interface Profiler {
  /** Ends the recording, and sums up what lies between two moments of our own `performance.now()`. */
  read(marks: { startMs: number; endMs: number }): Promise<ProfileShares>
}

/**
 * Records one process, which was started with `--perf-basic-prof`.
 *
 * @param folder for the recording
 * @throws when perf is not there or may not look
 */
export const startProfiler = (pid: number, folder: string): Profiler => {
  const file = join(folder, "perf.data")
  const event = ["-e", "cpu-clock", "-F", String(FREQUENCY), "--clockid", "CLOCK_MONOTONIC"]
  const recorder: ChildProcess = spawn("perf", ["record", ...event, "-p", String(pid), "-o", file], {
    stdio: ["ignore", "ignore", "pipe"],
  })
  let said = ""
  recorder.stderr!.on("data", (text: Buffer) => (said += text.toString()))
  const end = new Promise<number | null>((done) => {
    recorder.once("exit", done)
    recorder.once("error", (error) => {
      said = `${error.message} (on Debian: apt-get install linux-perf)`
      done(null)
    })
  })
  return {
    read: async ({ startMs, endMs }) => {
      recorder.kill("SIGINT")
      await end
      // Its map of compiled code may belong to the user that passt became: --force.
      const fields = ["-F", "time,ip,sym,dso"]
      const script = spawnSync("perf", ["script", "--force", "-i", file, "--ns", ...fields], {
        encoding: "utf8",
        maxBuffer: 1 << 30,
      })
      rmSync(`/tmp/perf-${pid}.map`, { force: true })
      if (script.status !== 0) throw new Error(`perf: ${script.stderr || said}`.trim())
      const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()
      return shareOut(script.stdout, originMs + startMs, originMs + endMs)
    },
  }
}
