/** Packets between the link and a test, as one read or write each: for frames that no kernel would make. Two UDP sockets,
 * connected to each other over loopback, are such a medium. */
import { readSync, writeSync } from "node:fs"

import { ADDRESS_LOCAL, ADDRESS_REMOTE, EADDRINUSE } from "@passt/core"
import type { NativeKernel } from "@passt/native"

let nextPort = 40_000 + (process.pid % 20_000)

const LOOPBACK: readonly number[] = [0, 0, 0xffff, 0x7f00_0001]

export class Packets {
  /** The link's end, which it is given. */
  readonly theirs: number
  readonly #kernel: NativeKernel
  readonly #ours: number

  constructor(kernel: NativeKernel) {
    this.#kernel = kernel
    const a = this.#bound()
    const b = this.#bound()
    this.#connect(a.fd, b.port)
    this.#connect(b.fd, a.port)
    this.#ours = a.fd
    this.theirs = b.fd
  }

  #bound(): { fd: number; port: number } {
    for (;;) {
      const port = nextPort++
      const fd = this.#kernel.udpSocket(4, false)
      this.#kernel.address.set([...LOOPBACK, port, 0], ADDRESS_LOCAL)
      const result = this.#kernel.bind(fd, 4)
      if (result === 0) return { fd, port }
      this.#kernel.close(fd)
      if (result !== -EADDRINUSE) throw new Error(`bind: errno ${-result}`)
    }
  }

  #connect(fd: number, port: number): void {
    this.#kernel.address.set([...LOOPBACK, port, 0], ADDRESS_REMOTE)
    this.#kernel.connect(fd, 4)
  }

  write(bytes: Uint8Array): void {
    writeSync(this.#ours, bytes)
  }

  read(): Buffer {
    const bytes = Buffer.alloc(65_536)
    return bytes.subarray(0, readSync(this.#ours, bytes))
  }

  end(): void {
    this.#kernel.close(this.#ours)
  }
}
