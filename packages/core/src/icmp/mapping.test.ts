import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { EACCES, ECONNREFUSED, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH } from "../errno.ts"
import { errnoToIcmp, errorMtu, errorToIcmp } from "./mapping.ts"

const LOCAL = 1
const ICMP = 2
const ICMP6 = 3

function error(origin: number, type: number, code: number, info = 0, errno = 0): Int32Array {
  return Int32Array.of(errno, origin, type, code, info, 0)
}
/** What the guest gets, as "type/code". */
function told(family: number, what: Int32Array): string {
  const pair = errorToIcmp(family, what)
  return pair < 0 ? "-" : `${pair >> 8}/${pair & 255}`
}

describe("type and code", () => {
  test("stay in the guest's own family", () => {
    for (const code of [0, 1, 2, 3, 4, 13]) expect(told(4, error(ICMP, 3, code))).toBe(`3/${code}`)
    expect(told(4, error(ICMP, 11, 1))).toBe("11/1")
    expect(told(4, error(ICMP, 12, 0))).toBe("12/0")
    for (const type of [1, 2, 3, 4]) expect(told(6, error(ICMP6, type, 0))).toBe(`${type}/0`)
  })

  test("are translated from ICMP to ICMPv6 as RFC 7915 section 4.2 says", () => {
    const expected: [number, number, string][] = [
      [3, 0, "1/0"],
      [3, 1, "1/0"],
      [3, 2, "4/1"],
      [3, 3, "1/4"],
      [3, 4, "2/0"],
      [3, 5, "1/0"],
      [3, 9, "1/1"],
      [3, 10, "1/1"],
      [3, 13, "1/1"],
      [3, 14, "-"],
      [3, 15, "1/1"],
      [4, 0, "-"],
      [11, 0, "3/0"],
      [11, 1, "3/1"],
      [12, 0, "-"],
    ]
    for (const [type, code, want] of expected)
      expect([type, code, told(6, error(ICMP, type, code))]).toEqual([type, code, want])
  })

  test("are translated from ICMPv6 to ICMP as RFC 7915 section 5.2 says", () => {
    const expected: [number, number, string][] = [
      [1, 0, "3/1"],
      [1, 1, "3/10"],
      [1, 2, "3/1"],
      [1, 3, "3/1"],
      [1, 4, "3/3"],
      [2, 0, "3/4"],
      [3, 0, "11/0"],
      [3, 1, "11/1"],
      [4, 0, "-"],
      [4, 1, "3/2"],
    ]
    for (const [type, code, want] of expected)
      expect([type, code, told(4, error(ICMP6, type, code))]).toEqual([type, code, want])
  })

  test("of the kernel's own errors", () => {
    const expected: [number, string, string][] = [
      [EMSGSIZE, "3/4", "2/0"],
      [ECONNREFUSED, "3/3", "1/4"],
      [ENETUNREACH, "3/0", "1/0"],
      [EHOSTUNREACH, "3/1", "1/3"],
      [EACCES, "3/13", "1/1"],
      [EINVAL, "-", "-"],
    ]
    for (const [errno, four, six] of expected) {
      expect(told(4, error(LOCAL, 0, 0, 0, errno))).toBe(four)
      expect(told(6, error(LOCAL, 0, 0, 0, errno))).toBe(six)
    }
    expect(errnoToIcmp(4, EINVAL)).toBe(-1)
  })

  test("are never anything but an error type, whatever was reported", () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
    fc.assert(
      fc.property(fc.constantFrom(4, 6), fc.tuple(word, word, word, word, word, word), (family, words) => {
        const pair = errorToIcmp(family, Int32Array.from(words))
        if (pair >= 0) expect(family === 4 ? [3, 11, 12] : [1, 2, 3, 4]).toContain(pair >> 8)
        else expect(pair).toBe(-1)
      }),
    )
  })
})

describe("the MTU", () => {
  test("is the network's, with the difference of the headers between families", () => {
    expect(errorMtu(4, error(ICMP, 3, 4, 1400))).toBe(1400)
    expect(errorMtu(6, error(ICMP6, 2, 0, 1400))).toBe(1400)
    expect(errorMtu(6, error(ICMP, 3, 4, 1400))).toBe(1420)
    expect(errorMtu(4, error(ICMP6, 2, 0, 1400))).toBe(1380)
  })

  test("is never less than any link carries, nor more than the field", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(4, 6),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
        (family, origin, info) => {
          const mtu = errorMtu(family, error(origin, 0, 0, info))
          expect(mtu).toBeGreaterThanOrEqual(family === 4 ? 68 : 1280)
          if (family === 4) expect(mtu).toBeLessThanOrEqual(0xffff)
        },
      ),
    )
  })
})
