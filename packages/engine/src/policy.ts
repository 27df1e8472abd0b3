/**
 * Who decides about flows: services of the program first, then rules, then the program's function. What core asks for is a descriptor
 * where a flow goes to a stream handler: one end of a socket pair, of which the handler gets the other.
 */
import { Socket } from "node:net"
import {
  type Decide,
  type Decision,
  type FlowQuestion,
  type Gate,
  parsePolicy,
  type PolicyDirection,
  type PolicyDocument,
  PolicyError,
  type PolicyOptions,
  type PolicyProtocol,
  type PolicyRule,
  type RateLimit,
  type RefuseWith,
  type RuleSet,
} from "@passt/core"
import { address } from "@passt/core/wire"
import { closeDescriptor, socketPair } from "@passt/native"
import { ConfigError } from "./config-error.ts"

/** Gets a connection of the guest's as an ordinary socket: it writes what the guest sends, and what is written to it the guest reads. */
export type StreamHandler = (socket: Socket, flow: FlowQuestion) => void

/** Rules as data, as in docs/policy.md: its fields as an object, or its text. The first rule that matches decides. */
export interface PolicyConfig {
  /** What becomes of flows that no rule matches; "refuse" by default. "ask": `onFlow` decides. */
  readonly default?: "allow" | "refuse" | "drop" | "ask"
  readonly rules?: readonly {
    readonly action: "allow" | "refuse" | "drop" | "redirect" | "ask"
    readonly direction?: PolicyDirection
    readonly protocol?: PolicyProtocol | readonly PolicyProtocol[]
    /** "192.0.2.0/24", "private", …: the end that is not the guest's, as the host sees it. */
    readonly remote?: string | readonly string[]
    /** "example.org", "*.example.org": the end by the name that the guest has found it by. */
    readonly name?: string | readonly string[]
    /** 443, "8000-8999": of the service. */
    readonly port?: number | string | readonly (number | string)[]
    readonly "refuse-with"?: RefuseWith
    /** Of redirections: "192.0.2.1:8080", ":8080". */
    readonly to?: string
    /** Bytes per second of each direction: 500000, "1.5M". */
    readonly limit?: number | string | { readonly rate: number | string; readonly burst?: number | string }
    readonly label?: string
  }[]
  readonly dns?: {
    readonly names?: "all" | "only-allowed"
    readonly "private-answers"?: "allow" | "refuse"
  }
  /** Of `setPolicy`: whether flows that have begun end when the new policy does not allow them. */
  readonly "existing-flows"?: "keep" | "end"
}

/** @param mayAsk whether there is a function to ask @throws ConfigError that names the field */
export function readPolicy(policy: unknown, mayAsk: boolean): PolicyDocument {
  if (typeof policy !== "string" && (typeof policy !== "object" || policy === null)) {
    throw new ConfigError("policy", "must be an object, or its text")
  }
  try {
    return parsePolicy(typeof policy === "string" ? policy : JSON.stringify(policy), { mayAsk })
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    const line = typeof policy === "string" && error.line > 0 ? `line ${error.line}: ` : ""
    throw new ConfigError(error.field === "" ? "policy" : `policy.${error.field}`, `${line}${error.problem}`)
  }
}

/** What becomes of a flow: core's decisions, and connections (TCP, the guest's) to a handler in the program. */
export type FlowDecision =
  | Decision
  | {
      readonly action: "redirect"
      readonly handler: StreamHandler
      readonly limit?: RateLimit
      readonly label?: string
    }

/** Asked once for each flow, before anything is opened for it. A flow whose answer is a promise waits for it. */
export type FlowHandler = (flow: FlowQuestion) => FlowDecision | Promise<FlowDecision>

/** A TCP service that the program is itself, at an address of the guest's network. */
export interface ServiceConfig {
  /** IPv4 or IPv6; any address that means nothing else. */
  readonly address: string
  readonly port: number
  readonly onConnection: StreamHandler
}

/** A service that runs. */
export interface Service {
  readonly address: string
  readonly port: number
  /** Ends it; connections go on. */
  close(): void
  [Symbol.dispose](): void
}

