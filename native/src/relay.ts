/** core's RelayKernel over Linux. */
import type { RelayKernel } from "@passt/core"

import type { RawEngine } from "./addon.ts"

export class NativeRelay implements RelayKernel {
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(2)
  readonly #raw: RawEngine

  constructor(raw: RawEngine) {
    this.#raw = raw
  }

  attach(memory: Uint8Array<ArrayBuffer>): number {
    return this.#raw.attachRelay(memory, this.ends)
  }
  pair(): number {
    return this.#raw.relayPair()
  }
  receive(fd: number, offset: number, length: number): number {
    return this.#raw.relayReceive(fd, offset, length)
  }
  send(fd: number, offset: number, length: number): number {
    return this.#raw.relaySend(fd, offset, length)
  }
}
