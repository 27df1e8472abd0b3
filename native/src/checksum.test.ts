import { expect, test } from "vitest"

import { checksum, checksumVariants } from "./checksum.ts"
import { pattern } from "./test-support/loopback.ts"

const fold = (sum: number) => {
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum % 0x10000)
  return sum
}

test("every variant agrees with the definition at each alignment and length", () => {
  const bytes = pattern(64 + 4096)
  for (const variant of checksumVariants()) {
    for (let from = 0; from < 33; from++) {
      // Adding byte by byte: the even ones are high halves of their words (RFC 1071 section 1).
      let sum = 0x1234
      const wrong: number[] = []
      for (let length = 0; length <= 4096; length++) {
        if (checksum(variant, bytes, from, length, 0x1234) !== fold(sum)) wrong.push(length)
        sum += length % 2 === 0 ? bytes[from + length]! << 8 : bytes[from + length]!
      }
      expect(wrong, `${variant} from ${from}`).toEqual([])
    }
  }
})

test("a frame of ones does not overflow, at any length up to the longest", () => {
  const bytes = Buffer.alloc(65_535 + 8, 0xff)
  for (const variant of checksumVariants()) {
    for (const length of [65_535, 65_534, 65_472, 32_768]) {
      const whole = Math.floor(length / 2) * 0xffff + (length % 2) * 0xff00 + 0xffff
      expect(checksum(variant, bytes, 3, length, 0xffff), `${variant} ${length}`).toBe(fold(whole))
    }
  }
})

test("65,535 bytes of anything", () => {
  const bytes = pattern(65_535 + 1, 7)
  let sum = 0
  for (let i = 0; i < 65_535; i++) sum += i % 2 === 0 ? bytes[i + 1]! << 8 : bytes[i + 1]!
  for (const variant of checksumVariants()) expect(checksum(variant, bytes, 1, 65_535, 0), variant).toBe(fold(sum))
})

test("memory outside of the bytes is refused", () => {
  const bytes = Buffer.alloc(16)
  expect(checksum("scalar", bytes, 8, 9, 0)).toBe(-22)
  expect(checksum("scalar", bytes, -1, 4, 0)).toBe(-22)
  expect(checksum("no such", bytes, 0, 4, 0)).toBe(-22)
})

test("this processor's variant is one of those compared", () => {
  const variants = checksumVariants()
  expect(variants[0]).toBe("scalar")
  expect(variants.length).toBeGreaterThanOrEqual(process.arch === "arm64" ? 2 : 1)
})
