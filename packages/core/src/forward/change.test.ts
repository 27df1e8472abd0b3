import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE } from "../errno.ts"
import { forwardRule } from "../sim/config.ts"
import { DatagramWorld } from "../sim/datagram-world.ts"
import type { RuleChange } from "./change.ts"

function finish(change: RuleChange, ports = 1000): RuleChange {
  for (let i = 0; i < 10_000 && !change.done; i++) change.step(ports)
  expect(change.done).toBe(true)
  return change
}

describe("rules that come and go", () => {
  const world = () => new DatagramWorld({ udpRules: [{ first: 5000, last: 5001 }, { first: 6000 }] })
  const ports = (w: DatagramWorld) => w.kernel.open.map((socket) => socket.local[4])

  test("a new rule opens its ports and nobody else's sockets", () => {
    const w = world()
    const before = w.kernel.open.map((socket) => socket.fd)
    const change = finish(w.engine.addRule(forwardRule("udp", { first: 7000, last: 7002 })))
    expect(change).toMatchObject({ index: 2, error: "", failedPorts: 0 })
    expect(ports(w)).toEqual([5000, 5001, 6000, 7000, 7001, 7002])
    expect(w.kernel.open.map((socket) => socket.fd)).toEqual(expect.arrayContaining(before))
    expect(w.engine.listeners.openOf(change.index)).toBe(3)
  })

  test("in as many steps as there are ports, one each", () => {
    const w = world()
    const change = w.engine.addRule(forwardRule("udp", { first: 7000, last: 7002 }))
    for (const expected of [4, 5, 6]) {
      expect(change.done).toBe(false)
      change.step(1)
      expect(w.engine.listeners.count).toBe(expected)
    }
    expect(change.done).toBe(true)
  })

  test("a port that can't be had undoes the rule, and says why", () => {
    const w = world()
    w.kernel.failNext("listenUdp", 0, 0, EADDRINUSE)
    const change = finish(w.engine.addRule(forwardRule("udp", { first: 7000, last: 7004 })), 2)
    expect(change).toMatchObject({ index: -1, error: "Listen failed for UDP *:7002: Address already in use" })
    expect(ports(w)).toEqual([5000, 5001, 6000])
    // Its number is free again.
    expect(finish(w.engine.addRule(forwardRule("udp", { first: 8000 }))).index).toBe(2)
  })

  test("a weak rule passes over what can't be had, unless that is everything", () => {
    const w = world()
    w.kernel.failNext("listenUdp", 0, EACCES, 0)
    const weak = { weak: true, last: 7002 }
    expect(finish(w.engine.addRule(forwardRule("udp", { first: 7000, ...weak })))).toMatchObject({
      index: 2,
      error: "",
      failedPorts: 1,
    })
    w.kernel.failNext("listenUdp", EACCES, EACCES)
    const none = finish(w.engine.addRule(forwardRule("udp", { first: 8000, last: 8001, weak: true })))
    expect(none.error).toBe("Couldn't listen on requested ports: UDP *:8000: Permission denied")
    expect(none.index).toBe(-1)
  })

  test("a rule that is removed closes its ports and leaves the others'", () => {
    const w = world()
    const change = finish(w.engine.removeRule(0), 1)
    expect(change).toMatchObject({ index: -1, error: "" })
    expect(ports(w)).toEqual([6000])
    expect(() => w.engine.removeRule(0)).toThrow("there is no rule 0")
    expect(() => w.engine.removeRule(17)).toThrow(RangeError)
    // Slots and number are used again, and the rule that stayed is still itself.
    expect(finish(w.engine.addRule(forwardRule("udp", { first: 9000 }))).index).toBe(0)
    expect(ports(w)).toEqual([6000, 9000])
    const { listeners } = w.engine
    const slots = [...listeners.fd].flatMap((fd, slot) =>
      fd >= 0 ? [[listeners.port[slot], listeners.rule[slot]]] : [],
    )
    expect(slots).toEqual([
      [9000, 0],
      [6000, 1],
    ])
  })

  test("any order of changes leaves what was asked for", () => {
    const w = new DatagramWorld({ udpRules: [] })
    const alive = new Map<number, number>()
    let seed = 12_345
    for (let i = 0; i < 300; i++) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      const first = 1000 + (seed >>> 16) * 4
      if (alive.size > 8 || (seed & 0x300) === 0) {
        const index = [...alive.keys()][seed % Math.max(alive.size, 1)]
        if (index === undefined) continue
        finish(w.engine.removeRule(index))
        alive.delete(index)
      } else if (first < 65_000 && ![...alive.values()].includes(first)) {
        const { index } = finish(w.engine.addRule(forwardRule("udp", { first, last: first + (seed & 3) })))
        expect(alive.has(index)).toBe(false)
        alive.set(index, first)
      }
      const rules = w.engine.ctx.rules.filter((rule) => rule !== undefined)
      expect(rules.map((rule) => rule.first).toSorted()).toEqual([...alive.values()].toSorted())
      expect(w.engine.listeners.count).toBe(rules.reduce((sum, rule) => sum + rule.last - rule.first + 1, 0))
    }
    w.engine.listeners.close()
    expect(w.kernel.open).toEqual([])
  })
})
