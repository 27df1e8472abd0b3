/**
 * Parsers of what the host, its kernel and its user say: resolv.conf, netlink, addresses, port specifications, command
 * lines. Sound texts and messages, cut up and put together anew. A parser may refuse, in its own words; it must not
 * fall over, and what it accepts must keep the promises of its types.
 */
import { address } from "../../packages/core/src/wire/index.ts"
import { ConfigError, UsageError } from "../../packages/cli/src/config-error.ts"
import { formatRule, rulesConflict } from "../../packages/cli/src/forward-rule.ts"
import { OPTIONS } from "../../packages/cli/src/options.ts"
import { parsePasst, parsePasta } from "../../packages/cli/src/parse.ts"
import { parsePortOptions, type PortContext, type PortOption } from "../../packages/cli/src/port-spec.ts"
import { encodeSearch as encodeDhcpSearch } from "../../packages/dhcp/src/names.ts"
import { describeHost, HostError, readSnapshot } from "../../packages/host/src/host.ts"
import { NeighbourMonitor } from "../../packages/host/src/neighbour-monitor.ts"
import { parseAddress } from "../../packages/host/src/netlink/address.ts"
import { parseLink } from "../../packages/host/src/netlink/link.ts"
import { eachMessage, HOST_ORDER } from "../../packages/host/src/netlink/message.ts"
import { parseNeighbour } from "../../packages/host/src/netlink/neighbour.ts"
import { parseRoute } from "../../packages/host/src/netlink/route.ts"
import { NetlinkError, outcome } from "../../packages/host/src/netlink/socket.ts"
import { parseResolvConf } from "../../packages/host/src/resolv-conf.ts"
import { readSettings } from "../../packages/host/src/sysctl.ts"
import * as dumps from "../../packages/host/src/test-support/dumps.ts"
import { ScriptedNetlink, withSequence } from "../../packages/host/src/test-support/scripted-netlink.ts"
import { encodeSearch } from "../../packages/ndp/src/names.ts"
import { Random } from "./random.ts"
import { Failure, hex, type Target } from "./target.ts"

/** Runs cases of each parser per seed, so that a case is not over before it began. */
const ROUNDS = 40

function must(holds: boolean, what: string, input: unknown): void {
  if (!holds) throw new Failure(`${what}: ${typeof input === "string" ? JSON.stringify(input) : JSON.stringify(input)}`)
}

/** Runs something that may refuse. @returns its result, undefined if it refused
 * @throws whatever else it throws, with the input */
function allowed<T>(
  run: () => T,
  refusals: readonly (new (...args: never[]) => Error)[],
  input: unknown,
): T | undefined {
  try {
    return run()
  } catch (error) {
    if (refusals.some((refusal) => error instanceof refusal)) {
      must(!(error as Error).message.includes("\n"), `a refusal of several lines: ${(error as Error).message}`, input)
      return undefined
    }
    throw new Failure(`${(error as Error).stack}\nfor ${JSON.stringify(input)}`)
  }
}

const ADDRESSES: readonly string[] = [
  "192.0.2.1",
  "0.0.0.0",
  "127.0.0.1",
  "255.255.255.255",
  "224.0.0.1",
  "::",
  "::1",
  "2001:db8::1",
  "fe80::1",
  "ff02::1",
  "::ffff:192.0.2.1",
  "::192.0.2.1",
  "1:2:3:4:5:6:7:8",
  "1::8",
]
const PIECES: readonly string[] = [
  ...ADDRESSES,
  ..."0 1 22 80 443 1023 65535 65536 99999999999 007 -1 0x10 1e3 ٣ ∞".split(" "),
  ..."% / : , - ~ * [ ] . ; # = \\ \" ' \0 \t \r \n".split(" "),
  "\n",
  "\t",
  " ",
  "",
  "é",
  "\ud800",
  "none",
  "auto",
  "all",
  "eth0",
  "lo",
  "verylonginterfacename0",
  "example.org",
  "xn--bcher-kva.example",
  "bücher.example",
  "a".repeat(63),
  "a".repeat(64),
  `${"a.".repeat(126)}a`,
  "x".repeat(5000),
]

