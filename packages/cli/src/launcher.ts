/**
 * What launcher and program tell each other. The launcher passes descriptors on fixed numbers and says so in the
 * environment; native/launcher/README.md has the whole contract.
 */

/** The guest's connected socket, when `--fd` was given. */
export const SOCKET_FD = 3
export const SOCKET_VARIABLE = "PASST_SOCKET_FD"
/** The same number, when a service manager has passed on a socket that guests connect to. */
export const LISTENER_VARIABLE = "PASST_LISTENER_FD"
/** Write end of the pipe on which the launcher's parent waits, when the program is to go to the background. */
export const READY_FD = 4
export const READY_VARIABLE = "PASST_READY_FD"

/** pasta: the target network namespace, an open nsfs file. */
export const NETNS_FD = 5
export const NETNS_VARIABLE = "PASST_NETNS_FD"
/** pasta: where one byte lets the command start that is to be spawned, and its process. */
export const GO_FD = 6
export const GO_VARIABLE = "PASST_GO_FD"
export const CHILD_VARIABLE = "PASST_CHILD_PID"
/** pasta, where the user changes before the program starts: the files of --pid and --log-file, opened before. The log's
 * has a descriptor for moving its contents, and one for appending. */
export const PID_FILE_FD = 7
export const PID_FILE_VARIABLE = "PASST_PID_FILE_FD"
export const LOG_EDIT_FD = 8
export const LOG_APPEND_FD = 9
export const LOG_FILE_VARIABLE = "PASST_LOG_FILE_FD"
/** pasta: the directory of the file that names the namespace (--netns), opened while it was still to be reached. */
export const NETNS_DIRECTORY_FD = 10
export const NETNS_DIRECTORY_VARIABLE = "PASST_NETNS_DIRECTORY_FD"
/** Where the watcher of resolv.conf sends its content: a socket of messages, each a byte 1 and the file as it is, at most 64 KiB. */
export const RESOLVERS_FD = 11
export const RESOLVERS_VARIABLE = "PASST_RESOLVERS_FD"
/** Where the opener of the policy's file is asked for it: each byte is answered by a message of a byte 1 with the open file, or of
 * a byte 0 and an error number in text. */
export const POLICY_FD = 12
export const POLICY_VARIABLE = "PASST_POLICY_FD"
/** Lines for the user's log. */
export const WARNINGS_VARIABLE = "PASST_WARNINGS"

export interface Launch {
  /** The guest's socket, moved from the number that `--fd` names; null: not moved (no launcher, or no `--fd`). */
  readonly socketFd: number | null
  /** A listening socket for guests, from a service manager; null: none. */
  readonly listenerFd: number | null
  /** Where to report readiness; null: stay in the foreground. */
  readonly readyFd: number | null
  /** The network namespace to serve; null: none (no launcher, not pasta, or a command line that has to be refused). */
  readonly netnsFd: number | null
  /** The directory of the file of `--netns`, a path only (O_PATH); null: none. */
  readonly netnsDirectoryFd: number | null
  /** The command that waits to be started; null: none. */
  readonly command: { readonly goFd: number; readonly pid: number } | null
  /** The file of `--pid`, open; null: the program's to open, if there is one. */
  readonly pidFileFd: number | null
  /** The same for `--log-file`. */
  readonly logFileFds: { readonly edit: number; readonly append: number } | null
  /** The watcher of resolv.conf; null: none. */
  readonly resolversFd: number | null
  /** The opener of the policy's file; null: none. */
  readonly policyFd: number | null
  /** What went wrong in the launcher without being fatal, one line each. */
  readonly warnings: readonly string[]
}

/** Reads what the launcher said. */
export function readLaunch(environment: Readonly<Record<string, string | undefined>>): Launch {
  const passed = (variable: string, fd: number): number | null => (environment[variable] === String(fd) ? fd : null)
  const goFd = passed(GO_VARIABLE, GO_FD)
  const pid = Number(environment[CHILD_VARIABLE])
  return {
    socketFd: passed(SOCKET_VARIABLE, SOCKET_FD),
    listenerFd: passed(LISTENER_VARIABLE, SOCKET_FD),
    readyFd: passed(READY_VARIABLE, READY_FD),
    netnsFd: passed(NETNS_VARIABLE, NETNS_FD),
    netnsDirectoryFd: passed(NETNS_DIRECTORY_VARIABLE, NETNS_DIRECTORY_FD),
    command: goFd !== null && Number.isSafeInteger(pid) && pid > 0 ? { goFd, pid } : null,
    pidFileFd: passed(PID_FILE_VARIABLE, PID_FILE_FD),
    logFileFds: passed(LOG_FILE_VARIABLE, LOG_EDIT_FD) === null ? null : { edit: LOG_EDIT_FD, append: LOG_APPEND_FD },
    resolversFd: passed(RESOLVERS_VARIABLE, RESOLVERS_FD),
    policyFd: passed(POLICY_VARIABLE, POLICY_FD),
    warnings: environment[WARNINGS_VARIABLE]?.split("\n") ?? [],
  }
}
