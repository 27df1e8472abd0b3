/**
 * What an engine is made with: typed, checked once, field by field. Values mean what they mean on passt's command line, and are read
 * by the same code (@passt/cli): a field becomes words, and what is wrong with the words is told of the field.
 */
import { type CommonOptions, parsePasst } from "@passt/cli"
import { ConfigError } from "./config-error.ts"
import { GuestSocket } from "./guest-socket.ts"
import { MemoryLink } from "./memory-link.ts"

/** Where the guest is. */
export type GuestLink =
  /** QEMU 7.2 or later, `-netdev stream,server=off,addr.type=unix,addr.path=PATH`: we listen; at most 107 bytes of path. */
  | { readonly kind: "unix"; readonly path: string }
  /** A connected UNIX stream socket, which belongs to the engine from its start on. */
  | { readonly kind: "fd"; readonly fd: number }
  /** A front-end connects and shares its guest's memory. */
  | { readonly kind: "vhost-user"; readonly path: string }
  /** A network namespace, by its file: /proc/PID/ns/net, /run/netns/NAME. Takes CAP_SYS_ADMIN there and here. */
  | {
      readonly kind: "namespace"
      readonly path: string
      /** Of the interface that is made there; the host's by default. */
      readonly interfaceName?: string
      /** Whether it is set up, with addresses and routes (default), or left to a DHCP client. */
      readonly configure?: boolean
    }
  /** One end of a socket pair, for a child process: `createGuestSocket`. */
  | GuestSocket
  /** Frames through functions and streams: `new MemoryLink()`. */
  | MemoryLink

/** Ports of the host that lead to the guest. */
export interface ForwardConfig {
  readonly protocol: "tcp" | "udp"
  /**
   * As `--tcp-ports` and `--udp-ports` take them: "8080:80", "127.0.0.1/2222:22", "5000-5009,~5005", "%eth0/all". Besides, "0:80" and
   * "127.0.0.1/0:80" stand for any port that is free: `Forward.first` tells which.
   */
  readonly ports: string
}

/** Each field is optional but `guest`. What is not given is as on the host; nothing of the host's own loopback is reachable. */
export interface NetworkConfig {
  /** Families; both by default, as far as the host has them. */
  readonly ipv4?: boolean
  readonly ipv6?: boolean
  /** The host's interface that the guest's network is modelled on; by default that of the default route. */
  readonly interface?: string
  /** The guest's addresses, one per family: "192.0.2.15/24", "2001:db8::15". The host's own by default. */
  readonly address?: string | readonly string[]
  /** The guest's gateways, one per family. */
  readonly gateway?: string | readonly string[]
  /** Of the guest's link, bytes of IP packet: 0 (none is announced) or up to 65521; 65520 by default. */
  readonly mtu?: number
  /** Our own MAC address on the guest's link. */
  readonly mac?: string
  /** Name servers that are announced, at most three per family; false: none. The host's by default. */
  readonly dns?: readonly string[] | false
  /** Addresses at which the guest reaches the host's name servers, one per family, and (`dnsHost`) which ones these are. */
  readonly dnsForward?: string | readonly string[]
  readonly dnsHost?: string | readonly string[]
  /** Search domains; false: none. The host's by default. */
  readonly search?: readonly string[] | false
  /** Told by DHCP. */
  readonly hostname?: string
  readonly fqdn?: string
  /** Protocols; all by default. `icmp` is echo, and with it goes neighbour discovery. */
  readonly tcp?: boolean
  readonly udp?: boolean
  readonly icmp?: boolean
  /** What we answer on the guest's link; all by default. */
  readonly dhcp?: boolean
  readonly dhcpv6?: boolean
  readonly ndp?: boolean
  readonly ra?: boolean
  /** Addresses at which the guest reaches the host's loopback, one per family; true: its gateway; false (default): none. Unlike
   * the command's default, for programs trust their own guests less than users do. */
  readonly hostLoopback?: boolean | string | readonly string[]
  /** Addresses at which the guest reaches the host under the address that both share, one per family. */
  readonly hostAddress?: string | readonly string[]
  /** Source of the guest's connections, one per family, and interface that they leave by. */
  readonly outboundAddress?: string | readonly string[]
  readonly outboundInterface?: string
}

/** Names of fields, and the words that their values are on passt's command line. */
const FIELDS: { readonly [K in keyof NetworkConfig]-?: (field: string, value: unknown) => string[] } = {
  ipv4: (field, value) => (flag(field, value) ? [] : ["--ipv6-only"]),
  ipv6: (field, value) => (flag(field, value) ? [] : ["--ipv4-only"]),
  interface: one("interface"),
  address: some("address"),
  gateway: some("gateway"),
  mtu: (field, value) => {
    if (!Number.isInteger(value) || (value as number) < 0) throw new ConfigError(field, "must be a whole number")
    return [`--mtu=${value as number}`]
  },
  mac: one("mac-addr"),
  dns: (field, value) => (value === false ? ["--dns=none"] : some("dns")(field, value)),
  dnsForward: some("dns-forward"),
  dnsHost: some("dns-host"),
  search: (field, value) => (value === false ? ["--search=none"] : some("search")(field, value)),
  hostname: one("hostname"),
  fqdn: one("fqdn"),
  tcp: off("no-tcp"),
  udp: off("no-udp"),
  icmp: off("no-icmp"),
  dhcp: off("no-dhcp"),
  dhcpv6: off("no-dhcpv6"),
  ndp: off("no-ndp"),
  ra: off("no-ra"),
  hostLoopback: (field, value) => {
    if (value === true) return []
    if (value === false) return ["--no-map-gw"]
    return ["--no-map-gw", ...some("map-host-loopback")(field, value)]
  },
  hostAddress: some("map-guest-addr"),
  outboundAddress: some("outbound"),
  outboundInterface: (field, value) => [`--outbound-if4=${text(field, value)}`, `--outbound-if6=${text(field, value)}`],
}

