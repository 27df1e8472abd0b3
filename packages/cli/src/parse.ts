/**
 * The command line of passt and pasta: words to a checked, immutable configuration. Later options override earlier ones unless
 * the option says otherwise. What only the host can answer (whether an interface or a user exists, what the template
 * interface has) is left to the program, and so are port specifications, which depend on the families in use.
 */
import { PLACE_HOST, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"
import { ConfigError } from "./config-error.ts"
import { getopt, type GetoptTable, type OptionSpelling } from "./getopt.ts"
import { OPTIONS } from "./options.ts"
import type { OptionSpec } from "./option-spec.ts"
import type { PortOption } from "./port-spec.ts"
import {
  classPrefix,
  isDomainName,
  isInterfaceName,
  isPath,
  parseAddress,
  parseCNumber,
  parseDecimal,
  parseMac,
  parseNetmask,
  parsePrefixedAddress,
  type Address,
  type AddressWords,
} from "./values.ts"

export type LogLevel = "warning" | "info" | "debug" | "trace"

/** One value per family; null: not given. IPv4 in mapped form. */
export interface PerFamily<T> {
  readonly v4: T | null
  readonly v6: T | null
}

/** User and group to change to. Names are yet to be looked up. A null group: that of the same number as a numeric user,
 * or the primary group of a named one. A named user must not be root; a numeric 0 may. */
export interface RunAs {
  readonly user: string | number
  readonly group: string | number | null
  /** The argument as given, for messages. */
  readonly text: string
}

/** Servers or domains: the host's own, the given ones, or none (empty list with source "given"). */
export interface Given<T> {
  readonly source: "host" | "given"
  readonly values: readonly T[]
}

/** What both programs know. "Guest" is the machine behind passt, or the namespace behind pasta. */
export interface CommonOptions {
  readonly logLevel: LogLevel
  readonly foreground: boolean
  readonly logFile: string | null
  /** Bytes; at least LOG_SIZE_MIN. */
  readonly logSize: number
  readonly runAs: RunAs | null
  readonly pidFile: string | null
  readonly pcapFile: string | null
  /** Seconds between rows of statistics on standard error; 0: none. */
  readonly statsSeconds: number
  /** Where the control socket is to be; null: there is none. */
  readonly controlPath: string | null
  /** Where the socket for pesto is to be; null: there is none. */
  readonly configPath: string | null
  /** Where metrics are served over HTTP; null: nowhere. */
  readonly metrics: { readonly address: Int32Array; readonly port: number; readonly text: string } | null
  /** The policy's file; null: there is none. */
  readonly policyFile: string | null

  /** Families that may be used. Not both false. */
  readonly ipv4: boolean
  readonly ipv6: boolean
  /** Template interface; null: by the default route, or `outboundInterface`. */
  readonly interface: string | null
  readonly address: PerFamily<AddressWords>
  /** IPv4 prefix length, 0…32; null: that of the template. Always set when `address.v4` is. */
  readonly prefix4: number | null
  readonly gateway: PerFamily<AddressWords>
  /** Six bytes; null: the default. */
  readonly mac: Uint8Array | null
  /** Bytes of IP packet to announce, 0…MTU_MAX; 0: none. */
  readonly mtu: number
  readonly outboundAddress: PerFamily<AddressWords>
  readonly outboundInterface: PerFamily<string>
  /** Whether changes of the host's network are followed. */
  readonly followHost: boolean

  /** Name servers to announce: at most DNS_SERVER_MAX per family, in their order. Servers given for one family leave the
   * other with the host's. */
  readonly dns4: Given<AddressWords>
  readonly dns6: Given<AddressWords>
  readonly dnsForward: PerFamily<AddressWords>
  readonly dnsHost: PerFamily<AddressWords>
  /** At most SEARCH_DOMAIN_MAX domains. */
  readonly search: Given<string>
  /** Whether servers and domains are announced. */
  readonly announceDns: boolean
  readonly announceSearch: boolean
  readonly hostname: string | null
  readonly fqdn: string | null

  readonly tcp: boolean
  readonly udp: boolean
  /** ICMP and ICMPv6 echo. */
  readonly icmp: boolean
  readonly dhcp: boolean
  readonly dhcpv6: boolean
  /** Neighbour discovery; off with `icmp`, too. */
  readonly ndp: boolean
  /** Router advertisements; off with `ndp`, too. */
  readonly ra: boolean

  /** Address at which the guest reaches the host's loopback; null: the gateway if `mapGateway`, else none. */
  readonly mapHostLoopback: PerFamily<AddressWords>
  readonly mapGateway: boolean
  readonly mapGuestAddress: PerFamily<AddressWords>

  readonly freebind: boolean
  /** Whether chroot(2) will do where pivot_root(2) does not work. */
  readonly chrootFallback: boolean
  /** Whether the running program is confined to memory that it has and a few system calls. */
  readonly seal: boolean
  /** `-t` and `-u`, in pasta `-T` and `-U` too, for parsePortOptions once the families are known. */
  readonly ports: readonly PortOption[]
  /** Warnings for the user, one line each, to be shown at whatever log level. */
  readonly warnings: readonly string[]
}

export interface PasstOptions extends CommonOptions {
  /** Path to listen on; null: the first free default path, or `fd`. At most 107 bytes. */
  readonly socketPath: string | null
  /** Number of the connected socket as given by the user; the launcher has moved it. Null: none. */
  readonly fd: number | null
  /** Exit when the guest disconnects; set with `fd`, too. */
  readonly oneOff: boolean
  /** Whether the socket speaks vhost-user instead of frames. */
  readonly vhostUser: boolean
}

/** The namespace to serve. The launcher reads the same words, and has joined or made it already. */
export type Target =
  | { readonly kind: "process"; readonly pid: number }
  | { readonly kind: "file"; readonly path: string }
  /** No words: the user's shell. */
  | { readonly kind: "command"; readonly words: readonly string[] }

export interface PastaOptions extends CommonOptions {
  readonly target: Target
  /** Whether to exit when the network namespace of a file or process is gone. */
  readonly quitWithNamespace: boolean
  /** Name of the interface in the namespace; null: that of the template interface. */
  readonly tapName: string | null
  /** Six bytes; null: the kernel's choice. */
  readonly tapMac: Uint8Array | null
  /** Whether to set the interface up: link, addresses, routes. */
  readonly configure: boolean
  /** With `configure`: all of the template's, or just the guest's address and a default route. */
  readonly copyAddresses: boolean
  readonly copyRoutes: boolean
  /** Whether loopback connections take the short cut from socket to socket. */
  readonly splice: boolean
  /** No interface in the namespace at all. */
  readonly spliceOnly: boolean
  /** Spliced connections lead to the namespace's loopback instead of its address. */
  readonly toNamespaceLoopback: boolean
}

/** 65535 bytes of frame less the Ethernet header. */
export const MTU_MAX = 65_521
/** MTU_MAX rounded down to whole 32-bit words. */
export const MTU_DEFAULT = 65_520
/** Smallest MTU that IPv4 (RFC 791 section 3.2) and IPv6 (RFC 8200 section 5) allow on a link. */
export const MTU_MIN_IPV4 = 68
export const MTU_MIN_IPV6 = 1280
export const LOG_SIZE_DEFAULT = 1_048_576
/** Five longest messages of 8 KiB: what rotation needs as room. */
export const LOG_SIZE_MIN = 40_960
export const DNS_SERVER_MAX = 3
/** More than any resolver takes; how many of them fit into an answer is for DHCP and router advertisements to decide. */
export const SEARCH_DOMAIN_MAX = 64
/** sockaddr_un's path less its final zero. */
export const SOCKET_PATH_MAX = 107
/** Longest host name that fits DNS. */
const HOSTNAME_MAX = 253
/** (uid_t) -1 means "no change" to the kernel. */
const ID_MAX = 0xffff_fffe
/** PID_MAX_LIMIT of 64-bit kernels (linux/threads.h). */
const PID_MAX = 4_194_304

/** The command line asked for a text instead of a run; what comes after was not looked at. */
export interface Inquiry {
  readonly inquiry: "help" | "version" | "print-capabilities"
}

type Program = "passt" | "pasta"

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

type AllOptions = PasstOptions & PastaOptions

/** The configuration while it is read. Lists grow, slots fill; `freeze` freezes what comes of it. */
interface Draft {
  readonly options: Mutable<AllOptions>
  readonly ports: PortOption[]
  readonly warnings: string[]
  netmask: number | null
  addressPrefix4: number | null
  /** Of --netns, as it is to be opened. */
  netnsPath: string | null
  ownPids: boolean
}

type Handler = (draft: Draft, value: string, written: string) => void

/**
 * Parses the words after the program's name.
 * @throws UsageError for words that can't be read, ConfigError for values that can't be honoured.
 */
export function parsePasst(args: readonly string[]): PasstOptions | Inquiry {
  const draft = emptyDraft()
  const operands = readWords("passt", args, draft)
  if (!Array.isArray(operands)) return operands
  if (operands.length > 0) throw new ConfigError(`Extra non-option argument: ${operands[0]}`)
  return finish(draft)
}

/** As parsePasst, for pasta. */
export function parsePasta(args: readonly string[]): PastaOptions | Inquiry {
  const draft = emptyDraft()
  const { options } = draft
  options.announceDns = false
  options.announceSearch = false
  const operands = readWords("pasta", args, draft)
  if (!Array.isArray(operands)) return operands
  options.target = chooseTarget(draft, operands)
  if (options.target.kind === "command") {
    options.foreground = true
    // The terminal is the command's.
    if (options.logLevel === "info") options.logLevel = "warning"
  }
  finishNamespace(draft)
  return finish(draft)
}

/** Reads the options. @returns the words after them */
function readWords(program: Program, args: readonly string[], draft: Draft): string[] | Inquiry {
  const words = getopt(args, GETOPT_TABLE)
  let word = words.next()
  while (!word.done) {
    const { id, value, written } = word.value
    if (id === "help" || id === "version") return { inquiry: id }
    if (id === "print-capabilities" && program === "passt") return { inquiry: id }
    const spec = SPEC_BY_NAME.get(id)!
    refuseUnavailable(program, spec, written, value)
    HANDLERS[id]!(draft, value ?? "", written)
    word = words.next()
  }
  return args.slice(word.value)
}

function chooseTarget(draft: Draft, operands: string[]): Target {
  const [first = ""] = operands
  let target: Target = { kind: "command", words: Object.freeze(operands) }
  if (draft.netnsPath !== null) {
    if (operands.length > 0) throw new ConfigError(`--netns can't be combined with a PID or a command: ${first}`)
    target = { kind: "file", path: draft.netnsPath }
  } else if (operands.length === 1 && /^\d+$/.test(first)) {
    const pid = parseDecimal(first)
    if (pid === undefined || pid === 0 || pid > PID_MAX) throw new ConfigError(`Invalid PID: ${first}`)
    target = { kind: "process", pid }
  }
  if (!draft.ownPids && target.kind !== "command") throw new ConfigError("--no-pidns needs a command to spawn")
  return Object.freeze(target)
}

/** Options of pasta that depend on each other. */
function finishNamespace({ options, ports }: Draft): void {
  if (!options.configure && !(options.copyRoutes && options.copyAddresses)) {
    throw new ConfigError(`--no-copy-${options.copyRoutes ? "addrs" : "routes"} needs --config-net`)
  }
  if (!options.splice) {
    const rival = options.spliceOnly ? "--splice-only" : "--host-lo-to-ns-lo"
    if (options.spliceOnly || options.toNamespaceLoopback) {
      throw new ConfigError(`--no-splice and ${rival} can't be used together`)
    }
  }
  if (options.spliceOnly) {
    options.toNamespaceLoopback = true
    options.icmp = false
    options.dns4 = { source: "given", values: [] }
    options.dns6 = { source: "given", values: [] }
    options.search = { source: "given", values: [] }
  }
  if (options.configure) options.ra = false
  for (const [written, protocol, place] of [
    ["-t", "tcp", PLACE_HOST],
    ["-u", "udp", PLACE_HOST],
    ["-T", "tcp", PLACE_NAMESPACE],
    ["-U", "udp", PLACE_NAMESPACE],
  ] as const) {
    const given = ports.some((option) => option.protocol === protocol && option.place === place)
    if (!given && options[protocol]) ports.push({ protocol, place, spec: "auto", written })
  }
}

/** A day: what is shown less often is of no use, and milliseconds fit 31 bits. */
const STATS_SECONDS_MAX = 86_400

const SPEC_BY_NAME: ReadonlyMap<string, OptionSpec> = new Map(OPTIONS.map((option) => [option.name, option]))

/** The option table as getopt wants it. */
export const GETOPT_TABLE: GetoptTable = {
  short: OPTIONS.filter((option) => option.short !== undefined).map((option) => spelling(option, option.short!)),
  long: OPTIONS.flatMap((option) => [option.name, ...(option.aliases ?? [])].map((name) => spelling(option, name))),
}

function spelling(option: OptionSpec, text: string): OptionSpelling {
  return { spelling: text, id: option.name, takesArgument: option.argument !== undefined }
}

function refuseUnavailable(program: Program, spec: OptionSpec, written: string, value: string | null): void {
  // A path makes sense only where guests migrate; callers may say explicitly that there is none.
  if (spec.name === "repair-path" && value === "none") return
  if (program === "pasta" && spec.modes && !spec.modes.includes("pasta")) {
    throw new ConfigError(`${written} is for ${spec.modes[0]} mode only`)
  }
  if (program === "passt" && spec.modes?.length === 1 && spec.modes[0] === "pasta") {
    throw new ConfigError(`${written} is for pasta mode only`)
  }
  const planned = spec.status === "planned" || spec.name === "repair-path"
  if (planned) throw new ConfigError(`${written} is not supported yet`)
}

/** What each option does. Every built option of the table but those that only show a text has its entry here. */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  debug: ({ options }) => {
    if (options.logLevel !== "trace") options.logLevel = "debug"
  },
  trace: ({ options }) => {
    options.logLevel = "trace"
  },
  quiet: ({ options }) => {
    options.logLevel = "warning"
  },
  foreground: ({ options }) => {
    options.foreground = true
  },
  stderr: ({ warnings }, _value, written) => {
    warnings.push(`${written} is deprecated and has no effect`)
  },
  "log-file": ({ options }, value, written) => {
    options.logFile = path(value, written)
  },
  "log-size": ({ options }, value) => {
    const size = parseCNumber(value)
    if (size === undefined || size < LOG_SIZE_MIN) {
      throw new ConfigError(`Invalid --log-size: ${value} (at least ${LOG_SIZE_MIN} bytes)`)
    }
    options.logSize = size
  },
  runas: ({ options }, value) => {
    options.runAs = parseRunAs(value)
  },
  pid: ({ options }, value, written) => {
    options.pidFile = path(value, written)
  },
  pcap: ({ options }, value, written) => {
    options.pcapFile = path(value, written)
  },
  stats: ({ options }, value) => {
    if (!options.foreground) throw new ConfigError("Can't display statistics if not running in foreground")
    const seconds = parseCNumber(value)
    if (seconds === undefined || seconds > STATS_SECONDS_MAX) {
      throw new ConfigError(`Invalid --stats: ${value} (seconds, at most ${STATS_SECONDS_MAX})`)
    }
    options.statsSeconds = seconds
  },
  control: ({ options }, value, written) => {
    options.controlPath = socketPath(value, written)
  },
  "conf-path": ({ options }, value, written) => {
    options.configPath = socketPath(value, written)
  },
  metrics: ({ options, warnings }, value) => {
    const parts = /^(?:\[([^\]]*)\]:|([^:[\]]*):)?(\d{1,5})$/.exec(value)
    const port = Number(parts?.[3] ?? 0)
    const written = parts?.[1] ?? parts?.[2] ?? "127.0.0.1"
    const found = address.parse(written)
    if (parts === null || found === undefined || port < 1 || port > 0xffff) {
      throw new ConfigError(
        `Invalid --metrics: ${value} (a port, or an address and a port: 127.0.0.1:9100, [::1]:9100)`,
      )
    }
    if (!address.isLoopback(found, 0)) {
      warnings.push(`--metrics ${value}: whoever can reach that address can read them`)
    }
    options.metrics = { address: found, port, text: value }
  },
  policy: ({ options }, value) => {
    if (value === "") throw new ConfigError("Invalid --policy: it needs the path of a file")
    options.policyFile = value
  },
  "repair-path": () => {},

  socket: ({ options }, value, written) => {
    options.socketPath = socketPath(value, written)
  },
  fd: ({ options }, value) => {
    const fd = parseDecimal(value)
    if (fd === undefined || fd > 0x7fff_ffff) throw new ConfigError(`Invalid --fd: ${value}`)
    options.fd = fd
    options.oneOff = true
  },
  "vhost-user": ({ options }) => {
    options.vhostUser = true
  },
  "one-off": ({ options }) => {
    options.oneOff = true
  },

  interface: ({ options }, value, written) => {
    options.interface = interfaceName(value, written)
  },
  address: (draft, value) => {
    const found = parsePrefixedAddress(value)
    if (!found || !isHostAddress(found)) throw new ConfigError(`Invalid address: ${value}`)
    draft.options.address = put(draft.options.address, found)
    if (found.family === 4) draft.addressPrefix4 = found.prefix
  },
  netmask: (draft, value) => {
    const prefix = parseNetmask(value)
    if (prefix === undefined) throw new ConfigError(`Invalid netmask: ${value}`)
    draft.netmask = prefix
  },
  gateway: ({ options }, value) => {
    const found = parseAddress(value)
    if (!found || !isHostAddress(found)) throw new ConfigError(`Invalid gateway address: ${value}`)
    options.gateway = put(options.gateway, found)
  },
  "mac-addr": ({ options }, value) => {
    options.mac = stationMac(value)
  },
  mtu: ({ options }, value) => {
    const mtu = parseCNumber(value)
    if (mtu === undefined) throw new ConfigError(`Invalid MTU: ${value}`)
    if (mtu > MTU_MAX) throw new ConfigError(`MTU ${mtu} too large (max ${MTU_MAX})`)
    options.mtu = mtu
  },
  outbound: ({ options }, value) => {
    const found = parseAddress(value)
    // Loopback is a usable source in IPv4 (127.0.0.0/8 has many addresses), not in IPv6.
    const usable = found && address.isUnicast(found.words, 0) && !isCompatible(found) && !isLoopback6(found)
    if (!usable) throw new ConfigError(`Invalid outbound address: ${value}`)
    options.outboundAddress = put(options.outboundAddress, found)
  },
  "outbound-if4": ({ options }, value, written) => {
    options.outboundInterface = { ...options.outboundInterface, v4: interfaceName(value, written) }
  },
  "outbound-if6": ({ options }, value, written) => {
    options.outboundInterface = { ...options.outboundInterface, v6: interfaceName(value, written) }
  },
  "no-follow-host": ({ options }) => {
    options.followHost = false
  },
  "ipv4-only": ({ options }) => {
    options.ipv4 = true
    options.ipv6 = false
  },
  "ipv6-only": ({ options }) => {
    options.ipv4 = false
    options.ipv6 = true
  },

  dns: ({ options, warnings }, value) => {
    if (value === "none") {
      options.dns4 = { source: "given", values: [] }
      options.dns6 = { source: "given", values: [] }
      options.dnsForward = NEITHER
      options.dnsHost = NEITHER
      return
    }
    const found = parseAddress(value)
    if (!found || !address.isUnicast(found.words, 0)) throw new ConfigError(`Invalid DNS address: ${value}`)
    const servers = found.family === 4 ? options.dns4.values : options.dns6.values
    if (servers.length === DNS_SERVER_MAX) {
      warnings.push(`More than ${DNS_SERVER_MAX} IPv${found.family} name servers given: ${value} is not announced`)
      return
    }
    const list: Given<AddressWords> = { source: "given", values: [...servers, found.words] }
    if (found.family === 4) options.dns4 = list
    else options.dns6 = list
  },
  "dns-forward": ({ options }, value) => {
    const found = parseAddress(value)
    if (!found || !isHostAddress(found)) throw new ConfigError(`Invalid DNS forwarding address: ${value}`)
    options.dnsForward = put(options.dnsForward, found)
  },
  "dns-host": ({ options }, value) => {
    const found = parseAddress(value)
    if (!found || !address.isUnicast(found.words, 0)) throw new ConfigError(`Invalid DNS nameserver address: ${value}`)
    options.dnsHost = put(options.dnsHost, found)
  },
  search: ({ options }, value) => {
    if (value === "none") {
      options.search = { source: "given", values: [] }
      return
    }
    const domains = value.split(/\s+/).filter((domain) => domain !== "")
    const wrong = domains.find((domain) => !isDomainName(domain))
    if (domains.length === 0 || wrong !== undefined) {
      throw new ConfigError(`Invalid DNS search domain: ${wrong ?? "''"}`)
    }
    const values = [...options.search.values, ...domains]
    if (values.length > SEARCH_DOMAIN_MAX) {
      throw new ConfigError(`Too many DNS search domains (max ${SEARCH_DOMAIN_MAX}): ${domains.at(-1)}`)
    }
    options.search = { source: "given", values }
  },
  "no-dhcp-dns": ({ options }) => {
    options.announceDns = false
  },
  "no-dhcp-search": ({ options }) => {
    options.announceSearch = false
  },
  "dhcp-dns": ({ options }) => {
    options.announceDns = true
  },
  "dhcp-search": ({ options }) => {
    options.announceSearch = true
  },
  hostname: ({ options }, value) => {
    options.hostname = name(value, "hostname")
  },
  fqdn: ({ options }, value) => {
    options.fqdn = name(value, "FQDN")
  },

  "no-tcp": ({ options }) => {
    options.tcp = false
  },
  "no-udp": ({ options }) => {
    options.udp = false
  },
  "no-icmp": ({ options }) => {
    options.icmp = false
  },
  "no-dhcp": ({ options }) => {
    options.dhcp = false
  },
  "no-dhcpv6": ({ options }) => {
    options.dhcpv6 = false
  },
  "no-ndp": ({ options }) => {
    options.ndp = false
  },
  "no-ra": ({ options }) => {
    options.ra = false
  },

  "map-host-loopback": ({ options }, value) => {
    if (value === "none") {
      options.mapHostLoopback = NEITHER
      options.mapGateway = false
      return
    }
    options.mapHostLoopback = put(options.mapHostLoopback, remapped(value))
  },
  "no-map-gw": ({ options }) => {
    options.mapGateway = false
  },
  "map-guest-addr": ({ options }, value) => {
    if (value === "none") {
      options.mapGuestAddress = NEITHER
      return
    }
    options.mapGuestAddress = put(options.mapGuestAddress, remapped(value))
  },

  "chroot-fallback": ({ options }) => {
    options.chrootFallback = true
  },
  "no-seal": ({ options }) => {
    options.seal = false
  },
  // The launcher's.
  "no-jit": () => {},
  freebind: ({ options }) => {
    options.freebind = true
  },
  "tcp-ports": ({ ports }, value, written) => {
    ports.push({ protocol: "tcp", place: PLACE_HOST, spec: value, written })
  },
  "udp-ports": ({ ports }, value, written) => {
    ports.push({ protocol: "udp", place: PLACE_HOST, spec: value, written })
  },
  "tcp-ns": ({ ports }, value, written) => {
    ports.push({ protocol: "tcp", place: PLACE_NAMESPACE, spec: value, written })
  },
  "udp-ns": ({ ports }, value, written) => {
    ports.push({ protocol: "udp", place: PLACE_NAMESPACE, spec: value, written })
  },
  "host-lo-to-ns-lo": ({ options }) => {
    options.toNamespaceLoopback = true
  },
  "no-splice": ({ options }) => {
    options.splice = false
  },
  "splice-only": ({ options }) => {
    options.spliceOnly = true
  },

  "ns-ifname": ({ options }, value, written) => {
    options.tapName = interfaceName(value, written)
  },
  "ns-mac-addr": ({ options }, value) => {
    options.tapMac = stationMac(value)
  },
  userns: (_draft, value, written) => {
    path(value, written)
  },
  netns: (draft, value, written) => {
    const file = path(value, written)
    draft.netnsPath = file.includes("/") ? file : `/run/netns/${file}`
  },
  "netns-only": () => {},
  "no-netns-quit": ({ options }) => {
    options.quitWithNamespace = false
  },
  "no-pidns": (draft) => {
    draft.ownPids = false
  },
  "config-net": ({ options }) => {
    options.configure = true
  },
  "no-copy-routes": ({ options, warnings }, _value, written) => {
    warnings.push(`${written} is deprecated`)
    options.copyRoutes = false
  },
  "no-copy-addrs": ({ options, warnings }, _value, written) => {
    warnings.push(`${written} is deprecated`)
    options.copyAddresses = false
  },
}

