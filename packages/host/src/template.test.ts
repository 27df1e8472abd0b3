import { address as ip } from "@passt/core/wire"
import { describe, expect, it } from "vitest"
import { describeHost } from "./host.ts"
import type { InterfaceAddress } from "./netlink/address.ts"
import type { Link } from "./netlink/link.ts"
import type { Nexthop, Route } from "./netlink/route.ts"
import { readSettings } from "./sysctl.ts"
import type { Snapshot } from "./template.ts"
import { chooseAddress, chooseTemplate, classPrefix } from "./template.ts"
import { words } from "../../core/src/test-support/bytes.ts"

function link(index: number, name: string): Link {
  return { index, name, up: true, loopback: name === "lo", mtu: 1500, mac: Uint8Array.of(2, 0, 0, 0, 0, index) }
}
function hop(interfaceIndex: number, gateway?: string, weight = 1, flags = 0): Nexthop {
  return { interfaceIndex, gateway: gateway === undefined ? undefined : words(gateway), weight, flags }
}
function route(destination: string, nexthops: readonly Nexthop[], more: Partial<Route> = {}): Route {
  const [text, prefix] = destination.split("/")
  const address = words(text!)
  const family = ip.isMapped(address, 0) ? 4 : 6
  return { family, destination: address, prefix: Number(prefix), table: 254, type: 1, metric: 0, nexthops, ...more }
}
function addr(interfaceIndex: number, text: string, more: Partial<InterfaceAddress> = {}): InterfaceAddress {
  const [address, prefix] = text.split("/")
  const w = words(address!)
  const family = ip.isMapped(w, 0) ? 4 : 6
  const scope = ip.isLinkLocal(w, 0) ? 253 : 0
  return { interfaceIndex, family, address: w, prefix: Number(prefix), flags: 0x80, scope, ...more }
}

const LO = link(1, "lo")
const ETH0 = link(2, "eth0")
const ETH1 = link(3, "eth1")
const links = [LO, ETH0, ETH1]

function snapshot(routes: readonly Route[], addresses: readonly InterfaceAddress[] = []): Snapshot {
  return { links, routes, addresses }
}
function chosen(family: 4 | 6, routes: readonly Route[]): string {
  const template = chooseTemplate(family, snapshot(routes))
  return template ? `${template.link.name} ${template.gateway ? ip.format(template.gateway) : "-"}` : "none"
}

describe("chooseTemplate", () => {
  it("takes the default route, not what comes before it", () => {
    expect(chosen(4, [route("10.0.0.0/8", [hop(2)]), route("0.0.0.0/0", [hop(3, "10.9.0.1")])])).toBe("eth1 10.9.0.1")
  })
  it("takes the preferred one of several: the lowest metric, then the first", () => {
    const routes = [
      route("0.0.0.0/0", [hop(2, "10.0.0.1")], { metric: 600 }),
      route("0.0.0.0/0", [hop(3, "10.9.0.1")], { metric: 100 }),
      route("0.0.0.0/0", [hop(2, "10.0.0.2")], { metric: 100 }),
    ]
    expect(chosen(4, routes)).toBe("eth1 10.9.0.1")
  })
  it("decides each family by itself", () => {
    const routes = [route("0.0.0.0/0", [hop(2, "10.0.0.1")]), route("::/0", [hop(3, "fe80::1")], { metric: 1024 })]
    expect(chosen(4, routes)).toBe("eth0 10.0.0.1")
    expect(chosen(6, routes)).toBe("eth1 fe80::1")
  })
  it("takes the first next hop's interface and the heaviest next hop's gateway on it", () => {
    const hops = [hop(2, "10.0.0.1", 1), hop(2, "10.0.0.2", 9), hop(3, "10.9.0.1", 200)]
    expect(chosen(4, [route("0.0.0.0/0", hops)])).toBe("eth0 10.0.0.2")
  })
  it("passes over next hops and routes that are dead while others live", () => {
    expect(chosen(4, [route("0.0.0.0/0", [hop(2, "10.0.0.1", 1, 1), hop(3, "10.9.0.1")])])).toBe("eth1 10.9.0.1")
    const routes = [
      route("0.0.0.0/0", [hop(2, "10.0.0.1", 1, 16)], { metric: 1 }),
      route("0.0.0.0/0", [hop(3, "10.9.0.1")], { metric: 100 }),
    ]
    expect(chosen(4, routes)).toBe("eth1 10.9.0.1")
    expect(chosen(4, [routes[0]!])).toBe("eth0 10.0.0.1")
  })
  it("ignores other tables, loopback and routes that reject", () => {
    const routes = [
      route("0.0.0.0/0", [hop(2, "10.0.0.1")], { table: 100 }),
      route("0.0.0.0/0", [hop(2)], { type: 7 }),
      route("0.0.0.0/0", [hop(1)]),
    ]
    expect(chosen(4, routes)).toBe("none")
  })
  it("does without a default route: the first route beyond the link, without gateway", () => {
    const routes = [
      route("fe80::/64", [hop(2)]),
      route("ff00::/8", [hop(2)]),
      route("2001:db8::/64", [hop(3)]),
      route("2001:db8:1::/64", [hop(2)]),
    ]
    expect(chosen(6, routes)).toBe("eth1 -")
    expect(chosen(4, [route("169.254.0.0/16", [hop(2)])])).toBe("none")
  })
  it("knows a default route without gateway", () => {
    expect(chosen(4, [route("0.0.0.0/0", [hop(2)])])).toBe("eth0 -")
  })
})

