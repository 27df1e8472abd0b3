/** The command line of passtctl. */
import { closeSync, openSync, writeSync } from "node:fs"
import type { Forward } from "@passt/control"
import type { FlowView } from "@passt/core"
import { VERSION } from "@passt/program/version"
import { type Answer, Connection, ControlError } from "./connection.ts"
import { policy } from "./policy.ts"
import { print, sleep, UsageError } from "./output.ts"
import { bytesText, flowTable, forwardTable } from "./text.ts"
import { top } from "./top.ts"
import { USAGE } from "./usage.ts"

const WATCH_MS = 1000

/** @returns the exit status */
export function run(args: readonly string[]): number {
  try {
    return dispatch(args)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EPIPE") return 0
    if (error instanceof UsageError) {
      writeSync(2, `passtctl: ${error.message}\nTry passtctl --help\n`)
      return 2
    }
    if (error instanceof ControlError) {
      writeSync(2, `passtctl: ${error.message}\n`)
      return 1
    }
    throw error
  }
}

interface Invocation {
  readonly words: string[]
  readonly flags: ReadonlySet<string>
  readonly values: ReadonlyMap<string, string>
}

const FLAGS = ["--json", "--watch", "--once", "--namespace", "--help", "-h", "--version"]
const VALUES = ["--socket", "-s", "--protocol"]

function parse(args: readonly string[]): Invocation {
  const words: string[] = []
  const flags = new Set<string>()
  const values = new Map<string, string>()
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!
    const equals = arg.startsWith("--") ? arg.indexOf("=") : -1
    const name = equals < 0 ? arg : arg.slice(0, equals)
    if (!arg.startsWith("-") || arg === "-") words.push(arg)
    else if (VALUES.includes(name)) {
      const value = equals < 0 ? args[++i] : arg.slice(equals + 1)
      if (value === undefined) throw new UsageError(`${name} needs an argument`)
      values.set(name === "-s" ? "--socket" : name, value)
    } else if (FLAGS.includes(arg)) flags.add(arg === "-h" ? "--help" : arg)
    else throw new UsageError(`Unknown option ${arg}`)
  }
  return { words, flags, values }
}

function dispatch(args: readonly string[]): number {
  const { words, flags, values } = parse(args)
  if (flags.has("--help")) return print(USAGE)
  if (flags.has("--version")) return print(`passtctl ${VERSION}\n`)
  const [command, ...rest] = words
  if (command === undefined) throw new UsageError("What to do?")
  if (command === "policy" && rest[0] === "check") return policy(noConnection, rest, flags.has("--json"))
  const path = values.get("--socket") ?? process.env["PASST_CONTROL"]
  if (path === undefined) throw new UsageError("Which program? Give its control socket by --socket or in PASST_CONTROL")
  const connect = (): Connection => new Connection(path)
  const json = flags.has("--json")
  switch (command) {
    case "flows":
      nothingMore(rest)
      return flows(connect(), json, flags.has("--watch"), values.get("--protocol"))
    case "forwards":
      return forwards(connect, rest, json, flags.has("--namespace"))
    case "stats":
      nothingMore(rest)
      return stats(connect().ask({ call: "stats" }), json)
    case "metrics":
      nothingMore(rest)
      return print(String(connect().ask({ call: "metrics" })["text"]))
    case "version": {
      nothingMore(rest)
      const answer = connect().ask({ call: "version" })
      return print(
        json
          ? `${JSON.stringify(answer)}\n`
          : `${answer["program"]} ${answer["version"]}, protocol ${answer["protocol"]}\n`,
      )
    }
    case "capture":
      return capture(connect, rest)
    case "top":
      nothingMore(rest)
      return top(connect(), flags.has("--once"))
    case "policy":
      return policy(connect, rest, json)
    default:
      throw new UsageError(`There is no command ${command}`)
  }
}

function noConnection(): never {
  throw new UsageError("This needs no program")
}

function nothingMore(words: readonly string[]): void {
  if (words.length > 0) throw new UsageError(`What is ${words[0]}?`)
}

