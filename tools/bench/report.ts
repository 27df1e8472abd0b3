/** The result as a table for people and as JSON for programs. */

import type { Measurement } from "./measure.ts"
import { scenarioName, targetsOf, type Scenario } from "./scenarios.ts"

/** All runs of one implementation in one scenario. */
export interface Row {
  readonly implementation: string
  readonly isOurs: boolean
  readonly runs: Measurement[]
  readonly failures: string[]
}

export interface Block {
  readonly scenario: Scenario
  readonly rows: Row[]
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const medianOf = (row: Row, pick: (run: Measurement) => number): number => median(row.runs.map(pick))

export const formatRate = (scenario: Scenario, rate: number): string =>
  scenario.kind.unit === "Gbit/s" ? rate.toFixed(rate < 1 ? 3 : 2) : Math.round(rate).toLocaleString("en-US")

const megabytes = (bytes: number | undefined): string => (bytes === undefined ? "-" : (bytes / 1e6).toFixed(1))

/** Ours divided by the reference, by their medians; undefined when either has no run. */
export const ratioOf = (ours: Row | undefined, reference: Row | undefined): number | undefined => {
  if (!ours?.runs.length || !reference?.runs.length) return undefined
  return medianOf(ours, (run) => run.rate) / medianOf(reference, (run) => run.rate)
}

/** Our CPU time per unit divided by the reference's, by their medians. */
export const costRatioOf = (ours: Row | undefined, reference: Row | undefined): number | undefined => {
  if (!ours?.runs.length || !reference?.runs.length) return undefined
  return medianOf(ours, (run) => run.cost) / medianOf(reference, (run) => run.cost)
}

/** Our slowest run divided by the reference's median. */
export const worstRatioOf = (ours: Row | undefined, reference: Row | undefined): number | undefined => {
  if (!ours?.runs.length || !reference?.runs.length) return undefined
  return Math.min(...ours.runs.map((run) => run.rate)) / medianOf(reference, (run) => run.rate)
}

export interface Verdict {
  scenario: string
  reference: string
  ratio: number
  target: number
  /** Of our slowest run. */
  each: boolean
  /** Of CPU time: at most. */
  cost: boolean
  met: boolean
}

/** Not the reference's own, so a yardstick only where a target says so. */
const OTHERS: readonly string[] = ["veth", "slirp4netns"]

/** Ours against the newest reference that was measured, or another yardstick, wherever there is a target. */
export const verdicts = (blocks: readonly Block[]): Verdict[] =>
  blocks.flatMap(({ scenario, rows }) =>
    targetsOf(scenario).flatMap(({ factor, of, each = false, cost = false }) => {
      const isIt = (name: string): boolean => (of === undefined ? !OTHERS.includes(name) : name === of)
      const reference = rows.findLast((row) => !row.isOurs && row.runs.length > 0 && isIt(row.implementation))
      const ours = rows.find((row) => row.isOurs)
      const ratio = (cost ? costRatioOf : each ? worstRatioOf : ratioOf)(ours, reference)
      if (ratio === undefined) return []
      const name = scenarioName(scenario)
      const target = Number(factor.toFixed(2))
      const met = cost ? ratio <= factor : ratio >= factor
      return [{ scenario: name, reference: reference!.implementation, ratio, target, each, cost, met }]
    }),
  )

const lineOf = ({ scenario, rows }: Block, row: Row): string[] => {
  if (row.runs.length === 0) return [row.implementation, "failed", "", "", "", "", "", ""]
  const rates = row.runs.map((run) => run.rate)
  const references = row.isOurs ? rows.filter((other) => !other.isOurs) : []
  const ratios = references.map((reference) => {
    const ratio = ratioOf(row, reference)
    if (ratio === undefined) return ""
    return `${ratio.toFixed(2)}x ${reference.implementation} (${worstRatioOf(row, reference)!.toFixed(2)})`
  })
  const cpuShare = medianOf(row, (run) => run.cpuSeconds / run.seconds)
  const latency = row.runs[0]!.latencyMedianUs
  return [
    row.implementation,
    formatRate(scenario, median(rates)),
    `${formatRate(scenario, Math.min(...rates))} - ${formatRate(scenario, Math.max(...rates))}`,
    medianOf(row, (run) => run.cost).toFixed(2),
    `${(cpuShare * 100).toFixed(0)} %`,
    megabytes(medianOf(row, (run) => run.residentBytes)),
    megabytes(row.runs[0]!.privateBytes === undefined ? undefined : medianOf(row, (run) => run.privateBytes ?? 0)),
    latency === undefined ? "" : `${medianOf(row, (run) => run.latencyMedianUs!)}/${row.runs.at(-1)!.latencyP99Us}`,
    ...ratios,
  ]
}

const blockTable = (block: Block): string => {
  const { unit } = block.scenario.kind
  const cost = unit === "Gbit/s" ? "CPU s/GiB" : "CPU s/M"
  const head = ["", unit, "min - max", cost, "CPU", "RSS MB", "own MB", "p50/p99 us", "ours against (in the worst run)"]
  const lines = [head, ...block.rows.map((row) => lineOf(block, row))]
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  const text = lines.map((line) =>
    line
      .map((cell, column) =>
        column === 0 || column >= head.length - 1 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column]!),
      )
      .join("  ")
      .trimEnd(),
  )
  return [scenarioName(block.scenario), ...text.map((line) => `  ${line}`)].join("\n")
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`

const observationLines = ({ scenario, rows }: Block): string[] =>
  rows.flatMap((row) => {
    const last = row.runs.at(-1)
    const lines: string[] = []
    if (last?.collections !== undefined) {
      const counts = row.runs.map((run) => run.collections).join(", ")
      lines.push(`${scenarioName(scenario)}: garbage collections while measured: ${counts}`)
    }
    if (last?.profile !== undefined) {
      const { javascript, native, collector, samples, top } = last.profile
      lines.push(
        `${scenarioName(scenario)}: JavaScript ${percent(javascript)}, native ${percent(native)}, ` +
          `collector ${percent(collector)} of ${samples} samples`,
        ...top.map(({ name, share }) => `    ${percent(share).padStart(7)}  ${name}`),
      )
    }
    return lines
  })

export const formatReport = (blocks: readonly Block[]): string => {
  const parts = blocks.map(blockTable)
  const observations = blocks.flatMap(observationLines)
  if (observations.length > 0) parts.push(observations.join("\n"))
  const reached = verdicts(blocks).map(
    ({ scenario, reference, ratio, target, each, cost, met }) =>
      `  ${met ? "reached" : "MISSED "}  ${ratio.toFixed(2)}x of ${reference}${cost ? "'s CPU time" : ""}, ` +
      `at ${cost ? "most" : "least"} ${target}x wanted${each ? " in each run" : ""}: ${scenario}`,
  )
  if (reached.length > 0) parts.push(["Targets", ...reached].join("\n"))
  return `${parts.join("\n\n")}\n`
}

/** The same as data, every single run included. */
export const jsonReport = (blocks: readonly Block[]): unknown => ({
  results: blocks.map(({ scenario, rows }) => ({
    scenario: scenario.kind.id,
    title: scenario.kind.title,
    unit: scenario.kind.unit,
    mtu: scenario.mtu,
    family: scenario.family,
    link: scenario.link,
    implementations: rows.map(({ implementation, runs, failures }) => ({
      implementation,
      median: runs.length === 0 ? null : median(runs.map((run) => run.rate)),
      runs,
      failures,
    })),
  })),
  targets: verdicts(blocks),
})