/** @throws ConfigError */
export function checkService(field: string, service: unknown): ServiceConfig {
  if (typeof service !== "object" || service === null) throw new ConfigError(field, "must be an object")
  const { address: text, port, onConnection } = service as { readonly [K in keyof ServiceConfig]?: unknown }
  const words = typeof text === "string" ? address.parse(text) : undefined
  if (!words || !address.isUnicast(words, 0)) throw new ConfigError(`${field}.address`, "must be an address")
  if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535) {
    throw new ConfigError(`${field}.port`, "must be a port, 1…65535")
  }
  if (typeof onConnection !== "function") throw new ConfigError(`${field}.onConnection`, "must be a function")
  return service as ServiceConfig
}

export class Policy {
  readonly #services = new Map<PolicyRule, ServiceConfig>()
  readonly #wake: () => void
  #set: RuleSet
  #handler: FlowHandler | undefined
  #gate: Gate | undefined

  /** @param wake asks for a turn: a promise was kept between turns */
  constructor(
    services: readonly ServiceConfig[],
    set: Partial<RuleSet> | undefined,
    handler: FlowHandler | undefined,
    wake: () => void,
  ) {
    this.#wake = wake
    this.#handler = handler
    this.#set = { rules: [], default: handler === undefined ? "allow" : "ask", ...set }
    for (const service of services) this.#services.set(ruleOf(service), service)
  }

  /** For core. @param resolvers whose word about names is taken */
  options(deadlineMs: number | undefined, resolvers: readonly Int32Array[]): PolicyOptions {
    return {
      ...this.#rules(),
      resolvers,
      decide: (flow) => this.#decide(flow),
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
    }
  }

  /** The gate that was made with those options. */
  attach(gate: Gate | undefined): void {
    this.#gate = gate
  }

  /** @throws ConfigError when there is one at this address and port */
  serve(service: ServiceConfig): Service {
    for (const other of this.#services.values()) {
      if (other.port === service.port && other.address === service.address) {
        throw new ConfigError("service", `there is one at ${service.address} port ${service.port} already`)
      }
    }
    const rule = ruleOf(service)
    this.#services.set(rule, service)
    this.#gate?.load(this.#rules())
    const close = (): void => {
      if (this.#services.delete(rule)) this.#gate?.load(this.#rules())
    }
    return { address: service.address, port: service.port, close, [Symbol.dispose]: close }
  }

  /** Other rules, for flows that begin from now on. */
  load(set: RuleSet): void {
    this.#set = set
    this.#gate?.load(this.#rules())
  }

  #rules(): RuleSet {
    return { ...this.#set, rules: [...this.#services.keys(), ...this.#set.rules] }
  }

  #decide(flow: FlowQuestion): ReturnType<Decide> {
    const service = flow.rule && this.#services.get(flow.rule)
    if (service !== undefined) return toStream(service.onConnection, flow, {})
    const answer = this.#handler === undefined ? "refuse" : this.#handler(flow)
    if (typeof answer !== "object" || answer === null || !("then" in answer)) return settle(answer, flow)
    const settled = Promise.resolve(answer).then((decision) => settle(decision, flow))
    // Core goes on with the flow in a callback of its own; what it has to send waits for a turn.
    settled.then(this.#wake, this.#wake)
    return settled
  }
}

function ruleOf({ address: text, port }: ServiceConfig): PolicyRule {
  return {
    action: "ask",
    direction: "out",
    protocols: ["tcp"],
    remotes: [{ address: address.parse(text)!, bits: 128 }],
    ports: [{ first: port, last: port }],
    label: "service",
  }
}

function settle(decision: FlowDecision, flow: FlowQuestion): Decision {
  if (typeof decision !== "object" || decision === null || !("handler" in decision)) return decision
  const { handler, action, ...more } = decision
  // What is no decision is for core to refuse.
  if (action !== "redirect" || typeof handler !== "function") return { action, handler } as unknown as Decision
  return toStream(handler, flow, more)
}

/** @throws Error when the host gives no sockets: the flow is refused then */
function toStream(
  handler: StreamHandler,
  flow: FlowQuestion,
  more: { readonly limit?: RateLimit; readonly label?: string },
): Decision {
  if (flow.protocol !== "tcp" || flow.direction !== "out" || flow.kind !== "link") return "refuse"
  const pair = socketPair()
  if (typeof pair === "number") throw new Error(`no socket pair: errno ${-pair}`)
  const [engines, ours] = pair
  let socket: Socket
  try {
    socket = new Socket({ fd: ours, readable: true, writable: true })
  } catch (error) {
    closeDescriptor(engines)
    closeDescriptor(ours)
    throw error
  }
  queueMicrotask(() => handler(socket, flow))
  return { ...more, action: "redirect", socket: engines }
}
