// Runs the end-to-end tests: first, outside the sandbox, what needs the network (the guest's packages) or the compiler,
// then vitest inside. What is in the folders of TREES needs other Debian systems, a sandbox of another kind, and root: a
// stage of its own.
//
// Links are alike to whoever uses them, so tests of what crosses them run over vhost-user too: a few of them each time (OVER_VHOST), and
// with --vhost-user all that are named, or all.
//
//   node test-e2e/main.ts [--vhost-user] [VITEST ARGUMENT...]
import { execFileSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { guestImage } from "../tools/guest/image.ts"
import { buildNativeTool } from "../tools/bench/native-tools.ts"
import { debianTree, treeVariable } from "../tools/debian/tree.ts"
import type { Release } from "../tools/debian/tree.ts"
import { enterSandbox, ROOT } from "../tools/world/enter.ts"
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
const WITH_PASST: readonly string[] = [...OVER_VHOST, "forwards", "icmp", "limits", "multicast", "follow-host"]

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

/** The command line for all tests but those of some folders, and of files of a pattern. */
function vitest(withoutFolders: readonly string[], without: readonly string[], ...only: readonly string[]): string[] {
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

async function main(): Promise<number> {
  const lacking = missing()
  if (lacking.length > 0) {
    const list = lacking.map((need) => `  ${need.what}: ${need.remedy}`).join("\n")
    // On a test machine nothing may be passed over for want of a package.
    if (process.env.CI === "true") throw new Error(`These end-to-end tests could not run:\n${list}`)
    process.stderr.write(`Some end-to-end tests will be skipped:\n${list}\n`)
  }
  const statuses: number[] = []
  const folders = Object.keys(TREES).filter(wanted)
  if (wanted("") || folders.length === 0) {
    await guestImage("cloud")
    await guestImage("generic")
    buildNativeTool("bridge")
    const named = args.some((arg) => !arg.startsWith("-"))
    // Whole paths: others end in the same words.
    const files = (names: readonly string[]): string[] =>
      names.map((name) => join(import.meta.dirname, `${name}.test.ts`))
    if (!overVhost) statuses.push(await enterSandbox(vitest(Object.keys(TREES), []), { env: pestoEnvironment() }))
    if (overVhost || !named) {
      const only = named ? [] : files(overVhost ? WITH_PASST : OVER_VHOST)
      statuses.push(await enterSandbox(vitest(Object.keys(TREES), [], ...only), { env: { PASST_LINK: "vhost-user" } }))
    }
  }
  if (folders.length > 0 && !overVhost) {
    const note = skipNote(...TREE_NEEDS)
    if (note === "") {
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
      const command = vitest(
        others.map(({ name }) => name).filter((name) => !folders.includes(name)),
        ["*.test.ts"],
      )
      statuses.push(await enterSandbox(command, { manyUsers: true, env }))
    } else process.stderr.write(`Tests with other Debian systems${note}\n`)
  }
  return Math.max(0, ...statuses)
}

try {
  process.exit(await main())
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
