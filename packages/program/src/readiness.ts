/** Going to the background, as far as the launcher has left that to the program. */
import { closeSync, writeSync } from "node:fs"
import type { Logger } from "@passt/host"
import { redirectStdio } from "@passt/native"

/** The caller may go on: nothing of ours keeps its streams, or its file systems, in use. */
export function becomeDaemon(logger: Logger, readyFd: number): void {
  process.chdir("/")
  logger.switchToDaemon()
  redirectStdio()
  try {
    writeSync(readyFd, "1")
    closeSync(readyFd)
  } catch {
    // The caller has given up.
    process.exit(1)
  }
}
