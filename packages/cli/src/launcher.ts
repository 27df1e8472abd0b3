/**
 * What launcher and program tell each other. The launcher passes descriptors on fixed numbers and says so in the
 * environment; native/launcher/README.md has the whole contract.
 */

/** The guest's connected socket, when `--fd` was given. */
export const SOCKET_FD = 3
export const SOCKET_VARIABLE = "PASST_SOCKET_FD"
/** Write end of the pipe on which the launcher's parent waits, when the program is to go to the background. */
export const READY_FD = 4
export const READY_VARIABLE = "PASST_READY_FD"

export interface Launch {
  /** The guest's socket, moved from the number that `--fd` names; null: not moved (no launcher, or no `--fd`). */
  readonly socketFd: number | null
  /** Where to report readiness; null: stay in the foreground. */
  readonly readyFd: number | null
}

/** Reads what the launcher said. */
export function readLaunch(environment: Readonly<Record<string, string | undefined>>): Launch {
  return {
    socketFd: environment[SOCKET_VARIABLE] === String(SOCKET_FD) ? SOCKET_FD : null,
    readyFd: environment[READY_VARIABLE] === String(READY_FD) ? READY_FD : null,
  }
}
