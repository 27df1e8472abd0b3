/** `passtctl policy`: shows, loads and questions the rules of a running program; `check` needs none. */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"
import { parsePolicy, PolicyError } from "@passt/core"
import { type Answer, type Connection, ControlError } from "./connection.ts"
import { print, UsageError } from "./output.ts"
import { table } from "./text.ts"

type Rule = Readonly<Record<string, unknown>> & { readonly index: number; readonly hits: number }

/** @returns the exit status */
export function policy(connect: () => Connection, words: readonly string[], json: boolean): number {
  const [action = "show", ...rest] = words
  switch (action) {
    case "show":
      if (rest.length > 0) throw new UsageError(`What is ${rest[0]}?`)
      return show(connect(), json)
    case "reload":
      if (rest.length !== 1) throw new UsageError("policy reload takes a file")
      return reload(connect, rest[0]!)
    case "check":
      if (rest.length !== 1) throw new UsageError("policy check takes a file")
      return check(rest[0]!)
    case "test":
      return test(connect, rest, json)
    default:
      throw new UsageError(`There is no command policy ${action}`)
  }
}

function show(connection: Connection, json: boolean): number {
  const rules: Rule[] = []
  const last = connection.ask({ call: "policy" }, (line) => rules.push(line["rule"] as Rule))
  if (json) {
    const { done: _, ...rest } = last
    return print([...rules, rest].map((line) => `${JSON.stringify(line)}\n`).join(""))
  }
  const rows = rules.map((rule) => [String(rule.index), String(rule.hits), String(rule["action"]), ruleText(rule)])
  const dns = last["dns"] as { names: string; "private-answers": string; seen: boolean; addresses: number }
  const more = dns.seen
    ? `dns: names ${dns.names}, private answers ${dns["private-answers"]}, ${dns.addresses} addresses known by name\n`
    : ""
  return print(`${table([["RULE", "HITS", "ACTION", ""], ...rows], 4)}default: ${String(last["default"])}\n${more}`)
}

/** What a rule is about, in a line. */
export function ruleText(rule: Readonly<Record<string, unknown>>): string {
  const { index: _index, hits: _hits, action: _action, ...fields } = rule
  const text = Object.entries(fields).map(([name, value]) => {
    const list = Array.isArray(value)
      ? value.join(",")
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value)
    return `${name} ${list}`
  })
  return text.join("  ") || "everything"
}

function open(file: string): number {
  try {
    return openSync(file, "r")
  } catch (error) {
    throw new ControlError(`Can't open ${file}: ${(error as Error).message}`)
  }
}

function reload(connect: () => Connection, file: string): number {
  const fd = open(file)
  try {
    const answer = connect().ask({ call: "policy-load" }, undefined, fd)
    return print(`${answer["rules"]} rules\n`)
  } catch (error) {
    if (error instanceof ControlError) throw new ControlError(`${file}: ${error.message}`)
    throw error
  } finally {
    closeSync(fd)
  }
}

function check(file: string): number {
  const fd = open(file)
  try {
    const { rules } = parsePolicy(readFileSync(fd, "utf8"))
    return print(`${rules.length} rules\n`)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    writeSync(2, `passtctl: ${file}: ${error.message}\n`)
    return 1
  } finally {
    closeSync(fd)
  }
}

/** "192.0.2.1:443", "[2001:db8::1]:443", "www.example.org:443"; without a port for echo requests. */
export function targetOf(text: string): { readonly address?: string; readonly name?: string; readonly port?: number } {
  const parts = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(text)
  if (parts === null) return { address: text }
  const port = parts[3] === undefined ? {} : { port: Number(parts[3]) }
  if (parts[1] !== undefined) return { address: parts[1], ...port }
  const written = parts[2]!
  return /^[\d.]+$/.test(written) ? { address: written, ...port } : { name: written, ...port }
}

function test(connect: () => Connection, words: readonly string[], json: boolean): number {
  const rest = [...words]
  const direction = rest[0] === "in" || rest[0] === "out" ? rest.shift()! : "out"
  const [protocol, target, as, name, ...more] = rest
  const named = as === "as" && name !== undefined
  if (target === undefined || more.length > 0 || (as !== undefined && !named)) {
    throw new UsageError("policy test takes [out|in] tcp|udp|icmp ADDRESS:PORT [as NAME], or NAME:PORT")
  }
  const request = { call: "policy-test", direction, protocol, ...targetOf(target), ...(named ? { name } : {}) }
  const answer: Answer = connect().ask(request)
  if (json) {
    const { done: _, ...told } = answer
    print(`${JSON.stringify(told)}\n`)
  } else print(`${String(answer["action"])} by ${because(answer)}\n`)
  return answer["action"] === "refuse" || answer["action"] === "drop" ? 1 : 0
}

function because(answer: Answer): string {
  if (answer["by"] === "default") return "default"
  if (answer["by"] === "dns")
    return "what names need: resolvers that the guest was told, over UDP and TCP, and no other way to ask"
  const rule = answer["rule"] as Rule
  return `rule ${rule.index}: ${ruleText(rule)}`
}
