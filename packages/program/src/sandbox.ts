/** Walls around the program: what it can see and may do once it serves. docs/security.md has the whole picture. */
import { errnoText, type Logger } from "@passt/host"
import { enterSandbox, giveUp, type SandboxOptions, type SandboxReport } from "@passt/native"
import { StartError } from "./error.ts"

/** Enters namespaces with an empty root; all files must be open. What could not be had is said by `dropPrivileges`.
 * @throws StartError when it can't be done at all, or the user can't be changed */
export function isolate(options: SandboxOptions): SandboxReport {
  const report = enterSandbox(options)
  if (report.threads !== 0)
    throw new StartError(`Couldn't isolate the process (is /proc mounted?): ${errnoText(report.threads)}`)
  if (report.identity !== 0) {
    throw new StartError(`Couldn't change to user ${options.identity?.uid}: ${errnoText(report.identity)}`)
  }
  return report
}

/** Gives up what is left of privileges, and says which walls are missing.
 * @param kept the capability that stays; -1: none @param signals whether signals to other processes will be needed
 * @throws StartError */
export function dropPrivileges(logger: Logger, report: SandboxReport, kept: number, signals: boolean): void {
  const { result, landlock } = giveUp(kept, signals)
  if (result < 0) throw new StartError(`Couldn't give up privileges: ${errnoText(-result)}`)
  if (report.userNamespace !== 0) {
    logger.warning(`No user namespace of our own: ${errnoText(report.userNamespace)}`)
  } else if (report.idMap !== 0) {
    logger.warning(`Couldn't map our user in its namespace: ${errnoText(report.idMap)}`)
  }
  const instead =
    landlock === 0
      ? "files are out of reach by Landlock alone"
      : `and no Landlock (${errnoText(landlock)}): files that our user may open are in reach`
  if (report.namespaces !== 0) {
    logger.warning(`No mount, IPC, UTS and PID namespaces of our own: ${errnoText(report.namespaces)}; ${instead}`)
  } else if (report.root !== 0) {
    logger.warning(`Couldn't empty our root directory: ${errnoText(report.root)}; ${instead}`)
  } else if (report.chrooted) {
    logger.warning("Couldn't pivot_root, used chroot as --chroot-fallback allows")
  }
}
