/** A host namespace, a target namespace with an interface, and the kernel's word for what was made. */
import { execFileSync } from "node:child_process"
import { afterEach, describe, expect, it } from "vitest"
import { Namespace, namespacesUnavailable } from "../test-support/namespace.ts"

const unavailable = namespacesUnavailable()
if (unavailable) console.log(`skipped, setting up namespaces: ${unavailable}`)

const open: Namespace[] = []
afterEach(() => {
  for (const namespace of open.splice(0)) namespace.delete()
})

function namespace(label: string, commands: string): Namespace {
  const made = new Namespace(label)
  open.push(made)
  made.ip(commands)
  return made
}

const HOST = `
  link set lo up
  link add eth0 type veth peer name world
  link set world up
  link set eth0 up
`
/** The other end of a veth pair is up as well: an interface with a carrier, as a tap device with its program is. */
const TARGET = `
  link add tap index 7 type veth peer name other
  link set other up
`

interface Result {
  readonly warnings: string[]
  readonly ms: number
}

function configure(host: Namespace, target: Namespace, more: object = {}): Result {
  const argument = { path: `/run/netns/${target.name}`, index: 7, ...more }
  return host.node("configure-namespace.ts", argument) as Result
}

const show = (target: Namespace, ...args: string[]): Record<string, unknown>[] => {
  const text = execFileSync("ip", ["-netns", target.name, "-j", ...args], { encoding: "utf8" })
  return text.trim() === "" ? [] : (JSON.parse(text) as Record<string, unknown>[])
}
function addresses(target: Namespace): string[] {
  const [found] = show(target, "address", "show", "tap") as { addr_info: Record<string, unknown>[] }[]
  return found!.addr_info.map((a) =>
    [
      `${String(a["local"])}/${String(a["prefixlen"])}`,
      ...["nodad", "tentative", "deprecated", "secondary", "label"].filter((key) => key in a),
    ].join(" "),
  )
}
const routes = (target: Namespace, family: string): string[] =>
  show(target, family, "route", "show", "table", "main").map((r) =>
    [r["dst"], r["gateway"] ? `via ${String(r["gateway"])}` : "", r["metric"] ? `metric ${String(r["metric"])}` : ""]
      .filter((part) => part !== "")
      .join(" "),
  )

const found6 = (target: Namespace): string[] => addresses(target).filter((a) => a.startsWith("fe80::"))

