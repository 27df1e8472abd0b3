import { describe, expect, it } from "vitest"
import { address } from "@passt/core/wire"
import { ConfigError, UsageError } from "./config-error.ts"
import { OPTIONS } from "./options.ts"
import { HANDLERS, parsePasst, parsePasta, type PasstOptions, type PastaOptions } from "./parse.ts"
import { parsePortOptions } from "./port-spec.ts"

function parse(...args: string[]): PasstOptions {
  const parsed = parsePasst(args)
  if ("inquiry" in parsed) throw new Error(`asked for ${parsed.inquiry}`)
  return parsed
}
/** Reads the port specifications, too. */
function parsePorts(...args: string[]): void {
  const context = { ephemeralFirst: 32_768, ephemeralLast: 60_999, auto: false }
  const options = parse(...args)
  parsePortOptions(options.ports, { ...options, ...context })
}
const text = (words: Int32Array | null): string | null => words && address.format(words)

function expectError(args: string[], message: string): void {
  expect(() => parsePasst(args)).toThrow(new ConfigError(message))
}

describe("messages", () => {
  it.each([
    [["-t", "22\n80"], "Invalid port specifier '22\\u000a80'", ConfigError],
    [["-D", "\x1b[2J"], "Invalid DNS address: \\u001b[2J", ConfigError],
    [["--no\r\nsuch"], "unrecognized option '--no\\u000d\\u000asuch'", UsageError],
  ])("are one line of text, whatever the user wrote: %j", (args, message, kind) => {
    expect(() => parsePorts(...args)).toThrow(new kind(message))
    expect(() => parsePorts(...args)).toThrow(/^[\x20-\x7e]+$/)
  })
})

describe("option table", () => {
  it("has a handler for each built option, and none beyond", () => {
    const built = OPTIONS.filter((option) => option.status === "built").map((option) => option.name)
    expect(Object.keys(HANDLERS).toSorted()).toEqual(
      built.filter((name) => !["help", "version", "print-capabilities"].includes(name)).toSorted(),
    )
  })

  it("uses each name and letter once", () => {
    const names = OPTIONS.flatMap((option) => [option.name, ...(option.aliases ?? [])])
    const letters = OPTIONS.flatMap((option) => option.short ?? [])
    expect(new Set(names).size).toBe(names.length)
    expect(new Set(letters).size).toBe(letters.length)
    expect(letters.every((letter) => letter.length === 1)).toBe(true)
  })

  it("refuses every planned option with a message", () => {
    for (const option of OPTIONS.filter(({ status }) => status === "planned")) {
      const args = [`--${option.name}`, ...(option.argument === undefined ? [] : ["x"])]
      expectError(args, `--${option.name} is not supported yet`)
    }
    for (const option of OPTIONS.filter(({ modes }) => modes?.length === 1 && modes[0] === "pasta")) {
      const args = [`--${option.name}`, ...(option.argument === undefined ? [] : ["x"])]
      expectError(args, `--${option.name} is for pasta mode only`)
    }
    expectError(["-T", "22"], "-T is for pasta mode only")
    expectError(["--repair-path", "/tmp/r"], "--repair-path is not supported yet")
    expect(parse("--repair-path", "none").warnings).toEqual([])
  })
})

