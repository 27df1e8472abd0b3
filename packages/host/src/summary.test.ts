import { describe, expect, it } from "vitest"
import type { HostConfig, HostFamily } from "./host.ts"
import type { SummaryInput } from "./summary.ts"
import { guestLines, macText, maskText, summary } from "./summary.ts"
import { readSettings } from "./sysctl.ts"
import { words } from "../../core/src/test-support/bytes.ts"

const family4: HostFamily = {
  local: false,
  interfaceName: "eth0",
  interfaceIndex: 2,
  interfaceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  interfaceMtu: 1500,
  address: words("192.0.2.5"),
  fixed: false,
  prefix: 24,
  gateway: words("192.0.2.1"),
  ourAddress: words("192.0.2.1"),
  addresses: [],
}
const family6: HostFamily = {
  ...family4,
  address: words("2001:db8::5"),
  prefix: 64,
  gateway: words("2001:db8::1"),
  ourAddress: words("fe80::5"),
}
const host: HostConfig = { ipv4: family4, ipv6: family6, settings: readSettings(() => undefined), notes: [] }
const input: SummaryInput = {
  host,
  ourMac: Uint8Array.of(0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55),
  mtu: 65520,
  dhcp: true,
  dhcpv6: true,
  ndp: true,
  ra: true,
  resolvers4: [words("192.0.2.53")],
  resolvers6: [words("2001:db8::53")],
  search: ["a.example"],
}

describe("summary", () => {
  it("says what the guest gets", () => {
    expect(summary(input)).toEqual([
      "Template interface: eth0 (IPv4), eth0 (IPv6)",
      "MAC:",
      "    ours: 9a:55:9a:55:9a:55",
      "MTU: 65520",
      "DHCP:",
      "    address: 192.0.2.5",
      "    mask: 255.255.255.0",
      "    router: 192.0.2.1",
      "DNS:",
      "    192.0.2.53",
      "DNS search list:",
      "    a.example",
      "NDP/DHCPv6:",
      "    address: 2001:db8::5/64",
      "    router: 2001:db8::1",
      "    our link-local: fe80::5",
      "DNS over IPv6:",
      "    2001:db8::53",
    ])
  })
  it("says what is translated, bound and forwarded", () => {
    const lines = summary({
      ...input,
      outboundInterface4: "eth1",
      outbound4: words("198.51.100.7"),
      mapHostLoopback4: words("192.0.2.1"),
      mapGuestAddress4: words("192.0.2.9"),
      mapHostLoopback6: new Int32Array(4),
      dnsForward4: words("169.254.1.1"),
      dnsHost4: words("127.0.0.53"),
      forwards: ["TCP [*]:22 => 22"],
    })
    expect(lines).toEqual(
      expect.arrayContaining([
        "Outbound interface: eth1 (IPv4)",
        "Outbound address: 198.51.100.7 (IPv4)",
        "Translated addresses:",
        "    192.0.2.1 -> 127.0.0.1 of the host",
        "    192.0.2.9 -> 192.0.2.5 on the host",
        "    DNS queries to 169.254.1.1 -> 127.0.0.53",
        "Forwarded ports:",
        "    TCP [*]:22 => 22",
      ]),
    )
    expect(lines.join("\n")).not.toContain("::1 of the host")
  })
  it("says what is off, local or missing", () => {
    const lines = summary({
      ...input,
      host: { ...host, ipv6: { ...family6, local: true, address: new Int32Array(4), gateway: words("fe80::1") } },
      dhcp: false,
      dhcpv6: false,
      ra: false,
      mtu: 0,
      resolvers4: [],
      resolvers6: [],
    })
    expect(lines[0]).toBe("Template interface: eth0 (IPv4), none, local mode (IPv6)")
    expect(lines).toContain("IPv4 (no DHCP):")
    expect(lines).toContain("IPv6 (not announced):")
    expect(lines.join("\n")).not.toMatch(/MTU|DNS:/)
    expect(summary({ ...input, host: { ...host, ipv4: undefined } })).toContain("DNS search list:")
  })
})

describe("guestLines", () => {
  it("begins with the text that callers look for, and shows how to start QEMU", () => {
    const [first, , command] = guestLines("/tmp/passt_1.socket")
    expect(first).toBe("UNIX domain socket bound at /tmp/passt_1.socket")
    expect(command).toContain("-netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/passt_1.socket")
    expect(guestLines("/run/s", true).join("\n")).toContain("vhost-user")
  })
})

describe("text forms", () => {
  it("of MAC addresses and masks", () => {
    expect(macText(Uint8Array.of(0, 1, 0xab, 0xff, 9, 16))).toBe("00:01:ab:ff:09:10")
    expect([0, 8, 20, 32].map(maskText)).toEqual(["0.0.0.0", "255.0.0.0", "255.255.240.0", "255.255.255.255"])
  })
})
