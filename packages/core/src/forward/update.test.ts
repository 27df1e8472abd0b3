import { describe, expect, test } from "vitest"

import { EADDRINUSE } from "../errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE, SCAN_TCP } from "../kernel.ts"
import { forwardRule, GUEST4, record, words } from "../sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../sim/datagram-world.ts"
import { SpliceWorld } from "../sim/splice-world.ts"
import type { ForwardRule } from "./rule.ts"
import type { RulesUpdate } from "./update.ts"

const udp = (first: number, rule: Partial<ForwardRule> = {}): ForwardRule => forwardRule("udp", { first, ...rule })

function finish(update: RulesUpdate, ports = 1000): RulesUpdate {
  for (let i = 0; i < 10_000 && !update.done; i++) update.step(ports)
  expect(update.done).toBe(true)
  return update
}

describe("rules exchanged for others", () => {
  // Rules 0: 5000-5003, 1: 6000.
  const world = () => new DatagramWorld({ udpRules: [{ first: 5000, last: 5003 }, { first: 6000 }] })
  /** Descriptor of each port that is listened on. */
  const sockets = (w: DatagramWorld) => new Map(w.kernel.open.map(({ fd, local }) => [local[4]!, fd]))
  /** Port and rule of each slot that is open. */
  const slots = (w: DatagramWorld): [number, number][] => {
    const { fd, port, rule } = w.engine.listeners
    return [...fd].flatMap((open, slot) => (open >= 0 ? [[port[slot]!, rule[slot]!] as [number, number]] : []))
  }

  test.each([1, 2, 1000])("others go and come, those that stay are not touched (%i ports a step)", (ports) => {
    const w = world()
    const stays = sockets(w).get(6000)
    const update = finish(w.engine.updateRules([0], [udp(7000, { last: 7002 })]), ports)
    expect(update).toMatchObject({ error: "", indices: [2], failedPorts: 0 })
    expect([...sockets(w).keys()].toSorted()).toEqual([6000, 7000, 7001, 7002])
    expect(sockets(w).get(6000)).toBe(stays)
    expect(w.engine.ctx.rules[0]).toBeUndefined()
    expect(w.engine.listeners.count).toBe(4)
  })

  test.each([1, 1000])("ports in common keep their sockets (%i ports a step)", (ports) => {
    const w = world()
    const before = sockets(w)
    const update = finish(w.engine.updateRules([0], [udp(5002, { last: 5005, targetFirst: 80 })]), ports)
    expect(update.error).toBe("")
    const after = sockets(w)
    expect([...after.keys()].toSorted()).toEqual([5002, 5003, 5004, 5005, 6000])
    for (const port of [5002, 5003, 6000]) expect(after.get(port)).toBe(before.get(port))
    // What comes there is the new rule's.
    expect(slots(w).toSorted()).toEqual([
      [5002, 2],
      [5003, 2],
      [5004, 2],
      [5005, 2],
      [6000, 1],
    ])
  })

  test("datagrams to a socket that was handed over go where the new rule says", () => {
    const w = world()
    const arrive = (): number[] => {
      w.kernel.arrive(record("198.51.100.9", 4000), record("192.0.2.3", 6000), bytesOf("x"))
      w.turn()
      return w.received().map(({ destinationPort }) => destinationPort)
    }
    w.send(datagram(GUEST4, 1234, "198.51.100.1", 9, bytesOf("here I am")))
    expect(arrive()).toEqual([6000])
    finish(w.engine.updateRules([1], [udp(6000, { targetFirst: 99 })]))
    expect(arrive()).toEqual([99])
  })

  test.each([1, 1000])("where a new port can't be had everything is as before (%i ports a step)", (ports) => {
    const w = world()
    const before = sockets(w)
    w.kernel.failNext("listenUdp", 0, EADDRINUSE)
    const update = finish(w.engine.updateRules([0], [udp(5003, { last: 5006 })]), ports)
    expect(update.error).toBe("Listen failed for UDP *:5005: Address already in use")
    expect(sockets(w)).toEqual(before)
    expect(slots(w).toSorted()).toEqual([
      [5000, 0],
      [5001, 0],
      [5002, 0],
      [5003, 0],
      [6000, 1],
    ])
    expect(w.engine.ctx.rules.filter(Boolean)).toHaveLength(2)
  })

  test("a socket that listens in another way makes room, and comes back if that was for nothing", () => {
    const w = world()
    const at = (port: number): string[] =>
      w.kernel.open.filter(({ local }) => local[4] === port).map(({ local }) => local.slice(0, 4).join())
    const any = at(6000)
    const narrow = udp(6000, { address: words("127.0.0.1") })
    w.kernel.failNext("listenUdp", EADDRINUSE)
    expect(finish(w.engine.updateRules([1], [narrow])).error).toContain("Listen failed for UDP 127.0.0.1:6000")
    expect(at(6000)).toEqual(any)
    expect(finish(w.engine.updateRules([1], [narrow])).error).toBe("")
    expect(at(6000)).toHaveLength(1)
    expect(at(6000)).not.toEqual(any)
  })

  test("all go, or nothing happens at all", () => {
    const w = world()
    expect(finish(w.engine.updateRules([], []))).toMatchObject({ error: "", indices: [] })
    expect(sockets(w).size).toBe(5)
    finish(w.engine.updateRules([0, 1], []))
    expect(sockets(w).size).toBe(0)
    expect(() => w.engine.updateRules([0], [])).toThrow(RangeError)
  })

  test("too many sockets are refused before anything happens", () => {
    const w = world()
    const all = Array.from({ length: 6 }, (_, i) => udp(1, { last: 65_535, address: words(`127.0.0.${i + 1}`) }))
    expect(finish(w.engine.updateRules([0, 1], all)).error).toBe("Too many listening sockets")
    expect(sockets(w).size).toBe(5)
    expect(w.engine.ctx.rules.filter(Boolean)).toHaveLength(2)
  })

  test("an automatic rule hands over what it serves to the next", () => {
    const auto = (last: number): ForwardRule =>
      forwardRule("tcp", { first: 1, last, weak: true, auto: true, place: PLACE_HOST })
    const w = new SpliceWorld({ rules: [auto(65_535)] })
    const service = w.kernel.listening[PLACE_NAMESPACE * 2 + SCAN_TCP]!
    service.add(8080).add(9090)
    w.pass(1000)
    const { listeners } = w.engine
    const served = (): number[][] =>
      [...listeners.fd].flatMap((fd, slot) => (fd >= 0 ? [[listeners.port[slot]!, fd]] : []))
    const before = served()
    expect(before.map(([port]) => port)).toEqual([8080, 9090])
    finish(w.engine.updateRules([0], [auto(9000)]))
    w.pass(1000)
    expect(served()).toEqual([before[0]])
    service.delete(8080)
    w.pass(1000)
    expect(served()).toEqual([])
    expect(listeners.count).toBe(0)
  })

  test("any order of updates leaves what was asked for", () => {
    const w = new DatagramWorld({ udpRules: [] })
    let alive: { index: number; first: number; last: number }[] = []
    let seed = 4711
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return (seed >>> 8) % below
    }
    for (let i = 0; i < 300; i++) {
      const removed = alive.filter(() => random(2) === 0)
      const stay = alive.filter((rule) => !removed.includes(rule))
      const added: { first: number; last: number }[] = []
      for (let j = random(4); j > 0; j--) {
        const first = 1000 + random(40)
        const rule = { first, last: first + random(6) }
        const meets = (other: typeof rule): boolean => other.first <= rule.last && rule.first <= other.last
        if (!stay.some(meets) && !added.some(meets)) added.push(rule)
      }
      const fails = random(3) === 0
      if (fails) w.kernel.failNext("listenUdp", ...[0, EADDRINUSE].slice(random(2)))
      const update = w.engine.updateRules(
        removed.map(({ index }) => index),
        added.map(({ first, last }) => udp(first, { last })),
      )
      finish(update, 1 + random(4))
      w.kernel.failNext("listenUdp")
      if (update.error === "") alive = [...stay, ...added.map((rule, j) => ({ ...rule, index: update.indices[j]! }))]
      const wanted = alive.flatMap(({ index, first, last }) =>
        Array.from({ length: last - first + 1 }, (_, port) => `${first + port} ${index}`),
      )
      expect(
        slots(w)
          .map((slot) => slot.join(" "))
          .toSorted(),
      ).toEqual(wanted.toSorted())
      expect(w.engine.listeners.count).toBe(wanted.length)
      expect(w.kernel.open).toHaveLength(wanted.length)
    }
  })
})
