/**
 * passt: reads the command line, and runs. Everything that can fail, fails before readiness is reported, in one line.
 */
import { basename } from "node:path"
import { ConfigError, readCommandLine, readLaunch } from "@passt/cli"
import { HostError, NetlinkError } from "@passt/host"
import { StartError, start } from "./start.ts"
import { VERSION } from "./version.ts"

function main(): void {
  const program = basename(process.argv0)
  try {
    const commandLine = readCommandLine(program, process.argv.slice(2), VERSION)
    if (commandLine.kind === "exit") {
      process.stdout.write(commandLine.stdout)
      process.stderr.write(commandLine.stderr)
      process.exitCode = commandLine.status
      return
    }
    process.exitCode = start(commandLine.options, readLaunch(process.env))
  } catch (error) {
    const expected =
      error instanceof ConfigError ||
      error instanceof HostError ||
      error instanceof NetlinkError ||
      error instanceof StartError
    process.stderr.write(expected ? `${error.message}\n` : `${error instanceof Error ? error.stack : String(error)}\n`)
    process.exitCode = 1
  }
}

main()
