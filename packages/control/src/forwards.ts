/**
 * Forwarding rules of the running program: those of the command line, and those that were added since. Each has a number that is
 * never used again. One rule comes or goes at a time, in steps (core's forward/change.ts), whoever asked for it and whether or
 * not they still listen.
 */
import {
  type ForwardRule,
  formatRule,
  FORWARD_RULE_MAX,
  parsePortOptions,
  type PortContext,
  rulesConflict,
} from "@passt/cli"
import { type Engine, PLACE_HOST, PLACE_NAMESPACE, type RuleChange } from "@passt/core"

/** Ports opened or closed per step: some hundred microseconds. */
const PORTS_PER_STEP = 32

export interface Forward {
  readonly number: number
  readonly protocol: "tcp" | "udp"
  /** Where it listens. */
  readonly place: "host" | "namespace"
  /** As in the program's log. */
  readonly rule: string
  readonly first: number
  readonly last: number
  /** Ports that are listened on now. */
  readonly open: number
}

interface Entry {
  readonly number: number
  readonly rule: ForwardRule
  readonly index: number
}

/** A change that was asked for. */
export interface Pending {
  readonly done: boolean
  /** One line; empty: none. */
  readonly error: string
  /** The rule as it is served, or was. */
  readonly forward: Forward | undefined
  readonly failedPorts: number
}

interface Job {
  begin(): void
  readonly done: boolean
  step(): void
}

export class Forwards {
  readonly #engine: Engine
  readonly #context: PortContext
  readonly #entries: Entry[]
  readonly #jobs: Job[] = []
  #number: number

  /** @param rules those that the engine was made with, in their order */
  constructor(engine: Engine, rules: readonly ForwardRule[], context: PortContext) {
    this.#engine = engine
    this.#context = context
    this.#entries = rules.map((rule, index) => ({ number: index + 1, rule, index }))
    this.#number = rules.length
  }

  /** Rules that are served, by number. @param from first number to tell @param count rules to tell at most */
  list(from: number, count: number): Forward[] {
    return this.#entries
      .filter((entry) => entry.number >= from)
      .slice(0, count)
      .map((entry) => this.#view(entry))
  }

  get count(): number {
    return this.#entries.length
  }

  #view({ number, rule, index }: Entry): Forward {
    return {
      number,
      protocol: rule.protocol,
      place: rule.place === PLACE_NAMESPACE ? "namespace" : "host",
      rule: formatRule(rule).trimEnd(),
      first: rule.first,
      last: rule.last,
      open: this.#engine.listeners.openOf(index),
    }
  }

  /** Whether rules can be made in a namespace. */
  get hasNamespace(): boolean {
    return this.#context.auto
  }

  /** @returns the rules that a specification stands for, at least one @throws ConfigError */
  parse(protocol: "tcp" | "udp", place: "host" | "namespace", spec: string): ForwardRule[] {
    const option = {
      protocol,
      place: place === "namespace" ? PLACE_NAMESPACE : PLACE_HOST,
      spec,
      written: protocol,
    } as const
    return parsePortOptions([option], this.#context)
  }

  /** The number of a rule that is the same; 0: there is none. */
  find(rule: ForwardRule): number {
    // What a rule does shows in its text, but for the place.
    const text = formatRule(rule)
    return (
      this.#entries.find((entry) => entry.rule.place === rule.place && formatRule(entry.rule) === text)?.number ?? 0
    )
  }

  add(rule: ForwardRule): Pending {
    const pending: { -readonly [K in keyof Pending]: Pending[K] } = {
      done: false,
      error: "",
      forward: undefined,
      failedPorts: 0,
    }
    let change: RuleChange | undefined
    const fail = (error: string): void => {
      pending.error = error
      pending.done = true
    }
    this.#jobs.push({
      begin: () => {
        const rival = this.#entries.find((entry) => rulesConflict(entry.rule, rule))
        if (rival) fail(`Conflicts with ${formatRule(rival.rule).trimEnd()} (${rival.number})`)
        else if (this.#entries.length >= FORWARD_RULE_MAX)
          fail(`Too many forwarding rules (maximum ${FORWARD_RULE_MAX})`)
        else change = this.#engine.addRule(rule)
      },
      get done() {
        return pending.done
      },
      step: () => {
        if (change === undefined) return
        change.step(PORTS_PER_STEP)
        if (!change.done) return
        pending.failedPorts = change.failedPorts
        if (change.error !== "") {
          fail(change.error)
          return
        }
        const entry = { number: ++this.#number, rule, index: change.index }
        this.#entries.push(entry)
        pending.forward = this.#view(entry)
        pending.done = true
      },
    })
    return pending
  }

  remove(number: number): Pending {
    const pending: { -readonly [K in keyof Pending]: Pending[K] } = {
      done: false,
      error: "",
      forward: undefined,
      failedPorts: 0,
    }
    let change: RuleChange | undefined
    this.#jobs.push({
      begin: () => {
        const at = this.#entries.findIndex((entry) => entry.number === number)
        if (at < 0) {
          pending.error = `There is no rule ${number}`
          pending.done = true
          return
        }
        const [entry] = this.#entries.splice(at, 1)
        pending.forward = this.#view(entry!)
        change = this.#engine.removeRule(entry!.index)
      },
      get done() {
        return pending.done
      },
      step: () => {
        change?.step(PORTS_PER_STEP)
        if (change?.done) pending.done = true
      },
    })
    return pending
  }

  #begun: Job | undefined

  get isBusy(): boolean {
    return this.#jobs.length > 0
  }

  /** Goes on with the change at hand. */
  step(): void {
    const job = this.#jobs[0]
    if (job === undefined) return
    if (this.#begun !== job) {
      this.#begun = job
      job.begin()
    }
    if (!job.done) job.step()
    if (job.done) this.#jobs.shift()
  }
}
