import { expect, test } from "vitest"

import { decodeState, encodeState, STATE_BYTES } from "./device-state.ts"

const seen = {
  mac: Uint8Array.of(2, 0, 0, 0xab, 0xcd, 0xef),
  seen4: Int32Array.of(0, 0, 0xffff, 0xc000_0207 | 0),
  seen6: Int32Array.of(0x2001_0db8, 0, 0, -7),
  seenLinkLocal6: Int32Array.of(0xfe80_0000 | 0, 0, 0, 9),
}

test("what was seen of the guest, in the reference's format", () => {
  expect(Buffer.from(encodeState(seen)).toString("hex")).toBe(
    "b1bb1d1b0bb1d1b0" +
      "00000002" +
      "00000002" +
      "20010db80000000000000000fffffff9" +
      "fe800000000000000000000000000009" +
      "c0000207" +
      "020000abcdef" +
      "00000000",
  )
  expect(decodeState(encodeState(seen))).toEqual({ ...seen, connections: 0 })
})

test("a guest of which nothing was seen", () => {
  const nothing = { mac: new Uint8Array(6), seen4: new Int32Array(4), seen6: new Int32Array(4) }
  const guest = { ...nothing, seenLinkLocal6: new Int32Array(4) }
  expect(decodeState(encodeState(guest))).toEqual({ ...guest, connections: 0 })
})

test("connections of others are counted, and left out", () => {
  const bytes = new Uint8Array(256).fill(7)
  bytes.set(encodeState(seen))
  bytes.set([0, 0, 0, 3], STATE_BYTES - 4)
  expect(decodeState(bytes)?.connections).toBe(3)
})

test("versions: what is compatible with ours", () => {
  const of = (version: number, compatible: number) => {
    const bytes = encodeState(seen)
    bytes[11] = version
    bytes[15] = compatible
    return decodeState(bytes) !== undefined
  }
  expect([of(2, 2), of(3, 2), of(3, 1), of(3, 3), of(1, 1), of(1, 2)]).toEqual([true, true, true, false, false, false])
})

test("what is none", () => {
  const bytes = encodeState(seen)
  for (let length = 0; length < STATE_BYTES - 4; length++)
    expect(decodeState(bytes.subarray(0, length))).toBe(undefined)
  bytes[0] = 0
  expect(decodeState(bytes)).toBe(undefined)
})