describe("parsePasst", () => {
  it("starts from the defaults", () => {
    const options = parse()
    expect(options).toMatchObject({ logLevel: "info", mtu: 65520, ipv4: true, ipv6: true, oneOff: false, fd: null })
    expect(options).toMatchObject({ mapGateway: true, dns4: { source: "host" }, search: { source: "host" } })
    expect(options.ports).toEqual([])
    expect(Object.isFrozen(options)).toBe(true)
    expect(Object.isFrozen(options.ports)).toBe(true)
  })

  it("reads what libvirt passes", () => {
    const options = parse(
      ...`--one-off --socket /run/s --pid /run/p --mtu 1400 --interface eth0 --log-file /var/log/l --hostname vm
      --fqdn vm.example.org --address 172.17.2.0 --netmask 24 --address 2001:db8:ac10:fd01::feed --gateway 172.17.2.1
      --tcp-ports 2001:db8:ac10:fd01::1:10%eth0/3000:3000 --udp-ports %eth0/all`.split(/\s+/),
    )
    expect(options).toMatchObject({ oneOff: true, socketPath: "/run/s", pidFile: "/run/p", mtu: 1400, prefix4: 24 })
    expect(options).toMatchObject({ interface: "eth0", logFile: "/var/log/l", hostname: "vm", fqdn: "vm.example.org" })
    expect(text(options.address.v4)).toBe("172.17.2.0")
    expect(text(options.address.v6)).toBe("2001:db8:ac10:fd01::feed")
    expect(text(options.gateway.v4)).toBe("172.17.2.1")
    expect(options.ports).toEqual([
      { protocol: "tcp", place: 0, spec: "2001:db8:ac10:fd01::1:10%eth0/3000:3000", written: "--tcp-ports" },
      { protocol: "udp", place: 0, spec: "%eth0/all", written: "--udp-ports" },
    ])
  })

  it("reads what QEMU passes", () => {
    const options = parse(
      ...`--quiet --mtu 1500 --dns 192.0.2.1 --no-dhcp-dns --no-dhcp-search --map-host-loopback 10.0.2.2
      --dns-forward 10.0.2.3 --no-icmp --ipv4-only`.split(/\s+/),
      "--search",
      "a.example b.example",
      ...`--pid /tmp/p --fd 3`.split(" "),
    )
    expect(options).toMatchObject({ logLevel: "warning", fd: 3, oneOff: true, ipv6: false, icmp: false, ndp: false })
    expect(options).toMatchObject({ announceDns: false, announceSearch: false, ra: false })
    expect(options.search).toEqual({ source: "given", values: ["a.example", "b.example"] })
    expect(options.dns4.values.map((words) => text(words))).toEqual(["192.0.2.1"])
    expect(text(options.mapHostLoopback.v4)).toBe("10.0.2.2")
    expect(text(options.dnsForward.v4)).toBe("10.0.2.3")
  })

  it.each([
    [["-d", "-q"], "warning"],
    [["-q", "-d"], "debug"],
    [["--trace", "-d"], "trace"],
    [["--trace", "-q"], "warning"],
    [["-q", "--trace"], "trace"],
  ])("settles the log level of %j", (args, level) => {
    expect(parse(...args).logLevel).toBe(level)
  })

  it("takes the IPv4 prefix from the length, the netmask, or the class", () => {
    expect(parse("-a", "10.1.2.3/20").prefix4).toBe(20)
    expect(parse("-a", "10.1.2.3", "-n", "255.255.240.0").prefix4).toBe(20)
    expect(parse("-n", "0").prefix4).toBe(0)
    expect(parse("-n", "0.0.0.0").prefix4).toBe(0)
    expect(parse("-n", "255.255.255.255").prefix4).toBe(32)
    expect(["10.1.2.3", "172.16.0.1", "192.0.2.1"].map((a) => parse("-a", a).prefix4)).toEqual([8, 16, 24])
    expect(parse("-a", "2001:db8::1/48").prefix4).toBe(null)
    expectError(["-a", "10.1.2.3/20", "-n", "20"], "Redundant prefix length specification")
    expectError(["-n", "20", "-a", "10.1.2.3/20"], "Redundant prefix length specification")
    expect(parse("-a", "2001:db8::1/64", "-a", "10.0.0.1", "-n", "24").prefix4).toBe(24)
  })

  it("takes the last of several addresses of a family, as callers rely on that put theirs before the user's", () => {
    const options = parse(
      ...`-a 10.0.0.1/8 -a 2001:db8::1 -a 10.0.0.2/24 --dns-forward 10.0.0.3 --dns-forward=10.0.0.4 --dns-host 192.0.2.1
      --dns-host 192.0.2.2 --map-host-loopback 10.0.0.5 --map-host-loopback 10.0.0.6 --map-guest-addr 10.0.0.7
      --map-guest-addr 10.0.0.8`.split(/\s+/),
    )
    const { address, dnsForward, dnsHost, mapHostLoopback, mapGuestAddress } = options
    const last = [address, dnsForward, dnsHost, mapHostLoopback, mapGuestAddress].map(({ v4 }) => text(v4))
    expect(last).toEqual(["10.0.0.2", "10.0.0.4", "192.0.2.2", "10.0.0.6", "10.0.0.8"])
    expect([text(address.v6), options.prefix4]).toEqual(["2001:db8::1", 24])
    // The length belongs to the address that it was written with.
    expect(parse("-a", "10.0.0.1/8", "-a", "192.0.2.1", "-n", "25").prefix4).toBe(25)
  })

  it("reads the MTU in C notation", () => {
    expect([parse("-m", "0x5dc").mtu, parse("-m", "02734").mtu, parse("-m", "0").mtu]).toEqual([1500, 1500, 0])
  })

  it("keeps gateways and sources per family, the last one of each", () => {
    const options = parse("-g", "10.0.0.1", "-g", "fe80::1", "-g", "10.0.0.2", "-o", "127.0.0.2")
    expect([text(options.gateway.v4), text(options.gateway.v6)]).toEqual(["10.0.0.2", "fe80::1"])
    expect(text(options.outboundAddress.v4)).toBe("127.0.0.2")
  })

  it("forgets name servers at none, and takes later ones", () => {
    const none = parse("-D", "192.0.2.1", "--dns-forward", "10.0.0.3", "--dns-host", "192.0.2.9", "-D", "none")
    expect(none).toMatchObject({ dns4: { source: "given", values: [] }, dns6: { source: "given", values: [] } })
    expect([none.dnsForward.v4, none.dnsHost.v4]).toEqual([null, null])
    const later = parse("-D", "none", "--dns-forward", "10.0.0.3", "-D", "2001:db8::53")
    expect(later.dns6.values.map((words) => text(words))).toEqual(["2001:db8::53"])
    expect(text(later.dnsForward.v4)).toBe("10.0.0.3")
  })

  it("leaves the other family with the host's name servers", () => {
    expect(parse("-D", "192.0.2.1")).toMatchObject({ dns4: { source: "given" }, dns6: { source: "host" } })
  })

  it("warns of name servers beyond the third", () => {
    const options = parse(...["1", "2", "3", "4"].flatMap((n) => ["-D", `192.0.2.${n}`]))
    expect(options.dns4.values.length).toBe(3)
    expect(options.warnings).toEqual(["More than 3 IPv4 name servers given: 192.0.2.4 is not announced"])
  })

  it("collects search domains up to six", () => {
    expect(parse("-S", "a  b ", "-S", "c").search.values).toEqual(["a", "b", "c"])
    expect(parse("-S", "a", "-S", "none").search).toEqual({ source: "given", values: [] })
    const domains = Array.from({ length: 65 }, (_, i) => `d${i}.example`)
    expect(parse("-S", domains.slice(0, 63).join("\t "), "-S", "last").search.values).toHaveLength(64)
    expectError(["-S", domains.join(" ")], "Too many DNS search domains (max 64): d64.example")
    expectError(["-S", ""], "Invalid DNS search domain: ''")
    expectError(["-S", "a..b"], "Invalid DNS search domain: a..b")
  })

  it("maps the gateway to the host unless told otherwise", () => {
    expect(parse("--map-host-loopback", "none")).toMatchObject({ mapGateway: false, mapHostLoopback: { v4: null } })
    const options = parse("--no-map-gw", "--map-host-loopback", "10.0.0.9", "--map-host-loopback", "fd00::9")
    expect(options.mapGateway).toBe(false)
    expect(text(options.mapHostLoopback.v6)).toBe("fd00::9")
    expect(parse("--map-guest-addr", "10.0.0.8", "--map-guest-addr", "none").mapGuestAddress.v4).toBe(null)
  })

  it("lets the last of -4 and -6 count", () => {
    expect(parse("-4", "-6")).toMatchObject({ ipv4: false, ipv6: true })
    expect(parse("-6", "-4")).toMatchObject({ ipv4: true, ipv6: false })
  })

  it("warns of MTUs too small for a family in use, but not of 0", () => {
    expect(parse("-m", "1279").warnings).toEqual(["MTU 1279 is too small for IPv6 (minimum 1280)"])
    expect(parse("-m", "1279", "-4").warnings).toEqual([])
    expect(parse("-m", "60", "-4").warnings).toEqual(["MTU 60 is too small for IPv4 (minimum 68)"])
    expect(parse("-m", "0")).toMatchObject({ mtu: 0, warnings: [] })
    expect(parse("-m", "65521").mtu).toBe(65521)
  })

  it("reads users and groups by name and number", () => {
    expect(parse("--runas", "1000").runAs).toMatchObject({ user: 1000, group: null })
    expect(parse("--runas", "0:0").runAs).toMatchObject({ user: 0, group: 0 })
    expect(parse("--runas", "nobody:65534").runAs).toMatchObject({ user: "nobody", group: 65534 })
    expectError(["--runas", "1:2:3"], "Invalid --runas option: 1:2:3")
    expectError(["--runas", ":5"], "Invalid --runas option: :5")
    expectError(["--runas", "4294967295"], "Invalid --runas option: 4294967295")
  })

  it("reads sizes in C notation", () => {
    expect(parse("--log-size", "0xa000").logSize).toBe(40960)
    expect(parse("--log-size", "0200000").logSize).toBe(65536)
    expectError(["--log-size", "40959"], "Invalid --log-size: 40959 (at least 40960 bytes)")
    expectError(["--log-size", "1M"], "Invalid --log-size: 1M (at least 40960 bytes)")
  })

  it("warns of the deprecated option and goes on", () => {
    expect(parse("--stderr").warnings).toEqual(["--stderr is deprecated and has no effect"])
  })

  it("answers inquiries where they stand", () => {
    expect(parsePasst(["-q", "--version", "--nonsense"])).toEqual({ inquiry: "version" })
    expect(parsePasst(["-t", "no such spec", "-h"])).toEqual({ inquiry: "help" })
    expect(() => parsePasst(["-m", "x", "--version"])).toThrow(ConfigError)
  })

  it.each([
    [["word"], "Extra non-option argument: word"],
    [["-q", "--", "-q"], "Extra non-option argument: -q"],
    [["-m", "1500x"], "Invalid MTU: 1500x"],
    [["-m", "-1"], "Invalid MTU: -1"],
    [["-m", "65522"], "MTU 65522 too large (max 65521)"],
    [["-a", "127.0.0.1"], "Invalid address: 127.0.0.1"],
    [["-a", "224.0.0.1"], "Invalid address: 224.0.0.1"],
    [["-a", "10.0.0.1/33"], "Invalid address: 10.0.0.1/33"],
    [["-a", "::1"], "Invalid address: ::1"],
    [["-a", "::ffff:10.0.0.1"], "Invalid address: ::ffff:10.0.0.1"],
    [["-n", "255.0.255.0"], "Invalid netmask: 255.0.255.0"],
    [["-n", "33"], "Invalid netmask: 33"],
    [["-g", "0.0.0.0"], "Invalid gateway address: 0.0.0.0"],
    [["-g", "255.255.255.255"], "Invalid gateway address: 255.255.255.255"],
    [["-M", "9a:55:9a:55:9a"], "Invalid MAC address: 9a:55:9a:55:9a"],
    [["-M", "9a:55:9a:55:9a:5"], "Invalid MAC address: 9a:55:9a:55:9a:5"],
    [["-M", "01:00:5e:00:00:01"], "Invalid MAC address: 01:00:5e:00:00:01 is not the address of a station"],
    [["-o", "::1"], "Invalid outbound address: ::1"],
    [["-o", "::10.0.0.1"], "Invalid outbound address: ::10.0.0.1"],
    [["-o", "0.0.0.0"], "Invalid outbound address: 0.0.0.0"],
    [["-i", "averyveryverylongname"], "Invalid interface name for -i: 'averyveryverylongname'"],
    [["--outbound-if4", "a/b"], "Invalid interface name for --outbound-if4: 'a/b'"],
    [["-D", "example.org"], "Invalid DNS address: example.org"],
    [["--dns-forward", "127.0.0.1"], "Invalid DNS forwarding address: 127.0.0.1"],
    [["--map-host-loopback", "127.0.0.1"], "Invalid address to remap to host: 127.0.0.1"],
    [["--map-guest-addr", "ff02::1"], "Invalid address to remap to host: ff02::1"],
    [["-H", "a".repeat(254)], `hostname too long (max 253 characters): ${"a".repeat(254)}`],
    [["-H", ""], "Invalid hostname: ''"],
    [["--fqdn", "a b"], "Invalid FQDN: 'a b'"],
    [["-F", "x"], "Invalid --fd: x"],
    [["-F", "-1"], "Invalid --fd: -1"],
    [["-F", "5", "-s", "/tmp/s"], "--fd and --socket can't be used together"],
    [["-s", ""], "Invalid path for -s: ''"],
    [["-s", "x".repeat(108)], `Socket path too long (max 107 bytes): ${"x".repeat(108)}`],
    [["-P", ""], "Invalid path for -P: ''"],
  ])("refuses %j", (args, message) => {
    expectError(args, message)
  })
})

