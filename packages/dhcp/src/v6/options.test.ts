import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { hex, toHex, viewOf, words } from "../../../core/src/test-support/bytes.ts"
import * as options from "./options.ts"

describe("options", () => {
  it("never reads beyond the end, whatever the bytes", () => {
    const small = fc.array(fc.oneof(fc.constantFrom(0, 1, 3, 4, 5, 12), fc.nat(255)), { maxLength: 80 })
    fc.assert(
      fc.property(small, fc.nat(40), (list, code) => {
        const bytes = Uint8Array.from(list)
        const d = viewOf(bytes) // a read beyond it throws
        if (!options.check(d, 0, bytes.length)) return
        const at = options.find(d, 0, bytes.length, code)
        if (at >= 0) expect(options.after(d, at)).toBeLessThanOrEqual(bytes.length)
      }),
    )
  })

  it("reads back the options that were written", () => {
    const option = fc.record({ code: fc.integer({ min: 6, max: 65_535 }), data: fc.uint8Array({ maxLength: 300 }) })
    fc.assert(
      fc.property(fc.uniqueArray(option, { selector: (o) => o.code, maxLength: 6 }), fc.integer(), (list, id) => {
        const bytes = new Uint8Array(4096)
        const d = viewOf(bytes)
        const writer = new options.OptionWriter()
        writer.start(d, 0, bytes.length)
        writer.association(id, words("2001:db8::1"), -1)
        for (const { code, data } of list) writer.bytes(code, data)
        writer.refusal(options.IA_TA, id, 2)
        expect(options.check(d, 0, writer.end)).toBe(true)
        for (const { code, data } of list) {
          const at = options.find(d, 0, writer.end, code)
          expect(bytes.slice(at + 4, options.after(d, at))).toEqual(data)
        }
        expect(d.getInt32(options.find(d, 0, writer.end, options.IA_NA) + 4)).toBe(id)
        expect(d.getInt32(options.find(d, 0, writer.end, options.IA_TA) + 4)).toBe(id)
      }),
    )
  })

  it("leaves out what has no room", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 8 }), fc.nat(120), (lengths, limit) => {
        const bytes = new Uint8Array(200).fill(0xa5)
        const d = viewOf(bytes)
        const writer = new options.OptionWriter()
        writer.start(d, 0, limit)
        for (const length of lengths) writer.bytes(99, new Uint8Array(length))
        expect(writer.end).toBeLessThanOrEqual(limit)
        expect(options.check(d, 0, writer.end)).toBe(true)
        expect(bytes.subarray(writer.end).every((byte) => byte === 0xa5)).toBe(true)
      }),
    )
  })

  it.each([
    ["a cut header", "0001 00"],
    ["data beyond the end", "0001 0003 0102"],
    ["an IA_NA without T2", "0003 0008 00000001 00000000"],
    ["an IA_TA without id", "0004 0002 0000"],
    ["an option beyond its association", "0003 0010 00000001 00000000 00000000 0005 0018"],
    ["a short address option", "0003 0012 00000001 00000000 00000000 0005 0002 2001"],
  ])("rejects %s", (_, text) => {
    const bytes = hex(text)
    expect(options.check(viewOf(bytes), 0, bytes.length)).toBe(false)
  })

  it("writes an association with one address for ever", () => {
    const bytes = new Uint8Array(44)
    const writer = new options.OptionWriter()
    writer.start(viewOf(bytes), 0, 44)
    writer.association(0x01020304, words("2001:db8::1"), -1)
    const expected = hex(`
      0003 0028 01020304 ffffffff ffffffff
      0005 0018 20010db8 00000000 00000000 00000001 ffffffff ffffffff
    `)
    expect(toHex(bytes)).toBe(toHex(expected))
  })
})
