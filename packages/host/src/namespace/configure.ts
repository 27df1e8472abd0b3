/**
 * Sets up the interface of a namespace after the host's, over a netlink socket that was created in the namespace: link,
 * addresses, routes.
 *
 * Routes depend on each other: a gateway must be on the link by another route. They are asked for in the order of the
 * host's table, and those that are refused again, as long as that brings one of them forward.
 */
import { address as ip } from "@passt/core/wire"
import type { HostFamily } from "../host.ts"
import { AF_INET, AF_INET6 } from "../netlink/constants.ts"
import { parseLink } from "../netlink/link.ts"
import { addressDump, linkDump, routeDump } from "../netlink/request.ts"
import { NetlinkError, NetlinkSocket, nativeCalls, type NetlinkCalls } from "../netlink/socket.ts"
import { copyAddress, copyRoute } from "./copy.ts"
import { defaultRoute, linkChange, newAddress, type LinkChange } from "./requests.ts"

/** The first interface of every network namespace (LOOPBACK_IFINDEX in the kernel). */
const LOOPBACK_INDEX = 1

const EEXIST = 17
/** What a family answers that is switched off on the interface (net.ipv6.conf.*.disable_ipv6), or that the kernel lacks. */
const ABSENT: readonly number[] = [13, 95, 97]

/** What one family of the interface is to get. */
export interface FamilySetup {
  readonly family: 4 | 6
  readonly host: HostFamily
  /** The template's addresses; else the guest's own one. */
  readonly copyAddresses: boolean
  /** The template's routes; else a default route by the guest's gateway. */
  readonly copyRoutes: boolean
}

export interface InterfaceSetup {
  /** Index in the namespace. */
  readonly index: number
  /** Bytes of IP packet; 0: as it is. */
  readonly mtu: number
  readonly families: readonly FamilySetup[]
}

const LINK_LOCAL_PREFIX = 64

/** The link-local address that belongs to a MAC address (RFC 4291 appendix A). */
function linkLocalAddress(mac: Uint8Array): Int32Array {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac
  return Int32Array.of(
    0xfe80 << 16,
    0,
    ((a ^ 2) << 24) | (b << 16) | (c << 8) | 0xff,
    (0xfe << 24) | (d << 16) | (e << 8) | f,
  )
}

type Request = DataView<ArrayBuffer>

export class NamespaceNetwork {
  readonly #socket: NetlinkSocket

  /** @param calls open sockets in the namespace @throws NetlinkError */
  constructor(calls: NetlinkCalls) {
    this.#socket = new NetlinkSocket(0, false, calls)
  }

  close(): void {
    this.#socket.close()
  }

  /** @throws NetlinkError */
  bringUpLoopback(): void {
    this.#link("loopback interface", LOOPBACK_INDEX, { up: true })
  }

  /** @param mac six bytes @throws NetlinkError */
  setMac(index: number, mac: Uint8Array): void {
    this.#link("MAC address", index, { mac })
  }

  /** Makes the interface what the template is on the host. @param host opens sockets where the template is
   * @returns warnings, one line each @throws NetlinkError when it can't be of use */
  configure(setup: InterfaceSetup, host: NetlinkCalls = nativeCalls): string[] {
    const { index, mtu } = setup
    const warnings: string[] = []
    const template = new NetlinkSocket(0, false, host)
    try {
      if (mtu > 0) this.#link("MTU", index, { mtu })
      // The kernel would look for duplicates of its own link-local address (RFC 4862 section 5.4), and not use it for a
      // second. Nobody else is on this link.
      const wants6 = setup.families.some(({ family }) => family === 6)
      const ours = wants6 && !this.#socket.change(linkChange(index, { makeLinkLocal: false }))
      this.#link("interface", index, { up: true })
      if (ours) {
        const mac = this.#socket.dump(linkDump(), parseLink).find((link) => link.index === index)?.mac
        // Refused where IPv6 is off: said below.
        if (mac?.length === 6) this.#socket.change(newAddress(index, 6, linkLocalAddress(mac), LINK_LOCAL_PREFIX))
        this.#socket.change(linkChange(index, { makeLinkLocal: true }))
      }
      for (const family of setup.families) this.#configureFamily(family, index, template, warnings)
    } finally {
      template.close()
    }
    return warnings
  }

  #link(what: string, index: number, change: LinkChange): void {
    const error = this.#socket.change(linkChange(index, change))
    if (error) throw new NetlinkError(`Couldn't set ${what} in namespace: ${error.message}`, error.errno)
  }

  #configureFamily(setup: FamilySetup, index: number, template: NetlinkSocket, warnings: string[]): void {
    const { family, host } = setup
    const name = `IPv${family}`
    const requests = this.#addresses(setup, index, template)
    const failures = this.#failures(requests)
    if (failures.length > 0 && failures.every(({ errno }) => ABSENT.includes(errno))) {
      warnings.push(`${name} can't be used in the namespace: ${failures[0]!.message}`)
      return
    }
    if (failures.length > 0) {
      const [error] = failures
      throw new NetlinkError(`Couldn't set ${name} address in namespace: ${error!.message}`, error!.errno)
    }
    if (setup.copyRoutes && !host.local) {
      const dump = routeDump(family === 4 ? AF_INET : AF_INET6)
      const routes = template.dump(dump, (view, message) => copyRoute(view, message, host.interfaceIndex, index))
      this.#addRoutes(routes, `${name} routes of ${host.interfaceName}`, warnings)
    } else if (!ip.isUnspecified(host.gateway, 0)) {
      this.#addDefaultRoute(family, host.gateway, index)
    }
  }

  #addresses(setup: FamilySetup, index: number, template: NetlinkSocket): readonly Request[] {
    const { family, host } = setup
    if (setup.copyAddresses && !host.local) {
      const dump = addressDump(family === 4 ? AF_INET : AF_INET6)
      return template.dump(dump, (view, message) => copyAddress(view, message, host.interfaceIndex, index))
    }
    // In local mode IPv6 has its link-local address alone.
    return ip.isUnspecified(host.address, 0) ? [] : [newAddress(index, family, host.address, host.prefix)]
  }

  /** Why requests were refused, but for what was there already. */
  #failures(requests: readonly Request[]): NetlinkError[] {
    const results = this.#socket.changeAll(requests)
    return results.filter((error) => error !== undefined).filter((error) => error.errno !== EEXIST)
  }

  #addRoutes(routes: readonly Request[], what: string, warnings: string[]): void {
    let pending = routes
    let refusal: NetlinkError | undefined
    for (;;) {
      const results = this.#socket.changeAll(pending)
      const left = pending.filter((_, i) => results[i] !== undefined && results[i]!.errno !== EEXIST)
      refusal = results.find((error) => error !== undefined && error.errno !== EEXIST)
      const stuck = left.length === pending.length
      pending = left
      if (pending.length === 0 || stuck) break
    }
    if (pending.length === 0) return
    warnings.push(`${pending.length} of ${routes.length} ${what} can't be used in the namespace: ${refusal!.message}`)
  }

  #addDefaultRoute(family: 4 | 6, gateway: Int32Array, index: number): void {
    let error = this.#socket.change(defaultRoute(index, family, gateway, false))
    // A gateway that no address of the interface puts on its link. There is only us on this link, and we answer for it.
    if (error && error.errno !== EEXIST) error = this.#socket.change(defaultRoute(index, family, gateway, true))
    if (!error || error.errno === EEXIST) return
    throw new NetlinkError(`Couldn't set IPv${family} default route in namespace: ${error.message}`, error.errno)
  }
}
