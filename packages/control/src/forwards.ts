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
import { type Engine, PLACE_HOST, PLACE_NAMESPACE, type RuleChange, type RulesUpdate } from "@passt/core"

/** Ports opened or closed per step: some hundred microseconds. */
const PORTS_PER_STEP = 32
/** New rules held against all others per step. */
const RULES_PER_STEP = 8

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

/** A rule that is served. */
export interface Served {
  readonly number: number
  readonly rule: ForwardRule
  /** As in the program's log. Rules of one place with the same text do the same. */
  readonly text: string
}

interface Entry extends Served {
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
  /** In their order, which is not always that of the numbers. */
  #entries: Entry[]
  readonly #jobs: Job[] = []
  #number: number

  /** @param rules those that the engine was made with, in their order */
  constructor(engine: Engine, rules: readonly ForwardRule[], context: PortContext) {
    this.#engine = engine
    this.#context = context
    this.#entries = rules.map((rule, index) => ({ number: index + 1, rule, index, text: textOf(rule) }))
    this.#number = rules.length
  }

  /** Rules that are served, by number. @param from first number to tell @param count rules to tell at most */
  list(from: number, count: number): Forward[] {
    return this.#entries
      .filter((entry) => entry.number >= from)
      .toSorted((a, b) => a.number - b.number)
      .slice(0, count)
      .map((entry) => this.#view(entry))
  }

  /** Rules that are served, in their order: as they are now, later changes don't show. */
  get served(): readonly Served[] {
    return this.#entries.slice()
  }

  get count(): number {
    return this.#entries.length
  }

  #view({ number, rule, index, text }: Entry): Forward {
    return {
      number,
      protocol: rule.protocol,
      place: rule.place === PLACE_NAMESPACE ? "namespace" : "host",
      rule: text,
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
    const text = textOf(rule)
    return this.#entries.find((entry) => entry.rule.place === rule.place && entry.text === text)?.number ?? 0
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
        if (rival) fail(`Conflicts with ${rival.text} (${rival.number})`)
        else if (this.#entries.filter((entry) => entry.rule.place === rule.place).length >= FORWARD_RULE_MAX)
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
        const entry = { number: ++this.#number, rule, index: change.index, text: textOf(rule) }
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

  /** Exchanges rules for others, all of them or none.
   * @param remove numbers of rules; those that are gone by then are passed over
   * @param wanted numbers of rules that stay and new ones, in the order that they are to have; rules that are named nowhere stay */
  replace(remove: readonly number[], wanted: readonly (number | ForwardRule)[]): Pending {
    const pending: { -readonly [K in keyof Pending]: Pending[K] } = {
      done: false,
      error: "",
      forward: undefined,
      failedPorts: 0,
    }
    const fail = (error: string): void => {
      pending.error = error
      pending.done = true
    }
    const added = wanted.filter((item) => typeof item !== "number")
    let removed: Entry[] = []
    let rivals: ForwardRule[] = []
    let checked = 0
    let update: RulesUpdate | undefined
    const check = (): void => {
      for (let i = 0; i < RULES_PER_STEP && checked < added.length; i++) {
        const rule = added[checked++]!
        const rival = rivals.find((other) => rulesConflict(other, rule))
        if (rival) {
          fail(`Forwarding configuration conflict: ${textOf(rule)} versus ${textOf(rival)}`)
          return
        }
        rivals.push(rule)
        if (rivals.filter(({ place }) => place === rule.place).length > FORWARD_RULE_MAX) {
          fail(`Too many forwarding rules (maximum ${FORWARD_RULE_MAX})`)
          return
        }
      }
    }
    this.#jobs.push({
      begin: () => {
        removed = this.#entries.filter(({ number }) => remove.includes(number))
        rivals = this.#entries.filter((entry) => !removed.includes(entry)).map(({ rule }) => rule)
      },
      get done() {
        return pending.done
      },
      step: () => {
        if (checked < added.length) {
          check()
          return
        }
        update ??= this.#engine.updateRules(
          removed.map(({ index }) => index),
          added,
        )
        update.step(PORTS_PER_STEP)
        if (!update.done) return
        pending.failedPorts = update.error === "" ? update.failedPorts : 0
        if (update.error === "") this.#reorder(removed, wanted, update.indices)
        pending.error = update.error
        pending.done = true
      },
    })
    return pending
  }

  #reorder(removed: readonly Entry[], wanted: readonly (number | ForwardRule)[], indices: readonly number[]): void {
    const left = new Map(this.#entries.map((entry) => [entry.number, entry]))
    for (const { number } of removed) left.delete(number)
    const entries: Entry[] = []
    let next = 0
    for (const item of wanted) {
      if (typeof item !== "number") {
        entries.push({ number: ++this.#number, rule: item, index: indices[next++]!, text: textOf(item) })
        continue
      }
      const entry = left.get(item)
      if (entry) entries.push(entry)
      left.delete(item)
    }
    this.#entries = [...entries, ...left.values()]
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

function textOf(rule: ForwardRule): string {
  return formatRule(rule).trimEnd()
}
