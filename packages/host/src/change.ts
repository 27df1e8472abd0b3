/** What a change of the host's network means for the guest. Pure; who follows the host (@passt/program) puts it to work. */
import type { TranslationConfig } from "@passt/core"
import { address as ip } from "@passt/core/wire"
import type { HostConfig, HostFamily } from "./host.ts"
import type { ResolverChoice } from "./resolvers.ts"
import type { Snapshot } from "./template.ts"

/** Addresses that are remembered once they are no longer told. */
const FORMER_MAX = 8

/** What is decided of a host. */
export interface Seen {
  readonly host: HostConfig
  readonly resolvers: ResolverChoice
  readonly translation: TranslationConfig
}

function same(a: Int32Array, b: Int32Array): boolean {
  return ip.equal(a, 0, b, 0)
}

/** What was and is no more, newest first, bounded; nothing that is back in use. */
export function former(
  older: readonly Int32Array[],
  was: readonly Int32Array[],
  is: readonly Int32Array[],
): Int32Array[] {
  const list: Int32Array[] = []
  for (const address of [...was, ...older]) {
    if (ip.isUnspecified(address, 0) || [...is, ...list].some((other) => same(other, address))) continue
    if (list.length < FORMER_MAX) list.push(address)
  }
  return list
}

/** What an IPv4 guest sees after a change: between two networks, what it saw before. */
export function mergeIpv4(before: HostFamily, found: HostFamily): HostFamily {
  return found.local ? before : found
}

/** The same for IPv6. Our own address towards the guest stays: a router that changed it would be another router.
 * @param keepRouter whether the guest knows its router by that address, so that its gateway stays as well */
export function mergeIpv6(before: HostFamily, found: HostFamily, keepRouter: boolean): HostFamily {
  if (found.local) return before
  const isRouter = keepRouter && same(before.gateway, before.ourAddress)
  return { ...found, ourAddress: before.ourAddress, gateway: isRouter ? before.gateway : found.gateway }
}

/** Tells apart what matters of two snapshots. */
export function signatureOf(snapshot: Snapshot, resolvers: ResolverChoice): string {
  const addresses = snapshot.addresses.map((a) => `${a.interfaceIndex} ${a.address.join()}/${a.prefix} ${a.flags}`)
  const routes = snapshot.routes.map((route) => {
    const hops = route.nexthops.map((hop) => `${hop.interfaceIndex} ${hop.gateway?.join()} ${hop.weight} ${hop.flags}`)
    return `${route.destination.join()}/${route.prefix} ${route.table} ${route.type} ${route.metric} ${hops.join()}`
  })
  return [...addresses, ...routes, resolvers.host4.join(), resolvers.host6.join()].join("\n")
}

function describe(family: HostFamily | undefined): string {
  if (!family) return ""
  const gateway = ip.isUnspecified(family.gateway, 0) ? "" : `, router ${ip.format(family.gateway)}`
  const via = family.local ? "local mode" : family.interfaceName
  return `${ip.format(family.address)}/${family.prefix}${gateway} (${via})`
}

function list(addresses: readonly Int32Array[]): string {
  return addresses.map((words) => ip.format(words)).join(", ") || "none"
}

/** What the guest would notice, one line each, for the log. */
export function differences(before: Seen, after: Seen): string[] {
  const lines: string[] = []
  const compare = (what: string, textOf: (config: Seen) => string): void => {
    const [was, is] = [textOf(before), textOf(after)]
    if (was !== is) lines.push(`Host network changed: ${what} ${is}, was ${was}`)
  }
  compare("IPv4", ({ host }) => describe(host.ipv4))
  compare("IPv6", ({ host }) => describe(host.ipv6))
  compare("DNS", ({ resolvers }) => list([...resolvers.advertised4, ...resolvers.advertised6]))
  compare("DNS queries go to", ({ translation }) => list(forwarding(translation)))
  compare("DNS search list", ({ resolvers }) => resolvers.search.join(" ") || "none")
  compare("loopback", ({ translation }) => list([translation.mapHostLoopback4, translation.mapHostLoopback6]))
  return lines
}

/** Where queries are forwarded, even if nobody asks for it yet: guests may use resolvers that they were told before. */
function forwarding({ dnsHost4, dnsHost6 }: TranslationConfig): Int32Array[] {
  return [dnsHost4, dnsHost6].filter((words) => !ip.isUnspecified(words, 0))
}