/** Something like the text, or not. */
function spoilText(r: Random, text: string): string {
  let out = text
  for (let i = r.below(4); i > 0; i--) {
    const at = r.below(out.length + 1)
    switch (r.below(4)) {
      case 0:
        out = out.slice(0, at) + r.pick(PIECES) + out.slice(at)
        break
      case 1:
        out = out.slice(0, at) + out.slice(at + r.below(6))
        break
      case 2:
        out = out.slice(0, at) + String.fromCharCode(r.chance(0.8) ? r.below(128) : r.below(65_536)) + out.slice(at + 1)
        break
      default:
        out += out.slice(at, at + r.below(20))
    }
  }
  return out
}

function resolvConf(r: Random): void {
  const lines = Array.from({ length: r.below(8) }, () =>
    spoilText(
      r,
      r.pick([
        `nameserver ${r.pick(ADDRESSES)}`,
        "nameserver fe80::1%eth0",
        "search example.org corp.example.",
        "domain example.org # comment",
        "options ndots:2",
        "; comment",
        "",
      ]),
    ),
  )
  const text = lines.join(r.pick(["\n", "\n", "\r\n"]))
  const found = allowed(() => parseResolvConf(text), [], text)!
  must(found.servers.length <= 32 && found.search.length <= 64, "limits of resolv.conf", text)
  must(
    found.servers.every((server) => address.isUnicast(server.address, 0)),
    "a server that can't be one",
    text,
  )
  for (const domain of found.search) {
    must(/^[\x21-\x7e]{1,253}$/.test(domain) && !domain.endsWith("."), `domain ${JSON.stringify(domain)}`, text)
  }
  // What was read is read again the same way.
  const again = parseResolvConf(
    [
      ...found.servers.map((s) => `nameserver ${address.format(s.address)}${s.zone === "" ? "" : `%${s.zone}`}`),
      `search ${found.search.join(" ")}`,
    ].join("\n"),
  )
  must(JSON.stringify(again) === JSON.stringify(found), "resolv.conf, read again", text)
  for (const compressed of [true, false]) encodeDhcpSearch(found.search, compressed, r.below(2000))
  const room = r.below(1200) & ~7
  must(encodeSearch(found.search, room).length <= room, "a search list longer than its room", text)
}

function addresses(r: Random): void {
  const text = spoilText(r, r.pick(ADDRESSES))
  const parsed = allowed(() => address.parse(text), [], text)
  if (parsed)
    must(address.equal(address.parse(address.format(parsed))!, 0, parsed, 0), "an address, written and read", text)
  const words = Int32Array.from({ length: 4 }, () => r.pick([0, -1, 1, 0xffff, 0x20010db8, 0x10000, r.word()]))
  must(address.equal(address.parse(address.format(words))!, 0, words, 0), "an address, written and read", [...words])
}

function portSpec(r: Random): string {
  const port = (): string => r.pick(["22", "80", "443", "1000", "1", "65535", "0", "65536", `${r.below(70_000)}`])
  const range = (): string => (r.chance(0.5) ? port() : `${port()}-${port()}`)
  const chunk = (): string => {
    switch (r.below(6)) {
      case 0:
        return `~${range()}`
      case 1:
        return r.pick(["all", "auto", "none", "all:192.0.2.9"])
      case 2:
        return `${range()}:${range()}`
      case 3:
        return `${range()}:${r.pick(ADDRESSES)}`
      case 4:
        return `${range()}:${r.pick(ADDRESSES)}/${range()}`
      default:
        return range()
    }
  }
  const listen = r.pick(["", "", "*/", "/", "%lo/", "*%eth0/", `${r.pick(ADDRESSES)}/`, `[${r.pick(ADDRESSES)}]%eth0/`])
  const spec = listen + Array.from({ length: r.between(1, r.chance(0.05) ? 300 : 4) }, chunk).join(",")
  return r.chance(0.5) ? spec : spoilText(r, spec)
}

