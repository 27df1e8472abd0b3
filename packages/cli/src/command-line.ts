/** What a command line asks for: a run with a configuration, or a text and an exit status. Nothing is touched yet. */
import { UsageError } from "./config-error.ts"
import { helpText } from "./help.ts"
import { parsePasst, parsePasta, type Inquiry, type PasstOptions, type PastaOptions } from "./parse.ts"
import { versionText } from "./version.ts"

export type CommandLine<Options = PasstOptions> =
  | { readonly kind: "run"; readonly options: Options }
  /** Print both texts (each empty or ending with a newline) and exit. */
  | { readonly kind: "exit"; readonly status: 0 | 1; readonly stdout: string; readonly stderr: string }

/**
 * Reads the words after the program's name. `program` is argv[0], as messages and usage name it.
 * @throws ConfigError for values that can't be honoured: one line for standard error, then exit with status 1.
 */
export function readCommandLine(program: string, args: readonly string[], version: string): CommandLine {
  return read("passt", parsePasst, program, args, version)
}

/** As readCommandLine, for pasta. */
export function readPastaCommandLine(
  program: string,
  args: readonly string[],
  version: string,
): CommandLine<PastaOptions> {
  return read("pasta", parsePasta, program, args, version)
}

function read<Options extends object>(
  mode: "passt" | "pasta",
  parse: (args: readonly string[]) => Options | Inquiry,
  program: string,
  args: readonly string[],
  version: string,
): CommandLine<Options> {
  try {
    const parsed = parse(args)
    if (!("inquiry" in parsed)) return { kind: "run", options: parsed }
    return { kind: "exit", status: 0, stdout: answer(parsed, program, mode, version), stderr: "" }
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    const stderr = `${program}: ${error.message}\n${helpText(program, mode)}`
    return { kind: "exit", status: 1, stdout: "", stderr }
  }
}

function answer({ inquiry }: Inquiry, program: string, mode: "passt" | "pasta", version: string): string {
  if (inquiry === "help") return helpText(program, mode)
  if (inquiry === "version") return versionText(mode, version)
  return CAPABILITIES
}

/** What a machine monitor reads that looks for back-ends (QEMU's docs/interop/vhost-user.rst, "Backend program conventions"). The
 * convention knows no features of network devices. */
const CAPABILITIES: string = `${JSON.stringify({ type: "net", features: [] }, null, 2)}\n`
