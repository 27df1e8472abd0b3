/**
 * The socket that pesto talks to (`--conf-path`), in the engine's own loop: as server.ts, events only take notes, and the work is done
 * between turns, a small step each.
 *
 * One client is served at a time, for what it sends replaces what it was told: with two at once the change of one would undo that of the
 * other. The others wait in the listening socket's queue. So a client has PESTO_PATIENCE_MS for all of it.
 *
 * ```
 *   waiting ─▶ greeting ─▶ listening ─▶ applying ─▶ waiting
 *                              └─ it leaves (it only wanted to see), has taken too long, or makes no sense ─▶ waiting
 * ```
 * What changes is the difference between what the client was told and what it wants. Rules that are the same keep their
 * sockets; and rules that came by the control socket (server.ts) meanwhile stay.
 */
import { formatRule, type ForwardRule, type PortContext } from "@passt/cli"
import { EAGAIN, EVENT_IN, EVENT_OUT } from "@passt/core"
import type { Forwards, Pending, Served } from "../forwards.ts"
import type { ControlSockets } from "../sockets.ts"
import { GREETING_BYTES, tablesOf, UpdateReader, WireError, writeGreeting } from "./wire.ts"

/** How long a client may take, milliseconds. */
export const PESTO_PATIENCE_MS = 10_000
/** Indices of events: of the listener, and of the client. */
export const PESTO_EVENT_INDICES = 2

/** When no connection could be accepted, for want of descriptors, say, it is tried again after so many milliseconds. */
const RETRY_MS = 1000
/** Rules to read, or lines to log, per step. */
const ITEMS_PER_STEP = 16
const INPUT_BYTES = 4096

export interface PestoOptions {
  readonly sockets: ControlSockets
  /** What events of index 0 … PESTO_EVENT_INDICES - 1 are reported under. */
  readonly ref: (index: number) => number
  readonly forwards: Forwards
  readonly context: PortContext
  readonly log: { info(line: string): void; warning(line: string): void }
  /** Whether changes of rules have to be driven from here: nobody else does. */
  readonly drives: boolean
  readonly now: number
}

type State = "waiting" | "greeting" | "listening" | "applying"

export class PestoServer {
  dueAt: number
  readonly #options: PestoOptions
  readonly #input: Buffer = Buffer.allocUnsafeSlow(INPUT_BYTES)
  readonly #output: Buffer = Buffer.allocUnsafeSlow(GREETING_BYTES)
  readonly #passed: Int32Array = new Int32Array(1)
  #listener = -1
  #knocked = false
  #retryAt: number
  #state: State = "waiting"
  #client = -1
  #since = 0
  #sent = 0
  #outputEnd = 0
  #inputEnd = 0
  /** Whether the reader has stopped in the middle of what was read. */
  #again = false
  #readable = false
  #writable = false
  #reader: UpdateReader
  /** What the client was told. */
  #told: readonly Served[] = []
  #pending: Pending | undefined
  /** Lines for the log, and how many of them are written. */
  #lines: string[] = []
  #written = 0
  #now: number

  constructor(options: PestoOptions) {
    this.#options = options
    this.#reader = new UpdateReader(options.context)
    this.#now = options.now
    this.#retryAt = options.now
    this.dueAt = options.now
  }

  /** Listens; whoever the umask allows may connect. @returns 0 or -errno */
  listen(path: string): number {
    const { sockets, ref } = this.#options
    const fd = sockets.listen(path, 0o777)
    if (fd < 0) return fd
    this.#listener = fd
    return Math.min(sockets.watch(fd, ref(0)), 0)
  }

  /** @param index 0 … PESTO_EVENT_INDICES - 1 @param mask EVENT_… bits */
  event(index: number, mask: number, now: number): void {
    this.#now = now
    if (index === 0) this.#knocked = true
    // An error or a hang-up shows in the next call.
    if (index === 1 && (mask & ~EVENT_OUT) !== 0) this.#readable = true
    if (index === 1 && (mask & ~EVENT_IN) !== 0) this.#writable = true
  }

