/**
 * The native link of vhost-user and its session against a front-end and a guest that do what they like (front-end.cc), in a process of its own
 * (child.ts) for some cases: what fails there may be a crash. With `npm run check -- --sanitize tools/fuzz` under a sanitizer.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Failure, type Target } from "../target.ts"

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const FLAGS = ["-std=c++20", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread"]
const CASES = 10
const TIMEOUT_MS = 240_000

let folder: string | undefined

function frontEnd(): string {
  if (folder === undefined) {
    folder = mkdtempSync(join(tmpdir(), "passt-fuzz-"))
    execFileSync("g++", [...FLAGS, here("front-end.cc"), "-o", join(folder, "front-end")])
  }
  return join(folder, "front-end")
}

export const vhostTarget: Target = {
  name: "vhost",
  run(seed) {
    const args = [here("child.ts"), frontEnd(), String((seed % 100_000_000) * CASES), String(CASES)]
    const result = spawnSync(process.execPath, args, { encoding: "utf8", timeout: TIMEOUT_MS })
    if (result.status === 0) return
    const how = result.signal ?? `exit ${result.status}`
    throw new Failure(`node ${args.join(" ")}: ${how}\n${result.stdout}${result.stderr}`)
  },
  end() {
    if (folder !== undefined) rmSync(folder, { recursive: true })
    folder = undefined
  },
}