function ports(r: Random): void {
  const options: PortOption[] = Array.from({ length: r.between(1, 4) }, () => ({
    protocol: r.pick(["tcp", "udp"] as const),
    place: r.chance(0.8) ? 0 : 1,
    spec: portSpec(r),
    written: "-t",
  }))
  const first = r.between(1, 65_535)
  const context: PortContext = {
    ipv4: r.chance(0.9),
    ipv6: r.chance(0.9),
    tcp: r.chance(0.9),
    udp: r.chance(0.9),
    ephemeralFirst: first,
    ephemeralLast: r.between(first, 65_535),
    auto: r.chance(0.5),
  }
  const input = { options, context }
  const rules = allowed(() => parsePortOptions(options, context), [ConfigError], input) ?? []
  must(rules.length <= 255, "more rules than there may be", input)
  rules.forEach((rule, i) => {
    const to = rule.targetFirst + rule.last - rule.first
    must(rule.first >= 1 && rule.last >= rule.first && rule.last <= 65_535, "ports of a rule", { input, rule })
    must(rule.targetFirst >= 1 && to <= 65_535, "target ports of a rule", { input, rule })
    must(context[rule.protocol], "a rule of a protocol that is off", { input, rule })
    must(!formatRule(rule).includes("undefined"), "a rule as text", { input, rule })
    must(!rules.some((other, k) => k < i && rulesConflict(other, rule)), "rules that conflict", input)
  })
}

const VALUES: readonly string[] = [
  ...ADDRESSES,
  "192.0.2.1/24",
  "10.0.0.5/33",
  "52:54:00:12:34:56",
  "1500",
  "0",
  "/tmp/x",
  "65534:65534",
  "root",
]

function commandLine(r: Random): void {
  const words = Array.from({ length: r.below(8) }, () => {
    const option = r.pick(OPTIONS)
    const name = option.short !== undefined && r.chance(0.4) ? `-${option.short}` : `--${option.name}`
    const spelled = r.chance(0.1) ? name.slice(0, r.between(1, name.length)) : name
    if (option.argument === undefined && r.chance(0.95)) return [spelled]
    const value = spoilText(r, r.chance(0.3) ? portSpec(r) : r.pick(VALUES))
    return r.chance(0.5) ? [spelled, value] : [`${spelled}${spelled.startsWith("--") ? "=" : ""}${value}`]
  }).flat()
  if (r.chance(0.1)) words.splice(r.below(words.length + 1), 0, r.pick(["--", "-", "", "sh", "-1", "--="]))
  for (const parse of [parsePasst, parsePasta]) {
    const options = allowed(() => parse(words), [ConfigError, UsageError], words)
    if (options === undefined || "inquiry" in options) continue
    must(options.mtu >= 0 && options.mtu <= 65_521, "an MTU", words)
    must(options.ipv4 || options.ipv6, "no family", words)
    for (const given of [options.dns4, options.dns6]) must(given.values.length <= 3, "name servers", words)
    must(options.search.values.length <= 6, "search domains", words)
    const prefix = options.prefix4
    must(prefix === null || (prefix >= 0 && prefix <= 32), "a prefix length", words)
    const context = { ephemeralFirst: 32_768, ephemeralLast: 60_999, auto: parse === parsePasta }
    allowed(() => parsePortOptions(options.ports, { ...options, ...context }), [ConfigError], words)
  }
}

const MESSAGES: readonly Uint8Array[] = Object.values(dumps).map((text) =>
  Uint8Array.from(Buffer.from(text.replaceAll(/\s+/g, ""), "hex")),
)

/** Messages that are sound but for some bytes. */
function datagram(r: Random): Uint8Array<ArrayBuffer> {
  const parts = Array.from({ length: r.between(1, 4) }, () => {
    const part = r.chance(0.8) ? r.pick(MESSAGES).slice() : r.bytes(r.between(16, 80))
    const view = new DataView(part.buffer)
    if (r.chance(0.3)) view.setUint32(0, r.chance(0.5) ? part.length : r.edge(r.pick([8, 16, 32])), HOST_ORDER)
    // Other kinds: done, error with and without attributes, links, addresses, routes, neighbours.
    if (r.chance(0.4)) view.setUint16(4, r.pick([1, 2, 3, 4, 16, 20, 24, 28, 29]), HOST_ORDER)
    if (r.chance(0.4)) view.setUint16(6, r.pick([0, 2, 0x10, 0x100, 0x200, 0x300, r.below(65_536)]), HOST_ORDER)
    for (let i = r.below(5); i > 0; i--) part[r.below(part.length)] = r.edge(8)
    if (r.chance(0.2) && part.length >= 20) view.setInt32(16, r.pick([-1, -22, -95, 0, 1, r.word()]), HOST_ORDER)
    return part
  })
  const whole = Uint8Array.from(Buffer.concat(parts))
  return r.chance(0.2) ? whole.slice(0, r.below(whole.length + 1)) : whole
}

