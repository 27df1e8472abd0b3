/**
 * `--stats`: a table on standard error that grows by a row at most every so many seconds, when something has happened: what
 * is alive, what passed since the last row, and what was dropped, by reason.
 */
import { writeSync } from "node:fs"
import { COUNTER, COUNTER_COUNT, type Engine } from "@passt/core"
import type { Chore } from "./chores.ts"

/** Rows between headers. */
const ROWS = 20

type CounterName = keyof typeof COUNTER

interface Column {
  readonly title: string
  readonly width: number
  /** @param since what was counted since the last row @param seconds time that has passed */
  readonly text: (since: (name: CounterName) => number, seconds: number) => string
}

const mbits = (bytes: number, seconds: number): string => ((bytes * 8) / 1e6 / seconds).toFixed(1)

const PASSED: readonly Column[] = [
  {
    title: "new",
    width: 6,
    text: (since) =>
      String(
        since("tcpFlows") +
          since("udpFlows") +
          since("groupFlows") +
          since("pingFlows") +
          since("tcpSpliceFlows") +
          since("udpSpliceFlows"),
      ),
  },
  { title: "frames<", width: 9, text: (since) => String(since("framesFromGuest")) },
  { title: "frames>", width: 9, text: (since) => String(since("framesToGuest")) },
  { title: "Mbit/s<", width: 9, text: (since, seconds) => mbits(since("bytesFromGuest"), seconds) },
  { title: "Mbit/s>", width: 9, text: (since, seconds) => mbits(since("bytesToGuest"), seconds) },
  { title: "splice<", width: 9, text: (since, seconds) => mbits(since("bytesSplicedOut"), seconds) },
  { title: "splice>", width: 9, text: (since, seconds) => mbits(since("bytesSplicedIn"), seconds) },
  { title: "retrans", width: 8, text: (since) => String(since("tcpRetransmits") + since("tcpFastRetransmits")) },
  { title: "resets", width: 7, text: (since) => String(since("tcpResets")) },
]
const ALIVE = ["TCP", "UDP", "ping", "splice"] as const
const TIME_WIDTH = 9
const ALIVE_WIDTH = 7

const DROPS = (Object.keys(COUNTER) as CounterName[]).filter((name) => name.startsWith("drop"))

/** "dropTcpSequence" as "tcp-sequence". */
function reason(name: CounterName): string {
  return name
    .slice(4)
    .replace(/(?<=.)[A-Z]/g, "-$&")
    .toLowerCase()
}

function header(): string {
  const alive = ALIVE.map((title) => title.padStart(ALIVE_WIDTH)).join("")
  return `${"seconds".padStart(TIME_WIDTH)}${alive}${PASSED.map(({ title, width }) => title.padStart(width)).join("")}  dropped`
}

export class StatsTable implements Chore {
  readonly isDue = true
  dueAt: number
  readonly #engine: Engine
  readonly #periodMs: number
  readonly #write: (line: string) => void
  readonly #began: number
  #printedAt: number
  readonly #last: Float64Array = new Float64Array(COUNTER_COUNT)
  #rows = 0

  /** @param seconds between rows, at least 1 @param write gets lines without their end */
  constructor(engine: Engine, seconds: number, write: (line: string) => void = toStderr) {
    this.#engine = engine
    this.#periodMs = seconds * 1000
    this.#write = write
    this.#began = engine.ctx.now
    this.#printedAt = this.#began
    this.dueAt = (this.#began + this.#periodMs) | 0
  }

  run(now: number): void {
    this.dueAt = (now + this.#periodMs) | 0
    const { counters } = this.#engine
    const since = (name: CounterName): number => counters[COUNTER[name]]! - this.#last[COUNTER[name]]!
    // Turns go on without traffic.
    const happened = (Object.keys(COUNTER) as CounterName[]).some((name) => name !== "turns" && since(name) > 0)
    if (!happened) {
      this.#printedAt = now
      return
    }
    if (this.#rows++ % ROWS === 0) this.#write(header())
    const seconds = Math.max(1, (now - this.#printedAt) | 0) / 1000
    const drops = DROPS.filter((name) => since(name) > 0).map((name) => `${reason(name)} ${since(name)}`)
    const elapsed = (((now - this.#began) >>> 0) / 1000).toFixed(1)
    const alive = this.#engine.alive()
    const flows = [alive.tcp, alive.udp, alive.ping, alive.spliced].map((count) => String(count).padStart(ALIVE_WIDTH))
    const passed = PASSED.map(({ width, text }) => text(since, seconds).padStart(width))
    const row = `${elapsed.padStart(TIME_WIDTH)}${flows.join("")}${passed.join("")}  ${drops.join(", ") || "-"}`
    this.#write(row)
    this.#last.set(counters)
    this.#printedAt = now
  }
}

function toStderr(line: string): void {
  try {
    writeSync(2, `${line}\n`)
  } catch {
    // Closed, or a pipe that nobody reads.
  }
}
