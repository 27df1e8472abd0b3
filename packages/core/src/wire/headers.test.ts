import fc from "fast-check"
import { describe, expect, test } from "vitest"

import * as ethernet from "./ethernet.ts"
import { checksumOf } from "./checksum.ts"
import * as icmp from "./icmp.ts"
import * as ipv4 from "./ipv4.ts"
import * as ipv6 from "./ipv6.ts"
import * as tcp from "./tcp.ts"
import * as udp from "./udp.ts"

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const u16 = fc.nat(0xffff)

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll(/\s/g, "").match(/../g) ?? [], (b) => parseInt(b, 16))
}
function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
/** A view of exactly `bytes`: reading behind them throws. */
function tight(bytes: Uint8Array): DataView {
  return viewOf(bytes.slice())
}

test("an Ethernet header", () => {
  const bytes = new Uint8Array(16)
  ethernet.write(viewOf(bytes), 1, hex("ffffffffffff"), hex("525400123456"), ethernet.TYPE_IPV6)
  expect(bytes).toEqual(hex("00 ffffffffffff 525400123456 86dd 00"))
  expect(ethernet.type(viewOf(bytes), 1)).toBe(ethernet.TYPE_IPV6)
})

describe("IPv4", () => {
  test("a header known from RFC-style examples", () => {
    const bytes = new Uint8Array(20)
    ipv4.write(viewOf(bytes), 0, 0x73, ipv4.PROTOCOL_UDP, 64, 0xc0a80001 | 0, 0xc0a800c7 | 0)
    expect(bytes).toEqual(hex("45000073 00004000 4011b861 c0a80001 c0a800c7"))
  })

  test("what is written is read back, and its checksum is right", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 20, max: 65_535 }),
        fc.nat(255),
        fc.nat(255),
        word,
        word,
        (total, protocol, ttl, from, to) => {
          const bytes = new Uint8Array(24).fill(0xee)
          const d = viewOf(bytes)
          ipv4.write(d, 2, total, protocol, ttl, from, to)
          expect([ipv4.headerLength(d, 2), ipv4.totalLength(d, 2), ipv4.protocol(d, 2), ipv4.ttl(d, 2)]).toEqual([
            20,
            total,
            protocol,
            ttl,
          ])
          expect([ipv4.source(d, 2), ipv4.destination(d, 2), ipv4.isFragment(d, 2)]).toEqual([from, to, false])
          expect(checksumOf(d, 2, 20)).toBe(0)
          expect([bytes[0], bytes[1], bytes[22], bytes[23]]).toEqual([0xee, 0xee, 0xee, 0xee])
        },
      ),
    )
  })

  test("check() accepts padding, refuses everything that does not fit", () => {
    const d = viewOf(new Uint8Array(100))
    ipv4.write(d, 0, 30, 17, 64, 1, 2)
    expect(ipv4.check(d, 0, 30)).toBe(30)
    expect(ipv4.check(d, 0, 100)).toBe(30)
    expect(ipv4.check(d, 0, 29)).toBe(-1)
    d.setUint8(0, 0x65)
    expect(ipv4.check(d, 0, 100)).toBe(-1)
    d.setUint8(0, 0x44)
    expect(ipv4.check(d, 0, 100)).toBe(-1)
    d.setUint8(0, 0x48)
    expect(ipv4.check(d, 0, 100)).toBe(-1)
    d.setUint16(ipv4.TOTAL_LENGTH, 32)
    expect(ipv4.check(d, 0, 100)).toBe(32)
  })

  test("fragments are the ones with an offset or with more to come", () => {
    const d = viewOf(new Uint8Array(20))
    for (const [field, fragment] of [
      [0, false],
      [ipv4.DONT_FRAGMENT, false],
      [0x8000, false],
      [ipv4.MORE_FRAGMENTS, true],
      [1, true],
      [0x1fff, true],
      [0x4001, true],
    ] as const) {
      d.setUint16(ipv4.FRAGMENT, field)
      expect([field, ipv4.isFragment(d, 0)]).toEqual([field, fragment])
    }
  })

  test("check() never reads behind the packet, and never says more than there is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        if (bytes.length > 0) bytes[0] = 0x40 | (bytes[0]! & 0x0f)
        const end = ipv4.check(tight(bytes), 0, bytes.length)
        expect(end === -1 || (end >= 20 && end <= bytes.length)).toBe(true)
      }),
    )
  })
})

