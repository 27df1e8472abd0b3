import { emptyTranslation } from "@passt/core"
import { describe, expect, it } from "vitest"
import { differences, former, mergeIpv4, mergeIpv6, type Seen, signatureOf } from "./change.ts"
import type { HostFamily } from "./host.ts"
import { words } from "../../core/src/test-support/bytes.ts"

function family(address: string, gateway: string, more: Partial<HostFamily> = {}): HostFamily {
  return {
    local: false,
    interfaceName: "eth0",
    interfaceIndex: 3,
    interfaceMac: new Uint8Array(6),
    interfaceMtu: 1500,
    address: words(address),
    fixed: false,
    prefix: 24,
    gateway: words(gateway),
    ourAddress: words(gateway),
    addresses: [],
    ...more,
  }
}

describe("former", () => {
  it("keeps what is no longer told, newest first, but not what is back, twice, or unspecified", () => {
    const [a, b, c] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(words) as [Int32Array, Int32Array, Int32Array]
    expect(former([], [a, words("0.0.0.0"), new Int32Array(4)], [b])).toEqual([a])
    expect(former([a, c], [b], [c])).toEqual([b, a])
    expect(former([a], [a], [b])).toEqual([a])
  })
  it("is bounded", () => {
    const many = Array.from({ length: 30 }, (_, i) => words(`192.0.2.${i + 1}`))
    expect(former(many, [], [])).toEqual(many.slice(0, 8))
  })
})

describe("between two networks", () => {
  it("what the guest saw stays", () => {
    const home = family("192.0.2.2", "192.0.2.1")
    const none = family("169.254.2.1", "169.254.2.2", { local: true })
    expect(mergeIpv4(home, none)).toBe(home)
    expect(mergeIpv4(none, home)).toBe(home)
    expect(mergeIpv6(home, none, true)).toBe(home)
  })
  it("our own IPv6 address towards the guest stays, and with it the router's where that is known by it", () => {
    const before = family("2001:db8:1::2", "fe80::1")
    const found = family("2001:db8:7::2", "fe80::7")
    expect(mergeIpv6(before, found, true)).toEqual({
      ...found,
      gateway: words("fe80::1"),
      ourAddress: words("fe80::1"),
    })
    expect(mergeIpv6(before, found, false)).toEqual({ ...found, ourAddress: words("fe80::1") })
    const global = family("2001:db8:1::2", "2001:db8:1::1", { ourAddress: words("fe80::9") })
    expect(mergeIpv6(global, found, true)).toEqual({ ...found, ourAddress: words("fe80::9") })
  })
})

describe("differences", () => {
  const seen = (ipv4: HostFamily, dns: string): Seen => ({
    host: { ipv4, ipv6: undefined, settings: {} as Seen["host"]["settings"], notes: [] },
    resolvers: {
      advertised4: [words(dns)],
      advertised6: [],
      forward4: new Int32Array(4),
      forward6: new Int32Array(4),
      host4: words(dns),
      host6: words(dns),
      search: [],
      warnings: [],
    },
    translation: emptyTranslation(),
  })
  it("are told in lines for the log, and there are none where the guest would notice nothing", () => {
    const before = seen(family("192.0.2.2", "192.0.2.1"), "192.0.2.53")
    expect(differences(before, seen(family("192.0.2.2", "192.0.2.1"), "192.0.2.53"))).toEqual([])
    expect(differences(before, seen(family("10.0.0.2", "10.0.0.1"), "10.0.0.53"))).toEqual([
      "Host network changed: IPv4 10.0.0.2/24, router 10.0.0.1 (eth0), was 192.0.2.2/24, router 192.0.2.1 (eth0)",
      "Host network changed: DNS 10.0.0.53, was 192.0.2.53",
    ])
  })
})

describe("signatureOf", () => {
  it("tells snapshots apart by addresses and routes", () => {
    const address = {
      interfaceIndex: 1,
      family: 4 as const,
      address: words("192.0.2.2"),
      prefix: 24,
      flags: 0,
      scope: 0,
    }
    const snapshot = { links: [], addresses: [address], routes: [] }
    const resolvers = { host4: new Int32Array(4), host6: new Int32Array(4) } as Parameters<typeof signatureOf>[1]
    expect(signatureOf(snapshot, resolvers)).toBe(signatureOf({ ...snapshot }, resolvers))
    const other = { ...snapshot, addresses: [{ ...address, prefix: 25 }] }
    expect(signatureOf(other, resolvers)).not.toBe(signatureOf(snapshot, resolvers))
  })
})
