// What the checks found with the reference's versions: kept in results.json, so that the page can be written again when a
// title changes.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Result, Verdict } from "./check.ts"

const PATH = join(import.meta.dirname, "results.json")

export interface Kept {
  /** A Debian release, or whatever --record was told. */
  readonly name: string
  /** As the package or the program tells it. */
  readonly version: string
  readonly verdicts: Readonly<Record<string, Verdict>>
}

export function keptResults(): readonly Kept[] {
  return JSON.parse(readFileSync(PATH, "utf8")) as Kept[]
}

/** Keeps these results; those of checks that did not run this time stay. */
export function keepResults(name: string, version: string, results: readonly Result[]): void {
  const all = [...keptResults()]
  const index = all.findIndex((kept) => kept.name === name)
  const before = all[index]?.version === version ? all[index].verdicts : {}
  const verdicts = { ...before, ...Object.fromEntries(results.map(({ id, verdict }) => [id, verdict])) }
  all.splice(index < 0 ? all.length : index, 1, { name, version, verdicts })
  all.sort((one, other) => one.version.localeCompare(other.version))
  writeFileSync(PATH, `${JSON.stringify(all, undefined, 2)}\n`)
}
