/** Forwarding rules at run time, as promises: one change at a time, some ports per turn (@passt/control's Forwards). */
import { ConfigError as CliError } from "@passt/cli"
import type { Forwards, Pending } from "@passt/control"
import type { ForwardConfig } from "./config.ts"
import { ConfigError, EngineError } from "./config-error.ts"
import { asksForFreePort, withFreePort } from "./free-port.ts"

/** How often another free port is asked for, when somebody else was quicker. */
const FREE_PORT_ATTEMPTS = 8

/** One rule: ports in a row that lead to the guest. */
export interface Forward {
  /** For `removeForward`; never used again. 0: the rule is not served. */
  readonly number: number
  readonly protocol: "tcp" | "udp"
  /** "TCP [127.0.0.1]:8080-8081  =>  80-81", as in passt's log. */
  readonly rule: string
  /** First and last port that is listened on, and how many of them are. */
  readonly first: number
  readonly last: number
  readonly open: number
  /** Of "all": ports that could not be had. */
  readonly failedPorts: number
  /** Why it is not served, one line; empty: it is. */
  readonly error: string
}

interface Job {
  readonly pending: Pending
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ForwardTable {
  readonly #forwards: Forwards
  readonly #wake: () => void
  readonly #jobs: Job[] = []
  #abandoned = false

  /** @param wake asks for another turn */
  constructor(forwards: Forwards, wake: () => void) {
    this.#forwards = forwards
    this.#wake = wake
  }

  async add(field: string, { protocol, ports }: ForwardConfig): Promise<Forward[]> {
    if (!asksForFreePort(ports)) return this.#add(field, protocol, ports)
    for (let attempt = 1; ; attempt++) {
      const spec = await withFreePort(protocol, ports).catch((error: Error) => {
        throw new ConfigError(`${field}.ports`, `no free port: ${error.message}`)
      })
      const results = await this.#add(field, protocol, spec)
      if (results.every(({ error }) => error === "") || attempt === FREE_PORT_ATTEMPTS) return results
    }
  }

  async #add(field: string, protocol: "tcp" | "udp", ports: string): Promise<Forward[]> {
    let rules
    try {
      rules = ports === "none" ? [] : this.#forwards.parse(protocol, "host", ports)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      throw new ConfigError(`${field}.ports`, error.message)
    }
    return Promise.all(
      rules.map(async (rule) => {
        const pending = this.#forwards.add(rule)
        await this.#done(pending)
        const { forward, error, failedPorts } = pending
        const { first, last } = rule
        return forward === undefined
          ? { number: 0, protocol, rule: ports, first, last, open: 0, failedPorts, error }
          : { ...forward, failedPorts, error }
      }),
    )
  }

  async remove(number: number): Promise<boolean> {
    const pending = this.#forwards.remove(number)
    await this.#done(pending)
    return pending.error === ""
  }

  list(): Forward[] {
    return this.#forwards.list(0, this.#forwards.count).map((forward) => ({ ...forward, failedPorts: 0, error: "" }))
  }

  #done(pending: Pending): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#abandoned) {
        reject(new EngineError("ERR_PASST_STATE", "the engine has stopped"))
        return
      }
      this.#jobs.push({ pending, resolve, reject })
      this.#wake()
    })
  }

  /** Goes on with the change at hand; after a turn. */
  step(): void {
    if (this.#jobs.length === 0) return
    this.#forwards.step()
    while (this.#jobs[0]?.pending.done) this.#jobs.shift()!.resolve()
    if (this.#forwards.isBusy) this.#wake()
  }

  /** Nobody will go on with what is left. */
  abandon(): void {
    this.#abandoned = true
    for (const { reject } of this.#jobs.splice(0)) reject(new EngineError("ERR_PASST_STATE", "the engine has stopped"))
  }
}
