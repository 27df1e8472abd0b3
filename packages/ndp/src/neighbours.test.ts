import { GuestState } from "@passt/core"
import { address } from "@passt/core/wire"
import fc from "fast-check"
import { beforeEach, describe, expect, it } from "vitest"
import { ArpResponder } from "./arp.ts"
import { learnNeighbour } from "./learn.ts"
import { NdpResponder } from "./ndp.ts"
import { NEIGHBOUR_MAX, NeighbourTable } from "./neighbours.ts"
import { hex, toHex, words } from "../../core/src/test-support/bytes.ts"
import { setUpGuest } from "../../core/src/test-support/guest.ts"
import { MemoryLink } from "../../core/src/test-support/memory-link.ts"

const link = new MemoryLink()
const A = hex("02 00 00 00 00 0a")
const B = hex("02 00 00 00 00 0b")
let guest: GuestState
let table: NeighbourTable

beforeEach(() => {
  link.sent = []
  link.connected = true
  guest = new GuestState()
  setUpGuest(guest)
  table = new NeighbourTable(guest, 0x1234, -5)
})

function macOf(row: number): string {
  return toHex(table.macs.subarray(row * 6, row * 6 + 6))
}

describe("NeighbourTable", () => {
  it("finds what was put in, of both families, at any index of the words", () => {
    table.update(words("192.0.2.7"), 0, A)
    table.update(words("fe80::7"), 0, B)
    const record = new Int32Array(12)
    record.set(words("fe80::7"), 6)
    expect(macOf(table.lookup(record, 6))).toBe(toHex(B))
    expect(macOf(table.lookup(words("192.0.2.7"), 0))).toBe(toHex(A))
    expect(table.lookup(words("192.0.2.8"), 0)).toBe(-1)
    expect(table.count).toBe(2)
  })

  it("tells of new and changed entries once, and never of our own MAC address", () => {
    expect(table.update(words("192.0.2.7"), 0, A)).toBeGreaterThanOrEqual(0)
    expect(table.update(words("192.0.2.7"), 0, A)).toBe(-1)
    expect(table.update(words("192.0.2.7"), 0, B)).toBeGreaterThanOrEqual(0)
    expect(table.update(words("192.0.2.8"), 0, guest.ourMac)).toBe(-1)
    expect(table.lookup(words("192.0.2.8"), 0)).toBeGreaterThanOrEqual(0)
  })

  it("keeps a blocker with our MAC address, whatever the host learns or loses", () => {
    table.update(words("192.0.2.1"), 0, A)
    expect(table.block(words("192.0.2.1"), 0)).toBe(true)
    expect(table.update(words("192.0.2.1"), 0, B)).toBe(-1)
    expect(table.remove(words("192.0.2.1"), 0)).toBe(false)
    table.clear()
    expect(macOf(table.lookup(words("192.0.2.1"), 0))).toBe(toHex(guest.ourMac))
    expect(table.count).toBe(1)
  })

  it("resolves to the neighbour, else to the gateway of the family, else to us", () => {
    expect(table.resolve(words("192.0.2.7"), 0)).toBe(-1)
    table.update(words("192.0.2.1"), 0, A)
    table.update(words("fe80::1"), 0, B)
    expect(macOf(table.resolve(words("192.0.2.7"), 0))).toBe(toHex(A))
    expect(macOf(table.resolve(words("2001:db8::7"), 0))).toBe(toHex(B))
  })

  it.each([
    ["a multicast MAC address", "192.0.2.7", "01 00 5e 00 00 01"],
    ["the zero MAC address", "192.0.2.7", "00 00 00 00 00 00"],
    ["a short MAC address", "192.0.2.7", "02 00 00"],
    ["a multicast address", "ff02::1", "02 00 00 00 00 0a"],
    ["the unspecified address", "0.0.0.0", "02 00 00 00 00 0a"],
    ["a loopback address", "127.0.0.1", "02 00 00 00 00 0a"],
  ])("refuses %s", (_, text, mac) => {
    expect(table.update(words(text), 0, hex(mac))).toBe(-1)
    expect(table.count).toBe(0)
  })

  it("refuses entries beyond its capacity and goes on with the old ones", () => {
    const each = new Int32Array(4)
    for (let i = 0; i < NEIGHBOUR_MAX + 10; i++) {
      address.setMapped(each, 0, 0x0a000000 + i)
      table.update(each, 0, A)
    }
    expect([table.count, table.refused]).toEqual([NEIGHBOUR_MAX, 10])
    expect(table.block(words("192.0.2.1"), 0)).toBe(false)
    expect(table.lookup(words("10.0.0.5"), 0)).toBeGreaterThanOrEqual(0)
    table.remove(words("10.0.0.5"), 0)
    expect(table.block(words("192.0.2.1"), 0)).toBe(true)
  })

  it("bumps its generation whenever an answer may change", () => {
    const seen = [table.generation]
    table.update(words("192.0.2.7"), 0, A)
    seen.push(table.generation)
    table.update(words("192.0.2.7"), 0, A)
    expect(table.generation).toBe(seen[1])
    table.block(words("192.0.2.8"), 0)
    seen.push(table.generation)
    table.remove(words("192.0.2.7"), 0)
    seen.push(table.generation)
    table.clear()
    seen.push(table.generation)
    expect(new Set(seen).size).toBe(5)
  })

  it("behaves like a map under any sequence of updates, removals and clearing", () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant("update" as const), host: fc.nat(40), mac: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant("remove" as const), host: fc.nat(40), mac: fc.constant(0) }),
      fc.record({ kind: fc.constant("clear" as const), host: fc.constant(0), mac: fc.constant(0) }),
    )
    const commands = fc.array(fc.oneof({ weight: 60, arbitrary: command }), { maxLength: 200 })
    fc.assert(
      fc.property(commands, fc.integer(), fc.integer(), (list, key0, key1) => {
        const tested = new NeighbourTable(guest, key0, key1)
        const model = new Map<number, number>()
        const each = new Int32Array(4)
        for (const { kind, host, mac } of list) {
          address.setMapped(each, 0, 0x0a000100 + host)
          if (kind === "update") {
            const isNews = model.get(host) !== mac
            expect(tested.update(each, 0, Uint8Array.of(2, 0, 0, 0, 0, mac)) >= 0).toBe(isNews)
            model.set(host, mac)
          } else if (kind === "remove") {
            expect(tested.remove(each, 0)).toBe(model.delete(host))
          } else {
            tested.clear()
            model.clear()
          }
        }
        expect(tested.count).toBe(model.size)
        for (let host = 0; host <= 40; host++) {
          address.setMapped(each, 0, 0x0a000100 + host)
          const row = tested.lookup(each, 0)
          expect(row < 0 ? undefined : tested.macs[row * 6 + 5]).toBe(model.get(host))
        }
      }),
    )
  })
})

describe("learnNeighbour", () => {
  it("announces by ARP or neighbour advertisement, only what is new", () => {
    const arp = new ArpResponder(link, guest, table)
    const config = { advertise: true, managed: false, dns: [], search: [], advertiseDns: true, advertiseSearch: true }
    const ndp = new NdpResponder(link, guest, table, { ...config, random: () => 0 })
    expect(learnNeighbour(table, { arp, ndp }, words("192.0.2.7"), 0, A)).toBe(true)
    expect(learnNeighbour(table, { arp, ndp }, words("2001:db8::7"), 0, B)).toBe(true)
    expect(learnNeighbour(table, { arp, ndp }, words("192.0.2.7"), 0, A)).toBe(false)
    expect(learnNeighbour(table, {}, words("192.0.2.9"), 0, A)).toBe(false)
    expect(link.sent.map((frame) => toHex(frame.subarray(12, 14)))).toEqual(["0806", "86dd"])
  })
})
