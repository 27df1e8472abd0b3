/** From the process's arguments to its exit status. */
import { ConfigError, type CommandLine, type Launch, readLaunch } from "@passt/cli"
import { HostError, NetlinkError } from "@passt/host"
import { StartError } from "./error.ts"
import { VERSION } from "./version.ts"

/** Reads the command line, and runs. Everything that can fail, fails before readiness is reported, in one line.
 * @param start prepares and runs @returns the exit status */
export function runProgram<Options>(
  read: (program: string, args: readonly string[], version: string) => CommandLine<Options>,
  start: (options: Options, launch: Launch) => number,
): number {
  try {
    const commandLine = read(process.argv0, process.argv.slice(2), VERSION)
    if (commandLine.kind === "exit") {
      process.stdout.write(commandLine.stdout)
      process.stderr.write(commandLine.stderr)
      return commandLine.status
    }
    return start(commandLine.options, readLaunch(process.env))
  } catch (error) {
    const expected =
      error instanceof ConfigError ||
      error instanceof HostError ||
      error instanceof NetlinkError ||
      error instanceof StartError
    process.stderr.write(expected ? `${error.message}\n` : `${error instanceof Error ? error.stack : String(error)}\n`)
    return 1
  }
}
