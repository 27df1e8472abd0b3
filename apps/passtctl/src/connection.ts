/** The client's side of the control socket: one request at a time, and it waits for the answer. */
import { connectControl, receiveControl, sendControl } from "@passt/native"
import { closeSync } from "node:fs"
import { getSystemErrorMap } from "node:util"

/** What to tell the user, in one line. */
export class ControlError extends Error {}

function errnoText(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[1] ?? `error ${errno}`
}

export type Answer = Readonly<Record<string, unknown>>

export class Connection {
  readonly #fd: number
  readonly #path: string
  readonly #passed: Int32Array = new Int32Array(1)
  #bytes: Buffer = Buffer.alloc(256 << 10)
  #end = 0

  /** @throws ControlError */
  constructor(path: string) {
    this.#path = path
    this.#fd = connectControl(path)
    if (this.#fd < 0) throw new ControlError(`Can't connect to ${path}: ${errnoText(-this.#fd)}`)
  }

  /** Sends a request. @param descriptor goes along; -1: none @param visit gets the lines of the answer but the last
   * @returns the last line @throws ControlError when the request is refused or the connection ends */
  ask(request: object, visit: (line: Answer) => void = () => {}, descriptor: number = -1): Answer {
    const bytes = Buffer.from(`${JSON.stringify(request)}\n`)
    for (let sent = 0; sent < bytes.length;) {
      const result = sendControl(this.#fd, bytes, sent, bytes.length, sent === 0 ? descriptor : -1)
      // What was said before the end is still there to be read.
      if (result < 0) break
      sent += result
    }
    for (;;) {
      const line = this.#line()
      const error = line["error"] as { message?: unknown } | undefined
      if (error && line["ok"] === undefined) throw new ControlError(String(error.message))
      if (line["done"] === true) return line
      visit(line)
    }
  }

  #line(): Answer {
    for (;;) {
      const end = this.#bytes.subarray(0, this.#end).indexOf(10)
      if (end >= 0) {
        const text = this.#bytes.toString("utf8", 0, end)
        this.#bytes.copyWithin(0, end + 1, this.#end)
        this.#end -= end + 1
        try {
          return JSON.parse(text) as Answer
        } catch {
          throw new ControlError(`${this.#path} does not speak the control protocol`)
        }
      }
      if (this.#end === this.#bytes.length) throw new ControlError(`${this.#path} does not speak the control protocol`)
      const got = receiveControl(this.#fd, this.#bytes, this.#end, this.#passed)
      if (this.#passed[0]! >= 0) closeSync(this.#passed[0]!)
      if (got <= 0) throw new ControlError(got === 0 ? "The connection was closed" : errnoText(-got))
      this.#end += got
    }
  }
}
