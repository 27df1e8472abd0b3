/**
 * Messages of the engine and of the start: one logger, and a limit on messages per place in the program.
 */
import { type PasstOptions } from "@passt/cli"
import type { LogLevel } from "@passt/core"
import { LEVEL, type Level, type LimitedSite, Logger, LogFile, Syslog } from "@passt/host"
import { VERSION } from "./version.ts"

/** Opens the sinks that the options ask for. @throws Error of node:fs when the log file can't be made */
export function openLog(options: PasstOptions, foreground: boolean): Logger {
  const logger = new Logger({ level: LEVEL[options.logLevel] })
  if (options.logFile !== null) {
    logger.useFile(
      new LogFile({
        path: options.logFile,
        bytesMax: options.logSize,
        name: "passt",
        version: VERSION,
        executable: process.execPath,
        pid: process.pid,
      }),
    )
  } else if (!foreground) {
    logger.useSyslog(new Syslog("passt"))
  }
  return logger
}

/** The engine's log function: each `site` has its own rate limit. */
export function engineLog(logger: Logger): (level: LogLevel, site: string, message: string) => void {
  const sites = new Map<string, LimitedSite>()
  return (level, site, message) => {
    let limited = sites.get(site)
    if (!limited) {
      limited = logger.limited(LEVEL[level] as Level)
      sites.set(site, limited)
    }
    limited.say(message)
  }
}