export const NETWORK_FIELDS: readonly string[] = Object.keys(FIELDS)

function flag(field: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw new ConfigError(field, "must be true or false")
  return value
}

function text(field: string, value: unknown): string {
  if (typeof value !== "string" || value === "") throw new ConfigError(field, "must be a string that is not empty")
  if (value === "none") throw new ConfigError(field, `"none" is no value here`)
  return value
}

function one(option: string): (field: string, value: unknown) => string[] {
  return (field, value) => [`--${option}=${text(field, value)}`]
}

function some(option: string): (field: string, value: unknown) => string[] {
  return (field, value) => {
    if (typeof value === "string") return one(option)(field, value)
    if (!Array.isArray(value)) throw new ConfigError(field, "must be a string or a list of strings")
    return value.flatMap((item: unknown, index) => read(`${field}[${index}]`, one(option)(`${field}[${index}]`, item)))
  }
}

function off(option: string): (field: string, value: unknown) => string[] {
  return (field, value) => (flag(field, value) ? [] : [`--${option}`])
}

/** @returns the words, once the command line has taken them @throws ConfigError */
function read(field: string, words: string[]): string[] {
  try {
    const { warnings } = parsePasst(words) as CommonOptions
    if (warnings.length > 0) throw new ConfigError(field, warnings[0]!)
    return words
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(field, (error as Error).message.replace(/ for --[\w-]+/, ""))
  }
}

/** @param others fields that somebody else reads @throws ConfigError */
export function readNetwork(config: object, others: readonly string[]): CommonOptions {
  const words = "hostLoopback" in config ? [] : ["--no-map-gw"]
  for (const [field, value] of Object.entries(config)) {
    if (others.includes(field) || value === undefined) continue
    const reader = Object.hasOwn(FIELDS, field) ? FIELDS[field as keyof NetworkConfig] : undefined
    if (reader === undefined) throw new ConfigError(field, "there is no such field")
    words.push(...read(field, reader(field, value)))
  }
  if ((config as NetworkConfig).ipv4 === false && (config as NetworkConfig).ipv6 === false) {
    throw new ConfigError("ipv6", "one of ipv4 and ipv6 must be on")
  }
  // Each field was read alone; what is left is what they are to each other.
  const options = parsePasst(read("config", words)) as CommonOptions
  for (const field of ["address", "gateway", "dnsForward", "dnsHost", "hostAddress", "outboundAddress"] as const) {
    const given = (config as NetworkConfig)[field]
    if (!Array.isArray(given)) continue
    const families = given.map((item: string) => item.includes(":"))
    if (new Set(families).size < families.length) throw new ConfigError(field, "must have one address per family")
  }
  return options
}

/** @throws ConfigError */
export function checkGuest(guest: unknown): GuestLink {
  if (guest instanceof MemoryLink || guest instanceof GuestSocket) return guest
  if (typeof guest !== "object" || guest === null) throw new ConfigError("guest", "must tell where the guest is")
  const { kind, path, fd } = guest as { readonly kind?: unknown; readonly path?: unknown; readonly fd?: unknown }
  switch (kind) {
    case "unix":
    case "vhost-user":
      read("guest.path", [`--socket=${text("guest.path", path)}`])
      break
    case "fd":
      if (!Number.isInteger(fd) || (fd as number) < 0) throw new ConfigError("guest.fd", "must be a descriptor")
      break
    case "namespace": {
      const { interfaceName, configure } = guest as { readonly interfaceName?: unknown; readonly configure?: unknown }
      if (interfaceName !== undefined)
        read("guest.interfaceName", one("interface")("guest.interfaceName", interfaceName))
      if (configure !== undefined) flag("guest.configure", configure)
      read("guest.path", [`--pid=${text("guest.path", path)}`])
      break
    }
    default:
      throw new ConfigError("guest.kind", `must be "unix", "fd", "vhost-user" or "namespace", or guest a link`)
  }
  return guest as GuestLink
}

/** @throws ConfigError */
export function checkForward(field: string, forward: unknown): ForwardConfig {
  if (typeof forward !== "object" || forward === null) throw new ConfigError(field, "must be { protocol, ports }")
  const { protocol, ports } = forward as { readonly protocol?: unknown; readonly ports?: unknown }
  if (protocol !== "tcp" && protocol !== "udp") throw new ConfigError(`${field}.protocol`, `must be "tcp" or "udp"`)
  return { protocol, ports: text(`${field}.ports`, ports) }
}
