import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { encodeName, encodeSearch } from "./names.ts"
import { hex, toHex } from "../../core/src/test-support/bytes.ts"

/** Reads encoded names back. */
function decode(bytes: Uint8Array): string[] {
  const names: string[] = []
  for (let at = 0; at < bytes.length;) {
    const labels: string[] = []
    for (let length = bytes[at++]!; length > 0; length = bytes[at++]!) {
      labels.push(String.fromCharCode(...bytes.subarray(at, at + length)))
      at += length
    }
    names.push(labels.join("."))
  }
  return names
}

const label = fc.stringMatching(/^[a-z0-9_-]{1,63}$/)
const domain = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."))

describe("names", () => {
  it("encodes a name, with or without its final dot", () => {
    const expected = toHex(hex("07 65 78 61 6d 70 6c 65 03 6f 72 67 00"))
    expect(toHex(encodeName("example.org")!)).toBe(expected)
    expect(toHex(encodeName("example.org.")!)).toBe(expected)
  })

  it.each(["", ".", "a..b", ".a", `${"x".repeat(64)}.org`, "bücher.example", "a b", Array(129).fill("a").join(".")])(
    "refuses %j",
    (name) => expect(encodeName(name)).toBeUndefined(),
  )

  it("takes a name of 255 bytes", () => {
    expect(encodeName(Array(127).fill("a").join("."))).toHaveLength(255)
  })

  it("reads back what it wrote", () => {
    fc.assert(
      fc.property(fc.array(domain, { maxLength: 6 }), (list) => {
        expect(decode(encodeSearch(list, 2000))).toEqual(list)
      }),
    )
  })

  it("takes a blank-separated entry as several domains", () => {
    expect(decode(encodeSearch(["a.example b.example", " c.example\t"], 100))).toEqual([
      "a.example",
      "b.example",
      "c.example",
    ])
  })

  it("leaves out the last domains when there is no room, and names that are none", () => {
    expect(decode(encodeSearch(["a.example", "bad..one", "b.example", "c.example"], 22))).toEqual([
      "a.example",
      "b.example",
    ])
  })
})
