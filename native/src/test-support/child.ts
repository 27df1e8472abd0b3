/** Runs a TypeScript program of its own, for what belongs to a process: signals, garbage collection, threads. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** @param body statements; `bench` and all that loopback.ts exports are in scope as `l`, core as `core`
 * @returns what it printed; @throws with its errors when it fails */
export function runChild(body: string, flags: readonly string[] = []): string {
  // Inside the package, so that its dependencies resolve.
  const folder = mkdtempSync(join(import.meta.dirname, ".child-"))
  try {
    const file = join(folder, "child.ts")
    writeFileSync(
      file,
      `import * as core from "@passt/core"\nimport * as l from "../loopback.ts"\nvoid core, l\n${body}`,
    )
    const result = spawnSync(process.execPath, [...flags, file], { encoding: "utf8", timeout: 60_000 })
    if (result.status !== 0) throw new Error(`exit ${result.status ?? result.signal}: ${result.stderr}${result.stdout}`)
    return result.stdout
  } finally {
    rmSync(folder, { recursive: true })
  }
}