  // Asked in every turn of the engine: this and `isDue` make no garbage.
  get #isBusy(): boolean {
    if (this.#options.drives && this.#options.forwards.isBusy) return true
    if (this.#written < this.#lines.length) return true
    switch (this.#state) {
      case "waiting":
        return this.#knocked && ((this.#retryAt - this.#now) | 0) <= 0
      case "greeting":
        return this.#writable
      case "listening":
        return this.#readable || this.#again
      case "applying":
        return this.#pending!.done
    }
  }

  /** Whether it wants to run, now or when somebody has been waited for long enough. */
  get isDue(): boolean {
    if (this.#isBusy) this.dueAt = this.#now
    else if (this.#state === "waiting" && this.#knocked) this.dueAt = this.#retryAt
    else if (this.#state === "greeting" || this.#state === "listening") {
      this.dueAt = (this.#since + PESTO_PATIENCE_MS) | 0
    } else return false
    return true
  }

  /** One step. */
  run(now: number): void {
    this.#now = now
    if (this.#options.drives && this.#options.forwards.isBusy) this.#options.forwards.step()
    if (this.#written < this.#lines.length) this.#tell()
    else this.#advance()
    const talks = this.#state === "greeting" || this.#state === "listening"
    if (talks && ((this.#since + PESTO_PATIENCE_MS - now) | 0) <= 0) {
      this.#refuse(`Configuration client has taken more than ${PESTO_PATIENCE_MS / 1000} seconds`)
    }
  }

  #advance(): void {
    if (this.#state === "waiting" && this.#knocked) this.#accept()
    else if (this.#state === "greeting" && this.#writable) this.#greet()
    else if (this.#state === "listening" && (this.#readable || this.#again)) this.#listen()
    else if (this.#state === "applying" && this.#pending!.done) this.#finish(this.#pending!)
  }

  #accept(): void {
    const { sockets, ref, forwards, context, log } = this.#options
    if (((this.#retryAt - this.#now) | 0) > 0) return
    const fd = sockets.accept(this.#listener)
    if (fd < 0) {
      if (fd === -EAGAIN) this.#knocked = false
      this.#retryAt = (this.#now + (fd === -EAGAIN ? 0 : RETRY_MS)) | 0
      return
    }
    this.#retryAt = this.#now
    if (sockets.watch(fd, ref(1)) < 0) {
      sockets.close(fd)
      return
    }
    log.info("Accepted configuration client")
    this.#client = fd
    this.#since = this.#now
    this.#state = "greeting"
    this.#readable = true
    this.#writable = true
    this.#inputEnd = 0
    this.#again = false
    this.#sent = 0
    this.#reader = new UpdateReader(context)
    this.#told = forwards.served
    const rules = this.#told.map(({ rule }) => rule)
    this.#outputEnd = writeGreeting(this.#output, context, rules)
  }

  #greet(): void {
    const sent = this.#options.sockets.send(this.#client, this.#output, this.#sent, this.#outputEnd)
    if (sent === -EAGAIN) this.#writable = false
    else if (sent < 0) this.#leave()
    else {
      this.#sent += sent
      if (this.#sent === this.#outputEnd) this.#state = "listening"
    }
  }

  /** Reads once, or goes on with what was read. */
  #listen(): void {
    if (!this.#again && !this.#receive()) return
    try {
      const result = this.#reader.read(this.#input.subarray(0, this.#inputEnd), ITEMS_PER_STEP)
      this.#input.copyWithin(0, this.#reader.taken, this.#inputEnd)
      this.#inputEnd -= this.#reader.taken
      this.#again = result === "again"
      if (result === "done") this.#apply()
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#refuse(error.message)
    }
  }

  /** @returns whether something has come */
  #receive(): boolean {
    const { sockets } = this.#options
    const got = sockets.receive(this.#client, this.#input, this.#inputEnd, this.#passed)
    if (this.#passed[0]! >= 0) sockets.close(this.#passed[0]!)
    this.#passed[0] = -1
    if (got === -EAGAIN) this.#readable = false
    // It leaves without a wish, or in the middle of one, which is none.
    else if (got <= 0) this.#leave()
    else this.#inputEnd += got
    return got > 0
  }

  #apply(): void {
    const numbers = new Map(this.#told.map(({ text, rule, number }) => [`${rule.place} ${text}`, number]))
    const wanted = this.#reader.rules.map((rule): number | ForwardRule => {
      const key = `${rule.place} ${formatRule(rule).trimEnd()}`
      const number = numbers.get(key)
      numbers.delete(key)
      return number ?? rule
    })
    this.#pending = this.#options.forwards.replace([...numbers.values()], wanted)
    this.#state = "applying"
  }

  #finish({ error, failedPorts }: Pending): void {
    const { forwards, context, log } = this.#options
    if (error !== "") log.warning(`${error}; forwarding rules are as before`)
    if (failedPorts > 0) log.warning(`${failedPorts} ports of new forwarding rules couldn't be bound`)
    if (error === "") {
      const numbers = new Set(this.#told.map(({ number }) => number))
      for (const { name, place } of tablesOf(context)) {
        const now = forwards.served.filter(({ rule }) => rule.place === place)
        const before = this.#told.filter(({ rule }) => rule.place === place)
        if (now.length === before.length && now.every(({ number }) => numbers.has(number))) continue
        this.#lines.push(`New forwarding rules for ${name}:`, ...now.map(({ text }) => `    ${text}`))
      }
    }
    this.#leave()
  }

  /** Writes a few lines into the log. */
  #tell(): void {
    for (let i = 0; i < ITEMS_PER_STEP && this.#written < this.#lines.length; i++) {
      this.#options.log.info(this.#lines[this.#written++]!)
    }
    if (this.#written < this.#lines.length) return
    this.#lines = []
    this.#written = 0
  }

  #refuse(why: string): void {
    this.#options.log.warning(why)
    this.#leave()
  }

  /** Ends the conversation. */
  #leave(): void {
    this.#options.sockets.close(this.#client)
    this.#client = -1
    this.#state = "waiting"
    this.#pending = undefined
    this.#told = []
  }

  /** Ends everything. */
  close(): void {
    if (this.#client >= 0) this.#leave()
    if (this.#listener >= 0) this.#options.sockets.close(this.#listener)
    this.#listener = -1
  }
}