describe("IPv6", () => {
  test("what is written is read back", () => {
    const four = fc.array(word, { minLength: 4, maxLength: 4 })
    fc.assert(
      fc.property(u16, fc.nat(255), fc.nat(255), word, four, four, (length, next, hops, label, from, to) => {
        const d = viewOf(new Uint8Array(44))
        ipv6.write(d, 4, length, next, hops, label, Int32Array.of(9, ...from), 1, Int32Array.from(to), 0)
        expect([ipv6.payloadLength(d, 4), d.getUint8(4 + ipv6.NEXT_HEADER), ipv6.hopLimit(d, 4)]).toEqual([
          length,
          next,
          hops,
        ])
        expect(d.getUint32(4)).toBe((0x60000000 | (label & 0xfffff)) >>> 0)
        expect([0, 1, 2, 3].map((i) => d.getInt32(4 + ipv6.SOURCE + 4 * i))).toEqual(from)
        expect([0, 1, 2, 3].map((i) => d.getInt32(4 + ipv6.DESTINATION + 4 * i))).toEqual(to)
      }),
    )
  })

  /** A packet with these bytes behind the fixed header. */
  function packet(next: number, rest: string): { d: DataView; end: number } {
    const tail = hex(rest)
    const bytes = new Uint8Array(40 + tail.length)
    ipv6.write(viewOf(bytes), 0, tail.length, next, 64, 0, new Int32Array(4), 0, new Int32Array(4), 0)
    bytes.set(tail, 40)
    return { d: viewOf(bytes), end: bytes.length }
  }
  function walk(next: number, rest: string): string {
    const { d, end } = packet(next, rest)
    expect(ipv6.check(d, 0, end)).toBe(end)
    const result = ipv6.transport(d, 0, end)
    return result < 0 && result >= -3 ? `${result}` : `${result >>> 24}@${result & 0xffffff}`
  }

  test("padded frames are no fault", () => {
    const { d } = packet(17, "0102030405060708 0000")
    d.setUint16(ipv6.PAYLOAD_LENGTH, 8)
    expect(ipv6.check(d, 0, 50)).toBe(48)
    expect(ipv6.check(d, 0, 47)).toBe(-1)
    expect(ipv6.check(d, 0, 39)).toBe(-1)
  })

  test("the transport header is found behind extension headers", () => {
    const udpHeader = "0102030405060708"
    expect(walk(17, udpHeader)).toBe("17@40")
    expect(walk(6, "")).toBe("6@40")
    // Hop-by-hop with router alert, then MLD's ICMPv6.
    expect(walk(0, `3a00 0502 0000 0100 ${udpHeader}`)).toBe("58@48")
    // Destination options of 16 bytes.
    expect(walk(60, `1101 010c 000000000000000000000000 ${udpHeader}`)).toBe("17@56")
    // Routing, then destination options.
    expect(walk(43, `3c00 0000 00000000 1100 0104 00000000 ${udpHeader}`)).toBe("17@56")
    // Authentication header: length in words, less two.
    expect(walk(51, `1104 0000 ${"00".repeat(20)} ${udpHeader}`)).toBe("17@64")
    // A number above 127, whose result must not pass for an error.
    expect(walk(132, udpHeader)).toBe("132@40")
    expect(walk(255, udpHeader)).toBe("255@40")
  })

  test("fragments, chains without a transport header, and broken ones are told apart", () => {
    expect(walk(44, "1100 0001 00000001 0102030405060708")).toBe("-2")
    expect(walk(44, "1100 0008 00000001 0102030405060708")).toBe("-2")
    // An atomic fragment is a whole packet (RFC 6946).
    expect(walk(44, "1100 0000 00000001 0102030405060708")).toBe("17@48")
    expect(walk(59, "")).toBe("-3")
    expect(walk(50, "0000000000000000")).toBe("-3")
    expect(walk(0, "1100 0000 0000")).toBe("-1")
    expect(walk(0, "1101 0000 00000000")).toBe("-1")
    expect(walk(51, "1104 0000 00000000")).toBe("-1")
    // Hop-by-hop headers without end.
    expect(walk(0, "0000 0104 00000000".repeat(20))).toBe("-1")
  })

  test("the walk never reads behind the packet", () => {
    const extension = fc.constantFrom(0, 43, 44, 51, 59, 60, 135, 139, 140, 17)
    fc.assert(
      fc.property(extension, fc.array(fc.oneof(extension, fc.nat(255)), { maxLength: 60 }), (next, tail) => {
        const bytes = new Uint8Array(40 + tail.length)
        bytes.set(tail, 40)
        bytes[ipv6.NEXT_HEADER] = next
        const result = ipv6.transport(tight(bytes), 0, bytes.length)
        if (result < 0 && result >= -3) return
        expect(result & 0xffffff).toBeGreaterThanOrEqual(40)
        expect(result & 0xffffff).toBeLessThanOrEqual(bytes.length)
      }),
      { numRuns: 1000 },
    )
  })
})

