import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { encodeName, encodeSearch, fitting } from "./names.ts"
import { hex, toHex } from "../../core/src/test-support/bytes.ts"
import { decodeNames } from "./test-support/frames.ts"

const label = fc.oneof(fc.constantFrom("a", "b", "example", "org"), fc.stringMatching(/^[a-z0-9_-]{1,63}$/))
const domain = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."))

describe("names", () => {
  it("encodes a name, with or without its final dot", () => {
    const expected = toHex(hex("03 76 6d 31 07 65 78 61 6d 70 6c 65 03 6f 72 67 00"))
    expect(toHex(encodeName("vm1.example.org")!)).toBe(expected)
    expect(toHex(encodeName("vm1.example.org.")!)).toBe(expected)
  })

  it.each(["", ".", "a..b", ".a", `${"x".repeat(64)}.org`, "bücher.example", "a b", Array(129).fill("a").join(".")])(
    "refuses %j",
    (name) => expect(encodeName(name)).toBeUndefined(),
  )

  it("takes a name of 255 bytes", () => {
    expect(encodeName(Array(127).fill("a").join("."))).toHaveLength(255)
  })

  it("compresses as in the example of RFC 3397 section 3", () => {
    const list = encodeSearch(["eng.apple.com.", "marketing.apple.com."], true, 255)
    const expected = hex(`
      03 65 6e 67 05 61 70 70 6c 65 03 63 6f 6d 00   // eng.apple.com
      09 6d 61 72 6b 65 74 69 6e 67 c0 04            // marketing, then what is at 4
    `)
    expect(toHex(list.bytes)).toBe(toHex(expected))
    expect(list.ends).toEqual([15, 27])
  })

  it("reads back what it wrote, compressed and not, cut anywhere", () => {
    fc.assert(
      fc.property(fc.array(domain, { maxLength: 6 }), fc.boolean(), fc.nat(1000), (search, isCompressed, room) => {
        const list = encodeSearch(search, isCompressed, 5000)
        expect(decodeNames(list.bytes)).toEqual(search)
        const length = fitting(list, room)
        expect(length).toBeLessThanOrEqual(room)
        const cut = decodeNames(list.bytes.subarray(0, length))
        expect(cut).toEqual(search.slice(0, cut.length))
      }),
    )
  })

  it("takes a blank-separated entry as several domains", () => {
    const { bytes } = encodeSearch(["a.example b.example", " c.example\t"], true, 255)
    expect(decodeNames(bytes)).toEqual(["a.example", "b.example", "c.example"])
  })

  it("leaves out names that are none, and the last ones if there is no room", () => {
    const { bytes } = encodeSearch(["a.example", "bad..one", "b.example", "c.example"], false, 22)
    expect(decodeNames(bytes)).toEqual(["a.example", "b.example"])
  })
})
