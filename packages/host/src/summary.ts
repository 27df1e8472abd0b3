/** What is said at start: how the guest will see the network. Callers look for some of it, see `guestLines`. */
import { address as ip } from "@passt/core/wire"
import type { HostConfig, HostFamily } from "./host.ts"

export interface SummaryInput {
  /** pasta: the interface in the namespace. */
  readonly namespaceInterface?: string
  readonly host: HostConfig
  /** Our own MAC address towards the guest, six bytes. */
  readonly ourMac: Uint8Array
  /** MTU announced to the guest; 0: none. */
  readonly mtu: number
  /** Which protocols answer the guest. */
  readonly dhcp: boolean
  readonly dhcpv6: boolean
  readonly ndp: boolean
  readonly ra: boolean
  /** Resolvers and domains that the guest is told; empty when DHCP is not to tell them. */
  readonly resolvers4: readonly Int32Array[]
  readonly resolvers6: readonly Int32Array[]
  readonly search: readonly string[]
  /** Interfaces and addresses that outbound sockets are bound to, if any. */
  readonly outboundInterface4?: string
  readonly outboundInterface6?: string
  readonly outbound4?: Int32Array
  readonly outbound6?: Int32Array
  /** Translations in force; all zero or absent: none. */
  readonly mapHostLoopback4?: Int32Array
  readonly mapHostLoopback6?: Int32Array
  readonly mapGuestAddress4?: Int32Array
  readonly mapGuestAddress6?: Int32Array
  readonly dnsForward4?: Int32Array
  readonly dnsForward6?: Int32Array
  readonly dnsHost4?: Int32Array
  readonly dnsHost6?: Int32Array
  /** Forwarding rules in text form, in order. */
  readonly forwards?: readonly string[]
}

/** Text of a MAC address. */
export function macText(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":")
}

/** Dotted mask of a prefix length, 0…32. */
export function maskText(prefix: number): string {
  return ip.format(Int32Array.of(0, 0, 0xffff, prefix === 0 ? 0 : -1 << (32 - prefix)))
}

function given(words: Int32Array | undefined): words is Int32Array {
  return words !== undefined && !ip.isUnspecified(words, 0)
}

/** One or two values with their families, the absent ones left out: "a (IPv4), b (IPv6)". */
function perFamily(four: string | undefined, six: string | undefined): string {
  const parts: string[] = []
  if (four) parts.push(`${four} (IPv4)`)
  if (six) parts.push(`${six} (IPv6)`)
  return parts.join(", ")
}

function textOf(words: Int32Array | undefined): string | undefined {
  return given(words) ? ip.format(words) : undefined
}

function templateName(family: HostFamily | undefined): string | undefined {
  return family && (family.local ? "none, local mode" : family.interfaceName)
}

function list(lines: string[], title: string, items: readonly string[]): void {
  if (items.length === 0) return
  lines.push(`${title}:`, ...items.map((item) => `    ${item}`))
}

/** The configuration, line by line. */
export function summary(input: SummaryInput): string[] {
  const { host } = input
  const { ipv4, ipv6 } = host
  const lines: string[] = []
  lines.push(`Template interface: ${perFamily(templateName(ipv4), templateName(ipv6))}`)
  if (input.namespaceInterface) lines.push(`Namespace interface: ${input.namespaceInterface}`)
  const outboundInterface = perFamily(input.outboundInterface4, input.outboundInterface6)
  if (outboundInterface) lines.push(`Outbound interface: ${outboundInterface}`)
  const outbound = perFamily(textOf(input.outbound4), textOf(input.outbound6))
  if (outbound) lines.push(`Outbound address: ${outbound}`)

  list(lines, "MAC", [`ours: ${macText(input.ourMac)}`])
  if (input.mtu > 0) lines.push(`MTU: ${input.mtu}`)

  const translations: string[] = []
  for (const [words, meaning] of [
    [input.mapHostLoopback4, "127.0.0.1 of the host"],
    [input.mapHostLoopback6, "::1 of the host"],
    [input.mapGuestAddress4, ipv4 && `${ip.format(ipv4.address)} on the host`],
    [input.mapGuestAddress6, ipv6 && "the guest's own IPv6 address on the host"],
  ] as const) {
    if (given(words) && meaning) translations.push(`${ip.format(words)} -> ${meaning}`)
  }
  for (const [from, to] of [
    [input.dnsForward4, input.dnsHost4],
    [input.dnsForward6, input.dnsHost6],
  ] as const) {
    if (given(from) && given(to)) translations.push(`DNS queries to ${ip.format(from)} -> ${ip.format(to)}`)
  }
  list(lines, "Translated addresses", translations)

  if (ipv4) {
    const values = [`address: ${ip.format(ipv4.address)}`]
    values.push(`mask: ${maskText(ipv4.prefix)}`, `router: ${ip.format(ipv4.gateway)}`)
    list(lines, input.dhcp ? "DHCP" : "IPv4 (no DHCP)", values)
    list(
      lines,
      "DNS",
      input.resolvers4.map((words) => ip.format(words)),
    )
    list(lines, "DNS search list", input.search)
  }
  if (ipv6) {
    const values: string[] = []
    if (given(ipv6.address)) values.push(`address: ${ip.format(ipv6.address)}/${ipv6.prefix}`)
    if (given(ipv6.gateway)) values.push(`router: ${ip.format(ipv6.gateway)}`)
    values.push(`our link-local: ${ip.format(ipv6.ourAddress)}`)
    const services = [input.ndp && input.ra ? "NDP" : "", input.dhcpv6 ? "DHCPv6" : ""].filter((name) => name !== "")
    list(lines, services.length > 0 ? services.join("/") : "IPv6 (not announced)", values)
    list(
      lines,
      "DNS over IPv6",
      input.resolvers6.map((words) => ip.format(words)),
    )
    // With IPv4 the list has been said above.
    if (!ipv4) list(lines, "DNS search list", input.search)
  }
  list(lines, "Forwarded ports", input.forwards ?? [])
  return lines
}

/** How a guest gets to us. The first line is matched by callers: its wording must stay.
 * @param path of the listening socket @param vhostUser whether it speaks vhost-user instead of framed Ethernet */
export function guestLines(path: string, vhostUser = false): string[] {
  const socket = vhostUser
    ? `-chardev socket,id=c,path=${path} -netdev vhost-user,id=n,chardev=c ` +
      "-object memory-backend-memfd,id=m,share=on,size=RAM -numa node,memdev=m"
    : `-netdev stream,id=n,server=off,addr.type=unix,addr.path=${path}`
  return [
    `UNIX domain socket bound at ${path}`,
    `A guest can now be started${vhostUser ? "" : " (QEMU 7.2 or later)"}:`,
    `    qemu-system-x86_64 ... -device virtio-net-pci,netdev=n ${socket}`,
  ]
}
