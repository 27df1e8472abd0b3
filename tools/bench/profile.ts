/**
 * Where our program's time goes, from V8's sampling profiler (`--cpu-prof`): a sample belongs to JavaScript if the
 * function on top has a source, to the collector or to native code (system calls, the addon, V8 itself) otherwise.
 * A thread that waits is sampled too; those samples are left out, since waiting is no CPU time.
 */

import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

export interface ProfileShares {
  /** Shares of the samples that were not waiting; they add up to 1. */
  javascript: number
  native: number
  collector: number
  /** Samples while measured that were not waiting, and those that were. */
  samples: number
  waiting: number
  /** The most sampled functions, JavaScript and native, with their share. */
  top: { name: string; share: number }[]
}

interface ProfileNode {
  id: number
  callFrame: { functionName: string; url: string; lineNumber: number }
}

interface CpuProfile {
  nodes: ProfileNode[]
  startTime: number
  samples: number[]
  timeDeltas: number[]
}

type Kind = "javascript" | "native" | "collector" | "waiting"

/** The call that blocks until something is ready, as the addon names it. */
const WAIT = /^(wait|epollWait|epoll_wait)$/

const kindOf = ({ callFrame }: ProfileNode): Kind => {
  if (callFrame.functionName === "(garbage collector)") return "collector"
  if (callFrame.functionName === "(idle)") return "waiting"
  if (callFrame.url !== "") return "javascript"
  return WAIT.test(callFrame.functionName) ? "waiting" : "native"
}

/** Sums up one profile between two moments, in microseconds of the clock that the profile uses. */
export const shareOut = (profile: CpuProfile, fromUs: number, toUs: number): ProfileShares => {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const counts: Record<Kind, number> = { javascript: 0, native: 0, collector: 0, waiting: 0 }
  const byName = new Map<string, number>()
  let at = profile.startTime
  profile.samples.forEach((id, index) => {
    at += profile.timeDeltas[index]!
    if (at < fromUs || at > toUs) return
    const node = nodes.get(id)!
    const kind = kindOf(node)
    counts[kind]++
    if (kind === "waiting") return
    const { functionName, url, lineNumber } = node.callFrame
    const place = url === "" ? kind : `${url.slice(url.lastIndexOf("/") + 1)}:${lineNumber + 1}`
    const name = `${functionName || "(anonymous)"} [${place}]`
    byName.set(name, (byName.get(name) ?? 0) + 1)
  })
  const samples = counts.javascript + counts.native + counts.collector
  const share = (count: number): number => (samples === 0 ? 0 : count / samples)
  return {
    javascript: share(counts.javascript),
    native: share(counts.native),
    collector: share(counts.collector),
    samples,
    waiting: counts.waiting,
    top: [...byName]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 15)
      .map(([name, count]) => ({ name, share: share(count) })),
  }
}

/**
 * Reads the largest profile of the folder (a launcher's would be the small one). The measured interval is given in
 * milliseconds of our own `performance.now()`; both clocks are the system's monotonic one.
 */
export const readProfile = (folder: string, marks: { startMs: number; endMs: number }): ProfileShares => {
  const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"))
  const text = texts.sort((a, b) => b.length - a.length)[0]
  if (text === undefined) throw new Error("passt ended without writing a profile")
  const originUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000
  return shareOut(JSON.parse(text) as CpuProfile, originUs + marks.startMs * 1000, originUs + marks.endMs * 1000)
}
