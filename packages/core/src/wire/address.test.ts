import fc from "fast-check"
import { isIPv4, isIPv6 } from "node:net"
import { describe, expect, test } from "vitest"

import {
  copy,
  equal,
  format,
  isBroadcast,
  isLinkLocal,
  isLoopback,
  isMapped,
  isMulticast,
  isUnicast,
  isUnspecified,
  parse,
  parse4,
  parse6,
  read6,
  setMapped,
} from "./address.ts"
import { words } from "../test-support/bytes.ts"

describe("text forms", () => {
  test("IPv4 addresses are mapped", () => {
    expect([...words("192.0.2.1")]).toEqual([0, 0, 0xffff, 0xc0000201 | 0])
    expect(format(words("192.0.2.1"))).toBe("192.0.2.1")
  })

  test("what is not dotted decimal without leading zeros is refused", () => {
    for (const bad of [
      "",
      "1.2.3",
      "1.2.3.4.5",
      "256.1.1.1",
      "01.2.3.4",
      "1.2.3.04",
      "1.2.3.-4",
      " 1.2.3.4",
      "1.2.3.4 ",
      "0x1.2.3.4",
      "a.b.c.d",
    ]) {
      expect([bad, parse4(bad)]).toEqual([bad, undefined])
    }
  })

  test("IPv6 in all its forms", () => {
    const forms: [string, number[]][] = [
      ["::", [0, 0, 0, 0]],
      ["::1", [0, 0, 0, 1]],
      ["1::", [0x10000, 0, 0, 0]],
      ["2001:db8::8:800:200c:417a", [0x20010db8, 0, 0x80800, 0x200c417a]],
      ["2001:DB8:0:0:8:800:200C:417A", [0x20010db8, 0, 0x80800, 0x200c417a]],
      ["::ffff:192.0.2.1", [0, 0, 0xffff, 0xc0000201 | 0]],
      ["::192.0.2.1", [0, 0, 0, 0xc0000201 | 0]],
      ["64:ff9b::192.0.2.1", [0x64ff9b, 0, 0, 0xc0000201 | 0]],
      ["1:2:3:4:5:6:192.0.2.1", [0x10002, 0x30004, 0x50006, 0xc0000201 | 0]],
      ["1:2:3:4:5:6:7::", [0x10002, 0x30004, 0x50006, 0x70000]],
      ["::2:3:4:5:6:7:8", [2, 0x30004, 0x50006, 0x70008]],
    ]
    for (const [text, want] of forms) expect([text, ...words(text)]).toEqual([text, ...want])
  })

  test("what is no IPv6 address is refused", () => {
    for (const bad of [
      ":",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
      "12345::",
      "g::",
      "1:2:3:4:5:6:7:192.0.2.1",
      "::192.0.2.256",
      "::192.0.2.1:1",
      ":192.0.2.1",
      "fe80::1%eth0",
      "[::1]",
      " ::1",
    ]) {
      expect([bad, parse6(bad)]).toEqual([bad, undefined])
    }
  })

  test("RFC 5952: the longest run of zeros is short, the first of equal ones, never a single group", () => {
    const forms = [
      "2001:db8::1",
      "2001:db8:0:1:1:1:1:1",
      "2001:0:0:1::1",
      "2001:db8::1:0:0:1",
      "::",
      "::1",
      "1::",
      "fe80::1",
      "1:2:3:4:5:6:7:8",
    ]
    for (const text of forms) expect(format(words(text))).toBe(text)
    expect(format(words("2001:db8:0:0:0:0:2:1"))).toBe("2001:db8::2:1")
  })

  test("reading what was written gives the address back", () => {
    const group = fc.oneof(
      fc.constant(0),
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.constantFrom(1, 0xffff, 0x10000),
    )
    fc.assert(
      fc.property(fc.array(group, { minLength: 4, maxLength: 4 }), (a) => {
        const address = Int32Array.from(a)
        const text = format(address)
        expect(isMapped(address, 0) ? isIPv4(text) : isIPv6(text)).toBe(true)
        expect(parse(text)).toEqual(address)
      }),
    )
  })

  test("what is accepted is what Node accepts", () => {
    const piece = fc.constantFrom(":", "::", ".", "0", "1", "a", "ff", "255", "256", "fe80", "12345", "1.2.3.4", "%")
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("")
        expect([text, parse4(text) !== undefined]).toEqual([text, isIPv4(text)])
        expect([text, parse6(text) !== undefined]).toEqual([text, isIPv6(text) && !text.includes("%")])
      }),
      { numRuns: 3000 },
    )
  })
})

describe("kinds of addresses", () => {
  test("are told apart in both families", () => {
    const table: [string, string][] = [
      ["0.0.0.0", "unspecified"],
      ["::", "unspecified"],
      ["127.0.0.1", "loopback unicast"],
      ["127.255.255.255", "loopback unicast"],
      ["::1", "loopback unicast"],
      ["128.0.0.1", "unicast"],
      ["126.255.255.255", "unicast"],
      ["::2", "unicast"],
      ["224.0.0.1", "multicast"],
      ["239.255.255.255", "multicast"],
      ["240.0.0.1", "unicast"],
      ["223.255.255.255", "unicast"],
      ["ff02::1", "multicast"],
      ["fe80::1", "linkLocal unicast"],
      ["febf::1", "linkLocal unicast"],
      ["fec0::1", "unicast"],
      ["169.254.0.1", "linkLocal unicast"],
      ["169.253.0.1", "unicast"],
      ["255.255.255.255", "broadcast"],
      ["2001:db8::ffff:ffff", "unicast"],
      ["2001:db8::ffff:7f00:1", "unicast"],
    ]
    for (const [text, want] of table) {
      // Not at index 0, so that the index is used.
      const a = Int32Array.of(99, ...words(text), 99)
      const kinds = {
        unspecified: isUnspecified,
        loopback: isLoopback,
        linkLocal: isLinkLocal,
        multicast: isMulticast,
        broadcast: isBroadcast,
        unicast: isUnicast,
      }
      const got = Object.entries(kinds)
        .filter(([, is]) => is(a, 1))
        .map(([name]) => name)
      expect([text, got.join(" ")]).toEqual([text, want])
    }
  })
})

test("copying, comparing, reading", () => {
  const a = Int32Array.of(0, 1, 2, 3, 4)
  const b = new Int32Array(6)
  copy(b, 2, a, 1)
  expect([...b]).toEqual([0, 0, 1, 2, 3, 4])
  expect(equal(a, 1, b, 2)).toBe(true)
  for (let i = 2; i < 6; i++) {
    b[i]! ^= 1
    expect(equal(a, 1, b, 2)).toBe(false)
    b[i]! ^= 1
  }
  const view = new DataView(new ArrayBuffer(20))
  for (let i = 0; i < 16; i++) view.setUint8(3 + i, 0xf0 + i)
  read6(b, 1, view, 3)
  expect([...b.subarray(1, 5)]).toEqual([0xf0f1f2f3 | 0, 0xf4f5f6f7 | 0, 0xf8f9fafb | 0, 0xfcfdfeff | 0])
  setMapped(b, 1, -1)
  expect(isMapped(b, 1) && isBroadcast(b, 1)).toBe(true)
})
