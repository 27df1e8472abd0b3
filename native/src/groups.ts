/** core's GroupKernel over Linux: multicast and broadcast. */
import type { GroupKernel } from "@passt/core"

import type { RawEngine } from "./addon.ts"

export class NativeGroups implements GroupKernel {
  readonly #raw: RawEngine

  constructor(raw: RawEngine) {
    this.#raw = raw
  }

  prepare(fd: number, family: number, scope: number): number {
    return this.#raw.prepareGroups(fd, family, scope)
  }
  joinGroup(fd: number, family: number, scope: number): number {
    return this.#raw.joinGroup(fd, family, scope)
  }
  localAddress(fd: number, family: number): number {
    return this.#raw.localAddress(fd, family)
  }
  setHopLimit(fd: number, family: number, hopLimit: number): number {
    return this.#raw.setGroupHopLimit(fd, family, hopLimit)
  }
  send(fd: number, family: number, start: number, count: number): number {
    return this.#raw.sendDatagramsTo(fd, family, start, count)
  }
  receive(fd: number, row: number): number {
    return this.#raw.receiveGroup(fd, row)
  }
}
