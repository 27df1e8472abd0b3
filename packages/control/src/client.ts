/**
 * One client: its half of a request, its answer in the making, and what it has not read yet. Both buffers have their size for
 * good. A request is not looked at before the answer to the last one is in the buffer, so a client that sends without reading
 * fills its own socket and nothing else.
 */
import { EAGAIN, EVENT_IN, EVENT_OUT } from "@passt/core"
import { IdentifiedError, parseRequest, REQUEST_BYTES_MAX, RequestError, type RequestId } from "./protocol.ts"
import type { ControlSockets } from "./sockets.ts"

/** Room for lines that the client has not taken yet. */
const OUTPUT_BYTES: number = 128 << 10
/** Free room without which an answer does not go on: more than one step of any answer writes. */
export const STEP_BYTES_MAX: number = 64 << 10
/** How long a request may take from its first to its last byte, and an answer to be read on, milliseconds. */
export const PATIENCE_MS = 10_000

const NEWLINE = 10

/** An answer in the making. */
export interface Task {
  /** Goes on by a little; writes at most STEP_BYTES_MAX.
   * @returns "more": call again; "wait": for something else that goes on by itself; "done": the answer is complete */
  step(out: Reply): "more" | "wait" | "done"
  /** Nobody waits for it any more. */
  cancel?(): void
}

/** Where an answer's lines go. */
export interface Reply {
  /** Writes a line: the fields, and the request's id. */
  line(fields: object): void
}

/** What requests can do. @throws RequestError */
export type Open = (call: string, fields: Readonly<Record<string, unknown>>, descriptor: () => number) => Task

export class Client implements Reply {
  readonly fd: number
  isOpen = true
  readonly #sockets: ControlSockets
  readonly #open: Open
  readonly #input: Buffer = Buffer.allocUnsafeSlow(REQUEST_BYTES_MAX)
  #inputEnd = 0
  /** Where the first line of the input ends; -1: there is no whole one. Kept, for it is asked for in every turn. */
  #lineEnd = -1
  readonly #output: Buffer = Buffer.allocUnsafeSlow(OUTPUT_BYTES)
  #outputStart = 0
  #outputEnd = 0
  readonly #passed: Int32Array = new Int32Array(1)
  /** A descriptor that came along with a request; -1: none. */
  #descriptor = -1
  #readable = true
  #writable = true
  #ended = false
  /** To be closed once the output is written. */
  #closing = false
  #task: Task | undefined
  #id: RequestId = null
  #waits = false
  /** Since when a line is incomplete or output lies there, milliseconds. */
  #since = 0

  constructor(fd: number, sockets: ControlSockets, open: Open) {
    this.fd = fd
    this.#sockets = sockets
    this.#open = open
  }

