import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as options from "./options.ts"

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

const mac = fc.uint8Array({ minLength: 6, maxLength: 6 })
const wordsOf = (count: fc.Arbitrary<number>): fc.Arbitrary<Int32Array> =>
  count.chain((n) => fc.int32Array({ minLength: 4 * n, maxLength: 4 * n }))

describe("options", () => {
  it("never reads beyond the end, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(255), (bytes, type) => {
        const d = viewOf(bytes) // a read beyond it throws
        if (!options.check(d, 0, bytes.length)) return
        const at = options.find(d, 0, bytes.length, type)
        expect(at).toBeLessThan(bytes.length)
        if (at >= 0) expect(bytes[at]).toBe(type)
      }),
    )
  })

  it("rejects length 0, a cut option and a lone byte", () => {
    expect(options.check(viewOf(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0)), 0, 8)).toBe(false)
    expect(options.check(viewOf(Uint8Array.of(1, 2, 0, 0, 0, 0, 0, 0)), 0, 8)).toBe(false)
    expect(options.check(viewOf(Uint8Array.of(1)), 0, 1)).toBe(false)
    expect(options.check(viewOf(new Uint8Array(0)), 0, 0)).toBe(true)
  })

  it("finds each option that was written, with what was written", () => {
    const names = fc.uint8Array({ minLength: 1, maxLength: 300 })
    const servers = wordsOf(fc.integer({ min: 1, max: 3 }))
    fc.assert(
      fc.property(
        mac,
        wordsOf(fc.constant(1)),
        fc.nat(0xffffffff),
        servers,
        names,
        (link, prefix, mtu, dns, search) => {
          const bytes = new Uint8Array(512)
          const d = viewOf(bytes)
          let end = options.writePrefix64(d, 0, 0xc0, prefix, options.FOREVER, options.FOREVER)
          end = options.writeMtu(d, end, mtu)
          end = options.writeRdnss(d, end, dns, options.FOREVER)
          end = options.writeDnssl(d, end, search, options.FOREVER)
          end = options.writeLinkAddress(d, end, options.SOURCE_LINK_ADDRESS, link, 0)
          expect(options.check(d, 0, end)).toBe(true)
          const at = (type: number): number => options.find(d, 0, end, type)
          expect([d.getInt32(at(3) + 16), d.getInt32(at(3) + 20)]).toEqual([prefix[0], prefix[1]])
          expect(d.getUint32(at(5) + 4)).toBe(mtu)
          const read = Array.from({ length: (bytes[at(25) + 1]! - 1) * 2 }, (_, i) => d.getInt32(at(25) + 8 + 4 * i))
          expect(read).toEqual([...dns])
          expect(bytes.slice(at(31) + 8, at(31) + 8 + search.length)).toEqual(search)
          expect(bytes.slice(at(1) + 2, at(1) + 8)).toEqual(link)
          expect(options.find(d, 0, end, 2)).toBe(-1)
        },
      ),
    )
  })
})