describe("parsePasta", () => {
  function parsePastaRun(...args: string[]): PastaOptions {
    const parsed = parsePasta(args)
    if ("inquiry" in parsed) throw new Error(`asked for ${parsed.inquiry}`)
    return parsed
  }
  const ports = (options: PastaOptions): string[] => options.ports.map(({ written, spec }) => `${written} ${spec}`)

  it("starts from pasta's defaults", () => {
    const options = parsePastaRun()
    expect(options).toMatchObject({ announceDns: false, announceSearch: false, configure: false, ra: true, mtu: 65520 })
    expect(options).toMatchObject({
      splice: true,
      spliceOnly: false,
      toNamespaceLoopback: false,
      quitWithNamespace: true,
    })
    expect(options).toMatchObject({ tapName: null, tapMac: null, copyAddresses: true, copyRoutes: true })
    expect(ports(options)).toEqual(["-t auto", "-u auto", "-T auto", "-U auto"])
    expect(Object.isFrozen(options)).toBe(true)
    expect(Object.isFrozen(options.target)).toBe(true)
  })

  it("reads what Podman passes", () => {
    const options = parsePastaRun(
      ...`--config-net -t 127.0.0.1/8080-8080:80-80 --dns-forward 169.254.1.1 -u none -T none -U none --no-map-gw --quiet
      --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2`.split(/\s+/),
    )
    expect(options).toMatchObject({ configure: true, ra: false, mapGateway: false, logLevel: "warning" })
    expect(options).toMatchObject({ target: { kind: "file", path: "/run/user/1000/netns/netns-1" }, foreground: false })
    expect(text(options.dnsForward.v4)).toBe("169.254.1.1")
    expect(ports(options)).toEqual(["-t 127.0.0.1/8080-8080:80-80", "-u none", "-T none", "-U none"])
  })

  it("reads what rootlesskit passes", () => {
    const options = parsePastaRun(
      ...`--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2
      --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto 1234`.split(/\s+/),
    )
    expect(options).toMatchObject({ tapName: "tap0", prefix4: 24, ipv6: false, target: { kind: "process", pid: 1234 } })
    const detached = parsePastaRun("--userns=/proc/1/ns/user", "--netns=/proc/1/root/x/netns")
    expect(detached.target).toEqual({ kind: "file", path: "/proc/1/root/x/netns" })
  })

  it("takes names for files of ip-netns", () => {
    expect(parsePastaRun("--netns", "blue").target).toEqual({ kind: "file", path: "/run/netns/blue" })
  })

  it("spawns what stands behind the options, in the foreground and quietly", () => {
    const target = (...args: string[]) => parsePastaRun(...args).target
    expect(target()).toEqual({ kind: "command", words: [] })
    expect(target("ip", "-d", "link")).toEqual({ kind: "command", words: ["ip", "-d", "link"] })
    expect(target("--", "-x", "1")).toEqual({ kind: "command", words: ["-x", "1"] })
    expect(target("12", "13")).toEqual({ kind: "command", words: ["12", "13"] })
    expect(target("12x")).toEqual({ kind: "command", words: ["12x"] })
    expect(parsePastaRun("true")).toMatchObject({ foreground: true, logLevel: "warning" })
    expect(parsePastaRun("-d", "true")).toMatchObject({ foreground: true, logLevel: "debug" })
    expect(parsePastaRun("12")).toMatchObject({ foreground: false, logLevel: "info" })
  })

  it("opens no ports of a protocol that is off, and none that were given otherwise", () => {
    expect(ports(parsePastaRun("--no-udp", "-T", "none"))).toEqual(["-T none", "-t auto"])
  })

  it("announces names where asked to", () => {
    expect(parsePastaRun("--dhcp-dns", "--dhcp-search")).toMatchObject({ announceDns: true, announceSearch: true })
  })

  it("has no interface, ping and names with --splice-only", () => {
    const options = parsePastaRun("--splice-only", "-D", "192.0.2.1", "-S", "a.example")
    expect(options).toMatchObject({ toNamespaceLoopback: true, icmp: false, ndp: false })
    expect([options.dns4, options.dns6, options.search]).toEqual(Array(3).fill({ source: "given", values: [] }))
  })

  it.each<[string[], string]>([
    [["--netns", "x", "12"], "--netns can't be combined with a PID or a command: 12"],
    [["--netns", "x", "true"], "--netns can't be combined with a PID or a command: true"],
    [["--netns", ""], "Invalid path for --netns: ''"],
    [["--userns", ""], "Invalid path for --userns: ''"],
    [["0"], "Invalid PID: 0"],
    [["99999999999999999999"], "Invalid PID: 99999999999999999999"],
    [["--no-pidns", "12"], "--no-pidns needs a command to spawn"],
    [["--no-pidns", "--netns", "x"], "--no-pidns needs a command to spawn"],
    [["--no-copy-routes"], "--no-copy-routes needs --config-net"],
    [["--no-copy-addrs"], "--no-copy-addrs needs --config-net"],
    [["--no-splice", "--splice-only"], "--no-splice and --splice-only can't be used together"],
    [["--no-splice", "--host-lo-to-ns-lo"], "--no-splice and --host-lo-to-ns-lo can't be used together"],
    [["-I", "a/b"], "Invalid interface name for -I: 'a/b'"],
    [["--ns-mac-addr", "01:00:00:00:00:00"], "Invalid MAC address: 01:00:00:00:00:00 is not the address of a station"],
    [["-s", "/tmp/s"], "-s is for passt mode only"],
    [["-F", "3"], "-F is for passt mode only"],
    [["--one-off"], "--one-off is for passt mode only"],
    [["--vhost-user"], "--vhost-user is for passt mode only"],
    [["--no-dhcp-dns"], "--no-dhcp-dns is for passt mode only"],
    [["--repair-path", "/x"], "--repair-path is for vhost-user mode only"],
    [["--migrate-exit"], "--migrate-exit is for vhost-user mode only"],
    [["--stats", "1"], "Can't display statistics if not running in foreground"],
    [["--stats", "1", "-f"], "Can't display statistics if not running in foreground"],
    [["-f", "--stats", "1s"], "Invalid --stats: 1s (seconds, at most 86400)"],
  ])("refuses %j", (args, message) => {
    expect(() => parsePasta(args)).toThrow(new ConfigError(message))
  })

  it("warns of what will be gone", () => {
    const options = parsePastaRun("--config-net", "--no-copy-routes", "--no-copy-addrs", "--repair-path", "none")
    expect(options).toMatchObject({ copyAddresses: false, copyRoutes: false })
    expect(options.warnings).toEqual(["--no-copy-routes is deprecated", "--no-copy-addrs is deprecated"])
  })
})
