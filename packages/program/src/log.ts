/**
 * Messages of the engine and of the start: one logger, and a limit on messages per place in the program.
 */
import type { CommonOptions, Launch } from "@passt/cli"
import type { LogLevel } from "@passt/core"
import { LEVEL, type Level, type LimitedSite, Logger, LogFile, Syslog } from "@passt/host"
import { systemError } from "./error.ts"
import { VERSION } from "./version.ts"

/** Opens the sinks that the options ask for. @param name of the program, which messages carry
 * @param terminal whether messages stay on standard error: the log daemon gets none then
 * @throws StartError when the log file can't be made */
export function openLog(name: string, options: CommonOptions, launch: Launch, terminal: boolean): Logger {
  const logger = new Logger({ level: LEVEL[options.logLevel] })
  if (options.logFile === null) {
    if (!terminal) logger.useSyslog(new Syslog(name))
    return logger
  }
  const { logFile: path, logSize: bytesMax } = options
  const { execPath: executable, pid } = process
  try {
    const opened = launch.logFileFds === null ? {} : { opened: launch.logFileFds }
    logger.useFile(new LogFile({ path, ...opened, bytesMax, name, version: VERSION, executable, pid }))
  } catch (error) {
    throw systemError(`Couldn't open log file ${path}`, error)
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
