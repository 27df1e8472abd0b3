import { address as ip } from "@passt/core/wire"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { hex, viewOf } from "../../../core/src/test-support/bytes.ts"
import * as dumps from "../test-support/dumps.ts"
import { parseAddress } from "./address.ts"
import { parseLink } from "./link.ts"
import type { NetlinkMessage } from "./message.ts"
import { attributes, eachMessage, HOST_ORDER } from "./message.ts"
import { parseNeighbour } from "./neighbour.ts"
import { addressDump, linkDump, neighbourDump, routeDump } from "./request.ts"
import { parseRoute } from "./route.ts"
import { NetlinkError, outcome } from "./socket.ts"

function parsed<T>(text: string, parse: (view: DataView, message: NetlinkMessage) => T): T[] {
  const bytes = viewOf(hex(text))
  const found: T[] = []
  expect(eachMessage(bytes, bytes.byteLength, (message) => void found.push(parse(bytes, message)))).toBe(true)
  return found
}

// The dumps below are in the byte order of the machine they come from.
describe.runIf(HOST_ORDER)("messages as the kernel writes them", () => {
  it("reads links", () => {
    const [lo, v0] = parsed(dumps.LINK_LO + dumps.LINK_V0, parseLink)
    expect(lo).toMatchObject({ index: 1, name: "lo", loopback: true, up: true, mtu: 65536 })
    expect(v0).toMatchObject({ index: 3, name: "v0", loopback: false, up: true, mtu: 1500 })
    expect([...v0!.mac]).toEqual([2, 0, 0, 0, 0, 1])
  })

  it("reads addresses, our own one of a point-to-point pair", () => {
    const [lo, peer, six] = parsed(dumps.ADDRESS_LO + dumps.ADDRESS_PEER + dumps.ADDRESS6, parseAddress)
    expect(lo).toMatchObject({ family: 4, prefix: 8, scope: 254, interfaceIndex: 1 })
    expect(ip.format(peer!.address)).toBe("192.0.2.99")
    expect(peer).toMatchObject({ family: 4, prefix: 32, interfaceIndex: 2 })
    expect(ip.format(six!.address)).toBe("2001:db8::5")
    expect(six).toMatchObject({ family: 6, prefix: 64, scope: 0, flags: 0x82, interfaceIndex: 3 })
  })

  it("reads routes: several next hops with weights, a gateway of the other family, IPv6", () => {
    const [multi, via, six] = parsed(dumps.ROUTE_MULTIPATH + dumps.ROUTE_VIA + dumps.ROUTE6_DEFAULT, parseRoute)
    expect(multi).toMatchObject({ family: 4, prefix: 0, metric: 50, table: 254, type: 1 })
    expect(multi!.nexthops.map((hop) => [hop.interfaceIndex, ip.format(hop.gateway!), hop.weight])).toEqual([
      [3, "192.0.2.1", 1],
      [3, "192.0.2.2", 9],
    ])
    expect(ip.format(via!.destination)).toBe("198.51.100.0")
    expect(via!.nexthops).toEqual([{ interfaceIndex: 3, gateway: undefined, weight: 1, flags: 0 }])
    expect(six).toMatchObject({ family: 6, prefix: 0, metric: 1024 })
    expect(ip.format(six!.nexthops[0]!.gateway!)).toBe("2001:db8::1")
  })

  it("reads neighbours: the MAC address only where it can be used", () => {
    const found = parsed(dumps.NEIGHBOUR_FAILED + dumps.NEIGHBOUR_STALE + dumps.NEIGHBOUR_MULTICAST, parseNeighbour)
    expect(found.map((n) => [ip.format(n!.address), n!.mac && [...n!.mac]])).toEqual([
      ["192.0.2.9", undefined],
      ["fe80::9", [2, 0, 0, 0, 0, 0xbb]],
      ["ff02::2", undefined],
    ])
  })

  it("reads a removed neighbour as gone, whatever its state says", () => {
    const [gone] = parsed(dumps.NEIGHBOUR_STALE.replace("1c00", "1d00"), parseNeighbour)
    expect(gone!.mac).toBeUndefined()
  })

  it("reads the kernel's sentence behind an error", () => {
    // -EINVAL, our header capped, NLMSGERR_ATTR_MSG "bad"; flags NLM_F_CAPPED | NLM_F_ACK_TLVS.
    const text = `2c000000 0200 0003 01000000 00000000  eaffffff  1c000000 1200 0103 01000000 00000000
      0800 0100 62616400`
    const [error] = parsed(text, outcome)
    expect(error!.errno).toBe(22)
    expect(error!.message).toBe("Invalid argument: bad")
  })
})

