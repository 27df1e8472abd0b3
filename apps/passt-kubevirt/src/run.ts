import { VERSION } from "@passt/program/version"
import { connect } from "./cluster/api.ts"
import { explain } from "./changes.ts"
import type { Context } from "./commands/context.ts"
import { doctor } from "./commands/doctor.ts"
import { install } from "./commands/install.ts"
import { status } from "./commands/status.ts"
import { uninstall } from "./commands/uninstall.ts"
import { EXIT, Failure } from "./failure.ts"
import type { Exit } from "./failure.ts"
import { parseOptions } from "./options.ts"
import type { CommandName } from "./options.ts"
import { USAGE } from "./usage.ts"

const RUN: Readonly<Record<CommandName, (context: Context) => Promise<Exit>>> = { install, status, doctor, uninstall }

export interface Surroundings {
  /** A line of the result: standard output. */
  print(line: string): void
  /** A line for whoever is waiting, and the one that tells a failure: standard error. */
  tell(line: string): void
  /** Given up by the user: what has been done is undone. */
  readonly signal?: AbortSignal
  /** Milliseconds between two looks at what is waited for. */
  readonly pollMs?: number
}

/** @returns the exit status */
export async function run(
  args: readonly string[],
  { print, tell, signal, pollMs = 1000 }: Surroundings,
): Promise<Exit> {
  try {
    const options = parseOptions(args)
    if (options === "help") {
      print(USAGE.trimEnd())
      return EXIT.good
    }
    if (options === "version") {
      print(`passt-kubevirt ${VERSION}`)
      return EXIT.good
    }
    const api = connect(options)
    return await RUN[options.command]({
      api,
      options,
      print,
      tell,
      pollMs,
      ...(signal === undefined ? {} : { signal }),
    })
  } catch (error) {
    const failure = error instanceof Failure ? error : explain(error, "failed")
    tell(`passt-kubevirt: ${failure.message}`)
    return failure.exit
  }
}