const NEITHER: PerFamily<never> = Object.freeze({ v4: null, v6: null })

function emptyDraft(): Draft {
  const ports: PortOption[] = []
  const warnings: string[] = []
  const options: Mutable<AllOptions> = {
    logLevel: "info",
    foreground: false,
    logFile: null,
    logSize: LOG_SIZE_DEFAULT,
    runAs: null,
    pidFile: null,
    pcapFile: null,
    statsSeconds: 0,
    controlPath: null,
    configPath: null,
    metrics: null,
    policyFile: null,
    socketPath: null,
    fd: null,
    oneOff: false,
    vhostUser: false,
    ipv4: true,
    ipv6: true,
    interface: null,
    address: NEITHER,
    prefix4: null,
    gateway: NEITHER,
    mac: null,
    mtu: MTU_DEFAULT,
    outboundAddress: NEITHER,
    outboundInterface: NEITHER,
    followHost: true,
    dns4: { source: "host", values: [] },
    dns6: { source: "host", values: [] },
    dnsForward: NEITHER,
    dnsHost: NEITHER,
    search: { source: "host", values: [] },
    announceDns: true,
    announceSearch: true,
    hostname: null,
    fqdn: null,
    tcp: true,
    udp: true,
    icmp: true,
    dhcp: true,
    dhcpv6: true,
    ndp: true,
    ra: true,
    mapHostLoopback: NEITHER,
    mapGateway: true,
    mapGuestAddress: NEITHER,
    freebind: false,
    chrootFallback: false,
    seal: true,
    target: { kind: "command", words: [] },
    quitWithNamespace: true,
    tapName: null,
    tapMac: null,
    configure: false,
    copyAddresses: true,
    copyRoutes: true,
    splice: true,
    spliceOnly: false,
    toNamespaceLoopback: false,
    ports,
    warnings,
  }
  return { options, ports, warnings, netmask: null, addressPrefix4: null, netnsPath: null, ownPids: true }
}