function netlink(r: Random): void {
  const bytes = datagram(r)
  // In the middle of a larger block, with poison around: the parsers must stay within their view.
  const results = [0x00, 0xff].map((poison) => {
    const block = new Uint8Array(bytes.length + 512).fill(poison)
    block.set(bytes, 256)
    const view = new DataView(block.buffer, 256, bytes.length)
    const found: unknown[] = []
    try {
      eachMessage(view, bytes.length, (message) => {
        must(message.start >= 16 && message.end <= bytes.length, "a message outside of its datagram", hex(bytes))
        for (const parse of [parseLink, parseAddress, parseRoute, parseNeighbour]) found.push(parse(view, message))
        found.push(outcome(view, message)?.message)
      })
    } catch (error) {
      throw new Failure(`${(error as Error).stack}\nfor ${hex(bytes)}`)
    }
    return JSON.stringify(found)
  })
  must(results[0] === results[1], "bytes outside of a datagram have an effect", hex(bytes))
}

const SYSCTLS: readonly string[] = [
  "1",
  "0",
  "6\n",
  "32768\t60999\n",
  "60999 32768",
  "-1",
  "",
  "99999999999",
  "1 2 3",
  "x",
  "1e3",
]

/** A whole conversation: dumps that the kernel answers with anything, and what is made of them. */
function host(r: Random): void {
  const script = (sequence: number): readonly (Uint8Array | number)[] => {
    const answers: (Uint8Array | number)[] = []
    for (let i = r.below(4); i > 0; i--) {
      if (r.chance(0.05)) answers.push(-r.pick([11, 105, 90]))
      else answers.push(answer(datagram(r), r.chance(0.9) ? sequence : 0))
    }
    answers.push(answer(done(r), sequence))
    return answers
  }
  const name = r.chance(0.3) ? { interfaceName: r.pick(["v0", "v1", "lo", "x"]) } : {}
  const settings = readSettings(() => (r.chance(0.9) ? spoilText(r, r.pick(SYSCTLS)) : undefined))
  const [low, high] = settings.ephemeralPorts
  must(low >= 1 && high >= low && high <= 65_535, "ephemeral ports", settings)
  const refusals = [NetlinkError, HostError]
  const snapshot = allowed(() => readSnapshot(new ScriptedNetlink(script)), refusals, "netlink")
  if (snapshot) {
    const described = allowed(() => describeHost(snapshot, name, settings, r.chance(0.8)), refusals, snapshot)
    if (described?.ipv4) must(address.isUnicast(described.ipv4.address, 0), "an address that is none", snapshot)
    // Without one upstream, the guest has none but link-local IPv6.
    const six = described?.ipv6?.address
    if (six) must(address.isUnicast(six, 0) || six.every((word) => word === 0), "an address that is none", snapshot)
  }
  const calls = new ScriptedNetlink(script)
  allowed(
    () => {
      let changes = 0
      const monitor = new NeighbourMonitor({ interfaceIndex4: 3, interfaceIndex6: 3, onChange: () => changes++ }, calls)
      for (let i = 0; i < 3; i++) {
        monitor.process()
        calls.queue.push(datagram(r))
      }
      monitor.close()
    },
    refusals,
    "neighbours",
  )
}

function done(r: Random): Uint8Array {
  const bytes = new Uint8Array(20)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 20, HOST_ORDER)
  view.setUint16(4, r.chance(0.9) ? 3 : 2, HOST_ORDER)
  if (r.chance(0.1)) view.setInt32(16, -r.pick([1, 16, 22, 95]), HOST_ORDER)
  return bytes
}

/** A datagram in which each message answers a request. */
function answer(bytes: Uint8Array, sequence: number): Uint8Array {
  if (bytes.length < 16) return bytes
  const copy = withSequence(bytes, sequence)
  const view = new DataView(copy.buffer, copy.byteOffset, copy.length)
  eachMessage(view, copy.length, (message) => view.setUint32(message.start - 8, sequence, HOST_ORDER))
  return copy
}

export const parserTarget: Target = {
  name: "parsers",
  run(seed) {
    const r = new Random(seed)
    for (let i = 0; i < ROUNDS; i++) {
      resolvConf(r)
      addresses(r)
      ports(r)
      commandLine(r)
      netlink(r)
      if (i % 8 === 0) host(r)
    }
  },
}
