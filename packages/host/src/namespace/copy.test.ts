import { describe, expect, it } from "vitest"
import { parseAddress } from "../netlink/address.ts"
import { HOST_ORDER, attributes, eachMessage, uint32, type NetlinkMessage } from "../netlink/message.ts"
import { parseRoute } from "../netlink/route.ts"
import { hex, words } from "../../../core/src/test-support/bytes.ts"
import {
  ADDRESS6,
  ADDRESS_LO,
  ADDRESS_PEER,
  ROUTE6_DEFAULT,
  ROUTE_MULTIPATH,
  ROUTE_VIA,
} from "../test-support/dumps.ts"
import { code, message as answer, ScriptedNetlink, withSequence, datagram } from "../test-support/scripted-netlink.ts"
import { NetlinkSocket } from "../netlink/socket.ts"
import { copyAddress, copyRoute } from "./copy.ts"
import { linkChange, newAddress } from "./requests.ts"

type Copy = (view: DataView, message: NetlinkMessage, from: number, to: number) => DataView<ArrayBuffer> | undefined

/** Copies the one message of a dump, from interface `from` to 7. */
function copy(how: Copy, dump: string, from: number): DataView<ArrayBuffer> | undefined {
  const view = new DataView(hex(dump).buffer)
  let made: DataView<ArrayBuffer> | undefined
  eachMessage(view, view.byteLength, (message) => {
    made = how(view, message, from, 7)
  })
  return made
}

/** What the kernel would read in a request, which must be one whole message. */
function read<T>(request: DataView, parse: (view: DataView, message: NetlinkMessage) => T | undefined): T | undefined {
  let found: T | undefined
  const whole = eachMessage(request, request.byteLength, (message) => {
    // NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE.
    expect(message.flags).toBe(0x605)
    found = parse(request, message)
  })
  expect(whole).toBe(true)
  return found
}
const hasAttribute = (request: DataView, structBytes: number, type: number): boolean =>
  attributes(request, 16 + structBytes, request.byteLength).has(type)

describe.skipIf(!HOST_ORDER)("copyAddress", () => {
  it("copies address, prefix, scope and peer, and nothing of its time on the host", () => {
    const made = copy(copyAddress, ADDRESS_PEER, 2)!
    expect(read(made, parseAddress)).toEqual({
      interfaceIndex: 7,
      family: 4,
      address: words("192.0.2.99"),
      prefix: 32,
      // IFA_F_NODAD
      flags: 0x02,
      scope: 0,
    })
    // IFA_ADDRESS is the peer's; there is no IFA_LABEL and no IFA_CACHEINFO.
    const found = attributes(made, 24, made.byteLength)
    expect(made.getUint32(found.get(1)!.start)).toBe(0xc0000264)
    expect([3, 6].map((type) => found.has(type))).toEqual([false, false])
    expect(read(copy(copyAddress, ADDRESS6, 3)!, parseAddress)).toMatchObject({ prefix: 64, interfaceIndex: 7 })
  })

  it("leaves out other interfaces, link-local addresses and those that somebody else has", () => {
    expect(copy(copyAddress, ADDRESS_PEER, 3)).toBeUndefined()
    expect(copy(copyAddress, ADDRESS6.replace("20010db8", "fe800000"), 3)).toBeUndefined()
    // IFA_F_DADFAILED
    expect(copy(copyAddress, ADDRESS6.replace("0800 0800 82", "0800 0800 8a"), 3)).toBeUndefined()
    expect(copy(copyAddress, ROUTE_VIA, 3)).toBeUndefined()
    expect(copy(copyAddress, ADDRESS_LO, 1)).toBeDefined()
  })

  it("keeps a deprecated address from being preferred", () => {
    const made = copy(copyAddress, ADDRESS6.replace("0800 0800 82", "0800 0800 a2"), 3)!
    const found = attributes(made, 24, made.byteLength)
    const times = found.get(6)!
    expect([0, 4].map((at) => made.getUint32(times.start + at, HOST_ORDER))).toEqual([0, 0xffffffff])
  })
})