/** Checks what depends on several options, and freezes. */
function finish(draft: Draft): AllOptions {
  const { options, warnings, netmask, addressPrefix4 } = draft
  if (netmask !== null && addressPrefix4 !== null) throw new ConfigError("Redundant prefix length specification")
  options.prefix4 = netmask ?? addressPrefix4
  if (options.address.v4 && options.prefix4 === null) options.prefix4 = classPrefix(options.address.v4)
  if (options.fd !== null && options.socketPath !== null) {
    throw new ConfigError("--fd and --socket can't be used together")
  }
  if (!options.icmp) options.ndp = false
  if (!options.ndp) options.ra = false
  // 0 is no small MTU: it announces none.
  if (options.mtu !== 0) {
    if (options.ipv4 && options.mtu < MTU_MIN_IPV4) {
      warnings.push(`MTU ${options.mtu} is too small for IPv4 (minimum ${MTU_MIN_IPV4})`)
    }
    if (options.ipv6 && options.mtu < MTU_MIN_IPV6) {
      warnings.push(`MTU ${options.mtu} is too small for IPv6 (minimum ${MTU_MIN_IPV6})`)
    }
  }
  for (const part of Object.values(options)) {
    // Typed arrays can't be frozen; they are fresh for each parse.
    if (typeof part === "object" && part !== null && !ArrayBuffer.isView(part)) Object.freeze(part)
  }
  return Object.freeze(options)
}

