// Runs the end-to-end tests: first, outside the sandbox, what needs the network (the guest's packages) or the compiler,
// then vitest inside.
//
//   node test-e2e/main.ts [VITEST ARGUMENT...]
import { join } from "node:path"
import { guestImage } from "../tools/guest/image.ts"
import { buildNativeTool } from "../tools/bench/native-tools.ts"
import { enterSandbox, ROOT } from "../tools/world/enter.ts"
import { missing } from "./lib/needs.ts"

const lacking = missing()
if (lacking.length > 0) {
  const list = lacking.map((need) => `  ${need.what}: ${need.remedy}`).join("\n")
  // On a test machine nothing may be passed over for want of a package.
  if (process.env.CI === "true") {
    process.stderr.write(`These end-to-end tests could not run:\n${list}\n`)
    process.exit(1)
  }
  process.stderr.write(`Some end-to-end tests will be skipped:\n${list}\n`)
}
try {
  await guestImage("cloud")
  await guestImage("generic")
  buildNativeTool("bridge")
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs")
  const config = join(import.meta.dirname, "vitest.config.ts")
  const command = [process.execPath, vitest, "run", "--config", config, ...process.argv.slice(2)]
  process.exit(await enterSandbox(command))
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exit(1)
}
