import { address as ip } from "@passt/core/wire"
import { describe, expect, it } from "vitest"
import { parseResolvConf } from "./resolv-conf.ts"
import type { ResolverOptions } from "./resolvers.ts"
import { chooseResolvers } from "./resolvers.ts"
import { words } from "../../core/src/test-support/bytes.ts"

/** The choice with addresses as text. */
function choose(file: string, options: Partial<ResolverOptions> = {}) {
  const choice = chooseResolvers(parseResolvConf(file), { ipv4: true, ipv6: true, ...options })
  const text = (w: Int32Array): string => (ip.isUnspecified(w, 0) ? "-" : ip.format(w))
  return {
    told4: choice.advertised4.map(text),
    told6: choice.advertised6.map(text),
    forward4: text(choice.forward4),
    forward6: text(choice.forward6),
    host4: text(choice.host4),
    host6: text(choice.host6),
    search: choice.search,
    warnings: choice.warnings,
  }
}

const BOTH = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example b.example\n"
const STUB = "nameserver 127.0.0.53\n"

describe("chooseResolvers", () => {
  it("tells the host's resolvers and domains as they are", () => {
    expect(choose(BOTH)).toEqual({
      told4: ["192.0.2.53"],
      told6: ["2001:db8::53"],
      forward4: "-",
      forward6: "-",
      host4: "192.0.2.53",
      host6: "2001:db8::53",
      search: ["a.example", "b.example"],
      warnings: [],
    })
  })
  it("tells at most three per family, each once", () => {
    const file = [1, 2, 2, 3, 4].map((i) => `nameserver 192.0.2.${i}\n`).join("")
    expect(choose(file).told4).toEqual(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
  })

  describe("with a resolver on the host's loopback", () => {
    it("tells the forwarding address given, and sends queries to the resolver", () => {
      const options = { forward4: words("169.254.1.1"), mapHostLoopback4: words("192.0.2.1") }
      const choice = choose(STUB, options)
      expect([choice.told4, choice.forward4, choice.host4]).toEqual([["169.254.1.1"], "169.254.1.1", "127.0.0.53"])
    })
    it("else tells the address that stands for the loopback, and forwards queries to that", () => {
      const choice = choose(STUB, { mapHostLoopback4: words("192.0.2.1") })
      expect([choice.told4, choice.forward4, choice.host4]).toEqual([["192.0.2.1"], "192.0.2.1", "127.0.0.53"])
    })
    it("else leaves it out", () => {
      const choice = choose(STUB)
      expect([choice.told4, choice.forward4, choice.host4]).toEqual([[], "-", "127.0.0.53"])
      expect(choice.warnings).toEqual(["Couldn't get any nameserver address"])
    })
    it("does the same for IPv6, each family by itself", () => {
      const choice = choose(`${STUB}nameserver ::1\n`, { mapHostLoopback6: words("fe80::1") })
      expect([choice.told4, choice.told6, choice.forward6, choice.host6]).toEqual([[], ["fe80::1"], "fe80::1", "::1"])
    })
    it("tells the others beside it", () => {
      const choice = choose(`${STUB}nameserver 192.0.2.53\n`, { mapHostLoopback4: words("192.0.2.1") })
      expect(choice.told4).toEqual(["192.0.2.1", "192.0.2.53"])
    })
  })

  it("treats a resolver at the address that stands for the loopback as one on it", () => {
    const options = { mapHostLoopback4: words("192.0.2.1"), forward4: words("169.254.1.1") }
    expect(choose("nameserver 192.0.2.1\n", options).told4).toEqual(["169.254.1.1"])
    expect(choose("nameserver 192.0.2.1\n", { mapHostLoopback4: words("192.0.2.1") }).forward4).toBe("192.0.2.1")
  })
  it("forwards in either family to the resolver there is", () => {
    const choice = choose("nameserver 192.0.2.53\n", { forward6: words("fd00::53") })
    expect([choice.forward6, choice.host6]).toEqual(["fd00::53", "192.0.2.53"])
    expect(choose(BOTH, { forward4: words("169.254.1.1"), host4: words("192.0.2.99") }).host4).toBe("192.0.2.99")
  })
  it("tells what the user lists as it is, and still forwards to the host's resolver", () => {
    const servers = [words("127.0.0.1"), words("2001:db8::9")]
    const choice = choose(BOTH, { servers, forward4: words("169.254.1.1"), mapHostLoopback4: words("192.0.2.1") })
    expect([choice.told4, choice.told6, choice.forward4, choice.host4]).toEqual([
      ["127.0.0.1"],
      ["2001:db8::9"],
      "169.254.1.1",
      "192.0.2.53",
    ])
  })
  it("says nothing and warns of nothing when switched off", () => {
    const choice = choose(BOTH, { disabled: true })
    expect(choice).toMatchObject({ told4: [], told6: [], forward4: "-", forward6: "-", warnings: [] })
  })
  it("forwards from an address that is given although nobody is told of it", () => {
    const choice = choose(BOTH, { disabled: true, forward4: words("169.254.1.1"), host4: words("192.0.2.9") })
    expect(choice).toMatchObject({ told4: [], told6: [], forward4: "169.254.1.1", host4: "192.0.2.9", warnings: [] })
  })
  it("forwards to a resolver of the other family if there is none of the same", () => {
    const forward6 = words("fd00::53")
    expect(choose("nameserver 192.0.2.53\n", { forward6 })).toMatchObject({ forward6: "fd00::53", host6: "192.0.2.53" })
    // The one that the user names, rather than one of the file.
    const named = { forward6, host4: words("127.0.0.1") }
    expect(choose("nameserver 192.0.2.53\n", named)).toMatchObject({ host6: "127.0.0.1" })
    expect(choose(BOTH, { ...named, host6: words("::1") })).toMatchObject({ host6: "::1" })
  })
  it("warns of a missing IPv6 resolver, unless the family is off", () => {
    const file = "nameserver 192.0.2.53\n"
    expect(choose(file).warnings).toEqual(["No IPv6 nameserver available for NDP/DHCPv6"])
    expect(choose(file, { ipv6: false }).warnings).toEqual([])
    expect(choose("nameserver 2001:db8::53\n", { ipv6: false }).warnings).toEqual([
      "Couldn't get any nameserver address",
    ])
  })
  it("tells link-local resolvers only if they are on the template's link", () => {
    const file = "nameserver fe80::53%eth0\nnameserver fe80::54%eth1\nnameserver fe80::55%3\n"
    expect(choose(file, { zones: ["eth0", "3"] }).told6).toEqual(["fe80::53", "fe80::55"])
  })
  it("takes the user's domains, several to a value, and names those that are none", () => {
    const choice = choose(BOTH, { search: ["c.example d.example", "c.example", "e..x"] })
    expect(choice.search).toEqual(["c.example", "d.example"])
    expect(choice.warnings).toEqual(["Invalid search domain left out: e..x"])
    expect(choose(BOTH, { searchDisabled: true }).search).toEqual([])
  })
})
