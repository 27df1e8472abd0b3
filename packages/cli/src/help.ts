/** The help text: usage line, then the options of a mode under their headings. */
import { OPTION_GROUPS, type Mode, type OptionGroup, type OptionSpec } from "./option-spec.ts"
import { optionsOf } from "./options.ts"

const WIDTH = 80
/** Column where descriptions start. */
const DESCRIPTION_COLUMN = 30

/** `program`: how the command was called. Ends with a newline. */
export function helpText(program: string, mode: Mode): string {
  const lines = mode === "pasta" ? pastaUsage(program) : passtUsage(program)
  const options = optionsOf(mode)
  for (const group of Object.keys(OPTION_GROUPS) as OptionGroup[]) {
    const members = options.filter((option) => option.group === group && !option.deprecated)
    if (members.length === 0) continue
    lines.push("", `${OPTION_GROUPS[group]}:`)
    for (const option of members) lines.push(...describe(option))
    if (group === "forwarding") lines.push(...PORT_SPECIFICATION, ...(mode === "pasta" ? AUTO_SPECIFICATION : []))
  }
  return `${lines.join("\n")}\n`
}

function passtUsage(program: string): string[] {
  return [
    `Usage: ${program} [OPTION]...`,
    ...wrap("Connect a virtual machine to the network through ordinary sockets, without privileges.", 0),
  ]
}

function pastaUsage(program: string): string[] {
  return [
    `Usage: ${program} [OPTION]... [COMMAND [ARG]...]`,
    `       ${program} [OPTION]... PID`,
    `       ${program} [OPTION]... --netns PATH|NAME`,
    ...wrap("Connect a network namespace to the network through ordinary sockets, without privileges.", 0),
    ...wrap("Without a PID and --netns, a command, or the user's shell, is run in new namespaces.", 0),
  ]
}

const PORT_SPECIFICATION: readonly string[] = [
  "  SPEC is 'none', or [[ADDR][%INTERFACE]/]PORTS: where to listen, and a list of",
  "  ports and ranges, separated by commas. Each may be followed by ':' and where",
  "  it leads: a port or range, an address, or both (ADDR/PORT).",
  "    22                          port 22 of the host to port 22 of the guest",
  "    8080:80,9000-9010:9100-9110 other ports in the guest",
  "    127.0.0.1/22                only from the host itself",
  "    %eth0/80                    only from one interface",
  "    1000-2000,~1500-1510        a range but for some ports",
  "    ~22                         all ports but 22 and ephemeral ones, if free",
  "    all                         all ports but ephemeral ones, if free",
]

const AUTO_SPECIFICATION: readonly string[] = [
  "    auto                        ports where the other side listens, at any time",
  "    auto,~22                    those but for some ports",
]

const REPEATABLE = { list: "(repeatable)", "per-family": "(one per family)" } as const

/** "-m, --mtu MTU", or "    --trace". */
export function formatOption(option: OptionSpec): string {
  const short = option.short === undefined ? "    " : `-${option.short}, `
  return `${short}--${option.name}${option.argument === undefined ? "" : ` ${option.argument}`}`
}

function describe(option: OptionSpec): string[] {
  const left = `  ${formatOption(option)}`
  const text = wrap(option.help, DESCRIPTION_COLUMN)
  if (option.repeatable) text.push(" ".repeat(DESCRIPTION_COLUMN) + REPEATABLE[option.repeatable])
  if (option.standard !== undefined) text.push(...wrap(`default: ${option.standard}`, DESCRIPTION_COLUMN))
  if (left.length > DESCRIPTION_COLUMN - 2) return [left, ...text]
  return [left.padEnd(DESCRIPTION_COLUMN) + text[0]!.trimStart(), ...text.slice(1)]
}

/** Fills lines of at most WIDTH columns, indented. */
function wrap(text: string, indent: number): string[] {
  const lines: string[] = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && indent + line.length + 1 + word.length > WIDTH) {
      lines.push(" ".repeat(indent) + line)
      line = ""
    }
    line += line === "" ? word : ` ${word}`
  }
  lines.push(" ".repeat(indent) + line)
  return lines
}
