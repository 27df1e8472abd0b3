/**
 * One logger per program. Messages are single lines, written at once and synchronously: what was said before a crash is
 * there.
 *
 * They go to standard error until the program is a daemon, and to one of: a log file, the log daemon. Standard error
 * carries no level and, except in debug and trace, no time: callers show it to users as it is.
 */
import { writeSync } from "node:fs"
import { elapsedMs } from "./elapsed.ts"
import { LEVEL } from "./levels.ts"
import type { Level } from "./levels.ts"
import { singleLine, timestamp } from "./line.ts"
import type { LogFile } from "./log-file.ts"
import { LimitedSite } from "./limited-site.ts"
import type { Syslog } from "./syslog.ts"

export interface LoggerOptions {
  /** Least severe level that is written; default info. */
  readonly level?: Level
  /** Milliseconds since the program started, of a clock that never jumps. */
  readonly clock?: () => number
  /** Where the stderr sink writes; for tests. */
  readonly stderr?: (line: string) => void
}

function writeStderr(line: string): void {
  try {
    writeSync(2, line)
  } catch {
    // Closed, or a pipe that nobody reads.
  }
}

export class Logger {
  level: Level
  readonly #clock: () => number
  readonly #stderr: (line: string) => void
  #toStderr = true
  #file: LogFile | undefined
  #syslog: Syslog | undefined

  constructor(options: LoggerOptions = {}) {
    this.level = options.level ?? LEVEL.info
    this.#clock = options.clock ?? elapsedMs
    this.#stderr = options.stderr ?? writeStderr
  }

  /** From now on messages go to this file, and not to the log daemon. */
  useFile(file: LogFile): void {
    this.#file = file
    this.#syslog = undefined
  }

  /** From now on messages go to the log daemon, unless there is a file. */
  useSyslog(syslog: Syslog): void {
    if (!this.#file) this.#syslog = syslog
  }

  /** Standard error belongs to the caller, who waits for its end: nothing is written to it any more. */
  switchToDaemon(): void {
    this.#toStderr = false
  }

  /** Where the last words of a process that can't run this code go (native/src/seal.ts). */
  get witness(): { readonly fd: number; readonly sink: "stderr" | "file" | "syslog" } {
    if (this.#file) return { fd: this.#file.fd, sink: "file" }
    if (this.#syslog?.connected) return { fd: this.#syslog.fd, sink: "syslog" }
    return { fd: 2, sink: "stderr" }
  }

  /** Whether a message of this level would be written: to be asked before composing a costly one. */
  enabled(level: Level): boolean {
    return level <= this.level
  }

  log(level: Level, text: string): void {
    if (level > this.level) return
    const line = singleLine(text)
    const now = this.#clock()
    if (this.#toStderr) {
      this.#stderr(this.level >= LEVEL.debug ? `${timestamp(now)}: ${line}\n` : `${line}\n`)
    }
    if (this.#file) this.#file.write(level, now, line)
    else this.#syslog?.write(level, line)
  }

  error(text: string): void {
    this.log(LEVEL.error, text)
  }
  warning(text: string): void {
    this.log(LEVEL.warning, text)
  }
  info(text: string): void {
    this.log(LEVEL.info, text)
  }
  debug(text: string): void {
    this.log(LEVEL.debug, text)
  }
  trace(text: string): void {
    this.log(LEVEL.trace, text)
  }

  /** A place in the program whose messages may come in floods: make one per place, at start. */
  limited(level: Level): LimitedSite {
    return new LimitedSite(this, level, this.#clock)
  }
}