describe("chooseAddress", () => {
  function address(family: 4 | 6, list: readonly InterfaceAddress[]): string {
    const found = chooseAddress(family, ETH0, snapshot([], list))
    return found ? `${ip.format(found.address)}/${found.prefix}` : "none"
  }
  it("takes the longest prefix, the first of equals", () => {
    expect(address(4, [addr(2, "10.0.0.2/8"), addr(2, "192.0.2.2/24"), addr(2, "192.0.2.3/24")])).toBe("192.0.2.2/24")
  })
  it("takes deprecated and tentative ones only for want of others", () => {
    const old = addr(2, "2001:db8::1/128", { flags: 0xa0 })
    const trying = addr(2, "2001:db8::2/128", { flags: 0x40 })
    expect(address(6, [old, trying, addr(2, "2001:db8::3/64")])).toBe("2001:db8::3/64")
    expect(address(6, [old])).toBe("2001:db8::1/128")
  })
  it("never takes what failed duplicate detection, is link-local or belongs to the host or another interface", () => {
    const list = [
      addr(2, "2001:db8::1/64", { flags: 0xc8 }),
      addr(2, "fe80::1/64"),
      addr(3, "2001:db8::2/64"),
      addr(2, "127.0.0.2/8", { scope: 254 }),
    ]
    expect(address(6, list)).toBe("none")
    expect(address(4, list)).toBe("none")
  })
  it("prefers addresses of the Internet and lasting ones among equal prefixes", () => {
    expect(address(6, [addr(2, "fd00::2/64"), addr(2, "2001:db8::2/64")])).toBe("2001:db8::2/64")
    const temporary = addr(2, "2001:db8::a/64", { flags: 0x01 })
    expect(address(6, [temporary, addr(2, "2001:db8::2/64")])).toBe("2001:db8::2/64")
  })
  it("takes an IPv4 link-local address only for want of others", () => {
    const local = addr(2, "169.254.7.7/16")
    expect(address(4, [local, addr(2, "10.0.0.2/8")])).toBe("10.0.0.2/8")
    expect(address(4, [local])).toBe("169.254.7.7/16")
  })
})

describe("classPrefix", () => {
  it.each([
    ["10.0.2.100", 8],
    ["172.16.0.1", 16],
    ["192.0.2.1", 24],
  ])("%s is /%i", (text, prefix) => expect(classPrefix(words(text))).toBe(prefix))
})