  event(mask: number, now: number): void {
    // An error or a hang-up shows in the next call.
    if ((mask & ~EVENT_OUT) !== 0) this.#readable = true
    if ((mask & EVENT_OUT) !== 0 || (mask & ~EVENT_IN) !== 0) this.#writable = true
    if (!this.#isHalfway) this.#since = now
  }

  /** Whether there is something to do now. */
  get isBusy(): boolean {
    if (!this.isOpen) return false
    if (this.#outputEnd > this.#outputStart && this.#writable) return true
    if (this.#closing) return this.#outputEnd === this.#outputStart
    if (this.#task !== undefined) return !this.#waits && this.#room >= STEP_BYTES_MAX
    return this.#readable || this.#lineEnd >= 0
  }

  /** Milliseconds from `now` until it has been waited for long enough; -1: nothing is waited for. */
  patience(now: number): number {
    return this.isOpen && this.#isHalfway ? Math.max(0, (this.#since + PATIENCE_MS - now) | 0) : -1
  }

  get #isHalfway(): boolean {
    return (this.#task === undefined && this.#inputEnd > 0) || this.#outputEnd > this.#outputStart
  }

  get #room(): number {
    return OUTPUT_BYTES - (this.#outputEnd - this.#outputStart)
  }

  /** What a task has waited for may have come. */
  wake(): void {
    this.#waits = false
  }

  /** Goes on by a little. */
  step(now: number): void {
    const wasHalfway = this.#isHalfway
    this.#advance(now)
    if (!wasHalfway) this.#since = now
    this.#flush(now)
    if (this.isOpen && this.#closing && this.#outputEnd === this.#outputStart) this.close()
  }

  #advance(now: number): void {
    if (this.#closing) return
    if (this.#task === undefined) {
      if (this.#lineEnd < 0 && !this.#read(now)) return
      this.#begin()
    }
    if (this.#task === undefined || this.#room < STEP_BYTES_MAX) return
    try {
      const result = this.#task.step(this)
      this.#waits = result === "wait"
      if (result === "done") this.#finish()
    } catch (error) {
      this.#refuse(error)
    }
  }

  #finish(): void {
    this.#task?.cancel?.()
    this.#task = undefined
    this.#waits = false
    this.#dropDescriptor()
  }

  /** Reads once. @returns whether there may be a whole line */
  #read(now: number): boolean {
    if (this.#ended) {
      this.#closing = true
      return false
    }
    if (!this.#readable) return false
    const got = this.#sockets.receive(this.fd, this.#input, this.#inputEnd, this.#passed)
    if (this.#passed[0]! >= 0) {
      this.#dropDescriptor()
      this.#descriptor = this.#passed[0]!
      this.#passed[0] = -1
    }
    if (got === -EAGAIN) this.#readable = false
    else if (got < 0) this.close()
    else if (got === 0) {
      this.#ended = true
      this.#closing = true
    } else {
      if (this.#inputEnd === 0) this.#since = now
      this.#inputEnd += got
      this.#findLine()
      if (this.#lineEnd >= 0) return true
      if (this.#inputEnd === REQUEST_BYTES_MAX) {
        this.fail("bad-request", `A request is at most ${REQUEST_BYTES_MAX} bytes long`)
      }
    }
    return false
  }

  #findLine(): void {
    this.#lineEnd = this.#input.subarray(0, this.#inputEnd).indexOf(NEWLINE)
  }

  /** Takes a line off the input. */
  #begin(): void {
    const end = this.#lineEnd
    const line = this.#input.toString("utf8", 0, end)
    this.#input.copyWithin(0, end + 1, this.#inputEnd)
    this.#inputEnd -= end + 1
    this.#findLine()
    this.#id = null
    if (line.trim() === "") return
    try {
      const request = parseRequest(line)
      this.#id = request.id
      this.#task = this.#open(request.call, request.fields, () => {
        const descriptor = this.#descriptor
        this.#descriptor = -1
        return descriptor
      })
    } catch (error) {
      if (error instanceof IdentifiedError) this.#id = error.id
      this.#refuse(error)
    }
  }

  #refuse(error: unknown): void {
    if (!(error instanceof RequestError)) throw error
    this.line({ error: { code: error.code, message: error.message } })
    this.#finish()
  }

  line(fields: object): void {
    const text = `${JSON.stringify(this.#id === null ? fields : { id: this.#id, ...fields })}\n`
    const length = Buffer.byteLength(text)
    if (this.#outputEnd + length > OUTPUT_BYTES) {
      this.#output.copyWithin(0, this.#outputStart, this.#outputEnd)
      this.#outputEnd -= this.#outputStart
      this.#outputStart = 0
    }
    // Steps are made so that this does not happen; a line that is left out would be worse than none.
    if (this.#outputEnd + length > OUTPUT_BYTES) {
      this.close()
      return
    }
    this.#output.write(text, this.#outputEnd)
    this.#outputEnd += length
  }

  #flush(now: number): void {
    if (!this.isOpen || !this.#writable || this.#outputEnd === this.#outputStart) return
    const sent = this.#sockets.send(this.fd, this.#output, this.#outputStart, this.#outputEnd)
    if (sent === -EAGAIN) this.#writable = false
    else if (sent < 0) this.close()
    else {
      this.#outputStart += sent
      this.#since = now
      if (this.#outputStart === this.#outputEnd) this.#outputStart = this.#outputEnd = 0
    }
  }

  /** Ends the conversation with an error line, as far as the client takes it. */
  fail(code: RequestError["code"], message: string): void {
    this.#finish()
    this.line({ error: { code, message } })
    this.#closing = true
    this.#writable = true
  }

  /** Has waited for long enough. */
  giveUp(now: number): void {
    this.fail("timeout", `Nothing has moved for ${PATIENCE_MS / 1000} seconds`)
    this.#flush(now)
    this.close()
  }

  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.#finish()
    this.#sockets.close(this.fd)
  }

  #dropDescriptor(): void {
    if (this.#descriptor >= 0) this.#sockets.close(this.#descriptor)
    this.#descriptor = -1
  }
}
