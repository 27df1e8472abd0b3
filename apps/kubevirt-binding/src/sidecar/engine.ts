/**
 * One engine: a passt process behind a vhost-user socket, kept alive. It is ready when it answers on its control socket, which it does only once
 * it has everything and is sealed. One that dies after that is started again; QEMU reconnects by itself, and the guest's memory holds all
 * that the rings need. One that never was ready is given up: its last words are the answer to who asked for it.
 *
 *   starting → ready → (dies) → waiting → starting → …
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { dirname } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Lines } from "./lines.ts"
import type { Log } from "./log.ts"
import type { EnginePlan } from "./mutate.ts"
import { Refusal } from "./refusal.ts"

/** Within what virt-launcher allows a hook: a minute, a plugin half of it. */
const START_MS = 25_000
const POLL_MS = 20
/** Between an end and the next start: doubles from the first to the last, and begins anew after a stable run. */
const BACKOFF_FIRST_MS = 50
const BACKOFF_LAST_MS = 10_000
const STABLE_MS = 30_000
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 400
const CONTROL_MS = 2000
const CONTROL_BYTES_MAX = 1 << 20

export class Engine {
  readonly plan: EnginePlan
  restarts = 0
  #child: ChildProcess | undefined
  #isReady = false
  #stopping = false
  #lastLine = ""
  readonly #passt: string
  readonly #log: Log
  readonly #timers: AbortController = new AbortController()

  constructor(plan: EnginePlan, passt: string, log: Log) {
    this.plan = plan
    this.#passt = passt
    this.#log = log
  }

  get isReady(): boolean {
    return this.#isReady
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** @throws Refusal if it does not get ready */
  async start(): Promise<void> {
    mkdirSync(dirname(this.plan.socket), { recursive: true, mode: 0o700 })
    const child = this.#spawn()
    const ended = new Promise<void>((resolve) => {
      child.once("exit", () => resolve())
      child.once("error", () => resolve())
    })
    if (await this.#becomesReady(child)) {
      this.#watch(child)
      return
    }
    await this.stop()
    await ended
    throw new Refusal(
      `the engine of interface ${this.plan.interfaceName} did not start: ${this.#lastLine || "no answer"}`,
    )
  }

  /** Ends it, within less than a second. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#timers.abort()
    const child = this.#child
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
      child.kill("SIGTERM")
      await Promise.race([ended, sleep(GRACE_MS, undefined, { ref: false })])
      child.kill("SIGKILL")
    }
    for (const path of [this.plan.socket, this.plan.control]) rmSync(path, { force: true })
  }

  /** @returns OpenMetrics' text, or "" if it does not answer */
  async metrics(): Promise<string> {
    const answer = this.#isReady ? await ask(this.plan.control, "metrics") : null
    return typeof answer?.text === "string" ? answer.text : ""
  }

  #spawn(): ChildProcess {
    const { socket, control, options } = this.plan
    const words = ["--foreground", "--vhost-user", "--socket", socket, "--control", control, ...options]
    this.#log.debug("starting an engine", { passt: this.#passt, options: words.join(" ") })
    const child = spawn(this.#passt, words, { stdio: ["ignore", "pipe", "pipe"] })
    this.#child = child
    const lines = new Lines((line) => {
      // Not those of a stack: what comes before tells more.
      if (/^\S/.test(line) && !line.startsWith("Node.js v")) this.#lastLine = line
      this.#log.info(line, { component: "engine", interface: this.plan.interfaceName })
    }, 4096)
    for (const stream of [child.stdout, child.stderr]) {
      stream!.setEncoding("utf8").on("data", (chunk: string) => lines.add(chunk))
    }
    child.once("close", () => lines.end())
    child.once("error", (error) => {
      this.#lastLine = error.message
    })
    return child
  }

  async #becomesReady(child: ChildProcess): Promise<boolean> {
    const deadline = performance.now() + START_MS
    while (child.pid !== undefined && child.exitCode === null && child.signalCode === null && !this.#stopping) {
      if ((await ask(this.plan.control, "version")) !== null) {
        this.#isReady = true
        this.#log.info("engine is ready", { interface: this.plan.interfaceName, pid: child.pid })
        return true
      }
      if (performance.now() > deadline) break
      await sleep(POLL_MS)
    }
    return false
  }

  /** Starts it again when it ends, for as long as nobody stops it. */
  #watch(child: ChildProcess): void {
    const began = performance.now()
    const ended = (): void => {
      this.#isReady = false
      if (this.#stopping) return
      const { exitCode, signalCode } = child
      const interfaceName = this.plan.interfaceName
      this.#log.error("engine has ended, starting it again", { interface: interfaceName, exitCode, signal: signalCode })
      const isStable = performance.now() - began > STABLE_MS
      void this.#restart(isStable ? BACKOFF_FIRST_MS : this.#backoff)
    }
    if (child.exitCode !== null || child.signalCode !== null) ended()
    else child.once("exit", ended)
  }

  #backoff = BACKOFF_FIRST_MS

  async #restart(firstMs: number): Promise<void> {
    for (let ms = firstMs; !this.#stopping; ms = Math.min(ms * 2, BACKOFF_LAST_MS)) {
      this.#backoff = Math.min(ms * 2, BACKOFF_LAST_MS)
      try {
        await sleep(ms, undefined, { signal: this.#timers.signal })
      } catch {
        return
      }
      this.restarts++
      const child = this.#spawn()
      if (await this.#becomesReady(child)) {
        this.#watch(child)
        return
      }
      child.kill("SIGKILL")
    }
  }
}

/** Asks a control socket (docs/control.md). @returns the answer's first line, or null if there is none in time */
function ask(path: string, call: string): Promise<Readonly<Record<string, unknown>> | null> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    let text = ""
    const finish = (answer: Readonly<Record<string, unknown>> | null): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(CONTROL_MS, () => finish(null))
    socket.on("error", () => finish(null))
    socket.on("close", () => finish(null))
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk
      const end = text.indexOf("\n")
      if (end < 0) {
        if (text.length > CONTROL_BYTES_MAX) finish(null)
        return
      }
      try {
        finish(JSON.parse(text.slice(0, end)) as Readonly<Record<string, unknown>>)
      } catch {
        finish(null)
      }
    })
    socket.write(`${JSON.stringify({ call })}\n`)
  })
}