describe("damaged messages", () => {
  it("reads nothing behind a request of impossible length in an error", () => {
    // -EINVAL, flags NLM_F_ACK_TLVS, then the request's header with its length.
    for (const length of ["0000ffff", "ffffffff", "fcffff7f", "18000000"]) {
      const bytes = viewOf(hex(`24000000 0200 0002 01000000 00000000 eaffffff ${length} 0000 0000 00000000 00000000`))
      if (!HOST_ORDER) bytes.setUint32(0, 36, false)
      let seen: unknown
      eachMessage(bytes, bytes.byteLength, (message) => {
        seen = outcome(bytes, { ...message, type: 2, flags: 0x200 })
      })
      expect(seen).toBeInstanceOf(NetlinkError)
    }
  })

  it("stops at a length that is too small or too large, and says so", () => {
    const bytes = viewOf(
      hex("14000000 0300 0200 06000000 86360000 00000000 0f000000 0300 0200 06000000 86360000 00000000"),
    )
    if (!HOST_ORDER) for (const at of [0, 20]) bytes.setUint32(at, bytes.getUint32(at, true), false)
    let count = 0
    expect(eachMessage(bytes, bytes.byteLength, () => void count++)).toBe(false)
    expect(count).toBe(1)
    bytes.setUint32(20, 24, HOST_ORDER)
    expect(eachMessage(bytes, bytes.byteLength, () => undefined)).toBe(false)
    expect(eachMessage(bytes, 10, () => undefined)).toBe(false)
  })

  it("never reads beyond the datagram, whatever is in it", () => {
    const good = Object.values(dumps).join(" ").replace(/\s+/g, "")
    const pristine = Buffer.from(good, "hex")
    const parsers = [parseLink, parseAddress, parseRoute, parseNeighbour, outcome]
    const change = fc.tuple(fc.nat(pristine.length - 1), fc.nat(255))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), fc.nat(pristine.length), (changes, length) => {
        const bytes = Uint8Array.from(pristine)
        for (const [at, value] of changes) bytes[at] = value
        // The view ends where the datagram does: a read beyond it throws.
        const data = new DataView(bytes.buffer, 0, length)
        eachMessage(data, length, (message) => {
          for (const parse of parsers) parse(data, message)
        })
      }),
      { numRuns: 3000 },
    )
  })

  it("never reads beyond random bytes behind each header", () => {
    const types = fc.constantFrom(2, 3, 16, 20, 24, 28, 29)
    fc.assert(
      fc.property(types, fc.nat(0x3ff), fc.uint8Array({ maxLength: 120 }), (type, flags, payload) => {
        const bytes = new Uint8Array(16 + payload.length)
        const data = new DataView(bytes.buffer)
        data.setUint32(0, bytes.length, HOST_ORDER)
        data.setUint16(4, type, HOST_ORDER)
        data.setUint16(6, flags, HOST_ORDER)
        bytes.set(payload, 16)
        // Most first bytes are no address family: give the parsers a reason to go on.
        if (payload.length > 0) bytes[16] = payload[0]! & 1 ? 2 : 10
        eachMessage(data, bytes.length, (message) => {
          for (const parse of [parseLink, parseAddress, parseRoute, parseNeighbour, outcome]) parse(data, message)
          for (const span of attributes(data, message.start, message.end).values()) {
            expect(span.start).toBeGreaterThanOrEqual(message.start)
            expect(span.end).toBeLessThanOrEqual(message.end)
          }
        })
      }),
      { numRuns: 3000 },
    )
  })
})

describe("requests", () => {
  it("say their own length and ask for a dump", () => {
    for (const [request, type] of [
      [linkDump(), 18],
      [addressDump(2), 22],
      [routeDump(10), 26],
      [neighbourDump(), 30],
    ] as const) {
      expect(request.getUint32(0, HOST_ORDER)).toBe(request.byteLength)
      expect(request.getUint16(4, HOST_ORDER)).toBe(type)
      expect(request.getUint16(6, HOST_ORDER)).toBe(0x301)
    }
    expect(addressDump(2).getUint8(16)).toBe(2)
    expect(routeDump(10).getUint8(16)).toBe(10)
  })
})
