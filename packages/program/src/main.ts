/** From the process's arguments to its exit status. */
import { rmSync, writeSync } from "node:fs"
import { ConfigError, type CommandLine, type Launch, readLaunch } from "@passt/cli"
import { HostError, NetlinkError } from "@passt/host"
import { exitProcess } from "@passt/native"
import { StartError } from "./error.ts"
import { VERSION } from "./version.ts"

/** Reads the command line, and runs. Everything that can fail, fails before readiness is reported, in one line.
 * @param prepare does everything up to readiness, and returns the loop, which returns the exit status; `made` gets the paths of
 * files that it makes @returns the exit status */
export function runProgram<Options>(
  read: (program: string, args: readonly string[], version: string) => CommandLine<Options>,
  prepare: (options: Options, launch: Launch, made: string[]) => () => number,
): number {
  const made: string[] = []
  let run: () => number
  try {
    const commandLine = read(process.argv0, process.argv.slice(2), VERSION)
    if (commandLine.kind === "exit") {
      process.stdout.write(commandLine.stdout)
      process.stderr.write(commandLine.stderr)
      return commandLine.status
    }
    run = prepare(commandLine.options, readLaunch(process.env), made)
  } catch (error) {
    // A failed start leaves nothing behind: files here, and a command that waits ends with its pipe.
    for (const path of made) rmSync(path, { force: true })
    const expected =
      error instanceof ConfigError ||
      error instanceof HostError ||
      error instanceof NetlinkError ||
      error instanceof StartError
    // Node's own way out is no more, once there is a sandbox.
    complain(expected ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error))
    exitProcess(1)
  }
  exitProcess(run())
}

function complain(text: string): void {
  try {
    writeSync(2, `${text}\n`)
  } catch {
    // Nobody listens.
  }
}
