import fc from "fast-check"
import { beforeEach, describe, expect, test } from "vitest"

import { GUEST4, GUEST6, record, words } from "../../sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../../sim/datagram-world.ts"
import { dnsAnswer, dnsQuery, type SimRecord } from "../../sim/dns.ts"
import { setMapped } from "../../wire/address.ts"
import { parsePolicy } from "../document.ts"
import { Matcher } from "../matcher.ts"
import type { PolicyOptions } from "../rule.ts"
import { NameMemory } from "./memory.ts"
import { readAnswer, readQuery } from "./message.ts"

const RESOLVER = "192.0.2.53"
const WEB = "198.51.100.80"
const WEB6 = "2001:db8:80::80"

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length)

describe("messages", () => {
  const read = (bytes: Uint8Array) => readAnswer(view(bytes), 0, bytes.length)

  test("an answer leads from its question over aliases, in any order, to addresses", () => {
    const answer = read(
      dnsAnswer("WWW.example.org", [
        { name: "cdn.example.net", data: WEB, ttl: 20 },
        { name: "www.example.org", data: "cdn.example.net", ttl: 10 },
        { name: "elsewhere.example", data: "203.0.113.1" },
      ]),
    )!
    expect(answer.names).toEqual(["www.example.org", "cdn.example.net"])
    expect(answer.addresses).toMatchObject([{ length: 4, ttl: 10 }])
  })

  test("names with pointers are read, and those that lead in circles are not", () => {
    const bytes = [...dnsAnswer("a.b", [])]
    // One record, whose name is a pointer to the question's.
    bytes[7] = 1
    bytes.push(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4)
    expect(read(Uint8Array.from(bytes))!.addresses).toMatchObject([{ ttl: 9 }])
    const at = bytes.length - 16
    bytes[at + 1] = at
    expect(read(Uint8Array.from(bytes))!.addresses).toEqual([])
  })

  test("a dot within a label is none between two", () => {
    const bytes = dnsQuery("evil?example.org")
    bytes[12 + 5] = 0x2e
    expect(readQuery(view(bytes), 0, bytes.length)).toMatchObject({ name: "" })
  })

  test("whatever it is, it is read without a look beyond its end", () => {
    const whole = dnsAnswer("www.example.org", [
      { name: "www.example.org", data: "a.example.net" },
      { name: "a.example.net", data: WEB6 },
    ])
    fc.assert(
      fc.property(
        fc.nat(whole.length),
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 }),
        (length, changes) => {
          const bytes = whole.slice()
          for (const [at, value] of changes) bytes[at] = value
          const cut = bytes.slice(0, length)
          for (const one of [readAnswer(view(cut), 0, length), readQuery(view(cut), 0, length)]) {
            if (one === undefined) continue
            for (const { at, length: size } of "addresses" in one ? one.addresses : []) {
              expect(at + size).toBeLessThanOrEqual(length)
            }
          }
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe("what is remembered", () => {
  const matcher = Matcher.of([{ action: "allow", names: ["*.example.org"] }])
  const address = new Int32Array(4)
  const names = (memory: NameMemory, text: string, now: number): string[] =>
    memory.namesOf(words(text), 0, now).map(({ name }) => name)

  test("ends with its time to live, not before a minute, and a grace", () => {
    const memory = new NameMemory()
    memory.learn("a.example.org", words(WEB), 0, 1, 0, matcher)
    memory.learn("b.example.org", words(WEB), 0, 1000, 0, matcher)
    expect(names(memory, WEB, 90_000)).toEqual(["b.example.org", "a.example.org"])
    expect(names(memory, WEB, 90_001)).toEqual(["b.example.org"])
    expect(names(memory, WEB, 1_030_001)).toEqual([])
    expect(memory.size).toBe(0)
  })

  test("is bounded, and floods of other names don't push out what rules are about", () => {
    const memory = new NameMemory()
    memory.learn("www.example.org", words(WEB), 0, 300, 0, matcher)
    for (let i = 0; i < 20_000; i++) {
      setMapped(address, 0, 0x0a00_0000 + i)
      memory.learn(`n${i}.flood.example`, address, 0, 300, 0, matcher)
    }
    expect(names(memory, WEB, 1)).toEqual(["www.example.org"])
    expect(memory.size).toBe(1025)
    for (let i = 0; i < 20_000; i++) {
      setMapped(address, 0, 0x0b00_0000 + i)
      memory.learn(`n${i}.example.org`, address, 0, 300, 0, matcher)
    }
    expect(memory.size).toBe(8192 + 1024)
    for (let i = 0; i < 50; i++) memory.learn(`m${i}.example.org`, words(WEB), 0, 300, 0, matcher)
    expect(names(memory, WEB, 1)).toHaveLength(8)
  })
})

describe("a guest that may go to names only", () => {
  let world: DatagramWorld
  const build = (text: string, options: Partial<PolicyOptions> = {}): void => {
    world = new DatagramWorld({ policy: { ...parsePolicy(text), resolvers: [words(RESOLVER)], ...options } })
  }
  const allow = '"rules": [{ "action": "allow", "name": "*.example.org", "port": 443 }]'
  beforeEach(() => build(`{ ${allow} }`))

  const ask = (name: string, records: readonly SimRecord[], resolver = RESOLVER): void => {
    world.send(datagram(GUEST4, 4000, resolver, 53, dnsQuery(name)))
    world.kernel.arrive(record(resolver, 53), record(GUEST4, 4000), dnsAnswer(name, records))
    world.turn()
  }
  const reaches = (to: string, port: number, from = GUEST4): boolean => {
    const before = world.counter("udpFlows")
    world.send(datagram(from, 5000 + port, to, port, bytesOf("hello")))
    world.received()
    return world.counter("udpFlows") > before
  }

  test("reaches what it has asked for, at the port of the rule, until it is forgotten", () => {
    expect(reaches(WEB, 443)).toBe(false)
    world.pass(11_000)
    ask("www.example.org", [
      { name: "www.example.org", data: WEB },
      { name: "www.example.org", data: WEB6 },
    ])
    expect(world.received()).toMatchObject([{ source: RESOLVER }])
    expect([reaches(WEB, 443), reaches(WEB6, 443, GUEST6), reaches(WEB, 80)]).toEqual([true, true, false])
    const flows: unknown[] = []
    world.engine.flows(0, 100, (flow) => flows.push(flow.policy))
    expect(flows).toContainEqual({ verdict: "allowed", rule: 0, label: null, names: ["www.example.org"] })
    world.pass(331_000)
    expect(reaches(WEB, 443)).toBe(false)
  })

  test("does not reach what another name leads to, nor the name's parent", () => {
    ask("www.example.com", [{ name: "www.example.com", data: WEB }])
    ask("example.org", [{ name: "example.org", data: WEB }])
    expect(reaches(WEB, 443)).toBe(false)
  })

  test("asks no other resolver, nor in another way", () => {
    ask("www.example.org", [{ name: "www.example.org", data: WEB }], "203.0.113.8")
    expect(world.received()).toMatchObject([{ type: 3, code: 3 }])
    expect([reaches(RESOLVER, 853), reaches("203.0.113.9", 53), reaches(WEB, 443)]).toEqual([false, false, false])
  })

  test("unless a rule says so", () => {
    build(
      '{ "rules": [{ "action": "allow", "name": "*" }, { "action": "allow", "remote": "203.0.113.8", "port": 53 }] }',
    )
    expect([reaches("203.0.113.8", 53), reaches("203.0.113.9", 53)]).toEqual([true, false])
  })

  test("is told REFUSED for names that no rule allows, and its resolver hears nothing of them", () => {
    build(`{ "dns": { "names": "only-allowed" }, ${allow} }`)
    world.send(
      datagram(GUEST4, 4000, RESOLVER, 53, dnsQuery("secret.tunnel.example")),
      datagram(GUEST4, 4000, RESOLVER, 53, dnsQuery("www.example.org")),
      datagram(GUEST4, 4000, RESOLVER, 53, bytesOf("no query")),
    )
    const [refusal, ...more] = world.received()
    expect(more).toEqual([])
    expect(refusal).toMatchObject({ source: RESOLVER, sourcePort: 53, destinationPort: 4000 })
    const answer = refusal!.data
    expect([answer[0], answer[1], answer[2]! & 0x80, answer[3]! & 15]).toEqual([0x12, 0x34, 0x80, 5])
    expect(world.kernel.sent.map(({ bytes }) => readQuery(view(bytes), 0, bytes.length)!.name)).toEqual([
      "www.example.org",
    ])
    expect(world.counter("policyNamesRefused")).toBe(2)
  })

  test.each([
    "10.1.2.3",
    "127.0.0.1",
    "169.254.169.254",
    "192.168.0.1",
    "172.31.0.1",
    "100.64.0.1",
    "0.0.0.0",
    "::1",
    "fd00::1",
    "fe80::1",
    "::ffff:10.0.0.1",
  ])("is not led to %s, if that is wanted", (data) => {
    build(`{ "default": "allow", "dns": { "private-answers": "refuse" } }`)
    ask("rebind.example", [
      { name: "rebind.example", data: WEB },
      { name: "rebind.example", data },
    ])
    const [answer] = world.received()
    expect([answer!.data[3]! & 15, answer!.data[7]]).toEqual([5, 0])
    expect(world.counter("policyAnswersRefused")).toBe(1)
  })

  test("is not told what nobody has looked at, if private answers are refused", () => {
    build(`{ "default": "allow", "dns": { "private-answers": "refuse" } }`)
    const many = Array.from({ length: 129 }, (_, i) => ({ name: "many.example", data: `198.51.100.${i}` }))
    ask("many.example", many)
    expect(world.received()[0]!.data[3]! & 15).toBe(5)
    ask("many.example", many.slice(1))
    expect(world.received()[0]!.data[3]! & 15).toBe(0)
  })

  test("new rules hold for names that are known already", () => {
    ask("www.example.com", [{ name: "www.example.com", data: WEB }])
    expect(reaches(WEB, 443)).toBe(false)
    world.engine.policy!.load(parsePolicy('{ "rules": [{ "action": "allow", "name": "www.example.com" }] }'))
    expect(reaches(WEB, 443)).toBe(true)
  })
})
