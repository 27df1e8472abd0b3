/** What a client can ask for. Each call checks its fields, and returns the answer as a task of small steps. */
import { ConfigError, type ForwardRule } from "@passt/cli"
import { closeSync } from "node:fs"
import {
  BY_DNS,
  COUNTER,
  DIRECTION_IN,
  DIRECTION_OUT,
  type Engine,
  type FlowView,
  type Gate,
  type PolicyProtocol,
  PROTOCOLS,
  writeRule,
} from "@passt/core"
import { address as addresses } from "@passt/core/wire"
import { isReadableFile } from "@passt/native"
import type { Capture } from "./capture.ts"
import type { Open, Reply, Task } from "./client.ts"
import type { CounterName } from "./drops.ts"
import type { Forwards, Pending } from "./forwards.ts"
import { PolicyLoad } from "./policy.ts"
import { Metrics } from "./metrics.ts"
import { checkFields, PROTOCOL_VERSION, RequestError } from "./protocol.ts"

/** Rows of the flow table per step, each of which may become a line: some hundred microseconds. */
const ROWS_PER_STEP = 40
const FIRST_ROWS = 2
const FORWARDS_PER_STEP = 40
const RULES_PER_STEP = 40

/** What the calls work on. */
export interface ControlContext {
  readonly engine: Engine
  readonly forwards: Forwards
  readonly capture: Capture
  /** "passt" or "pasta". */
  readonly program: string
  readonly version: string
  /** Of the process, seconds since the program is ready. */
  readonly uptimeSeconds: () => number
  /** Garbage collections so far, by kind; absent: not counted. */
  readonly collections?: () => Iterable<readonly [string, { readonly count: number; readonly seconds: number }]>
}

type Fields = Readonly<Record<string, unknown>>
type Call = (context: ControlContext, fields: Fields, descriptor: () => number) => Task

const CALLS: Readonly<Record<string, Call>> = {
  version: (context, fields) => {
    checkFields(fields, {})
    const { program, version } = context
    return once({ program, version, protocol: PROTOCOL_VERSION })
  },
  flows: listFlows,
  forwards: (context, fields) => {
    checkFields(fields, {})
    return listForwards(context)
  },
  "forward-add": addForwards,
  "forward-remove": removeForwards,
  stats: (context, fields) => {
    checkFields(fields, {})
    return once(stats(context))
  },
  metrics: (context, fields) => {
    checkFields(fields, {})
    const metrics = new Metrics(context)
    return {
      step(out) {
        if (!metrics.step()) return "more"
        out.line({ text: metrics.text(), done: true })
        return "done"
      },
    }
  },
  policy: (context, fields) => {
    checkFields(fields, {})
    return listPolicy(policyOf(context))
  },
  "policy-load": loadPolicy,
  "policy-test": testPolicy,
  "capture-start": (context, fields, descriptor) => {
    checkFields(fields, {})
    context.capture.start(descriptor)
    return once({})
  },
  "capture-stop": (context, fields) => {
    checkFields(fields, {})
    context.capture.stop()
    return once({})
  },
}

/** Ready to be asked. */
export function openCalls(context: ControlContext): Open {
  return (call, fields, descriptor) => {
    if (!Object.hasOwn(CALLS, call)) {
      throw new RequestError("unknown-call", `There is no call ${JSON.stringify(call.slice(0, 64))}`)
    }
    return CALLS[call]!(context, fields, descriptor)
  }
}

function once(answer: object): Task {
  return {
    step(out) {
      out.line({ ...answer, done: true })
      return "done"
    },
  }
}

function listFlows({ engine }: ControlContext, fields: Fields): Task {
  const { protocol, kind } = checkFields(fields, {
    protocol: { type: "string", words: ["tcp", "udp", "icmp"] },
    kind: { type: "string", words: ["link", "splice", "group"] },
  })
  let row = 0
  let count = 0
  // The first steps of a program's first list run code that has not been compiled: they take twenty times as long as later ones.
  let rows = FIRST_ROWS
  const tell =
    (out: Reply) =>
    (flow: FlowView): void => {
      if ((protocol !== undefined && flow.protocol !== protocol) || (kind !== undefined && flow.kind !== kind)) return
      count++
      out.line({ flow })
    }
  return {
    step(out) {
      row = engine.flows(row, rows, tell(out))
      rows = Math.min(ROWS_PER_STEP, rows + 1)
      if (row >= 0) return "more"
      out.line({ count, done: true })
      return "done"
    },
  }
}

