import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { checksumOf, fold, pseudo4, pseudo6, sumOf } from "./checksum.ts"

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** RFC 1071 word for word, with carries added at once. */
function naive(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
    if (sum > 0xffff) sum -= 0xffff
  }
  return sum
}

describe("the internet checksum", () => {
  test("of the example in RFC 1071 section 3", () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7)
    expect(sumOf(viewOf(bytes), 0, 8)).toBe(0x2ddf0)
    expect(fold(0x2ddf0)).toBe(0xddf2)
    expect(checksumOf(viewOf(bytes), 0, 8)).toBe(0x220d)
  })

  test("of the longest packet of ones stays within 32 bits", () => {
    const bytes = new Uint8Array(65_535).fill(0xff)
    expect(fold(sumOf(viewOf(bytes), 0, bytes.length))).toBe(naive(bytes))
  })

  test("agrees with a naive one at every offset and length", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 300 }), fc.nat(20), (bytes, offset) => {
        const from = Math.min(offset, bytes.length)
        const part = bytes.slice(from)
        const sum = fold(sumOf(viewOf(bytes), from, part.length))
        // 0 and 0xffff are the same number in ones' complement; a sum of something that is not all zero is never 0.
        expect(sum).toBe(naive(part))
      }),
    )
  })

  test("makes the sum of what carries it all ones", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 100 }), (bytes) => {
        bytes[2] = 0
        bytes[3] = 0
        const view = viewOf(bytes)
        view.setUint16(2, checksumOf(view, 0, bytes.length))
        expect(fold(sumOf(view, 0, bytes.length))).toBe(0xffff)
      }),
    )
  })
})

describe("pseudo-headers", () => {
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })

  test("over IPv4: addresses, zero and protocol, length", () => {
    fc.assert(
      fc.property(word, word, fc.nat(255), fc.nat(65_535), (from, to, protocol, length) => {
        const bytes = new Uint8Array(12)
        const view = viewOf(bytes)
        view.setInt32(0, from)
        view.setInt32(4, to)
        view.setUint8(9, protocol)
        view.setUint16(10, length)
        expect(pseudo4(from, to, protocol, length)).toBe(naive(bytes))
      }),
    )
  })

  test("over IPv6: addresses, 32-bit length, next header", () => {
    fc.assert(
      fc.property(
        fc.array(word, { minLength: 9, maxLength: 9 }),
        fc.nat(255),
        fc.nat(100_000),
        (words, protocol, length) => {
          const bytes = new Uint8Array(40)
          const view = viewOf(bytes)
          for (let i = 0; i < 8; i++) view.setInt32(4 * i, words[i]!)
          view.setUint32(32, length)
          view.setUint8(39, protocol)
          const a = Int32Array.from([0, ...words.slice(0, 4)])
          const b = Int32Array.from(words.slice(4))
          expect(pseudo6(a, 1, b, 0, protocol, length)).toBe(naive(bytes))
        },
      ),
    )
  })
})
