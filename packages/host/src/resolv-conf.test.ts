import { address as ip } from "@passt/core/wire"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { domainName, parseResolvConf, readResolvers } from "./resolv-conf.ts"

function servers(text: string): string[] {
  return parseResolvConf(text).servers.map(({ address, zone }) => ip.format(address) + (zone ? `%${zone}` : ""))
}

describe("parseResolvConf", () => {
  it("reads servers in order, behind spaces or tabs", () => {
    expect(servers("nameserver 192.0.2.1\nnameserver\t2001:db8::1\n  nameserver \t 192.0.2.3  \n")).toEqual([
      "192.0.2.1",
      "2001:db8::1",
      "192.0.2.3",
    ])
  })
  it("keeps zones", () => {
    expect(servers("nameserver fe80::1%eth0\n")).toEqual(["fe80::1%eth0"])
  })
  it("passes over comments, at the start of a line and behind a value", () => {
    const text =
      "# nameserver 192.0.2.9\n;nameserver 192.0.2.8\nnameserver 192.0.2.1 # office\nnameserver 192.0.2.2\t; home\n"
    expect(servers(text)).toEqual(["192.0.2.1", "192.0.2.2"])
    expect(parseResolvConf("search a.example # b.example\n").search).toEqual(["a.example"])
  })
  it("passes over what makes no sense", () => {
    const text =
      "nameserver\nnameserver x\nnameserver 0.0.0.0\nnameserver 224.0.0.1\nnameservers 192.0.2.1\noptions ndots:5\n"
    expect(servers(text)).toEqual([])
  })
  it("reads CR LF and a last line without end", () => {
    expect(servers("nameserver 192.0.2.1\r\nnameserver 192.0.2.2")).toEqual(["192.0.2.1", "192.0.2.2"])
    for (const end of ["\r", "\u2028", ""]) {
      expect(parseResolvConf(`search a.example # not b.example${end}\n`).search).toEqual(["a.example"])
    }
  })
  it("takes the last of several search and domain lines", () => {
    expect(parseResolvConf("search a.example b.example\ndomain c.example d.example\n").search).toEqual(["c.example"])
    expect(parseResolvConf("domain c.example\nsearch\ta.example\t b.example.\n").search).toEqual([
      "a.example",
      "b.example",
    ])
  })
  it("reads long search lists whole", () => {
    const names = Array.from({ length: 20 }, (_, i) => `n${i}.svc.cluster.local`)
    expect(parseResolvConf(`search ${names.join(" ")}\n`).search).toEqual(names)
  })
  it("leaves out the root and what is no domain", () => {
    expect(parseResolvConf(`search . ok.example a..b ${"x".repeat(64)}.example\n`).search).toEqual(["ok.example"])
  })
  it("takes any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        for (const name of parseResolvConf(`search ${text}\nnameserver ${text}\n`).search) {
          expect(domainName(name)).toBe(name)
        }
      }),
    )
  })
})

describe("domainName", () => {
  it("makes Unicode names ASCII", () => {
    expect(domainName("bücher.example")).toBe("xn--bcher-kva.example")
  })
  it("limits length", () => {
    const label = "a".repeat(63)
    const longest = [label, label, label, "a".repeat(61)].join(".")
    expect(domainName(`${longest}.`)).toBe(longest)
    expect(domainName(`${longest}a`)).toBeUndefined()
  })
})

describe("readResolvers", () => {
  it("treats a missing file as an empty one", () => {
    expect(readResolvers("/nonexistent/resolv.conf")).toEqual({ servers: [], search: [] })
  })
})
