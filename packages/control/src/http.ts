/**
 * Metrics over HTTP, in the engine's own loop: `GET /metrics`, and nothing else. As with the control socket, events only take notes, and the
 * work is done between turns in small steps, one client at a time. A connection has one request and one answer; what a client
 * sends beyond a few KiB, or too slowly, ends it.
 *
 * Reads first: RFC 9112 sections 3, 6.3, 9.6; OpenMetrics 1.0, "Overall structure".
 */
import { EAGAIN, EVENT_IN, EVENT_OUT } from "@passt/core"
import { METRICS_TYPE } from "./metrics.ts"
import type { ControlSockets } from "./sockets.ts"

/** Connections at a time; more wait in the listening socket. */
export const HTTP_CLIENTS_MAX = 4
/** Indices of events: of the listening socket, and of each client. */
export const HTTP_EVENT_INDICES: number = 1 + HTTP_CLIENTS_MAX
const REQUEST_BYTES_MAX = 8192
/** For a request to be complete, and an answer to be read. */
const PATIENCE_MS = 5000

/** A page in the making. */
export interface Page {
  /** @returns whether all is done */
  step(): boolean
  text(): string
}

class Connection {
  readonly fd: number
  readonly since: number
  readable = true
  writable = true
  page: Page | undefined
  output: Buffer | undefined
  #written = 0
  readonly #input: Buffer = Buffer.allocUnsafeSlow(REQUEST_BYTES_MAX)
  #length = 0
  readonly #sockets: ControlSockets
  readonly #passed: Int32Array = new Int32Array(1)

  constructor(fd: number, sockets: ControlSockets, now: number) {
    this.fd = fd
    this.#sockets = sockets
    this.since = now
  }

  get isBusy(): boolean {
    if (this.output !== undefined) return this.writable
    return this.page !== undefined || this.readable
  }

  /** Goes on by a little. @returns false: it is over */
  step(open: () => Page): boolean {
    if (this.output !== undefined) return this.#write(this.output)
    if (this.page === undefined) return this.#read(open)
    if (!this.page.step()) return true
    this.#answer("200 OK", this.page.text(), METRICS_TYPE)
    return true
  }

  #read(open: () => Page): boolean {
    const got = this.#sockets.receive(this.fd, this.#input, this.#length, this.#passed)
    if (got === -EAGAIN) {
      this.readable = false
      return true
    }
    if (got <= 0) return false
    this.#length += got
    const text = this.#input.toString("latin1", 0, this.#length)
    if (text.includes("\r\n\r\n") || text.includes("\n\n")) this.#begin(text, open)
    else if (this.#length === REQUEST_BYTES_MAX) this.#answer("431 Request Header Fields Too Large", "Too long\n")
    return true
  }

  #begin(text: string, open: () => Page): void {
    const line = /^([A-Z]{1,16}) (\S+) HTTP\/1\.[01]\r?\n/.exec(text)
    if (line === null) this.#answer("400 Bad Request", "That is not HTTP/1.1\n")
    else if (line[1] !== "GET" && line[1] !== "HEAD") this.#answer("405 Method Not Allowed", "Only GET\n")
    else if (line[2]!.split("?")[0] !== "/metrics") this.#answer("404 Not Found", "Metrics are at /metrics\n")
    else if (line[1] === "HEAD") this.#answer("200 OK", "", METRICS_TYPE)
    else this.page = open()
  }

  #answer(status: string, body: string, type = "text/plain; charset=utf-8"): void {
    const bytes = Buffer.from(body)
    const allow = status.startsWith("405") ? "Allow: GET, HEAD\r\n" : ""
    const head = `HTTP/1.1 ${status}\r\nContent-Type: ${type}\r\nContent-Length: ${bytes.length}\r\n${allow}Connection: close\r\n\r\n`
    this.output = Buffer.concat([Buffer.from(head), bytes])
  }

  #write(output: Buffer): boolean {
    const sent = this.#sockets.send(this.fd, output, this.#written, output.length)
    if (sent === -EAGAIN) {
      this.writable = false
      return true
    }
    if (sent < 0) return false
    this.#written += sent
    return this.#written < output.length
  }
}

/** A chore (packages/program). */
export class HttpMetrics {
  dueAt = 0
  readonly #sockets: ControlSockets
  readonly #listener: number
  readonly #ref: (index: number) => number
  readonly #open: () => Page
  readonly #clients: (Connection | undefined)[] = Array.from({ length: HTTP_CLIENTS_MAX }, () => undefined)
  #knocked = false
  #next = 0
  #now: number

  /** @param listener a listening socket, not blocking @param ref what events of index 0 … HTTP_EVENT_INDICES - 1 are reported under
   * @param open begins a page */
  constructor(
    sockets: ControlSockets,
    listener: number,
    ref: (index: number) => number,
    open: () => Page,
    now: number,
  ) {
    this.#sockets = sockets
    this.#listener = listener
    this.#ref = ref
    this.#open = open
    this.#now = now
  }

  /** @returns 0 or -errno */
  watch(): number {
    return Math.min(this.#sockets.watch(this.#listener, this.#ref(0)), 0)
  }

  event(index: number, mask: number, now: number): void {
    this.#now = now
    if (index === 0) {
      this.#knocked = true
      return
    }
    const client = this.#clients[index - 1]
    if (client === undefined) return
    if ((mask & ~EVENT_OUT) !== 0) client.readable = true
    if ((mask & ~EVENT_IN) !== 0) client.writable = true
  }

  get isDue(): boolean {
    let oldest = -1
    for (let i = 0; i < HTTP_CLIENTS_MAX; i++) {
      const client = this.#clients[i]
      if (client === undefined) {
        if (this.#knocked) return this.#at(0)
        continue
      }
      if (client.isBusy) return this.#at(0)
      const left = Math.max(0, (client.since + PATIENCE_MS - this.#now) | 0)
      if (oldest < 0 || left < oldest) oldest = left
    }
    return oldest >= 0 && this.#at(oldest)
  }

  #at(after: number): true {
    this.dueAt = (this.#now + after) | 0
    return true
  }

  /** One step. */
  run(now: number): void {
    this.#now = now
    const free = this.#clients.indexOf(undefined)
    if (this.#knocked && free >= 0) this.#accept(free, now)
    for (let i = 0; i < HTTP_CLIENTS_MAX; i++) {
      const slot = (this.#next + i) % HTTP_CLIENTS_MAX
      const client = this.#clients[slot]
      if (client === undefined || !client.isBusy) continue
      this.#next = slot + 1
      if (!client.step(this.#open)) this.#end(slot)
      break
    }
    for (let slot = 0; slot < HTTP_CLIENTS_MAX; slot++) {
      const client = this.#clients[slot]
      if (client !== undefined && ((now - client.since) | 0) >= PATIENCE_MS) this.#end(slot)
    }
  }

  #accept(slot: number, now: number): void {
    const fd = this.#sockets.accept(this.#listener)
    if (fd < 0) {
      this.#knocked = false
      return
    }
    if (this.#sockets.watch(fd, this.#ref(1 + slot)) < 0) this.#sockets.close(fd)
    else this.#clients[slot] = new Connection(fd, this.#sockets, now)
  }

  #end(slot: number): void {
    this.#sockets.close(this.#clients[slot]!.fd)
    this.#clients[slot] = undefined
  }
}