function put(slot: PerFamily<AddressWords>, found: Address): PerFamily<AddressWords> {
  return found.family === 4 ? { ...slot, v4: found.words } : { ...slot, v6: found.words }
}

/** Whether a machine can have it on a network: unicast, not loopback. */
function isHostAddress(found: Address): boolean {
  return address.isUnicast(found.words, 0) && !address.isLoopback(found.words, 0)
}

function remapped(text: string): Address {
  const found = parseAddress(text)
  if (!found || !isHostAddress(found)) throw new ConfigError(`Invalid address to remap to host: ${text}`)
  return found
}

function stationMac(text: string): Uint8Array {
  const mac = parseMac(text)
  if (!mac) throw new ConfigError(`Invalid MAC address: ${text}`)
  // The lowest bit of the first byte makes a group address (IEEE 802): nothing can be sent from there.
  if ((mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw new ConfigError(`Invalid MAC address: ${text} is not the address of a station`)
  }
  return mac
}

function isLoopback6(found: Address): boolean {
  return found.family === 6 && address.isLoopback(found.words, 0)
}

/** The deprecated ::a.b.c.d (RFC 4291 section 2.5.5.1). */
function isCompatible(found: Address): boolean {
  return found.family === 6 && found.words[0] === 0 && found.words[1] === 0 && found.words[2] === 0
}

function interfaceName(text: string, written: string): string {
  if (!isInterfaceName(text)) throw new ConfigError(`Invalid interface name for ${written}: '${text}'`)
  return text
}

/** @throws ConfigError for one that no socket can have */
function socketPath(value: string, written: string): string {
  if (value === "") throw new ConfigError(`Invalid path for ${written}: ''`)
  if (Buffer.byteLength(value) > SOCKET_PATH_MAX) {
    throw new ConfigError(`Socket path too long (max ${SOCKET_PATH_MAX} bytes): ${value}`)
  }
  return value
}

function path(text: string, written: string): string {
  if (!isPath(text)) throw new ConfigError(`Invalid path for ${written}: '${text}'`)
  return text
}

function name(text: string, what: string): string {
  if (text.length > HOSTNAME_MAX) throw new ConfigError(`${what} too long (max ${HOSTNAME_MAX} characters): ${text}`)
  if (!isDomainName(text)) throw new ConfigError(`Invalid ${what}: '${text}'`)
  return text
}

function parseRunAs(text: string): RunAs {
  const wrong = new ConfigError(`Invalid --runas option: ${text}`)
  const parts = text.split(":")
  if (parts.length > 2 || parts.includes("")) throw wrong
  const [user, group] = parts.map((part) => {
    if (!/^\d+$/.test(part)) return part
    const id = parseDecimal(part)
    if (id === undefined || id > ID_MAX) throw wrong
    return id
  })
  return { user: user!, group: group ?? null, text }
}