describe("UDP", () => {
  test("what is written is read back, with no checksum", () => {
    fc.assert(
      fc.property(u16, u16, u16, (from, to, total) => {
        const bytes = new Uint8Array(9).fill(0xff)
        const d = viewOf(bytes)
        udp.write(d, 1, from, to, total)
        expect([
          udp.sourcePort(d, 1),
          udp.destinationPort(d, 1),
          udp.length(d, 1),
          d.getUint16(1 + udp.CHECKSUM),
        ]).toEqual([from, to, total, 0])
      }),
    )
  })
})

describe("TCP", () => {
  test("what is written is read back", () => {
    fc.assert(
      fc.property(
        u16,
        u16,
        word,
        word,
        fc.nat(63),
        u16,
        fc.integer({ min: 5, max: 15 }),
        (from, to, sequence, ack, flags, window, header) => {
          const d = viewOf(new Uint8Array(61).fill(0xff))
          tcp.write(d, 1, 4 * header, from, to, sequence, ack, flags, window)
          expect([
            tcp.sourcePort(d, 1),
            tcp.destinationPort(d, 1),
            tcp.sequence(d, 1),
            tcp.acknowledgement(d, 1),
          ]).toEqual([from, to, sequence, ack])
          expect([tcp.headerLength(d, 1), tcp.flags(d, 1), tcp.window(d, 1)]).toEqual([4 * header, flags, window])
          expect([d.getUint16(1 + tcp.CHECKSUM), d.getUint16(1 + tcp.URGENT)]).toEqual([0, 0])
        },
      ),
    )
  })

  function withOptions(options: string): DataView {
    const tail = hex(options)
    const bytes = new Uint8Array(20 + tail.length)
    tcp.write(viewOf(bytes), 0, bytes.length, 1, 2, 3, 4, tcp.SYN, 5)
    bytes.set(tail, 20)
    return viewOf(bytes)
  }

  test("options are found wherever they stand", () => {
    // MSS, SACK permitted, timestamps, NOP, window scale: a SYN of Linux.
    const d = withOptions("020405b4 0402 080a0000000100000000 01 030307")
    expect(d.getUint16(tcp.option(d, 0, tcp.OPTION_MSS, 2))).toBe(1460)
    expect(d.getUint8(tcp.option(d, 0, tcp.OPTION_WINDOW_SCALE, 1))).toBe(7)
    expect(tcp.option(d, 0, tcp.OPTION_SACK_PERMITTED, 0)).toBe(26)
    expect(tcp.option(d, 0, tcp.OPTION_SACK, 8)).toBe(-1)
  })

  test("malformed ones are absent", () => {
    expect(tcp.option(withOptions("00000000 020405b4"), 0, tcp.OPTION_MSS, 2)).toBe(-1)
    expect(tcp.option(withOptions("02030500"), 0, tcp.OPTION_MSS, 2)).toBe(-1)
    expect(tcp.option(withOptions("02000000"), 0, tcp.OPTION_MSS, 2)).toBe(-1)
    expect(tcp.option(withOptions("01010102"), 0, tcp.OPTION_MSS, 2)).toBe(-1)
    expect(tcp.option(withOptions("020505b4"), 0, tcp.OPTION_MSS, 2)).toBe(-1)
  })

  test("the search never reads behind the header", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 10 }),
        fc.uint8Array({ minLength: 40, maxLength: 40 }),
        fc.nat(255),
        fc.nat(10),
        (count, options, kind, length) => {
          const bytes = new Uint8Array(20 + 4 * count)
          bytes.set(options.subarray(0, 4 * count), 20)
          bytes[12] = (5 + count) << 4
          const at = tcp.option(tight(bytes), 0, kind, length)
          if (at >= 0) expect(at + length).toBeLessThanOrEqual(bytes.length)
        },
      ),
    )
  })
})

test("ICMP fields", () => {
  const d = viewOf(hex("08 00 1234 4321 0007"))
  expect([icmp.type(d, 0), icmp.code(d, 0), icmp.identifier(d, 0), d.getUint16(icmp.SEQUENCE)]).toEqual([
    8, 0, 0x4321, 7,
  ])
})
