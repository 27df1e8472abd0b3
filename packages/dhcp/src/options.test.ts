import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as options from "./options.ts"
import { viewOf } from "../../core/src/test-support/bytes.ts"

const option = fc.record({ code: fc.integer({ min: 1, max: 254 }), data: fc.uint8Array({ maxLength: 255 }) })

describe("options", () => {
  it("never reads beyond the end, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(255), (bytes, code) => {
        const d = viewOf(bytes) // a read beyond it throws
        if (!options.check(d, 0, bytes.length)) return
        const at = options.find(d, 0, bytes.length, code)
        if (at < 0) return
        expect(bytes[at - 2]).toBe(code)
        expect(at + options.lengthAt(d, at)).toBeLessThanOrEqual(bytes.length)
      }),
    )
  })

  it("reads back the options that were written", () => {
    fc.assert(
      fc.property(fc.uniqueArray(option, { selector: (o) => o.code, maxLength: 8 }), fc.nat(300), (list, padTo) => {
        const bytes = new Uint8Array(4096)
        const d = viewOf(bytes)
        const writer = new options.OptionWriter()
        writer.start(d, 0, 4000)
        for (const { code, data } of list) writer.bytes(code, data)
        const end = writer.finish(padTo)
        expect(end).toBeGreaterThanOrEqual(padTo)
        expect(options.check(d, 0, end)).toBe(true)
        for (const { code, data } of list) {
          const at = options.find(d, 0, end, code)
          expect(bytes.slice(at, at + options.lengthAt(d, at))).toEqual(data)
        }
      }),
    )
  })

  it("leaves out what has no room, and goes on with what has", () => {
    fc.assert(
      fc.property(fc.array(option, { maxLength: 8 }), fc.integer({ min: 0, max: 400 }), (list, limit) => {
        const bytes = new Uint8Array(500).fill(0xa5)
        const d = viewOf(bytes)
        const writer = new options.OptionWriter()
        writer.start(d, 0, limit)
        for (const { code, data } of list) writer.bytes(code, data)
        const end = writer.finish(0)
        expect(end).toBeLessThanOrEqual(limit + 1)
        expect(options.check(d, 0, end)).toBe(true)
        expect(bytes.subarray(end).every((byte) => byte === 0xa5)).toBe(true)
      }),
    )
  })

  it("skips padding and stops at the end option", () => {
    const d = viewOf(Uint8Array.of(0, 0, 53, 1, 3, 0, 255, 54, 200))
    expect(options.check(d, 0, 9)).toBe(true)
    expect(options.find(d, 0, 9, 53)).toBe(4)
    expect(options.find(d, 0, 9, 54)).toBe(-1)
  })

  it("rejects an option that passes the end, and one without length", () => {
    expect(options.check(viewOf(Uint8Array.of(53, 2, 1)), 0, 3)).toBe(false)
    expect(options.check(viewOf(Uint8Array.of(53)), 0, 1)).toBe(false)
    expect(options.check(viewOf(Uint8Array.of(53, 1, 1)), 0, 3)).toBe(true)
  })
})
