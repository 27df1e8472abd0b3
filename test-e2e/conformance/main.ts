// The conformance suite (README.md): checks of passt and pasta from outside, against any binary.
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fetchDebianPasst } from "../../tools/bench/debian-release.ts"
import { enterSandbox, insideSandbox, ROOT } from "../../tools/world/enter.ts"
import type { Check, Result } from "./check.ts"
import { missingFromPage, writePage } from "./document.ts"
import { HELP, suiteOptions, UsageError } from "./options.ts"
import type { SuiteOptions } from "./options.ts"
import { keepResults, keptResults } from "./results.ts"
import { runChecks } from "./runner.ts"
import type { Commands } from "./stage.ts"
import { AREAS, CHECKS, duplicateIds, named } from "./suite.ts"

/** What the part outside the sandbox tells the part inside. */
const ORDERS_VARIABLE = "PASST_CONFORMANCE"

interface Orders {
  readonly commands: Commands
  readonly ids: readonly string[]
  readonly jobs: number
  /** Where the results are to be written. */
  readonly results: string
}

function chosen({ only, binary, pasta }: SuiteOptions): readonly Check[] {
  const wanted = new Set(
    only.flatMap((name) => {
      const checks = named(name)
      if (checks.length === 0) throw new UsageError(`--only: no check is called "${name}"; --list shows them`)
      return checks
    }),
  )
  const withoutPasta = binary !== undefined && pasta === undefined
  return CHECKS.filter(
    (check) => (only.length === 0 || wanted.has(check)) && !(withoutPasta && check.program === "pasta"),
  )
}

function commandsOf({ binary, pasta, release }: SuiteOptions): Commands {
  if (release === undefined) {
    return { passt: [binary ?? join(ROOT, "dist/bin/passt")], pasta: [pasta ?? join(ROOT, "dist/bin/pasta")] }
  }
  const [passt, other] = (["passt", "pasta"] as const).map((program) => {
    const found = fetchDebianPasst(release, join(ROOT, ".cache/bench"), program)
    if (typeof found === "string") throw new UsageError(`--release ${release}: ${found}`)
    return found.command
  })
  return { passt: passt!, pasta: other! }
}

/** What the report calls the binary's version: Debian's, else the program's own. */
function versionOf(options: SuiteOptions): string {
  if (options.release !== undefined) {
    const found = fetchDebianPasst(options.release, join(ROOT, ".cache/bench"), "passt")
    return typeof found === "string" ? options.release : found.version
  }
  const [passt] = commandsOf(options).passt
  const package_ = spawnSync("dpkg-query", ["--show", "--showformat=${Version}", "passt"], { encoding: "utf8" })
  if (passt === "/usr/bin/passt" && package_.status === 0) return package_.stdout
  return spawnSync(passt!, ["--version"], { encoding: "utf8" }).stdout.split("\n")[0] ?? ""
}

async function runInSandbox(checks: readonly Check[], options: SuiteOptions): Promise<Result[]> {
  const folder = join(ROOT, ".cache/conformance")
  mkdirSync(folder, { recursive: true })
  const results = join(folder, `${process.pid}.json`)
  const orders: Orders = {
    commands: commandsOf(options),
    ids: checks.map((check) => check.id),
    jobs: options.jobs,
    results,
  }
  // The sandbox's scratch space must not hide it.
  if (options.binary !== undefined) process.env.PASST_BINARY = options.binary
  try {
    const command = [process.execPath, "--disable-warning=ExperimentalWarning", import.meta.filename]
    const status = await enterSandbox(command, { env: { [ORDERS_VARIABLE]: JSON.stringify(orders) } })
    if (status !== 0) throw new Error(`the sandbox ended with status ${status}`)
    return JSON.parse(readFileSync(results, "utf8")) as Result[]
  } finally {
    rmSync(results, { force: true })
  }
}

async function inside(orders: Orders): Promise<void> {
  const tell = (check: Check, { verdict, message, elapsedMs }: Result): void => {
    const sign = { pass: "✓", fail: "✗", absent: "-" }[verdict]
    const why = message === undefined ? "" : `\n    ${message}`
    process.stdout.write(`${sign} ${check.id}: ${check.title} (${elapsedMs} ms)${why}\n`)
  }
  // What a check that has failed had begun fails later, when nobody waits for it any more.
  process.on("unhandledRejection", () => {})
  const checks = orders.ids.map((id) => CHECKS.find((check) => check.id === id)!)
  writeFileSync(orders.results, JSON.stringify(await runChecks(checks, orders.commands, orders.jobs, tell)))
}

async function outside(): Promise<number> {
  const options = suiteOptions(process.argv.slice(2))
  if (options.help) {
    process.stdout.write(HELP)
    return 0
  }
  const twice = duplicateIds()
  if (twice.length > 0) throw new Error(`ids that are there twice: ${twice.join(", ")}`)
  if (options.list) {
    for (const { title, checks } of AREAS) {
      process.stdout.write(`${title}\n${checks.map((check) => `  ${check.id}: ${check.title}\n`).join("")}`)
    }
    return 0
  }
  if (options.document) {
    writePage(AREAS, keptResults())
    return 0
  }
  const stale = missingFromPage(AREAS, keptResults())
  if (stale.length > 0 && options.record === undefined) {
    process.stdout.write(
      `docs/conformance.md lacks ${stale.length} checks, such as ${stale[0]}: write it again by --document\n`,
    )
  }
  const began = performance.now()
  const results = await runInSandbox(chosen(options), options)
  const count = (verdict: string): number => results.filter((result) => result.verdict === verdict).length
  // Once more at the end, where they are seen.
  for (const { id, verdict, message } of results) {
    if (verdict === "fail") process.stdout.write(`failed: ${id}: ${message}\n`)
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(0)
  process.stdout.write(`${count("pass")} passed, ${count("fail")} failed, ${count("absent")} absent, in ${seconds} s\n`)
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(results, undefined, 2)}\n`)
  if (options.record !== undefined) {
    keepResults(options.record, versionOf(options), results)
    writePage(AREAS, keptResults())
    return 0
  }
  return stale.length === 0 && count("pass") === results.length ? 0 : 1
}

try {
  if (insideSandbox()) {
    await inside(JSON.parse(process.env[ORDERS_VARIABLE] ?? "") as Orders)
    process.exit(0)
  }
  process.exit(await outside())
} catch (error) {
  process.stderr.write(`${error instanceof UsageError ? error.message : (error as Error).stack}\n`)
  process.exit(error instanceof UsageError ? 2 : 1)
}
