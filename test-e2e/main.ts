// Runs the end-to-end tests: first, outside the sandbox, what needs the network (the guest's packages) or the compiler,
// then vitest inside. What is in containers/ needs a sandbox of another kind, and takes root: a stage of its own.
//
//   node test-e2e/main.ts [VITEST ARGUMENT...]
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { guestImage } from "../tools/guest/image.ts"
import { buildNativeTool } from "../tools/bench/native-tools.ts"
import { containerTree } from "../tools/containers/tree.ts"
import { enterSandbox, ROOT } from "../tools/world/enter.ts"
import { CONTAINER_NEEDS, missing, skipNote } from "./lib/needs.ts"

const CONTAINERS = "containers"
const args = process.argv.slice(2)

/** Whether the arguments ask for tests of a folder: they name a file there, or none at all. */
function wanted(folder: string): boolean {
  const filters = args.filter((arg, index) => !arg.startsWith("-") && !/^-[^=]*$/.test(args[index - 1] ?? ""))
  const files = readdirSync(join(import.meta.dirname, folder)).filter((name) => name.endsWith(".test.ts"))
  const paths = files.map((name) => join("test-e2e", folder, name))
  return filters.length === 0 || filters.some((filter) => paths.some((path) => path.includes(filter)))
}

function vitest(...rest: readonly string[]): string[] {
  const config = join(import.meta.dirname, "vitest.config.ts")
  return [process.execPath, join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--config", config, ...rest, ...args]
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
  if (wanted("") || !wanted(CONTAINERS)) {
    await guestImage("cloud")
    await guestImage("generic")
    buildNativeTool("bridge")
    statuses.push(await enterSandbox(vitest("--exclude", `**/${CONTAINERS}/**`)))
  }
  if (wanted(CONTAINERS)) {
    const note = skipNote(...CONTAINER_NEEDS)
    if (note === "") {
      const env = { PASST_CONTAINER_TREE: await containerTree() }
      const command = vitest("--exclude", "*.test.ts")
      statuses.push(await enterSandbox(command, { manyUsers: true, env }))
    } else process.stderr.write(`Tests with containers${note}\n`)
  }
  return Math.max(0, ...statuses)
}

try {
  process.exit(await main())
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
