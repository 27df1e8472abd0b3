import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE, ENOMEM } from "../errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE, SCAN_TCP, SCAN_UDP } from "../kernel.ts"
import { forwardRule } from "../sim/config.ts"
import { SpliceWorld } from "../sim/splice-world.ts"
import type { ForwardRule } from "./rule.ts"

function auto(protocol: "tcp" | "udp", place: number, rule: Partial<ForwardRule> = {}): ForwardRule {
  return forwardRule(protocol, { first: 1, last: 65_535, weak: true, auto: true, place, ...rule })
}

const ALL = [
  auto("tcp", PLACE_HOST),
  auto("udp", PLACE_HOST),
  auto("tcp", PLACE_NAMESPACE, { device: "lo" }),
  auto("udp", PLACE_NAMESPACE, { device: "lo" }),
]

function listeners(world: SpliceWorld): string[] {
  const places = ["host", "namespace"]
  const { listeners: open } = world.engine
  const found: string[] = []
  for (let slot = 0; slot < open.fd.length; slot++) {
    if (open.fd[slot]! < 0) continue
    const rule = world.engine.ctx.rules[open.rule[slot]!]!
    found.push(`${rule.protocol} ${places[rule.place ?? PLACE_HOST]} ${open.port[slot]}`)
  }
  return found
}

function somebody(world: SpliceWorld, place: number, kind: number): Set<number> {
  return world.kernel.listening[place * 2 + kind]!
}

