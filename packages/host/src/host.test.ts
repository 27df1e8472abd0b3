/** What the kernel says, asked in namespaces of our own. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Namespace, namespacesUnavailable } from "./test-support/namespace.ts"

const unavailable = namespacesUnavailable()
if (unavailable) console.log(`skipped, tests with real network namespaces: ${unavailable}`)

interface Printed {
  ipv4: Record<string, unknown>
  ipv6: Record<string, unknown>
  notes: string[]
  routes: number
}

describe.skipIf(unavailable)("readHost in a namespace with IPv4 and IPv6", () => {
  let host: Namespace
  beforeAll(() => {
    host = new Namespace("host")
    host.ip(`
      link set lo up
      link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name world
      link set eth0 up
      link set world up
      address add 192.0.2.5/24 dev eth0
      address add 10.0.0.5/8 dev eth0
      address add 2001:db8::5/64 dev eth0 nodad
      address add fe80::5/64 dev eth0 nodad
      route add default via 192.0.2.1 dev eth0 metric 100
      route add ::/0 via 2001:db8::1 dev eth0
    `)
  })
  afterAll(() => host.delete())

  it("finds the template, its addresses and gateways", () => {
    expect(host.node("print-host.ts")).toMatchObject({
      ipv4: {
        local: false,
        interface: "eth0",
        mac: "02:00:00:00:00:01",
        mtu: 1400,
        address: "192.0.2.5/24",
        gateway: "192.0.2.1",
      },
      ipv6: { local: false, interface: "eth0", address: "2001:db8::5/64", gateway: "2001:db8::1" },
      notes: [],
    })
    const { ipv6 } = host.node("print-host.ts") as Printed
    expect(ipv6["ours"]).toMatch(/^fe80::/)
  })

  it("models on the interface that is named, and refuses unknown ones", () => {
    expect(host.node("print-host.ts", { interfaceName: "world" })).toEqual({ error: "External interface not usable" })
    expect(host.node("print-host.ts", { interfaceName: "nosuch" })).toEqual({
      error: "Invalid interface name nosuch: No such device",
    })
    const { ipv6 } = host.node("print-host.ts", { ipv6: false }) as Printed
    expect(ipv6).toBeNull()
  })

  it("reads more routes than fit into one datagram, in the main table alone", () => {
    const commands: string[] = []
    for (let i = 0; i < 4000; i++) {
      commands.push(`route add 198.18.${i >> 8}.${i & 255}/32 dev eth0 table ${i % 4 === 3 ? 100 : 254}`)
    }
    host.ip(commands.join("\n"))
    const { routes, ipv4 } = host.node("print-host.ts") as Printed
    expect(routes).toBeGreaterThanOrEqual(3000)
    expect(routes).toBeLessThan(3100)
    expect(ipv4["gateway"]).toBe("192.0.2.1")
  })

  it("takes the first next hop's interface and the heaviest one's gateway of a multipath route", () => {
    host.ip("route replace default metric 50 nexthop via 192.0.2.2 weight 1 nexthop via 192.0.2.3 weight 9")
    const { ipv4 } = host.node("print-host.ts") as Printed
    expect(ipv4).toMatchObject({ interface: "eth0", gateway: "192.0.2.3" })
  })
})

describe.skipIf(unavailable)("readHost in a namespace without a network", () => {
  let host: Namespace
  beforeAll(() => {
    host = new Namespace("bare")
    host.ip("link set lo up")
  })
  afterAll(() => host.delete())

  it("uses local mode for both families", () => {
    expect(host.node("print-host.ts")).toMatchObject({
      ipv4: { local: true, interface: "", address: "169.254.2.1/16", gateway: "169.254.2.2" },
      ipv6: { local: true, address: "::/64", gateway: "fe80::1", ours: "fe80::1" },
    })
  })
  it("does with a route that needs no gateway", () => {
    host.ip(
      "link add ptp type veth peer name far\nlink set ptp up\nlink set far up\naddress add 10.8.0.2/32 dev ptp\nroute add default dev ptp",
    )
    const { ipv4 } = host.node("print-host.ts") as Printed
    expect(ipv4).toMatchObject({ local: false, interface: "ptp", address: "10.8.0.2/32", gateway: "169.254.2.2" })
  })
})

describe.skipIf(unavailable)("NeighbourMonitor in a namespace", () => {
  let host: Namespace
  const INDEX = 77
  beforeAll(() => {
    host = new Namespace("neigh")
    host.ip(`
      link add eth0 index ${INDEX} type veth peer name world
      link set eth0 up
      link set world up
      neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
      neighbour add fe80::9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent
      neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev world nud permanent
    `)
  })
  afterAll(() => host.delete())

  it("tells the table, then changes as they happen", () => {
    const rounds = host.node("print-neighbours.ts", {
      index: INDEX,
      batches: [
        "neighbour add 192.0.2.7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable",
        "neighbour change 192.0.2.7 lladdr 02:00:00:00:00:17 dev eth0 nud reachable\nneighbour del fe80::9 dev eth0",
        "neighbour change 192.0.2.7 dev eth0 nud failed\nneighbour add 192.0.2.8 lladdr 02:00:00:00:00:08 dev world",
      ],
    }) as string[][]
    expect(rounds[0]!.toSorted()).toEqual(["192.0.2.1 02:00:00:00:00:01", "fe80::9 02:00:00:00:00:09"])
    expect(rounds[1]).toEqual(["192.0.2.7 02:00:00:00:00:07"])
    expect(rounds[2]!.toSorted()).toEqual(["192.0.2.7 02:00:00:00:00:17", "fe80::9 gone"])
    expect(rounds[3]).toEqual(["192.0.2.7 gone"])
  })

  it("loses nothing in a burst that overflows the socket", () => {
    const addresses = Array.from({ length: 3000 }, (_, i) => `198.18.${i >> 8}.${i & 255}`)
    const add = addresses.map((a) => `neighbour add ${a} lladdr 02:00:00:00:00:55 dev eth0 nud permanent`).join("\n")
    const remove = addresses.map((a) => `neighbour del ${a} dev eth0`).join("\n")
    const rounds = host.node("print-neighbours.ts", { index: INDEX, batches: [add, remove] }) as string[][]
    expect(new Set(rounds[1]).size).toBe(3000)
    expect(rounds[2]).toHaveLength(3000)
    expect(rounds[2]!.every((line) => line.endsWith("gone"))).toBe(true)
  })
})
