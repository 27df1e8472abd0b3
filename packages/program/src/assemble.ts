/** The packages put together: an engine with its responders, and the host's neighbours that it follows. */
import { parsePortOptions, type CommonOptions, type ForwardRule, type PortContext } from "@passt/cli"
import {
  describeFlow,
  Engine,
  type EngineConfig,
  type FormerAddresses,
  FrameTable,
  type Link,
  REF_EXTERNAL,
  REF_SHIFT,
  type TranslationConfig,
} from "@passt/core"
import { DhcpResponder, Dhcpv6Responder } from "@passt/dhcp"
import { type HostFamily, LEVEL, type Logger, NeighbourMonitor } from "@passt/host"
import { entropy, NativeKernel } from "@passt/native"
import { ArpResponder, learnNeighbour, NdpResponder, NeighbourTable } from "@passt/ndp"
import { StartError } from "./error.ts"
import type { GuestConfig } from "./guest.ts"
import { trustedResolvers } from "./resolvers.ts"
import { engineLog } from "./log.ts"
import { TracedLink } from "./trace.ts"

/** Seconds from the Unix epoch to the year 2000, where DUID-LLT times begin (RFC 8415 section 11.2). */
const YEAR_2000 = 946_684_800

/** The ref of an event for the program around the engine. @param index engine.onExternal gets it */
export function externalRef(index: number): number {
  return (REF_EXTERNAL << REF_SHIFT) | index
}

/** A kernel with a frame table attached. */
export function createKernel(): { readonly kernel: NativeKernel; readonly frames: FrameTable } {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  return { kernel, frames }
}

/** What port specifications depend on. @param auto whether there is a namespace, and "auto" is possible */
export function portContext(options: CommonOptions, config: GuestConfig, auto: boolean): PortContext {
  const [ephemeralFirst, ephemeralLast] = config.host.settings.ephemeralPorts
  const { tcp, udp } = options
  const { ipv4, ipv6 } = config.guest
  return { ipv4, ipv6, tcp, udp, ephemeralFirst, ephemeralLast, auto }
}

/** The rules that the port options stand for. @throws ConfigError */
export function forwardRules(options: CommonOptions, context: PortContext): ForwardRule[] {
  return parsePortOptions(options.ports, context)
}

export interface Assembly {
  readonly engine: Engine
  /** Follows the host's neighbours; to be called once nothing can fail any more. Its events come to `neighboursIndex`.
   * @returns what to call for each of them */
  followNeighbours(neighboursIndex: number): () => void
  /** Hands on what the host has become; `config.guest` has been changed already. */
  reconfigure(config: GuestConfig, former: FormerAddresses, online6: boolean): void
  /** Closes what follows the host's neighbours; the engine, kernel and link are the caller's. */
  close(): void
}

/** Seconds after which guests ask by DHCP whether what they were told still holds. Where there is nothing yet to tell them, sooner. */
const RENEW_SECONDS = 1800
const RENEW_SECONDS_LOCAL = 30

function renewal(options: CommonOptions, family: HostFamily | undefined): { renewSeconds?: number } {
  if (!options.followHost || family === undefined) return {}
  return { renewSeconds: family.local ? RENEW_SECONDS_LOCAL : RENEW_SECONDS }
}

/** Random words for spreading things in time, nothing to keep secret: from one of entropy, since sealed there is no more
 * (Marsaglia, "Xorshift RNGs", 2003). */
function randomSpread(): () => number {
  const word = new Int32Array(1)
  entropy(word)
  let state = word[0]! | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state
  }
}

