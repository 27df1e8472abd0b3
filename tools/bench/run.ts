/**
 * Benchmarks side by side: every scenario for every implementation, alternately, several times, in one run. Only such
 * neighbours can be compared on a machine that others use; the ratio is the result, not the figure.
 */

import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { findImplementation, type Implementation } from "./implementations.ts"
import { measure, type MeasureOptions } from "./measure.ts"
import { buildNativeTool } from "./native-tools.ts"
import { HELP, parseOptions, UsageError, type Options } from "./options.ts"
import { formatRate, formatReport, jsonReport, verdicts, type Block, type Row } from "./report.ts"
import { scenarioName } from "./scenarios.ts"

/** Set in the process that runs inside a user namespace, so that it does not make another one. */
const INSIDE = "PASST_BENCH_USER_NAMESPACE"

/** An ordinary user gets the rights to make network namespaces in a user namespace of its own. */
const runInUserNamespace = (): number => {
  const command = ["--user", "--map-root-user", process.execPath, ...process.argv.slice(1)]
  const { status, error } = spawnSync("unshare", command, { stdio: "inherit", env: { ...process.env, [INSIDE]: "1" } })
  if (error !== undefined) throw new UsageError(`unshare can't be started: ${error.message}`)
  return status ?? 1
}

/** Namespaces inherit it, and it decides about bulk: BBR, which paces what it sends, moves a quarter of what CUBIC does over loopback. */
const CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"

const note = (text: string): void => void process.stderr.write(`${text}\n`)

const findAll = (options: Options): Implementation[] => {
  const found: Implementation[] = []
  for (const name of options.implementations) {
    const implementation = findImplementation(name, options.program)
    if (typeof implementation !== "string") {
      note(`${implementation.name}: ${implementation.origin}`)
      found.push(implementation)
    } else if (options.isExplicit) {
      throw new UsageError(implementation)
    } else {
      note(`left out, ${implementation}`)
    }
  }
  if (found.length === 0) throw new UsageError("there is nothing to measure")
  return found
}

const measureAll = async (options: Options, implementations: Implementation[]): Promise<Block[]> => {
  const measureOptions: MeasureOptions = {
    ...options,
    bridge: buildNativeTool("bridge"),
    traffic: buildNativeTool("traffic"),
  }
  const blocks: Block[] = []
  for (const scenario of options.scenarios) {
    const rows: Row[] = implementations.map(({ name, isOurs }) => ({
      implementation: name,
      isOurs,
      runs: [],
      failures: [],
    }))
    for (let run = 0; run < options.runs; run++) {
      for (const [index, implementation] of implementations.entries()) {
        const label = `${scenarioName(scenario)}, run ${run + 1}/${options.runs}, ${implementation.name}`
        try {
          const measurement = await measure(implementation, scenario, measureOptions)
          rows[index]!.runs.push(measurement)
          note(`${label}: ${formatRate(scenario, measurement.rate)} ${scenario.kind.unit}`)
        } catch (error) {
          const reason = (error as Error).message
          rows[index]!.failures.push(reason)
          note(`${label}: FAILED: ${reason}`)
        }
      }
    }
    blocks.push({ scenario, rows })
  }
  return blocks
}

const main = async (): Promise<number> => {
  const options = parseOptions(process.argv.slice(2))
  if (options === undefined) {
    process.stdout.write(HELP)
    return 0
  }
  if (process.getuid!() !== 0 && process.env[INSIDE] === undefined) return runInUserNamespace()
  note(`congestion control: ${readFileSync(CONGESTION, "utf8").trim()}`)
  const blocks = await measureAll(options, findAll(options))
  process.stdout.write(`\n${formatReport(blocks)}`)
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(jsonReport(blocks), null, 2)}\n`)
  const failed = blocks.some(({ rows }) => rows.some((row) => row.failures.length > 0))
  const missed = options.check && verdicts(blocks).some((verdict) => !verdict.met)
  return failed || missed ? 1 : 0
}

try {
  process.exitCode = await main()
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`bench: ${error.message}\n`)
  process.exitCode = 1
}