function listForwards({ forwards }: ControlContext): Task {
  let next = 0
  let count = 0
  return {
    step(out) {
      const some = forwards.list(next, FORWARDS_PER_STEP)
      for (const forward of some) out.line({ forward })
      count += some.length
      if (some.length === FORWARDS_PER_STEP) {
        next = some.at(-1)!.number + 1
        return "more"
      }
      out.line({ count, done: true })
      return "done"
    },
  }
}

const SPECIFICATION = {
  protocol: { type: "string", words: ["tcp", "udp"] },
  place: { type: "string", words: ["host", "namespace"] },
  spec: { type: "string" },
} as const

/** @throws RequestError */
function parseRules(
  { forwards }: ControlContext,
  fields: Readonly<Record<string, string | number | undefined>>,
): ForwardRule[] {
  const { protocol, spec, place = "host" } = fields
  if (protocol === undefined || spec === undefined) {
    throw new RequestError("bad-request", '"protocol" and "spec" are needed')
  }
  if (place === "namespace" && !forwards.hasNamespace) {
    throw new RequestError("failed", "There is no namespace to listen in")
  }
  try {
    const rules = forwards.parse(protocol as "tcp" | "udp", place as "host" | "namespace", String(spec))
    if (rules.length === 0) throw new RequestError("failed", `"${spec}" stands for no ports`)
    return rules
  } catch (error) {
    if (error instanceof ConfigError) throw new RequestError("failed", error.message)
    throw error
  }
}

function addForwards(context: ControlContext, fields: Fields): Task {
  const rules = parseRules(context, checkFields(fields, SPECIFICATION))
  return oneByOne(rules, (rule) => context.forwards.add(rule), "added")
}

function removeForwards(context: ControlContext, fields: Fields): Task {
  const checked = checkFields(fields, { ...SPECIFICATION, number: { type: "integer" } })
  const { forwards } = context
  if (checked["number"] !== undefined) {
    if (Object.keys(checked).length > 1) throw new RequestError("bad-request", '"number" goes alone')
    return oneByOne([checked["number"] as number], (number) => forwards.remove(number), "removed")
  }
  const numbers = parseRules(context, checked).map((rule) => forwards.find(rule))
  if (numbers.every((number) => number === 0)) throw new RequestError("failed", "There is no such rule")
  return oneByOne(
    numbers.filter((number) => number > 0),
    (number) => forwards.remove(number),
    "removed",
  )
}

/** A line for each change, as it is made; the next one is begun then. */
function oneByOne<Item>(items: readonly Item[], begin: (item: Item) => Pending, name: "added" | "removed"): Task {
  let next = 0
  let pending: Pending | undefined
  let succeeded = 0
  return {
    step(out) {
      pending ??= begin(items[next]!)
      if (!pending.done) return "wait"
      const { error, forward, failedPorts } = pending
      if (error === "") succeeded++
      out.line({
        ...(forward ? { forward } : {}),
        ...(error === "" ? { ok: true } : { ok: false, error: { code: "failed", message: error } }),
        ...(failedPorts > 0 ? { failedPorts } : {}),
      })
      pending = undefined
      if (++next < items.length) return "more"
      out.line({ [name]: succeeded, failed: items.length - succeeded, done: true })
      return "done"
    },
  }
}

/** @throws RequestError */
function policyOf({ engine }: ControlContext): Gate {
  if (engine.policy === undefined) throw new RequestError("failed", "This program has no policy")
  return engine.policy
}

