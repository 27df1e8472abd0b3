// Runs the end-to-end tests: first, outside the sandbox, what needs the network (the guest's packages) or the compiler,
// then vitest inside. What is in the folders of TREES needs other Debian systems, a sandbox of another kind, and root: a
// stage of its own.
//
// A file in which something failed, both at the first attempt and at the second, is run once more when all others are over,
// alone; what failed at all stands at the end of the output.
//
// Links are alike to whoever uses them, so tests of what crosses them run over vhost-user too: a few of them each time (OVER_VHOST), and
// with --vhost-user all that are named, or all.
//
//   node test-e2e/main.ts [--vhost-user] [VITEST ARGUMENT...]
import { execFileSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { join, relative } from "node:path"
import { guestImage } from "../tools/guest/image.ts"
import { buildNativeTool } from "../tools/bench/native-tools.ts"
import { debianTree, treeVariable } from "../tools/debian/tree.ts"
import type { Release } from "../tools/debian/tree.ts"
import { enterSandbox, ROOT } from "../tools/world/enter.ts"
import type { SandboxOptions } from "../tools/world/enter.ts"
import { FAILURES_VARIABLE, FailureFile } from "./lib/failures.ts"
import type { Failure } from "./lib/failures.ts"
import { TREE_NEEDS, missing, skipNote } from "./lib/needs.ts"
import { fetchPesto } from "./lib/pesto.ts"

/** Folders of tests that need Debian systems, and which. */
const TREES: Readonly<Record<string, readonly Release[]>> = {
  callers: ["testing"],
  containers: ["trixie"],
  kubevirt: ["testing"],
}
/** What runs over vhost-user as well: the tests of bulk, of many connections and of frame sizes, which depend on the link most. The
 * others are about what is behind it. */
const OVER_VHOST: readonly string[] = ["transfers", "connections", "mtu", "reconnect"]
/** Tests whose guests are attached to passt, by one link or another. */
const WITH_PASST: readonly string[] = [
  ...OVER_VHOST,
  "forwards",
  "icmp",
  "limits",
  "multicast",
  "follow-host",
  "policy",
]

const VHOST_FLAG = "--vhost-user"
const overVhost = process.argv.includes(VHOST_FLAG)
const args = process.argv.slice(2).filter((arg) => arg !== VHOST_FLAG)

/** Whether the arguments ask for tests of a folder: they name a file there, or none at all. */
function wanted(folder: string): boolean {
  const filters = args.filter((arg, index) => !arg.startsWith("-") && !/^-[^=]*$/.test(args[index - 1] ?? ""))
  const files = readdirSync(join(import.meta.dirname, folder)).filter((name) => name.endsWith(".test.ts"))
  const paths = files.map((name) => join("test-e2e", folder, name))
  return filters.length === 0 || filters.some((filter) => paths.some((path) => path.includes(filter)))
}

/** One run of vitest, in a sandbox of its own. */
interface Stage {
  readonly title: string
  /** Whose tests don't belong to it. */
  readonly withoutFolders: readonly string[]
  /** More that don't, as patterns of files. */
  readonly without?: readonly string[]
  /** The only files, by their paths; all others if there are none. */
  readonly only?: readonly string[]
  readonly sandbox: SandboxOptions
}

function vitest({ withoutFolders, without = [], only = [] }: Stage): string[] {
  const config = join(import.meta.dirname, "vitest.config.ts")
  const patterns = [...withoutFolders.map((folder) => `**/${folder}/**`), ...without]
  const exclude = patterns.map((pattern) => `--exclude=${pattern}`)
  return [
    process.execPath,
    join(ROOT, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    config,
    ...exclude,
    ...args,
    ...only,
  ]
}

/** What tests with pesto need, if some are asked for. */
function pestoEnvironment(): Readonly<Record<string, string>> {
  const filters = args.filter((arg) => !arg.startsWith("-"))
  if (filters.length > 0 && !filters.some((filter) => "test-e2e/pesto.test.ts".includes(filter))) return {}
  const pesto = fetchPesto()
  if (typeof pesto !== "string") return pesto
  if (process.env.CI === "true") throw new Error(pesto)
  process.stderr.write(`Tests with pesto will be skipped: ${pesto}\n`)
  return {}
}

/** The stages that the arguments ask for, after what they need has been fetched and built. */
async function prepare(): Promise<readonly Stage[]> {
  const stages: Stage[] = []
  const folders = Object.keys(TREES).filter(wanted)
  const withoutFolders = Object.keys(TREES)
  if (wanted("") || folders.length === 0) {
    await guestImage("cloud")
    await guestImage("generic")
    buildNativeTool("bridge")
    const named = args.some((arg) => !arg.startsWith("-"))
    // Whole paths: others end in the same words.
    const files = (names: readonly string[]): string[] =>
      names.map((name) => join(import.meta.dirname, `${name}.test.ts`))
    if (!overVhost) {
      stages.push({ title: "UNIX socket and pasta", withoutFolders, sandbox: { env: pestoEnvironment() } })
    }
    if (overVhost || !named) {
      const only = named ? [] : files(overVhost ? WITH_PASST : OVER_VHOST)
      stages.push({ title: "vhost-user", withoutFolders, only, sandbox: { env: { PASST_LINK: "vhost-user" } } })
    }
  }
  if (folders.length > 0 && !overVhost) {
    const note = skipNote(...TREE_NEEDS)
    if (note !== "") {
      process.stderr.write(`Tests with other Debian systems${note}\n`)
      return stages
    }
    await guestImage("cloud")
    if (folders.includes("kubevirt")) {
      buildNativeTool("bridge")
      execFileSync(process.execPath, [join(ROOT, "apps/kubevirt-binding/image/main.ts"), "--rootfs"])
    }
    const env: Record<string, string> = {}
    for (const release of new Set(folders.flatMap((folder) => TREES[folder]!))) {
      env[treeVariable(release)] = await debianTree(release)
    }
    const others = readdirSync(import.meta.dirname, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    stages.push({
      title: "other Debian systems",
      withoutFolders: others.map(({ name }) => name).filter((name) => !folders.includes(name)),
      without: ["*.test.ts"],
      sandbox: { manyUsers: true, env },
    })
  }
  return stages
}

/** @returns vitest's exit status, and what failed at all */
async function run(stage: Stage): Promise<{ status: number; failures: readonly Failure[] }> {
  const list = new FailureFile()
  const env = { ...stage.sandbox.env, [FAILURES_VARIABLE]: list.path }
  const status = await enterSandbox(vitest(stage), { ...stage.sandbox, env })
  return { status, failures: list.take() }
}

/** More files than this don't fail because a machine was busy. */
const FILES_TO_REPEAT = 3

/** The files that get another attempt alone, if that can mend the run. */
function toRepeat(failures: readonly Failure[]): readonly string[] {
  const files = new Set(failures.filter(({ passedLater }) => !passedLater).map(({ file }) => file))
  // Whoever chose what to run wants to see it fail.
  if (args.length > 0 || files.has("") || files.size > FILES_TO_REPEAT) return []
  return [...files].map((file) => join(ROOT, file))
}

async function main(): Promise<number> {
  const lacking = missing()
  if (lacking.length > 0) {
    const list = lacking.map((need) => `  ${need.what}: ${need.remedy}`).join("\n")
    // On a test machine nothing may be passed over for want of a package.
    if (process.env.CI === "true") throw new Error(`These end-to-end tests could not run:\n${list}`)
    process.stderr.write(`Some end-to-end tests will be skipped:\n${list}\n`)
  }
  const stages = await prepare()
  const said: string[] = []
  const tell = ({ title }: Stage, failures: readonly Failure[], attempt: string): void => {
    for (const { file, name, message, passedLater } of failures) {
      const sign = passedLater ? "passed at the second attempt" : `failed${attempt}`
      said.push(`${sign}: ${title}: ${file} ${name}\n    ${message}`)
    }
  }
  let status = 0
  const repeated: Stage[] = []
  for (const stage of stages) {
    const first = await run(stage)
    tell(stage, first.failures, "")
    const only = toRepeat(first.failures)
    if (first.status !== 0 && only.length > 0) repeated.push({ ...stage, only })
    else status = Math.max(status, first.status)
  }
  for (const stage of repeated) {
    const again = await run(stage)
    tell(stage, again.failures, ", alone too")
    const files = stage.only?.map((file) => relative(ROOT, file)).join(", ")
    if (again.status === 0) said.push(`passed alone: ${stage.title}: ${files}`)
    status = Math.max(status, again.status)
  }
  if (said.length > 0) process.stdout.write(`${said.join("\n")}\n`)
  return status
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
