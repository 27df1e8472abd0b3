/**
 * What the guest is to look like, derived from the host and from what the user asked for. Read at start, and again when the
 * host changes (host-monitor.ts); neighbours are followed one by one (neighbour-monitor.ts).
 */
import { existsSync } from "node:fs"
import { address as ip } from "@passt/core/wire"
import type { GuestState } from "@passt/core"
import { AF_INET, AF_INET6 } from "./netlink/constants.ts"
import type { InterfaceAddress } from "./netlink/address.ts"
import { parseAddress } from "./netlink/address.ts"
import type { Link } from "./netlink/link.ts"
import { parseLink } from "./netlink/link.ts"
import { addressDump, linkDump, routeDump } from "./netlink/request.ts"
import type { Route } from "./netlink/route.ts"
import { parseRoute } from "./netlink/route.ts"
import type { NetlinkCalls } from "./netlink/socket.ts"
import { nativeCalls, NetlinkError, NetlinkSocket } from "./netlink/socket.ts"
import type { HostSettings } from "./sysctl.ts"
import { readSettings } from "./sysctl.ts"
import type { Snapshot, Template } from "./template.ts"
import {
  chooseAddress,
  chooseTemplate,
  classPrefix,
  linkLocalOf,
  LOCAL_ADDRESS4,
  LOCAL_GATEWAY4,
  LOCAL_GATEWAY6,
  LOCAL_PREFIX4,
  PREFIX6,
  templateOn,
} from "./template.ts"

/** What the user fixed; everything else comes from the host. Addresses are four words, IPv4 mapped. */
export interface HostOptions {
  /** Families wanted; default both. IPv6 is left out when the kernel has none, unless it is the only one. */
  readonly ipv4?: boolean
  readonly ipv6?: boolean
  /** Template for both families. */
  readonly interfaceName?: string
  /** Interfaces that outbound sockets are bound to; templates where `interfaceName` is absent. */
  readonly outboundInterface4?: string
  readonly outboundInterface6?: string
  readonly address4?: Int32Array
  /** Prefix length, 0…32. */
  readonly prefix4?: number
  readonly address6?: Int32Array
  readonly gateway4?: Int32Array
  readonly gateway6?: Int32Array
}

/** One family as the guest is to see it. */
export interface HostFamily {
  /** Local mode: there is no template; addresses are our own, unless the user gave some. */
  readonly local: boolean
  /** Name and index of the template interface; "" and 0 in local mode. */
  readonly interfaceName: string
  readonly interfaceIndex: number
  /** Link-layer address of the template interface; empty if it has none. */
  readonly interfaceMac: Uint8Array
  /** MTU of the template interface, bytes of IP packet; 0 if unknown. */
  readonly interfaceMtu: number
  /** The guest's address, four words; all zero: to be learned (IPv6 in local mode). */
  readonly address: Int32Array
  /** Whether the user gave the address: it is then not to be learned from traffic. */
  readonly fixed: boolean
  /** Prefix length of the address: 0…32, or 64 for IPv6. */
  readonly prefix: number
  /** The guest's gateway, four words; all zero: none (IPv6 only: the router is then known by its link-local address). */
  readonly gateway: Int32Array
  /** IPv6: our own link-local address towards the guest. IPv4: the gateway. */
  readonly ourAddress: Int32Array
  /** All addresses of the template interface in this family. */
  readonly addresses: readonly InterfaceAddress[]
}

export interface HostConfig {
  readonly ipv4: HostFamily | undefined
  readonly ipv6: HostFamily | undefined
  /** Kernel settings that the engine follows. */
  readonly settings: HostSettings
  /** Remarks for the log, at level info. */
  readonly notes: readonly string[]
}

/** The host does not allow what was asked for. The message is one line, for the user. */
export class HostError extends Error {
  constructor(message: string) {
    super(message)
    this.name = "HostError"
  }
}

const NO_DEVICE = "No such device"
const NOT_USABLE = "External interface not usable"

