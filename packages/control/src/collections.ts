/**
 * Garbage collections, counted by V8's own profiler: the loop is synchronous, so nobody could be called when one happens. The profiler writes a
 * text about each, which is read from time to time so that it does not grow.
 */
import type { GCProfiler } from "node:v8"

/** How often, milliseconds. */
const READ_MS = 60_000
/** V8's names: gc_callbacks.h. */
const KINDS: Readonly<Record<string, string>> = {
  Scavenge: "minor",
  MinorMarkCompact: "minor",
  MarkSweepCompact: "major",
  IncrementalMarking: "incremental",
}

export interface Collections {
  readonly count: number
  /** In all. */
  readonly seconds: number
}

/** Asked for when it is needed: that module loads all of Node's streams, a tenth of a start. */
const newProfiler = (): GCProfiler => new (process.getBuiltinModule("node:v8").GCProfiler)()

/** A chore (packages/program) that counts, from when it is made. */
export class CollectionCounter {
  readonly isDue = true
  dueAt: number
  #profiler = newProfiler()
  readonly #counts = new Map<string, { count: number; seconds: number }>([
    ["minor", { count: 0, seconds: 0 }],
    ["major", { count: 0, seconds: 0 }],
  ])

  /** @param now milliseconds, the clock of `run` */
  constructor(now: number) {
    this.dueAt = (now + READ_MS) | 0
    this.#profiler.start()
  }

  run(now: number): void {
    this.dueAt = (now + READ_MS) | 0
    this.read()
  }

  /** So far, by kind. */
  read(): ReadonlyMap<string, Collections> {
    const { statistics } = this.#profiler.stop()
    this.#profiler = newProfiler()
    this.#profiler.start()
    for (const { gcType, cost } of statistics) {
      const kind = KINDS[gcType] ?? "other"
      const known = this.#counts.get(kind) ?? { count: 0, seconds: 0 }
      known.count++
      known.seconds += cost / 1e6
      this.#counts.set(kind, known)
    }
    return this.#counts
  }
}
