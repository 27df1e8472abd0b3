/**
 * The native link against bytes on its socket (child.ts), in a process of its own for some dozens of cases: what fails there
 * may be a crash. With `npm run check -- --sanitize tools/fuzz` under a sanitizer.
 */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Failure, type Target } from "../target.ts"

const CHILD = fileURLToPath(new URL("child.ts", import.meta.url))
const CASES = 60
const TIMEOUT_MS = 120_000

export const unixLinkTarget: Target = {
  name: "unix-link",
  run(seed) {
    // Seeds of cases that follow each other must not overlap.
    const args = [CHILD, String((seed % 10_000_000) * CASES), String(CASES)]
    const result = spawnSync(process.execPath, args, { encoding: "utf8", timeout: TIMEOUT_MS })
    if (result.status === 0) return
    const how = result.signal ?? `exit ${result.status}`
    throw new Failure(`node ${args.join(" ")}: ${how}\n${result.stdout}${result.stderr}`)
  },
}