describe.skipIf(!HOST_ORDER)("copyRoute", () => {
  it("copies next hops on the template interface alone", () => {
    const made = copy(copyRoute, ROUTE_MULTIPATH, 3)!
    expect(read(made, parseRoute)).toMatchObject({
      prefix: 0,
      metric: 50,
      nexthops: [
        { interfaceIndex: 7, gateway: words("192.0.2.1"), weight: 1, flags: 0 },
        { interfaceIndex: 7, gateway: words("192.0.2.2"), weight: 9, flags: 0 },
      ],
    })
    // The second one on another interface.
    const one = copy(copyRoute, ROUTE_MULTIPATH.replace("1000 0008 03", "1000 0008 04"), 3)!
    expect(read(one, parseRoute)!.nexthops).toHaveLength(1)
    expect(copy(copyRoute, ROUTE_MULTIPATH, 4)).toBeUndefined()
  })

  it("copies gateways of the other family, and drops lifetimes", () => {
    const via = copy(copyRoute, ROUTE_VIA, 3)!
    expect(read(via, parseRoute)).toMatchObject({ prefix: 24, nexthops: [{ interfaceIndex: 7 }] })
    expect(hasAttribute(via, 12, 18)).toBe(true)
    const default6 = copy(copyRoute, ROUTE6_DEFAULT, 3)!
    expect(read(default6, parseRoute)).toMatchObject({ metric: 1024, nexthops: [{ gateway: words("2001:db8::1") }] })
    expect(hasAttribute(default6, 12, 12)).toBe(false)
  })

  it("clears what the host's link is like at the moment, and keeps what was asked for", () => {
    // RTNH_F_DEAD | RTNH_F_ONLINK
    const made = copy(copyRoute, ROUTE_VIA.replace("fe03 0001 00000000", "fe03 0001 05000000"), 3)!
    expect(made.getUint32(16 + 8, HOST_ORDER)).toBe(4)
  })

  it("leaves out routes of other tables and kinds, and cached ones", () => {
    expect(copy(copyRoute, ROUTE_VIA.replace("0800 0f00 fe", "0800 0f00 ff"), 3)).toBeUndefined()
    expect(copy(copyRoute, ROUTE_VIA.replace("fe03 0001", "fe03 0006"), 3)).toBeUndefined()
    expect(copy(copyRoute, ROUTE_VIA.replace("fe03 0001 00000000", "fe03 0001 00020000"), 3)).toBeUndefined()
    expect(copy(copyRoute, ADDRESS6, 3)).toBeUndefined()
  })
})

describe("requests", () => {
  it("pad every part to four bytes", () => {
    const link = linkChange(7, { up: true, makeLinkLocal: false, mtu: 1500, mac: new Uint8Array([2, 0, 0, 0, 0, 1]) })
    expect(link.byteLength % 4).toBe(0)
    expect(link.getUint32(0, HOST_ORDER)).toBe(link.byteLength)
    expect([24, 28].map((at) => link.getUint32(at, HOST_ORDER))).toEqual([1, 1])
    const found = attributes(link, 32, link.byteLength)
    expect(uint32(link, found.get(4), 0)).toBe(1500)
    expect(found.get(1)!.end - found.get(1)!.start).toBe(6)
    // IFLA_AF_SPEC, for AF_INET6, IFLA_INET6_ADDR_GEN_MODE, none.
    const of6 = attributes(link, found.get(26)!.start, found.get(26)!.end).get(10)!
    expect(link.getUint8(attributes(link, of6.start, of6.end).get(8)!.start)).toBe(1)
    expect([24, 28].map((at) => linkChange(1, { mtu: 1500 }).getUint32(at, HOST_ORDER))).toEqual([0, 0])
  })
})

describe("NetlinkSocket.changeAll", () => {
  const request = (): DataView<ArrayBuffer> => newAddress(7, 4, words("192.0.2.1"), 24)

  it("tells for each of many requests what came of it", () => {
    const batches: number[] = []
    const kernel = new ScriptedNetlink(() => [])
    kernel.netlinkSend = (_fd, bytes, length) => {
      const view = new DataView(bytes.buffer)
      const answers: Uint8Array[] = []
      eachMessage(view, length, ({ sequence }) => {
        answers.push(withSequence(answer(2, 0, code(sequence % 10 === 0 ? -17 : 0)), sequence))
      })
      batches.push(answers.length)
      // Answers of an earlier conversation, then ours, some of them in one datagram.
      kernel.queue.push(withSequence(answer(2, 0, code(-1)), 0), datagram(...answers.slice(0, 5)), ...answers.slice(5))
      return length
    }
    const results = new NetlinkSocket(0, false, kernel).changeAll(Array.from({ length: 150 }, request))
    expect(batches).toEqual([64, 64, 22])
    expect(results.flatMap((error, i) => (error ? [i] : []))).toEqual(Array.from({ length: 15 }, (_, i) => 10 * i + 9))
    expect(results[9]!.errno).toBe(17)
  })

  it("does not wait for ever", () => {
    const socket = new NetlinkSocket(0, false, new ScriptedNetlink(() => []))
    expect(() => socket.change(request())).toThrow(/Couldn't read netlink answer/)
  })
})
