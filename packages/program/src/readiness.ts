/** Going to the background, as far as the launcher has left that to the program. */
import { closeSync, openSync } from "node:fs"
import type { Launch } from "@passt/cli"
import { errnoText, type Logger } from "@passt/host"
import { exitProcess, forkDaemon, redirectStdio, reportReady } from "@passt/native"
import { StartError, systemError } from "./error.ts"
import { writePidFile } from "./pid-file.ts"

export interface Background {
  /** Of the process that goes on, as the caller knows it. */
  readonly pid: number
  /** Nothing of ours keeps the caller's streams in use any more. */
  detach(): void
  /** The caller may go on. */
  ready(): void
}

/** Opened while there are files. @throws StartError */
export function openNull(): number {
  try {
    return openSync("/dev/null", "r+")
  } catch (error) {
    throw systemError("Couldn't open /dev/null", error)
  }
}

/** Goes to the background if that was asked for; what follows runs in the process that stays. In the foreground it writes the PID
 * file, and there is nothing to report. @param nullFd of openNull @throws StartError */
export function goToBackground(
  launch: Launch,
  logger: Logger,
  nullFd: number,
  pidFile: { readonly fd: number; readonly path: string | null },
): Background {
  if (launch.readyFd === null) {
    writePidFile(pidFile.fd, pidFile.path)
    closeSync(nullFd)
    return { pid: process.pid, detach() {}, ready() {} }
  }
  const { told, pid } = forkDaemon(launch.readyFd, pidFile.fd)
  if (told < 0) throw new StartError(`Couldn't fork: ${errnoText(-told)}`)
  return {
    pid,
    detach() {
      logger.switchToDaemon()
      redirectStdio(nullFd)
    },
    ready() {
      // The caller has given up.
      if (reportReady(told) < 0) exitProcess(1)
    },
  }
}