function linkNamed(name: string, snapshot: Snapshot): Link {
  const link = snapshot.links.find((candidate) => candidate.name === name)
  if (!link) throw new HostError(`Invalid interface name ${name}: ${NO_DEVICE}`)
  return link
}

/** The template of a family with its address, or undefined for local mode. */
interface Choice {
  readonly template: Template
  readonly address: InterfaceAddress | undefined
}

function choose(family: 4 | 6, snapshot: Snapshot, options: HostOptions): Choice | undefined {
  const outbound = family === 4 ? options.outboundInterface4 : options.outboundInterface6
  const name = options.interfaceName ?? outbound
  const template =
    name === undefined ? chooseTemplate(family, snapshot) : templateOn(family, linkNamed(name, snapshot), snapshot)
  if (!template) return undefined
  const address = chooseAddress(family, template.link, snapshot)
  const given = family === 4 ? options.address4 : options.address6
  if (address || given) return { template, address }
  // An interface that was asked for by family must be able to serve it.
  if (options.interfaceName === undefined && outbound !== undefined) throw new HostError(NOT_USABLE)
  return undefined
}

function ipv4Family(choice: Choice | undefined, snapshot: Snapshot, options: HostOptions): HostFamily {
  const link = choice?.template.link
  const address = options.address4 ?? choice?.address?.address ?? ip.parse4(LOCAL_ADDRESS4)!
  let prefix = options.prefix4
  if (prefix === undefined) {
    if (options.address4) prefix = classPrefix(options.address4)
    else prefix = choice?.address?.prefix ?? LOCAL_PREFIX4
  }
  // On point-to-point links routes need no gateway, but the guest needs one on its Ethernet: ours will do.
  const gateway = options.gateway4 ?? choice?.template.gateway ?? ip.parse4(LOCAL_GATEWAY4)!
  return {
    local: link === undefined,
    ...interfaceFields(link),
    address,
    fixed: options.address4 !== undefined,
    prefix,
    gateway,
    ourAddress: gateway,
    addresses: addressesOf(4, link, snapshot),
  }
}

function ipv6Family(choice: Choice | undefined, snapshot: Snapshot, options: HostOptions): HostFamily {
  const link = choice?.template.link
  const localGateway = ip.parse6(LOCAL_GATEWAY6)!
  const gateway: Int32Array = options.gateway6 ?? (choice ? choice.template.gateway : localGateway) ?? new Int32Array(4)
  // Routers advertise from a link-local address (RFC 4861 section 4.2). Tunnels may have none: then the one of local mode.
  let ourAddress: Int32Array = localGateway
  if (ip.isLinkLocal(gateway, 0)) ourAddress = gateway
  else if (link) ourAddress = linkLocalOf(link, snapshot) ?? localGateway
  return {
    local: link === undefined,
    ...interfaceFields(link),
    address: options.address6 ?? choice?.address?.address ?? new Int32Array(4),
    fixed: options.address6 !== undefined,
    prefix: PREFIX6,
    gateway,
    ourAddress,
    addresses: addressesOf(6, link, snapshot),
  }
}

function interfaceFields(
  link: Link | undefined,
): Pick<HostFamily, "interfaceName" | "interfaceIndex" | "interfaceMac" | "interfaceMtu"> {
  return {
    interfaceName: link?.name ?? "",
    interfaceIndex: link?.index ?? 0,
    interfaceMac: link?.mac ?? new Uint8Array(0),
    interfaceMtu: link?.mtu ?? 0,
  }
}

function addressesOf(family: 4 | 6, link: Link | undefined, snapshot: Snapshot): readonly InterfaceAddress[] {
  return snapshot.addresses.filter((a) => link !== undefined && a.family === family && a.interfaceIndex === link.index)
}

/** Decides, from a snapshot of the host. @param ipv6Available whether the kernel has IPv6
 * @throws HostError when the host can't serve what was asked for */