/** @param more what of the engine's configuration is the program's own */
export function assemble(
  options: CommonOptions,
  config: GuestConfig,
  kernel: NativeKernel,
  untraced: Link,
  rules: readonly ForwardRule[],
  logger: Logger,
  more: Partial<EngineConfig> = {},
): Assembly {
  const link = logger.enabled(LEVEL.trace) ? new TracedLink(untraced, (line) => logger.trace(line)) : untraced
  const secret = new Int32Array(6)
  entropy(secret)
  const neighbours = new NeighbourTable(config.guest, secret[4]!, secret[5]!)
  blockTranslated(neighbours, config.translation)
  const log = more.log ?? engineLog(logger)
  const told = {
    dns: [...config.resolvers.advertised4, ...config.resolvers.advertised6],
    search: config.resolvers.search,
    advertiseDns: options.announceDns,
    advertiseSearch: options.announceSearch,
  }
  const named = {
    ...told,
    ...(options.fqdn === null ? {} : { fqdn: options.fqdn }),
    info: (line: string) => log("info", "dhcp", line),
  }
  const { settings, ipv4, ipv6 } = config.host
  const hasAddress6 = config.guest.address6.some((word) => word !== 0)
  // An address may come later.
  const managed = options.dhcpv6 && ipv6 !== undefined && (hasAddress6 || options.followHost)
  const arp = new ArpResponder(link, config.guest, neighbours)
  const ndp = options.ndp
    ? new NdpResponder(link, config.guest, neighbours, {
        ...told,
        managed,
        advertise: options.ra,
        random: randomSpread(),
      })
    : undefined
  const dhcp = new DhcpResponder(link, config.guest, {
    ...named,
    ...renewal(options, ipv4),
    ...(options.hostname === null ? {} : { hostname: options.hostname }),
  })
  const duidTime = (Math.floor(Date.now() / 1000) - YEAR_2000) | 0
  const dhcpv6 = managed
    ? new Dhcpv6Responder(link, config.guest, { ...named, ...renewal(options, ipv6), duidTime })
    : undefined
  const none = new Int32Array(4)
  const onFlow = (flow: number, begins: boolean): void =>
    logger.debug(`${describeFlow(engine.ctx.words, flow)} ${begins ? "begins" : "ends"}`)
  const engine = new Engine({
    kernel,
    link,
    guest: config.guest,
    secret,
    translation: config.translation,
    neighbours: {
      macs: neighbours.macs,
      lookup: (words, index) => neighbours.resolve(words, index),
      get generation() {
        return neighbours.generation
      },
    },
    responders: {
      arp,
      ...(ndp ? { ndp } : {}),
      ...(options.dhcp && ipv4 ? { dhcp } : {}),
      ...(dhcpv6 ? { dhcpv6 } : {}),
    },
    rules,
    tcp: options.tcp,
    udp: options.udp,
    icmp: options.icmp,
    outbound4: options.outboundAddress.v4 ?? none,
    outbound6: options.outboundAddress.v6 ?? none,
    outboundDevice4: options.outboundInterface.v4 ?? "",
    outboundDevice6: options.outboundInterface.v6 ?? "",
    linkLocalScope: ipv6?.interfaceIndex ?? 0,
    groupScope4: groupScope(ipv4, options.outboundInterface.v4),
    groupScope6: groupScope(ipv6, options.outboundInterface.v6),
    freebind: options.freebind,
    synRetries: Math.min(settings.tcpSynRetries + settings.tcpSynLinearTimeouts, 7),
    synLinear: settings.tcpSynLinearTimeouts,
    rtoMaxMs: settings.tcpRtoMaxMs,
    udpTimeout: settings.udpTimeout,
    udpStreamTimeout: settings.udpStreamTimeout,
    log,
    ...(logger.enabled(LEVEL.debug) ? { onFlow } : {}),
    ...more,
  })
  let monitor: NeighbourMonitor | undefined
  return {
    engine,
    followNeighbours(neighboursIndex) {
      const made = new NeighbourMonitor({
        interfaceIndex4: ipv4?.interfaceIndex ?? 0,
        interfaceIndex6: ipv6?.interfaceIndex ?? 0,
        onChange: (neighbour) => {
          if (neighbour.mac) {
            learnNeighbour(neighbours, ndp ? { arp, ndp } : { arp }, neighbour.address, 0, neighbour.mac)
          } else neighbours.remove(neighbour.address, 0)
        },
        onRefused: ({ message }) =>
          log(
            "warning",
            "neighbours",
            `Couldn't read the host's neighbours, the guest sees our MAC address for them: ${message}`,
          ),
      })
      monitor = made
      made.process()
      kernel.watchLevel(made.fd, externalRef(neighboursIndex))
      return () => made.process()
    },
    reconfigure(now, former, online6) {
      const { resolvers, translation, host } = now
      const scope = host.ipv6?.interfaceIndex ?? 0
      engine.reconfigure({
        linkLocalScope: scope,
        groupScope4: groupScope(host.ipv4, options.outboundInterface.v4),
        groupScope6: groupScope(host.ipv6, options.outboundInterface.v6),
        translation,
        former,
      })
      blockTranslated(neighbours, translation)
      if (engine.policy !== undefined) engine.policy.dns.resolvers = [...trustedResolvers(now), ...former.resolvers]
      monitor?.follow(host.ipv4?.interfaceIndex ?? 0, scope)
      const dns = [...resolvers.advertised4, ...resolvers.advertised6]
      const { search } = resolvers
      dhcp.update({ dns, search, ...renewal(options, host.ipv4) })
      dhcpv6?.update({ dns, search, ...renewal(options, host.ipv6) })
      ndp?.update({ dns, search, online: online6 }, kernel.now())
    },
    close: () => monitor?.close(),
  }
}

/** Index of the interface that multicast and broadcast use: the one that the guest is modelled on, unless sockets are bound to
 * another one anyway; 0: that one, or the kernel's choice. */
function groupScope(family: HostFamily | undefined, outbound: string | null | undefined): number {
  if (family === undefined || (outbound && outbound !== family.interfaceName)) return 0
  return family.interfaceIndex
}

/** Opens the sockets of all forwarding rules. @throws StartError */
export function listen(engine: Engine): void {
  try {
    engine.listen()
  } catch (error) {
    throw new StartError((error as Error).message)
  }
}

/** Addresses that we answer for are nobody else's on the guest's link. */
function blockTranslated(neighbours: NeighbourTable, translation: TranslationConfig): void {
  const { mapHostLoopback4, mapHostLoopback6, mapGuestAddress4, mapGuestAddress6 } = translation
  for (const address of [mapHostLoopback4, mapHostLoopback6, mapGuestAddress4, mapGuestAddress6]) {
    if (address.some((word) => word !== 0)) neighbours.block(address, 0)
  }
}