describe("automatic ports", () => {
  test("what is there at the start is found at once, what comes later within a second", () => {
    const world = new SpliceWorld({ rules: ALL })
    expect(listeners(world)).toEqual([])
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(8080)
    somebody(world, PLACE_HOST, SCAN_TCP).add(5432)
    world.engine.close()
    world.engine.listen()
    const found = ["tcp host 8080", "udp host 8080", "tcp namespace 5432", "udp namespace 5432"]
    expect(listeners(world)).toEqual(found)
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(65_535)
    world.pass(1000)
    expect(listeners(world)).toEqual([
      "tcp host 8080",
      "tcp host 65535",
      "udp host 8080",
      "udp host 65535",
      ...found.slice(2),
    ])
  })

  test("a port closes with its last listener, TCP or UDP", () => {
    const world = new SpliceWorld({ rules: ALL })
    const tcp = somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(53)
    const udp = somebody(world, PLACE_NAMESPACE, SCAN_UDP).add(53)
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 53", "udp host 53"])
    tcp.delete(53)
    world.pass(1000)
    expect(listeners(world)).toEqual(["udp host 53"])
    udp.delete(53)
    world.pass(1000)
    expect(listeners(world)).toEqual([])
    expect(world.kernel.open).toBe(world.idleDescriptors)
  })

  test("changes are followed by shorter periods", () => {
    const world = new SpliceWorld({ rules: ALL })
    const tcp = somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(80)
    world.pass(1000)
    tcp.add(81)
    world.pass(250)
    expect(listeners(world)).toContain("tcp host 81")
    world.pass(10_000)
    const scans = () => world.kernel.calls.filter((call) => call === "scan").length
    const before = scans()
    world.pass(10_000)
    // TCP and UDP at both places.
    expect(scans() - before).toBe(80)
  })

  test("our own listeners are nobody's: no loops", () => {
    const explicit = [forwardRule("tcp", { first: 9000 }), forwardRule("tcp", { first: 9001, place: PLACE_NAMESPACE })]
    const rules = [
      ...explicit,
      auto("tcp", PLACE_HOST, { first: 1, last: 8999 }),
      auto("tcp", PLACE_NAMESPACE, { first: 1, last: 9000 }),
    ]
    const world = new SpliceWorld({ rules })
    somebody(world, PLACE_HOST, SCAN_TCP).add(1234)
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(4321)
    const all = ["tcp host 9000", "tcp namespace 9001", "tcp host 4321", "tcp namespace 1234"]
    world.pass(5000)
    expect(listeners(world)).toEqual(all)
    somebody(world, PLACE_HOST, SCAN_TCP).delete(1234)
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).delete(4321)
    world.pass(5000)
    expect(listeners(world)).toEqual(["tcp host 9000", "tcp namespace 9001"])
  })

  test("rules map ports: the target's listener counts; ports outside of all rules don't", () => {
    const rules = [
      auto("tcp", PLACE_HOST, { first: 8000, last: 8010, targetFirst: 80 }),
      auto("tcp", PLACE_HOST, { first: 9000, last: 9010, targetFirst: 85 }),
    ]
    const world = new SpliceWorld({ rules })
    const tcp = somebody(world, PLACE_NAMESPACE, SCAN_TCP)
    tcp.add(79).add(80).add(8000).add(90).add(96)
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 8000", "tcp host 8010", "tcp host 9005"])
    tcp.clear()
    world.pass(1000)
    expect(listeners(world)).toEqual([])
  })

  test("ports that can't be had are tried again, and told once", () => {
    const world = new SpliceWorld({ rules: [auto("tcp", PLACE_HOST)] })
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(80)
    world.kernel.failNext("listenTcp", EACCES, EACCES, EADDRINUSE)
    world.pass(1500)
    expect(listeners(world)).toEqual([])
    expect(world.log).toEqual([
      expect.stringMatching(/^debug listen-auto: Can't listen on TCP \*:80: Permission denied/),
      expect.stringMatching(/^debug listen-auto: .*Address already in use/),
    ])
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 80"])
  })

  test("one of two rules for a port fails: the other works, and both close", () => {
    const rules = [
      auto("tcp", PLACE_HOST, { first: 80, last: 80 }),
      auto("tcp", PLACE_HOST, { first: 81, last: 81, targetFirst: 80 }),
    ]
    const world = new SpliceWorld({ rules })
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(80)
    world.kernel.failNext("listenTcp", 0, EADDRINUSE, EADDRINUSE, EADDRINUSE)
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 80"])
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).clear()
    world.pass(1000)
    expect(listeners(world)).toEqual([])
  })

  test("a scan that fails changes nothing", () => {
    const world = new SpliceWorld({ rules: ALL })
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(80)
    world.pass(1000)
    world.kernel.fault = (call) => (call === "scan" ? ENOMEM : 0)
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).clear()
    world.pass(5000)
    expect(listeners(world)).toEqual(["tcp host 80", "udp host 80"])
    world.kernel.fault = undefined
    world.pass(1000)
    expect(listeners(world)).toEqual([])
  })

  test("without automatic rules nobody scans", () => {
    const world = new SpliceWorld()
    world.pass(5000)
    expect(world.kernel.calls).not.toContain("scan")
  })

  test("rules that are added and removed while it runs: others' ports stay, and ours don't count as anybody's", () => {
    const world = new SpliceWorld({
      rules: [auto("tcp", PLACE_HOST, { last: 9999 }), forwardRule("tcp", { first: 7000 })],
    })
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(8080).add(20_000)
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 8080", "tcp host 7000"])
    const add = (rule: ForwardRule): number => {
      const change = world.engine.addRule(rule)
      change.step(1)
      expect(change).toMatchObject({ done: true, error: "" })
      return change.index
    }
    const high = add(auto("tcp", PLACE_HOST, { first: 10_000 }))
    const other = add(auto("tcp", PLACE_NAMESPACE, { device: "lo" }))
    somebody(world, PLACE_HOST, SCAN_TCP).add(5432)
    world.pass(1000)
    // 8080, 7000 and 20000 are open on the host as well, but they are ours.
    const all = ["tcp host 20000", "tcp host 7000", "tcp host 8080", "tcp namespace 5432"]
    expect(listeners(world).toSorted()).toEqual(all)
    const removal = world.engine.removeRule(high)
    while (!removal.done) removal.step(1000)
    world.pass(1000)
    expect(listeners(world).toSorted()).toEqual(all.slice(1))
    world.engine.removeRule(other).step(65_535)
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).delete(8080)
    world.pass(1000)
    expect(listeners(world)).toEqual(["tcp host 7000"])
  })

  test("connections to an automatic port are spliced, and outlive it", () => {
    const world = new SpliceWorld({ rules: [auto("tcp", PLACE_HOST)] })
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).add(80)
    world.pass(1000)
    const { client, server } = world.connect()
    somebody(world, PLACE_NAMESPACE, SCAN_TCP).clear()
    world.pass(1000)
    expect(world.engine.listeners.count).toBe(0)
    client.write([1, 2, 3])
    world.turn()
    expect(server().received).toEqual([1, 2, 3])
  })
})
