/** What a process and its descendants have used, from /proc. A process that has ended meanwhile counts as nothing. */

import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

export interface Usage {
  /** Seconds of CPU time since their start, user and system, all threads. The kernel counts in hundredths. */
  cpuSeconds: number
  /** Resident memory in bytes, shared pages included. */
  residentBytes: number
  /** Resident memory in bytes that no other process shares; undefined where the kernel does not tell. */
  privateBytes: number | undefined
}

const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))

const readProc = (path: string): string => {
  try {
    return readFileSync(`/proc/${path}`, "utf8")
  } catch {
    return ""
  }
}

const childrenOf = (pid: number): number[] => {
  let threads: string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
  const text = threads.map((thread) => readProc(`${pid}/task/${thread}/children`)).join(" ")
  return text.split(/\s+/).filter(Boolean).map(Number)
}

const treeOf = (pid: number): number[] => [pid, ...childrenOf(pid).flatMap(treeOf)]

const cpuSecondsOf = (pid: number): number => {
  const stat = readProc(`${pid}/stat`)
  // The name, in parentheses, may hold anything: count fields after it. utime and stime are fields 14 and 15 (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return fields.length < 13 ? 0 : (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Sum, in bytes, of the lines with such a name in a "Name: 123 kB" file; undefined if there is none. */
const kilobyteLines = (text: string, name: RegExp): number | undefined => {
  const values = [...text.matchAll(/^(\w+):\s+(\d+) kB$/gm)].filter((line) => name.test(line[1]!))
  return values.length === 0 ? undefined : values.reduce((sum, line) => sum + Number(line[2]) * 1024, 0)
}

export const usageOf = (root: number): Usage => {
  const usage: Usage = { cpuSeconds: 0, residentBytes: 0, privateBytes: 0 }
  for (const pid of treeOf(root)) {
    usage.cpuSeconds += cpuSecondsOf(pid)
    usage.residentBytes += kilobyteLines(readProc(`${pid}/status`), /^VmRSS$/) ?? 0
    const own = kilobyteLines(readProc(`${pid}/smaps_rollup`), /^Private_(Clean|Dirty)$/)
    usage.privateBytes = own === undefined || usage.privateBytes === undefined ? undefined : usage.privateBytes + own
  }
  return usage
}
