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
import { addressDump, routeDump } from "../netlink/request.ts"
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
      // Without ARP there is no detection of duplicate addresses (RFC 4862 section 5.4), which would keep the link-local
      // address from being used for a second; nobody else is on this link.
      this.#link("interface", index, { up: true, arp: false })
      for (const family of setup.families) this.#configureFamily(family, index, template, warnings)
      this.#link("interface", index, { arp: true })
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
