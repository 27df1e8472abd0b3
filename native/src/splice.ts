/** core's SpliceKernel over Linux: the calls of one engine between two sockets. */
import { SPLICE_WORDS, type SpliceKernel } from "@passt/core"

import type { RawEngine } from "./addon.ts"

export class NativeSplice implements SpliceKernel {
  readonly result: Int32Array<ArrayBuffer> = new Int32Array(SPLICE_WORDS)
  readonly #raw: RawEngine

  /** @throws when the host gives no pipe or no memory. */
  constructor(raw: RawEngine) {
    this.#raw = raw
    const opened = raw.openSplice(this.result)
    if (opened < 0) throw new Error(`cannot prepare splicing: errno ${-opened}`)
  }

  stream(from: number, to: number, pipe: number, pending: number, flags: number, share: number): number {
    return this.#raw.spliceStream(from, to, pipe, pending, flags, share)
  }
  dropPipe(pipe: number): number {
    return this.#raw.spliceDropPipe(pipe)
  }
  unsent(fd: number): number {
    return this.#raw.unsent(fd)
  }
  datagrams(from: number, to: number, count: number): number {
    return this.#raw.spliceDatagrams(from, to, count)
  }
  peekAddresses(fd: number): number {
    return this.#raw.peekAddresses(fd)
  }
  wantMerged(fd: number): number {
    return this.#raw.wantMerged(fd)
  }
  scan(place: number, kind: number, map: Uint8Array): number {
    return this.#raw.scanListeners(place, kind, map)
  }
}
