/**
 * Which resolvers the guest is told of, and where its queries go. Pure.
 *
 * A resolver on the host's loopback can't be reached from the guest under its own address. It is told by another one
 * that is translated back:
 *   - the address that queries are forwarded from (`forward4`, `forward6`), if the user gave one; else
 *   - the address that stands for the host's loopback, if there is one, which then forwards queries too.
 * Without either it is left out. What the user lists himself is told as it is.
 */
import { address as ip } from "@passt/core/wire"
import type { Resolver, ResolverConfig } from "./resolv-conf.ts"
import { domainName } from "./resolv-conf.ts"

/** Resolvers told to the guest, per family: what resolv.conf(5) takes (MAXNS). */
export const RESOLVERS_MAX = 3

export interface ResolverOptions {
  readonly ipv4: boolean
  readonly ipv6: boolean
  /** The guest is told of no resolvers; forwarding addresses count nevertheless, where they are given. */
  readonly disabled?: boolean
  /** Resolvers given by the user, in place of the host's; four words each, IPv4 mapped. */
  readonly servers?: readonly Int32Array[]
  /** Addresses that the guest may send queries to for them to be forwarded, and where they are forwarded. */
  readonly forward4?: Int32Array
  readonly forward6?: Int32Array
  readonly host4?: Int32Array
  readonly host6?: Int32Array
  /** Addresses that stand for the host's loopback in the guest's eyes, if any. */
  readonly mapHostLoopback4?: Int32Array
  readonly mapHostLoopback6?: Int32Array
  /** Domains given by the user, in place of the host's; an element may hold several, separated by spaces. */
  readonly search?: readonly string[]
  /** No domains. */
  readonly searchDisabled?: boolean
  /** Interface that IPv6 link-local resolvers are reached through: its name and index as they appear after "%". */
  readonly zones?: readonly string[]
}

export interface ResolverChoice {
  /** Told to the guest by DHCP, and by router advertisements and DHCPv6. */
  readonly advertised4: readonly Int32Array[]
  readonly advertised6: readonly Int32Array[]
  /** For the translator; all zero: off. */
  readonly forward4: Int32Array
  readonly forward6: Int32Array
  readonly host4: Int32Array
  readonly host6: Int32Array
  readonly search: readonly string[]
  /** One-line remarks for the log. */
  readonly warnings: readonly string[]
}

function none(): Int32Array {
  return new Int32Array(4)
}

function same(a: Int32Array, b: Int32Array | undefined): boolean {
  return b !== undefined && ip.equal(a, 0, b, 0)
}

interface Side {
  readonly told: Int32Array[]
  readonly forward: Int32Array | undefined
}

/** What of the host's resolvers of one family the guest is told. */
function tell(
  servers: readonly Resolver[],
  forwardGiven: Int32Array | undefined,
  loopback: Int32Array | undefined,
  zones: readonly string[] | undefined,
): Side {
  const told: Int32Array[] = []
  let forward = forwardGiven
  for (const { address, zone } of servers) {
    // On another link than the template's a link-local address names another machine, or none.
    if (ip.isLinkLocal(address, 0) && zone !== "" && zones !== undefined && !zones.includes(zone)) continue
    let visible: Int32Array | undefined = address
    if (ip.isLoopback(address, 0) || same(address, loopback)) {
      visible = forwardGiven ?? loopback
      if (visible && forward === undefined) forward = visible
    }
    if (visible && told.length < RESOLVERS_MAX && !told.some((other) => same(other, visible))) told.push(visible)
  }
  return { told, forward }
}

function searchList(host: ResolverConfig, options: ResolverOptions, warnings: string[]): readonly string[] {
  if (options.searchDisabled) return []
  if (options.search === undefined) return host.search
  const names: string[] = []
  for (const word of options.search.flatMap((value) => value.split(/[\s,]+/))) {
    if (word === "") continue
    const name = domainName(word)
    if (name === undefined) warnings.push(`Invalid search domain left out: ${word}`)
    else if (!names.includes(name)) names.push(name)
  }
  return names
}

export function chooseResolvers(host: ResolverConfig, options: ResolverOptions): ResolverChoice {
  const warnings: string[] = []
  const search = searchList(host, options, warnings)
  const servers4 = host.servers.filter(({ address }) => ip.isMapped(address, 0))
  const servers6 = host.servers.filter(({ address }) => !ip.isMapped(address, 0))
  let side4: Side = { told: [], forward: options.forward4 }
  let side6: Side = { told: [], forward: options.forward6 }
  const given = options.disabled ? [] : options.servers?.length ? options.servers : undefined
  if (given) {
    side4.told.push(...given.filter((a) => ip.isMapped(a, 0)).slice(0, RESOLVERS_MAX))
    side6.told.push(...given.filter((a) => !ip.isMapped(a, 0)).slice(0, RESOLVERS_MAX))
  } else {
    side4 = tell(servers4, options.forward4, options.mapHostLoopback4, undefined)
    side6 = tell(servers6, options.forward6, options.mapHostLoopback6, options.zones)
  }
  const advertised4 = options.ipv4 ? side4.told : []
  const advertised6 = options.ipv6 ? side6.told : []
  if (!options.disabled) {
    if (advertised4.length === 0 && advertised6.length === 0) warnings.push("Couldn't get any nameserver address")
    else if (options.ipv6 && advertised6.length === 0) warnings.push("No IPv6 nameserver available for NDP/DHCPv6")
  }

  // A query may leave in the other family than it came in: translation does not mind, and the answer is the same.
  const first4 = servers4[0]?.address
  const first6 = servers6.find(({ address }) => !ip.isLinkLocal(address, 0))?.address ?? servers6[0]?.address
  return {
    advertised4,
    advertised6,
    forward4: (options.ipv4 && side4.forward) || none(),
    forward6: (options.ipv6 && side6.forward) || none(),
    host4: options.host4 ?? first4 ?? options.host6 ?? first6 ?? none(),
    host6: options.host6 ?? first6 ?? options.host4 ?? first4 ?? none(),
    search,
    warnings,
  }
}
