import { describe, expect, it } from "vitest"
import { ConfigError, createEngine, MemoryLink } from "./index.ts"

const guest = new MemoryLink()
const make = (config: object): unknown => createEngine({ guest, ...config })

describe("a configuration", () => {
  it.each<[object, string]>([
    [{ adress: "192.0.2.1" }, "adress"],
    [{ address: "192.0.2.300" }, "address"],
    [{ address: 7 }, "address"],
    [{ address: ["192.0.2.1", 7] }, "address[1]"],
    [{ address: ["192.0.2.1", "192.0.2.2"] }, "address"],
    [{ gateway: "none" }, "gateway"],
    [{ mtu: 65522 }, "mtu"],
    [{ mtu: 1.5 }, "mtu"],
    [{ mtu: 60 }, "mtu"],
    [{ mac: "01:00:00:00:00:00" }, "mac"],
    [{ ipv4: "yes" }, "ipv4"],
    [{ ipv4: false, ipv6: false }, "ipv6"],
    [{ dns: ["192.0.2.1", "nonsense"] }, "dns[1]"],
    [{ search: ["-"], dns: "x y" }, "dns"],
    [{ interface: "a name that is too long" }, "interface"],
    [{ hostLoopback: "127.0.0.1" }, "hostLoopback"],
    [{ tcp: 0 }, "tcp"],
    [{ guest: undefined }, "guest"],
    [{ guest: { kind: "tcp" } }, "guest.kind"],
    [{ guest: { kind: "unix", path: "x".repeat(108) } }, "guest.path"],
    [{ guest: { kind: "fd", fd: -1 } }, "guest.fd"],
    [{ guest: { kind: "namespace", path: "/x", configure: 1 } }, "guest.configure"],
    [
      {
        forwards: [
          { protocol: "tcp", ports: "80" },
          { protocol: "sctp", ports: "80" },
        ],
      },
      "forwards[1].protocol",
    ],
    [{ forwards: [{ protocol: "tcp" }] }, "forwards[0].ports"],
    [{ capture: {} }, "capture"],
    [{ capture: { path: "x", snapLength: 1 } }, "capture.snapLength"],
    [{ followHost: 1 }, "followHost"],
    [{ signal: {} }, "signal"],
  ])("%j is refused for %s", (config, field) => {
    expect(() => make(config)).toThrow(ConfigError)
    try {
      make(config)
    } catch (error) {
      expect(error).toMatchObject({ field, code: "ERR_PASST_CONFIG" })
      expect((error as Error).message).toMatch(/^[^\n]+: [^\n]+$/)
      expect((error as Error).message).not.toContain("--")
    }
  })

  it("may have every field", () => {
    make({
      ipv4: true,
      ipv6: true,
      address: ["192.0.2.15/24", "2001:db8::15"],
      gateway: ["192.0.2.1", "2001:db8::1"],
      mtu: 1500,
      mac: "02:00:00:00:00:01",
      dns: ["192.0.2.53", "2001:db8::53"],
      dnsForward: "192.0.2.53",
      dnsHost: "127.0.0.53",
      search: ["example.org"],
      hostname: "vm",
      fqdn: "vm.example.org",
      tcp: true,
      udp: true,
      icmp: false,
      dhcp: true,
      dhcpv6: false,
      ndp: true,
      ra: true,
      hostLoopback: ["192.0.2.2", "2001:db8::2"],
      hostAddress: "192.0.2.3",
      outboundAddress: "192.0.2.100",
      followHost: false,
      forwards: [],
    })
    for (const dns of [false, undefined]) make({ dns, search: dns, hostLoopback: dns })
  })
})