describe.skipIf(unavailable)("an interface after the host's", () => {
  it("gets MTU, MAC, addresses and routes, and is up", () => {
    const host = namespace(
      "host",
      `${HOST}
      address add 192.0.2.5/24 dev eth0 label eth0:x
      address add 192.0.2.6/24 dev eth0
      address add 10.0.0.5/32 dev eth0
      address add 2001:db8::5/64 dev eth0 nodad
      address add 2001:db8::6/64 dev eth0 nodad preferred_lft 0
      route add 10.9.0.0/16 via 192.0.2.9 dev eth0 metric 7 src 192.0.2.6
      route add default via 192.0.2.1 dev eth0 metric 100
      route add ::/0 via 2001:db8::1 dev eth0`,
    )
    const target = namespace("target", TARGET)
    expect(configure(host, target, { mtu: 65520, mac: [2, 0, 0, 0, 0, 9] }).warnings).toEqual([])
    const [link] = show(target, "link", "show", "tap")
    expect(link).toMatchObject({ mtu: 65520, address: "02:00:00:00:00:09" })
    expect(link!["flags"]).toContain("UP")
    expect(found6(target)).toEqual(["fe80::ff:fe00:9/64 nodad"])
    expect((show(target, "link", "show", "lo")[0]!["flags"] as string[]).includes("UP")).toBe(true)
    // The kernel lists them its own way; none is tentative, the link-local one included.
    const found = addresses(target)
    expect(found.filter((a) => a.includes("."))).toEqual([
      "192.0.2.5/24 label",
      "10.0.0.5/32 label",
      "192.0.2.6/24 secondary label",
    ])
    expect(found).toContain("2001:db8::5/64 nodad")
    expect(found).toContain("2001:db8::6/64 nodad deprecated")
    expect(found.filter((a) => a.includes("tentative"))).toEqual([])
    expect(routes(target, "-4").toSorted()).toEqual([
      "10.9.0.0/16 via 192.0.2.9 metric 7",
      "192.0.2.0/24",
      "default via 192.0.2.1 metric 100",
    ])
    expect(routes(target, "-6")).toContain("default via 2001:db8::1 metric 1024")
    const [own] = show(target, "address", "show", "tap") as { addr_info: Record<string, unknown>[] }[]
    expect(own!.addr_info[0]!["label"]).toBe("tap")
  })

  it("takes routes in whatever order they depend on each other", () => {
    const host = namespace(
      "host",
      `${HOST}
      address add 10.0.0.5/32 dev eth0
      route add 172.16.0.1 dev eth0 metric 9
      route add 10.7.0.0/16 via 172.16.0.1 dev eth0
      route add default via 172.16.0.1 dev eth0 onlink`,
    )
    const target = namespace("target", TARGET)
    expect(configure(host, target).warnings).toEqual([])
    expect(routes(target, "-4").toSorted()).toEqual([
      "10.7.0.0/16 via 172.16.0.1",
      "172.16.0.1 metric 9",
      "default via 172.16.0.1",
    ])
  })

  it("keeps the next hops on the template interface", () => {
    const host = namespace(
      "host",
      `${HOST}
      link add eth1 type veth peer name world1
      link set eth1 up
      link set world1 up
      address add 192.0.2.5/24 dev eth0
      address add 198.51.100.5/24 dev eth1
      route add default nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 198.51.100.1 dev eth1 nexthop via 192.0.2.2 dev eth0
      nexthop add id 9 via 192.0.2.3 dev eth0
      route add 10.0.0.0/8 nhid 9`,
    )
    const target = namespace("target", TARGET)
    expect(configure(host, target).warnings).toEqual([])
    const found = show(target, "-4", "route", "show")
    expect(found.find((r) => r["dst"] === "default")).toMatchObject({
      nexthops: [
        { gateway: "192.0.2.1", dev: "tap", weight: 2 },
        { gateway: "192.0.2.2", dev: "tap", weight: 1 },
      ],
    })
    expect(found.find((r) => r["dst"] === "10.0.0.0/8")).toMatchObject({ gateway: "192.0.2.3", dev: "tap" })
    expect(found.map((r) => r["dst"])).not.toContain("198.51.100.0/24")
  })

  it("copies thousands of routes", () => {
    const lines = Array.from(
      { length: 5000 },
      (_, i) => `route add 10.${i >> 8}.${i & 255}.0/24 via 192.0.2.${1 + (i % 200)} dev eth0`,
    )
    const host = namespace(
      "host",
      `${HOST}\naddress add 192.0.2.5/24 dev eth0\n${lines.join("\n")}\nroute add default via 192.0.2.1`,
    )
    const target = namespace("target", TARGET)
    expect(configure(host, target).warnings).toEqual([])
    expect(show(target, "-4", "route", "show")).toHaveLength(5002)
  })

  it("gets what the user says instead", () => {
    const host = namespace("host", `${HOST}\naddress add 192.0.2.5/24 dev eth0\nroute add default via 192.0.2.1`)
    const target = namespace("target", TARGET)
    // A gateway that no prefix covers.
    const options = { address4: words("10.0.2.100"), prefix4: 24, gateway4: words("203.0.113.1") }
    expect(configure(host, target, { copyAddresses: false, copyRoutes: false, options }).warnings).toEqual([])
    expect(addresses(target).filter((a) => a.includes("."))).toEqual(["10.0.2.100/24 label"])
    expect(routes(target, "-4").toSorted()).toEqual(["10.0.2.0/24", "default via 203.0.113.1"])
  })

  it("gets addresses of local mode where the host has no network", () => {
    const host = namespace("host", "link set lo up")
    const target = namespace("target", TARGET)
    expect(configure(host, target).warnings).toEqual([])
    const found = addresses(target)
    expect(found[0]).toBe("169.254.2.1/16 label")
    expect(found[1]).toMatch(/^fe80::[0-9a-f:]+\/64 nodad$/)
    expect(routes(target, "-4")).toContain("default via 169.254.2.2")
    expect(routes(target, "-6")).toContain("default via fe80::1 metric 1024")
  })

  it("does without a family that is off there, and says so", () => {
    const host = namespace(
      "host",
      `${HOST}\naddress add 2001:db8::5/64 dev eth0 nodad\nroute add ::/0 via 2001:db8::1 dev eth0\naddress add 192.0.2.5/24 dev eth0\nroute add default via 192.0.2.1`,
    )
    const target = namespace("target", TARGET)
    execFileSync("ip", ["netns", "exec", target.name, "sysctl", "-qw", "net.ipv6.conf.tap.disable_ipv6=1"])
    expect(configure(host, target).warnings).toEqual([
      expect.stringMatching(/^IPv6 can't be used in the namespace: Permission denied/),
    ])
    expect(routes(target, "-4")).toContain("default via 192.0.2.1")
  })

  it("says which routes the namespace can't have", () => {
    const host = namespace(
      "host",
      `${HOST}\naddress add 192.0.2.5/24 dev eth0\nroute add default via 192.0.2.1\nroute add 10.0.0.0/8 via 192.0.2.9`,
    )
    const target = namespace("target", TARGET)
    const options = { address4: words("10.0.2.100"), prefix4: 24 }
    execFileSync("ip", ["-netns", host.name, "route", "del", "192.0.2.0/24", "dev", "eth0"])
    const { warnings } = configure(host, target, { copyAddresses: false, options })
    expect(warnings).toEqual([expect.stringMatching(/^2 of 2 IPv4 routes of eth0 can't be used in the namespace: /)])
  })
})

function words(text: string): number[] {
  return [0, 0, 0xffff, text.split(".").reduce((word, byte) => (word << 8) | Number(byte), 0)]
}