function flows(connection: Connection, json: boolean, watch: boolean, protocol: string | undefined): number {
  const request = { call: "flows", ...(protocol === undefined ? {} : { protocol }) }
  for (;;) {
    if (json) connection.ask(request, (line) => print(`${JSON.stringify(line["flow"])}\n`))
    else {
      const all: FlowView[] = []
      connection.ask(request, (line) => all.push(line["flow"] as FlowView))
      // Cursor home, text, clear what is left below.
      print(watch && process.stdout.isTTY ? `\x1b[H\x1b[2J${flowTable(all)}` : flowTable(all))
    }
    if (!watch) return 0
    sleep(WATCH_MS)
  }
}

function forwards(connect: () => Connection, words: readonly string[], json: boolean, namespace: boolean): number {
  const [action = "list", ...rest] = words
  const place = namespace ? { place: "namespace" } : {}
  if (action === "list") {
    nothingMore(rest)
    const all: Forward[] = []
    connect().ask({ call: "forwards" }, (line) => all.push(line["forward"] as Forward))
    return print(json ? all.map((forward) => `${JSON.stringify(forward)}\n`).join("") : forwardTable(all))
  }
  if (action !== "add" && action !== "remove") throw new UsageError(`There is no command forwards ${action}`)
  const call = `forward-${action}`
  const [first, spec] = rest
  if (action === "remove" && rest.length === 1 && /^\d+$/.test(first!)) {
    return change(connect(), { call, number: Number(first) }, json)
  }
  if (rest.length !== 2 || (first !== "tcp" && first !== "udp")) {
    throw new UsageError(
      `forwards ${action} takes "tcp" or "udp" and a port specification${action === "remove" ? ", or a number" : ""}`,
    )
  }
  return change(connect(), { call, protocol: first, spec, ...place }, json)
}

/** Tells what became of each rule. */
function change(connection: Connection, request: object, json: boolean): number {
  const last = connection.ask(request, (line) => {
    if (json) {
      print(`${JSON.stringify(line)}\n`)
      return
    }
    const forward = line["forward"] as Forward | undefined
    const error = line["error"] as { message: string } | undefined
    if (error) writeSync(2, `passtctl: ${error.message}\n`)
    else if (forward) print(`${forward.number}  ${forward.rule}\n`)
    if (line["failedPorts"] !== undefined) writeSync(2, `passtctl: ${line["failedPorts"]} ports could not be bound\n`)
  })
  return last["failed"] === 0 ? 0 : 1
}

function stats(answer: Answer, json: boolean): number {
  const { done: _, ...rest } = answer
  if (json) return print(`${JSON.stringify(rest)}\n`)
  const { counters, alive, ...plain } = rest as { counters: Record<string, number>; alive: Record<string, number> }
  const lines: [string, string][] = Object.entries(plain).map(([name, value]) => [name, String(value)])
  for (const [name, value] of Object.entries(alive)) lines.push([`alive ${name}`, String(value)])
  for (const [name, value] of Object.entries(counters)) {
    if (value !== 0) lines.push([name, name.startsWith("bytes") ? `${value} (${bytesText(value)})` : String(value)])
  }
  return print(lines.map(([name, value]) => `${name.padEnd(24)}${value}\n`).join(""))
}

function capture(connect: () => Connection, words: readonly string[]): number {
  const [action, file, ...rest] = words
  nothingMore(rest)
  if (action === "stop" && file === undefined) {
    connect().ask({ call: "capture-stop" })
    return 0
  }
  if (action !== "start" || file === undefined) throw new UsageError('capture takes "start FILE" or "stop"')
  const connection = connect()
  let fd: number
  try {
    fd = openSync(file, "w", 0o600)
  } catch (error) {
    throw new ControlError(`Can't open ${file}: ${(error as Error).message}`)
  }
  try {
    connection.ask({ call: "capture-start" }, undefined, fd)
  } finally {
    closeSync(fd)
  }
  return 0
}
