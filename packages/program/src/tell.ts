/** What the user is told at start. */
import { formatRule, type CommonOptions, type ForwardRule } from "@passt/cli"
import { type Logger, summary } from "@passt/host"
import type { GuestConfig } from "./guest.ts"

/** Logs the configuration. @param more of the program's own, for the summary */
export function tellConfiguration(
  logger: Logger,
  options: CommonOptions,
  config: GuestConfig,
  rules: readonly ForwardRule[],
  more: { readonly namespaceInterface?: string } = {},
): void {
  const { translation, resolvers, host } = config
  for (const note of host.notes) logger.info(note)
  const lines = summary({
    ...more,
    host,
    ourMac: config.guest.ourMac,
    mtu: options.mtu,
    dhcp: options.dhcp,
    dhcpv6: options.dhcpv6 && config.guest.address6.some((word) => word !== 0),
    ndp: options.ndp,
    ra: options.ra,
    ...(options.outboundInterface.v4 === null ? {} : { outboundInterface4: options.outboundInterface.v4 }),
    ...(options.outboundInterface.v6 === null ? {} : { outboundInterface6: options.outboundInterface.v6 }),
    ...(options.outboundAddress.v4 === null ? {} : { outbound4: options.outboundAddress.v4 }),
    ...(options.outboundAddress.v6 === null ? {} : { outbound6: options.outboundAddress.v6 }),
    resolvers4: options.announceDns ? resolvers.advertised4 : [],
    resolvers6: options.announceDns ? resolvers.advertised6 : [],
    search: options.announceSearch ? resolvers.search : [],
    mapHostLoopback4: translation.mapHostLoopback4,
    mapHostLoopback6: translation.mapHostLoopback6,
    mapGuestAddress4: translation.mapGuestAddress4,
    mapGuestAddress6: translation.mapGuestAddress6,
    dnsForward4: translation.dnsForward4,
    dnsForward6: translation.dnsForward6,
    dnsHost4: translation.dnsHost4,
    dnsHost6: translation.dnsHost6,
    forwards: rules.map(formatRule),
  })
  for (const line of lines) logger.info(line)
  if (options.announceDns) for (const warning of resolvers.warnings) logger.warning(warning)
}
