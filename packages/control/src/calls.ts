/** What a client can ask for. Each call checks its fields, and returns the answer as a task of small steps. */
import { ConfigError, type ForwardRule } from "@passt/cli"
import { COUNTER, type Engine, type FlowView } from "@passt/core"
import type { Capture } from "./capture.ts"
import type { Open, Reply, Task } from "./client.ts"
import type { CounterName } from "./drops.ts"
import type { Forwards, Pending } from "./forwards.ts"
import { Metrics } from "./metrics.ts"
import { checkFields, PROTOCOL_VERSION, RequestError } from "./protocol.ts"

/** Rows of the flow table per step, each of which may become a line: some hundred microseconds. */
const ROWS_PER_STEP = 40
const FORWARDS_PER_STEP = 40

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
  const tell =
    (out: Reply) =>
    (flow: FlowView): void => {
      if ((protocol !== undefined && flow.protocol !== protocol) || (kind !== undefined && flow.kind !== kind)) return
      count++
      out.line({ flow })
    }
  return {
    step(out) {
      row = engine.flows(row, ROWS_PER_STEP, tell(out))
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
