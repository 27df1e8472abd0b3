/** Pairs of sockets, and the memory that streams are read into and written from. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { NativeKernel } from "./kernel.ts"

const EBADF = 9
const EAGAIN = 11
const EINVAL = 22
const EPIPE = 32
const EALREADY = 114
const BYTES = 4096

describe("a relay", () => {
  let kernel: NativeKernel
  let memory: Uint8Array<ArrayBuffer>
  let one: number
  let other: number
  beforeEach(() => {
    kernel = new NativeKernel()
    memory = new Uint8Array(BYTES)
    expect(kernel.relay.attach(memory)).toBe(0)
    expect(kernel.relay.pair()).toBe(0)
    one = kernel.relay.ends[0]!
    other = kernel.relay.ends[1]!
  })
  afterEach(() => {
    kernel.close(one)
    kernel.close(other)
    kernel.destroy()
  })

  it("carries bytes between the ends of a pair, and its end", () => {
    const { relay } = kernel
    expect(relay.receive(other, 0, 10)).toBe(-EAGAIN)
    memory.set([1, 2, 3], 100)
    expect(relay.send(one, 100, 3)).toBe(3)
    expect(relay.receive(other, BYTES - 10, 10)).toBe(3)
    expect([...memory.subarray(BYTES - 10)]).toEqual([1, 2, 3, 0, 0, 0, 0, 0, 0, 0])
    expect(kernel.shutdownWrite(one)).toBe(0)
    expect(relay.receive(other, 0, 10)).toBe(0)
    expect(relay.send(one, 0, 1)).toBe(-EPIPE)
  })

  it("tells when nobody reads, and by an event when somebody has", () => {
    const { relay } = kernel
    let sent = 0
    for (let taken = relay.send(one, 0, BYTES); taken > 0; taken = relay.send(one, 0, BYTES)) sent += taken
    expect(relay.send(one, 0, BYTES)).toBe(-EAGAIN)
    expect(kernel.watch(one, 7)).toBe(0)
    expect(kernel.wait(0)).toBe(0)
    let got = 0
    for (let read = relay.receive(other, 0, BYTES); read > 0; read = relay.receive(other, 0, BYTES)) got += read
    expect(got).toBe(sent)
    expect(kernel.wait(0)).toBe(1)
    expect(kernel.events[0]).toBe(7)
    // Watched again, it is told again, under another name.
    expect(kernel.wait(0)).toBe(0)
    expect(kernel.watch(one, 8)).toBe(0)
    expect(kernel.wait(0)).toBe(1)
    expect(kernel.events[0]).toBe(8)
  })

  it("never leaves its memory, which it has once", () => {
    const { relay } = kernel
    for (const [offset, length] of [
      [-1, 1],
      [0, 0],
      [0, -1],
      [0, BYTES + 1],
      [BYTES, 1],
      [BYTES - 1, 2],
      [0x7fffffff, 0x7fffffff],
    ] as const) {
      expect(relay.receive(other, offset, length)).toBe(-EINVAL)
      expect(relay.send(one, offset, length)).toBe(-EINVAL)
    }
    expect(relay.attach(memory)).toBe(-EALREADY)
    const without = new NativeKernel()
    expect(without.relay.pair()).toBe(-EBADF)
    expect(without.relay.send(one, 0, 1)).toBe(-EINVAL)
    without.destroy()
    expect(without.relay.attach(memory)).toBe(-EBADF)
  })
})
