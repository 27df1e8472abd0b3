import { describe, expect, it } from "vitest"
import { code, datagram, message, ScriptedNetlink, withSequence } from "../test-support/scripted-netlink.ts"
import { HOST_ORDER } from "./message.ts"
import { linkDump } from "./request.ts"
import { NetlinkError, NetlinkSocket } from "./socket.ts"

const INTERRUPTED = 0x10
const item = (value: number): Uint8Array => message(16, 2, code(value))
const done = (flags = 0): Uint8Array => message(3, 2 | flags, code(0))
const read = (view: DataView, m: { type: number; start: number }): number | undefined =>
  m.type === 16 ? view.getInt32(m.start, HOST_ORDER) : undefined

function dump(kernel: ScriptedNetlink): readonly number[] {
  return new NetlinkSocket(0, false, kernel).dump(linkDump(), read)
}

describe("NetlinkSocket.dump", () => {
  it("collects over many datagrams, and keeps only what the parser accepts", () => {
    const kernel = new ScriptedNetlink((sequence) => [
      ...Array.from({ length: 500 }, (_, i) => withSequence(item(i), sequence)),
      withSequence(message(99, 2, code(7)), sequence),
      withSequence(done(), sequence),
    ])
    expect(dump(kernel)).toEqual(Array.from({ length: 500 }, (_, i) => i))
  })

  it("grows for a datagram larger than its buffer", () => {
    const kernel = new ScriptedNetlink((sequence) => {
      const many = Array.from({ length: 10_000 }, (_, i) => withSequence(item(i), sequence))
      return [datagram(...many, withSequence(done(), sequence))]
    })
    expect(dump(kernel)).toHaveLength(10_000)
  })

  it("asks again when the set changed meanwhile", () => {
    const kernel = new ScriptedNetlink((sequence, request) =>
      request === 0
        ? [withSequence(item(1), sequence), withSequence(done(INTERRUPTED), sequence)]
        : [withSequence(item(2), sequence), withSequence(done(), sequence)],
    )
    expect(dump(kernel)).toEqual([2])
    expect(kernel.requests).toBe(2)
  })

  it("takes the last answer when the set never rests", () => {
    const kernel = new ScriptedNetlink((sequence, request) => [
      withSequence(item(request), sequence),
      withSequence(done(INTERRUPTED), sequence),
    ])
    expect(dump(kernel)).toEqual([kernel.requests - 1])
    expect(kernel.requests).toBeLessThan(20)
  })

  it("passes over answers to other requests and notifications", () => {
    const kernel = new ScriptedNetlink((sequence) => [
      withSequence(item(1), sequence + 7),
      withSequence(done(), 0),
      datagram(withSequence(item(2), sequence), withSequence(done(), sequence)),
    ])
    expect(dump(kernel)).toEqual([2])
  })

  it("tells a refusal, in NLMSG_ERROR or NLMSG_DONE, and a failed read", () => {
    const refusing = (type: number): ScriptedNetlink =>
      new ScriptedNetlink((sequence) => [withSequence(message(type, 0, code(-13)), sequence)])
    for (const kernel of [refusing(2), refusing(3)]) {
      expect(() => dump(kernel)).toThrow(NetlinkError)
      kernel.queue.length = 0
      expect(() => dump(kernel)).toThrow("Permission denied")
    }
    expect(() => dump(new ScriptedNetlink(() => []))).toThrow(/Couldn't read netlink answer/)
  })
})
