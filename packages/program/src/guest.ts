/**
 * What the guest is told and how its addresses are translated: the user's options over what the host looks like.
 */
import type { CommonOptions } from "@passt/cli"
import { GuestState, type TranslationConfig, emptyTranslation } from "@passt/core"
import {
  applyToGuest,
  chooseResolvers,
  type HostConfig,
  type HostOptions,
  readHost,
  readResolvers,
  type ResolverConfig,
  type ResolverChoice,
} from "@passt/host"

export interface GuestConfig {
  readonly host: HostConfig
  readonly guest: GuestState
  readonly resolvConf: ResolverConfig
  readonly resolvers: ResolverChoice
  readonly translation: TranslationConfig
}

/** A property only when there is a value: what exactOptionalPropertyTypes asks for. */
function given<K extends string, V>(key: K, value: V | null | undefined): Partial<Record<K, V>> {
  return value === null || value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>)
}

/** What of the options is about the host. */
export function hostOptions(options: CommonOptions): HostOptions {
  return {
    ipv4: options.ipv4,
    ipv6: options.ipv6,
    ...given("interfaceName", options.interface),
    ...given("outboundInterface4", options.outboundInterface.v4),
    ...given("outboundInterface6", options.outboundInterface.v6),
    ...given("address4", options.address.v4),
    ...given("prefix4", options.prefix4),
    ...given("address6", options.address.v6),
    ...given("gateway4", options.gateway.v4),
    ...given("gateway6", options.gateway.v6),
  }
}

/** What follows from the host's resolvers and from the guest's gateways. */
export interface Decision {
  readonly resolvers: ResolverChoice
  readonly translation: TranslationConfig
}

/** Reads the host and decides. @throws HostError, NetlinkError */
export function describeGuest(options: CommonOptions): GuestConfig {
  const host = readHost(hostOptions(options))
  const guest = new GuestState()
  applyToGuest(host, guest)
  guest.mtu = options.mtu
  if (options.mac) guest.ourMac.set(options.mac)
  if (options.gateway.v6) guest.ourAddress6.set(options.gateway.v6)
  const resolvConf = readResolvers()
  return { host, guest, resolvConf, ...decide(options, host, resolvConf) }
}

/** Decides which resolvers the guest is told, and what its addresses mean. Pure. */
export function decide(options: CommonOptions, host: HostConfig, resolvConf: ResolverConfig): Decision {
  const loopback = (mine: Int32Array | null, gateway: Int32Array | undefined): Int32Array | undefined =>
    mine ?? (options.mapGateway ? gateway : undefined)
  const mapHostLoopback4 = loopback(options.mapHostLoopback.v4, host.ipv4?.gateway)
  const mapHostLoopback6 = loopback(options.mapHostLoopback.v6, host.ipv6?.gateway)

  const servers = [...options.dns4.values, ...options.dns6.values]
  const disabled = options.dns4.source === "given" && options.dns6.source === "given" && servers.length === 0
  const resolvers = chooseResolvers(resolvConf, {
    ipv4: host.ipv4 !== undefined,
    ipv6: host.ipv6 !== undefined,
    disabled,
    servers,
    ...given("forward4", options.dnsForward.v4),
    ...given("forward6", options.dnsForward.v6),
    ...given("host4", options.dnsHost.v4),
    ...given("host6", options.dnsHost.v6),
    ...given("mapHostLoopback4", mapHostLoopback4),
    ...given("mapHostLoopback6", mapHostLoopback6),
    ...(options.search.source === "given" && options.search.values.length > 0 ? { search: options.search.values } : {}),
    searchDisabled: options.search.source === "given" && options.search.values.length === 0,
    zones: host.ipv6 ? [host.ipv6.interfaceName, String(host.ipv6.interfaceIndex)] : [],
  })

  const none = emptyTranslation()
  return {
    resolvers,
    translation: {
      dnsForward4: resolvers.forward4,
      dnsForward6: resolvers.forward6,
      dnsHost4: resolvers.host4,
      dnsHost6: resolvers.host6,
      mapHostLoopback4: mapHostLoopback4 ?? none.mapHostLoopback4,
      mapHostLoopback6: mapHostLoopback6 ?? none.mapHostLoopback6,
      mapGuestAddress4: options.mapGuestAddress.v4 ?? none.mapGuestAddress4,
      mapGuestAddress6: options.mapGuestAddress.v6 ?? none.mapGuestAddress6,
    },
  }
}
