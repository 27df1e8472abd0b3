import type { FlowView } from "@passt/core"
import { expect, test } from "vitest"

import { targetOf } from "./policy.ts"
import { graph, Rates, topTable } from "./top.ts"

function flow(row: number, ageMs: number, bytesToGuest: number, packetsToGuest: number): FlowView {
  return {
    row,
    protocol: "tcp",
    kind: "link",
    direction: "out",
    state: "established",
    guest: { address: "192.0.2.15", port: 40_000 + row },
    far: { address: "198.51.100.7", port: 443 },
    our: null,
    peer: { address: "198.51.100.7", port: 443 },
    ageMs,
    idleMs: 0,
    bytesFromGuest: 0,
    bytesToGuest,
    packetsFromGuest: 0,
    packetsToGuest,
    rttMicros: null,
  }
}

test("rates are what has changed since the last look, the busiest first", () => {
  const rates = new Rates()
  rates.update([flow(1, 1000, 5000, 5), flow(2, 1000, 0, 0)], 1)
  const [first, second] = rates.update([flow(1, 3000, 6000, 7), flow(2, 3000, 9000, 20)], 2)
  expect([first!.flow.row, first!.toGuest, first!.packets]).toEqual([2, 4500, 10])
  expect([second!.flow.row, second!.toGuest, second!.history]).toEqual([1, 500, [5000, 500]])
})

test("a flow in the row of one that has ended begins at nothing", () => {
  const rates = new Rates()
  rates.update([flow(1, 60_000, 5000, 5)], 1)
  expect(rates.update([flow(1, 500, 700, 1)], 1)[0]).toMatchObject({ toGuest: 700, history: [700] })
})

test("graphs are as high as their largest sample, in characters that the terminal has", () => {
  expect(graph([0, 1, 4, 8], false)).toBe(" ▁▄█")
  expect(graph([0, 1, 4, 8], true)).toBe(" .=@")
  expect(graph([0, 0], true)).toBe("  ")
})

test("the table fits the terminal", () => {
  const rates = new Rates().update(
    Array.from({ length: 5 }, (_, i) => flow(i, 1000, 1000 * i, i)),
    1,
  )
  const text = topTable(rates, 2, 60, true)
  expect(text.split("\n").every((line) => line.length <= 60)).toBe(true)
  expect(text.split("\n")).toHaveLength(6)
  expect(text).toMatch(/^5 flows, 0 B\/s from the guest, 10.0 kB\/s to it\n/)
  expect(topTable(rates, 5, 0, true)).toContain("4.00 kB")
})

test("what policy test is asked about", () => {
  expect(targetOf("192.0.2.1:443")).toEqual({ address: "192.0.2.1", port: 443 })
  expect(targetOf("[2001:db8::1]:80")).toEqual({ address: "2001:db8::1", port: 80 })
  expect(targetOf("2001:db8::1")).toEqual({ address: "2001:db8::1" })
  expect(targetOf("www.example.org:443")).toEqual({ name: "www.example.org", port: 443 })
  expect(targetOf("192.0.2.1")).toEqual({ address: "192.0.2.1" })
})
