/** Runs a TypeScript program of its own, for what belongs to a process: signals, garbage collection, threads. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** How to enter a network namespace that ends with the program, its loopback interface up.
 * @param preparation a shell command that must succeed in it
 * @returns a command that takes another one as arguments, or why there can't be such a namespace */
export function enterNamespace(preparation: string): string[] | string {
  // Namespaces of users let everybody make one, unless the host forbids that.
  const unshare = ["unshare", process.getuid?.() === 0 ? "--net" : "--map-root-user", "--net"]
  const command = [...unshare, "sh", "-c", `ip link set lo up && ${preparation} && exec "$@"`, "sh"]
  const [file = "", ...args] = command
  const result = spawnSync(file, [...args, "true"], { encoding: "utf8" })
  if (result.status === 0) return command
  return (result.error?.message ?? result.stderr).trim()
}

/** @param body statements; `bench` and all that loopback.ts exports are in scope as `l`, core as `core`
 * @param inside what `enterNamespace` returned, if the program is to run there
 * @returns what it printed; @throws with its errors when it fails */
export function runChild(body: string, flags: readonly string[] = [], inside: readonly string[] = []): string {
  // Inside the package, so that its dependencies resolve.
  const folder = mkdtempSync(join(import.meta.dirname, ".child-"))
  try {
    const file = join(folder, "child.ts")
    writeFileSync(
      file,
      `import * as core from "@passt/core"\nimport * as l from "../loopback.ts"\nvoid core, l\n${body}`,
    )
    const [command = "", ...args] = [...inside, process.execPath, ...flags, file]
    const result = spawnSync(command, args, { encoding: "utf8", timeout: 60_000 })
    if (result.status !== 0) throw new Error(`exit ${result.status ?? result.signal}: ${result.stderr}${result.stdout}`)
    return result.stdout
  } finally {
    rmSync(folder, { recursive: true })
  }
}