export function describeHost(
  snapshot: Snapshot,
  options: HostOptions,
  settings: HostSettings,
  ipv6Available = true,
): HostConfig {
  const want4 = options.ipv4 ?? true
  const want6 = options.ipv6 ?? true
  if (want6 && !want4 && !ipv6Available) throw new HostError("IPv6 not available on this host")
  const on4 = want4
  const on6 = want6 && ipv6Available
  const choice4 = on4 ? choose(4, snapshot, options) : undefined
  const choice6 = on6 ? choose(6, snapshot, options) : undefined
  if (options.interfaceName !== undefined && !choice4 && !choice6) {
    linkNamed(options.interfaceName, snapshot)
    throw new HostError(NOT_USABLE)
  }
  const notes: string[] = []
  if (on4 && !choice4) notes.push("IPv4: no external interface as template, use local mode")
  if (on6 && !choice6) notes.push("IPv6: no external interface as template, use local mode")
  if (want6 && !ipv6Available) notes.push("IPv6: not available on this host, disabled")
  return {
    ipv4: on4 ? ipv4Family(choice4, snapshot, options) : undefined,
    ipv6: on6 ? ipv6Family(choice6, snapshot, options) : undefined,
    settings,
    notes,
  }
}

/** Asks the kernel for links, addresses and routes. @throws NetlinkError */
export function readSnapshot(calls: NetlinkCalls = nativeCalls): Snapshot {
  const socket = new NetlinkSocket(0, false, calls)
  try {
    return takeSnapshot(socket)
  } finally {
    socket.close()
  }
}

/** The same over a socket that is there already. @throws NetlinkError */
export function takeSnapshot(socket: NetlinkSocket): Snapshot {
  return {
    links: socket.dump(linkDump(), parseLink),
    addresses: [...addressesOrNone(socket, AF_INET), ...addressesOrNone(socket, AF_INET6)],
    routes: [...routesOrNone(socket, AF_INET), ...routesOrNone(socket, AF_INET6)],
  }
}

/** A family that the kernel lacks has no handler (EOPNOTSUPP) or, by strict checking, no table (ENOENT). */
function isAbsent(error: unknown): boolean {
  return error instanceof NetlinkError && (error.errno === 95 || error.errno === 2 || error.errno === 97)
}

function addressesOrNone(socket: NetlinkSocket, family: number): readonly InterfaceAddress[] {
  try {
    return socket.dump(addressDump(family), parseAddress).filter((a) => a.family === (family === AF_INET ? 4 : 6))
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

/** Routes to anywhere but "default" that are kept of a family: the first usable one counts, a router has a million. */
const ROUTES_KEPT_MAX = 4096

function routesOrNone(socket: NetlinkSocket, family: number): readonly Route[] {
  let kept = 0
  try {
    return socket.dump(routeDump(family), (view, message) => {
      // struct rtmsg: the prefix length is the second byte.
      const isDefault = message.end - message.start > 1 && view.getUint8(message.start + 1) === 0
      if (!isDefault && kept >= ROUTES_KEPT_MAX) return undefined
      const route = parseRoute(view, message)
      if (!route || route.family !== (family === AF_INET ? 4 : 6)) return undefined
      if (!isDefault) kept++
      return route
    })
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

/** Reads the host: interfaces, addresses and routes of this network namespace, and kernel settings.
 * @throws HostError, NetlinkError */
export function readHost(options: HostOptions = {}): HostConfig {
  return describeHost(readSnapshot(), options, readSettings(), existsSync("/proc/net/if_inet6"))
}

/** Gives the guest its addresses. */
export function applyToGuest(host: HostConfig, guest: GuestState): void {
  guest.ipv4 = host.ipv4 !== undefined
  guest.ipv6 = host.ipv6 !== undefined
  if (host.ipv4) {
    guest.address4.set(host.ipv4.address)
    guest.gateway4.set(host.ipv4.gateway)
    guest.prefix4 = host.ipv4.prefix
    guest.fixed4 = host.ipv4.fixed
  }
  if (host.ipv6) {
    guest.address6.set(host.ipv6.address)
    guest.gateway6.set(host.ipv6.gateway)
    guest.ourLinkLocal6.set(host.ipv6.ourAddress)
    guest.fixed6 = host.ipv6.fixed
  }
}