describe("describeHost", () => {
  const settings = readSettings(() => undefined)
  const online = snapshot(
    [
      route("0.0.0.0/0", [hop(2, "192.0.2.1")]),
      route("192.0.2.0/24", [hop(2)]),
      route("::/0", [hop(2, "2001:db8::1")], { metric: 1024 }),
    ],
    [addr(2, "192.0.2.5/24"), addr(2, "2001:db8::5/64"), addr(2, "fe80::5/64"), addr(3, "198.51.100.3/25")],
  )
  const offline = snapshot([], [addr(1, "127.0.0.1/8", { scope: 254 })])

  it("gives the guest the host's own addresses", () => {
    const { ipv4, ipv6, notes } = describeHost(online, {}, settings)
    expect(notes).toEqual([])
    expect(ipv4).toMatchObject({ local: false, interfaceName: "eth0", interfaceIndex: 2, prefix: 24, fixed: false })
    expect(ip.format(ipv4!.address)).toBe("192.0.2.5")
    expect(ip.format(ipv4!.gateway)).toBe("192.0.2.1")
    expect(ip.format(ipv4!.ourAddress)).toBe("192.0.2.1")
    expect(ip.format(ipv6!.address)).toBe("2001:db8::5")
    expect(ip.format(ipv6!.gateway)).toBe("2001:db8::1")
    expect(ip.format(ipv6!.ourAddress)).toBe("fe80::5")
    expect(ipv6!.addresses).toHaveLength(2)
  })

  it("uses a link-local gateway as our own address, and one of ours where the interface has none", () => {
    const routes = [route("::/0", [hop(2, "fe80::99")])]
    const via = describeHost(snapshot(routes, online.addresses), {}, settings)
    expect(ip.format(via.ipv6!.ourAddress)).toBe("fe80::99")
    const tunnel = snapshot([route("::/0", [hop(2)])], [addr(2, "2001:db8::5/128")])
    const { ipv6 } = describeHost(tunnel, {}, settings)
    expect([ip.format(ipv6!.address), ip.format(ipv6!.ourAddress), ip.format(ipv6!.gateway)]).toEqual([
      "2001:db8::5",
      "fe80::1",
      "::",
    ])
  })

  it("falls to local mode per family", () => {
    const { ipv4, ipv6, notes } = describeHost(offline, {}, settings)
    expect(notes).toEqual([
      "IPv4: no external interface as template, use local mode",
      "IPv6: no external interface as template, use local mode",
    ])
    expect(ipv4).toMatchObject({ local: true, prefix: 16, interfaceName: "", interfaceIndex: 0 })
    expect(ip.format(ipv4!.address)).toBe("169.254.2.1")
    expect(ip.format(ipv4!.gateway)).toBe("169.254.2.2")
    expect(ip.format(ipv6!.address)).toBe("::")
    expect(ip.format(ipv6!.gateway)).toBe("fe80::1")
    expect(ip.format(ipv6!.ourAddress)).toBe("fe80::1")
    const v4only = snapshot(
      [route("0.0.0.0/0", [hop(2, "192.0.2.1")])],
      [addr(2, "192.0.2.5/24"), addr(2, "fe80::5/64")],
    )
    const mixed = describeHost(v4only, {}, settings)
    expect([mixed.ipv4!.local, mixed.ipv6!.local]).toEqual([false, true])
  })

  it("gives a gateway where the host needs none", () => {
    const { ipv4 } = describeHost(snapshot([route("0.0.0.0/0", [hop(2)])], [addr(2, "10.8.0.2/32")]), {}, settings)
    expect([ip.format(ipv4!.address), ip.format(ipv4!.gateway)]).toEqual(["10.8.0.2", "169.254.2.2"])
  })

  it("lets the user decide", () => {
    const options = {
      address4: words("10.0.2.100"),
      gateway4: words("10.0.2.2"),
      address6: words("fd01::2"),
      gateway6: words("fe80::77"),
    }
    for (const host of [online, offline]) {
      const { ipv4, ipv6 } = describeHost(host, options, settings)
      expect([ip.format(ipv4!.address), ipv4!.prefix, ip.format(ipv4!.gateway)]).toEqual(["10.0.2.100", 8, "10.0.2.2"])
      expect([ipv4!.fixed, ipv6!.fixed]).toEqual([true, true])
      expect([ip.format(ipv6!.address), ip.format(ipv6!.ourAddress)]).toEqual(["fd01::2", "fe80::77"])
    }
    expect(describeHost(online, { ...options, prefix4: 24 }, settings).ipv4!.prefix).toBe(24)
    expect(describeHost(online, { prefix4: 28 }, settings).ipv4!.prefix).toBe(28)
  })

  it("models on the interface named, with a gateway only if its own routes have one", () => {
    const { ipv4, ipv6 } = describeHost(online, { interfaceName: "eth1" }, settings)
    expect([ipv4!.interfaceName, ip.format(ipv4!.address), ip.format(ipv4!.gateway)]).toEqual([
      "eth1",
      "198.51.100.3",
      "169.254.2.2",
    ])
    expect(ipv6!.local).toBe(true)
    const bound = describeHost(online, { outboundInterface4: "eth1" }, settings)
    expect([bound.ipv4!.interfaceName, bound.ipv6!.interfaceName]).toEqual(["eth1", "eth0"])
    const both = describeHost(online, { interfaceName: "eth0", outboundInterface4: "eth1" }, settings)
    expect(both.ipv4!.interfaceName).toBe("eth0")
  })

  it("refuses interfaces that don't exist or can't serve", () => {
    const refuse = (options: Parameters<typeof describeHost>[1]): (() => unknown) => {
      return () => describeHost(online, options, settings)
    }
    expect(refuse({ interfaceName: "nosuch" })).toThrow("Invalid interface name nosuch: No such device")
    expect(refuse({ outboundInterface6: "nosuch" })).toThrow("Invalid interface name nosuch: No such device")
    expect(refuse({ outboundInterface6: "eth1" })).toThrow("External interface not usable")
    expect(refuse({ interfaceName: "eth1", ipv4: false })).toThrow("External interface not usable")
  })

  it("knows families that are off or missing", () => {
    expect(describeHost(online, { ipv6: false }, settings).ipv6).toBeUndefined()
    expect(describeHost(online, { ipv4: false }, settings).ipv4).toBeUndefined()
    const without = describeHost(online, {}, settings, false)
    expect(without.ipv6).toBeUndefined()
    expect(without.notes).toHaveLength(1)
    expect(() => describeHost(online, { ipv4: false }, settings, false)).toThrow("IPv6 not available")
  })
})
