/** What an engine tells: as events, as an async iterator, and on diagnostics channels. */
import { channel, type Channel } from "node:diagnostics_channel"
import type { FlowView, LogLevel } from "@passt/core"

/** A flow: one connection, or datagrams between the same two ends. */
export interface Flow extends FlowView {
  /** Never used again in the same engine. */
  readonly id: number
}

/** Arguments of an engine's events, by name. */
export interface EngineEvents {
  /** A flow has begun. */
  flowOpen: [flow: Flow]
  /** A flow has ended; its totals are final. */
  flowClose: [flow: Flow]
  /** A guest is attached. `pid`: of its process, 0: not known. */
  guestConnected: [pid: number]
  /** It is gone. */
  guestDisconnected: [reason: string]
  /** What an operator should know; limited in rate. */
  log: [level: LogLevel, message: string]
  /** The engine has stopped; `error`: by itself, because of it. */
  close: [error?: Error]
}

/** The same as one value, for `for await`. */
export type EngineEvent =
  | { readonly type: "flowOpen" | "flowClose"; readonly flow: Flow }
  | { readonly type: "guestConnected"; readonly pid: number }
  | { readonly type: "guestDisconnected"; readonly reason: string }
  /** So many events were not taken in time and are lost. */
  | { readonly type: "lost"; readonly count: number }

/** Names of the diagnostics channels; messages are `{ engine, flow }`, `{ engine, pid }`, `{ engine, reason }`. */
export const CHANNELS = {
  flowOpen: "passt:flow:open",
  flowClose: "passt:flow:close",
  guestConnected: "passt:guest:connected",
  guestDisconnected: "passt:guest:disconnected",
} as const

/** The channels themselves: asking one whether somebody listens costs nothing. */
export const channels: { readonly [K in keyof typeof CHANNELS]: Channel } = {
  flowOpen: channel(CHANNELS.flowOpen),
  flowClose: channel(CHANNELS.flowClose),
  guestConnected: channel(CHANNELS.guestConnected),
  guestDisconnected: channel(CHANNELS.guestDisconnected),
}

/** Events that wait for a reader; the oldest are lost beyond. */
const QUEUE_MAX = 10_000

/** Events as an async iterator: bounded, for who reads is slower than a guest can be. */
export class EventQueue implements AsyncIterableIterator<EngineEvent, undefined> {
  readonly #waiting: EngineEvent[] = []
  readonly #leave: () => void
  #head = 0
  #lost = 0
  #readers: { resolve: (result: IteratorResult<EngineEvent, undefined>) => void; reject: (why: unknown) => void }[] = []
  #ended = false
  #error: unknown

  /** @param leave called once nobody reads any more */
  constructor(leave: () => void) {
    this.#leave = leave
  }

  push(event: EngineEvent): void {
    if (this.#ended) return
    const reader = this.#readers.shift()
    if (reader !== undefined) {
      reader.resolve({ value: event, done: false })
      return
    }
    this.#waiting.push(event)
    if (this.#waiting.length - this.#head > QUEUE_MAX) {
      this.#head++
      this.#lost++
    }
    if (this.#head > QUEUE_MAX) {
      this.#waiting.splice(0, this.#head)
      this.#head = 0
    }
  }

  /** What waits is still read. @param error thrown after it; undefined: it just ends */
  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#leave()
    for (const { resolve, reject } of this.#readers.splice(0)) {
      if (error === undefined) resolve({ value: undefined, done: true })
      else reject(error)
    }
  }

  next(): Promise<IteratorResult<EngineEvent, undefined>> {
    if (this.#lost > 0) {
      const count = this.#lost
      this.#lost = 0
      return Promise.resolve({ value: { type: "lost", count }, done: false })
    }
    if (this.#head < this.#waiting.length) {
      const value = this.#waiting[this.#head++]!
      return Promise.resolve({ value, done: false })
    }
    if (this.#ended) {
      const error = this.#error
      this.#error = undefined
      return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error as Error)
    }
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }))
  }

  return(): Promise<IteratorResult<EngineEvent, undefined>> {
    this.#waiting.length = 0
    this.#head = 0
    this.end()
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }
}