/** Rules as they are in a policy's file, with how often they have decided. */
function listPolicy(gate: Gate): Task {
  const set = gate.rules
  let next = 0
  return {
    step(out) {
      if (set.rules !== gate.rules.rules) throw new RequestError("failed", "The policy was replaced meanwhile")
      for (const end = Math.min(next + RULES_PER_STEP, set.rules.length); next < end; next++) {
        out.line({ rule: { index: next, hits: gate.hits(next), ...writeRule(set.rules[next]!) } })
      }
      if (next < set.rules.length) return "more"
      const { onlyAllowedNames = false, refusePrivateAnswers = false } = set.dns ?? {}
      out.line({
        default: set.default,
        dns: {
          names: onlyAllowedNames ? "only-allowed" : "all",
          "private-answers": refusePrivateAnswers ? "refuse" : "allow",
          seen: gate.dns.isActive,
          addresses: gate.dns.memory.size,
        },
        waiting: gate.waiting,
        count: set.rules.length,
        done: true,
      })
      return "done"
    },
  }
}

function loadPolicy(context: ControlContext, fields: Fields, descriptor: () => number): Task {
  const { text } = checkFields(fields, { text: { type: "string" } })
  policyOf(context)
  const fd = descriptor()
  if (fd < 0 === (text === undefined)) {
    if (fd >= 0) closeSync(fd)
    throw new RequestError("bad-request", 'The policy comes as a file\'s descriptor (SCM_RIGHTS), or as "text"')
  }
  if (fd >= 0 && !isReadableFile(fd)) {
    closeSync(fd)
    throw new RequestError("failed", "The descriptor is not that of a regular file that can be read")
  }
  const load = new PolicyLoad(context.engine, fd >= 0 ? fd : String(text))
  return {
    step(out) {
      load.step()
      if (!load.isDone) return "more"
      if (load.error !== "") throw new RequestError("failed", load.error)
      out.line({ rules: load.rules, done: true })
      return "done"
    },
    cancel: () => load.cancel(),
  }
}

/** Whether a flow would be allowed, and by what. */
function testPolicy(context: ControlContext, fields: Fields): Task {
  const gate = policyOf(context)
  const checked = checkFields(fields, {
    direction: { type: "string", words: ["out", "in"] },
    protocol: { type: "string", words: [...PROTOCOLS], required: true },
    address: { type: "string" },
    name: { type: "string" },
    port: { type: "integer" },
  })
  const { direction = "out", address, name, port = 0 } = checked
  const words = address === undefined ? undefined : addresses.parse(String(address))
  if (address !== undefined && words === undefined) throw new RequestError("bad-request", '"address" is no address')
  if (words === undefined && name === undefined) throw new RequestError("bad-request", '"address" or "name" is needed')
  if (Number(port) < 0 || Number(port) > 0xffff) throw new RequestError("bad-request", '"port" is 0 to 65535')
  const protocol = PROTOCOLS.indexOf(checked["protocol"] as PolicyProtocol)
  const way = direction === "out" ? DIRECTION_OUT : DIRECTION_IN
  const wanted = name === undefined ? undefined : String(name).toLowerCase().replace(/\.$/, "")
  const index = gate.find(way, protocol, words, Number(port), wanted)
  const set = gate.rules
  if (index >= 0) {
    const rule = set.rules[index]!
    return once({ action: rule.action, by: "rule", rule: { index, ...writeRule(rule) } })
  }
  if (index !== BY_DNS) return once({ action: set.default, by: "default" })
  const isSeen = words !== undefined && gate.isSeen(protocol, words, Number(port))
  return once({ action: isSeen ? "allow" : "refuse", by: "dns" })
}

function stats({ engine, uptimeSeconds, forwards, capture }: ControlContext): object {
  const counters: Partial<Record<CounterName, number>> = {}
  for (const name of Object.keys(COUNTER) as CounterName[]) counters[name] = engine.counters[COUNTER[name]]!
  return {
    uptimeSeconds: uptimeSeconds(),
    alive: engine.alive(),
    forwards: forwards.count,
    listening: engine.listeners.count,
    capturing: capture.isRunning,
    counters,
  }
}
