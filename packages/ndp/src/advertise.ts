/**
 * What a router advertisement says (RFC 4861 section 4.2, RFC 8106): we are the default router; this is your prefix, the
 * MTU, the resolvers and the search list; nothing of it ever expires, because we are gone when it stops being true.
 */
import type { GuestState } from "@passt/core"
import { address } from "@passt/core/wire"
import { encodeSearch } from "./names.ts"
import * as options from "./options.ts"
import * as wire from "./wire.ts"

/** Not more than RFC 8106 section 5.3.1 asks a host to keep. */
const SERVER_MAX = 3
/** RFC 8200 section 5: a packet of this size fits every IPv6 link; 40 bytes of it are the IPv6 header. */
const MESSAGE_MAX = 1280 - 40
/** Everything but the search list, at its largest, and the search list's own first eight bytes. */
const FIXED_MAX: number = wire.ADVERTISEMENT_OPTIONS + 32 + 8 + (8 + SERVER_MAX * 16) + options.LINK_ADDRESS_LENGTH + 8
/** Largest encoded search list; a multiple of eight, as options are. */
const SEARCH_BYTES_MAX: number = (MESSAGE_MAX - FIXED_MAX) & ~7
/** The most that 16 bits can say, seconds; RFC 8319 section 4 allows it. */
const ROUTER_LIFETIME = 65_535

export interface AdvertiseConfig {
  /** Whether a DHCPv6 server answers here: the M flag. */
  managed: boolean
  /** Resolvers of both families, four address words each; those of IPv6 are advertised, three at most. */
  dns: readonly Int32Array[]
  /** Search domains, the most important first. */
  search: readonly string[]
  advertiseDns: boolean
  advertiseSearch: boolean
}

export class Advertisement {
  readonly #guest: GuestState
  readonly #managed: boolean
  readonly #servers: Int32Array
  readonly #search: Uint8Array

  constructor(guest: GuestState, config: AdvertiseConfig) {
    this.#guest = guest
    this.#managed = config.managed
    const servers = config.advertiseDns ? config.dns.filter((words) => !address.isMapped(words, 0)) : []
    this.#servers = Int32Array.from(servers.slice(0, SERVER_MAX).flatMap((words) => [...words.subarray(0, 4)]))
    // With or without an IPv6 resolver: the search list serves IPv4 resolvers just as well.
    this.#search = encodeSearch(config.advertiseSearch ? config.search : [], SEARCH_BYTES_MAX)
  }

  /** Bytes that `write` writes: at most 1,240. */
  length(): number {
    let length = wire.ADVERTISEMENT_OPTIONS + options.LINK_ADDRESS_LENGTH
    if (this.#hasPrefix()) length += 32
    if (this.#guest.mtu !== 0) length += 8
    if (this.#servers.length > 0) length += 8 + this.#servers.length * 4
    if (this.#search.length > 0) length += (8 + this.#search.length + 7) & ~7
    return length
  }

  /** Writes the message behind its type, code and checksum. @param o offset of the ICMPv6 header */
  write(view: DataView, o: number): void {
    const guest = this.#guest
    const hasPrefix = this.#hasPrefix()
    view.setUint8(o + wire.ADVERTISEMENT_HOP_LIMIT, 255)
    // Without an address there is none that DHCPv6 could give out.
    view.setUint8(o + wire.ADVERTISEMENT_FLAGS, this.#managed && hasPrefix ? wire.ADVERTISEMENT_MANAGED : 0)
    view.setUint16(o + wire.ADVERTISEMENT_LIFETIME, ROUTER_LIFETIME)
    view.setUint32(o + wire.ADVERTISEMENT_REACHABLE, 0)
    view.setUint32(o + wire.ADVERTISEMENT_RETRANSMIT, 0)
    let at = o + wire.ADVERTISEMENT_OPTIONS
    if (hasPrefix) {
      at = options.writePrefix64(view, at, options.PREFIX_ON_LINK | options.PREFIX_AUTONOMOUS, guest.address6)
    }
    if (guest.mtu !== 0) at = options.writeMtu(view, at, guest.mtu)
    if (this.#servers.length > 0) at = options.writeRdnss(view, at, this.#servers)
    if (this.#search.length > 0) at = options.writeDnssl(view, at, this.#search)
    options.writeLinkAddress(view, at, options.SOURCE_LINK_ADDRESS, guest.ourMac, 0)
  }

  /** Without an upstream the guest's address is the link-local one that it chose: no prefix to give. */
  #hasPrefix(): boolean {
    const words = this.#guest.address6
    return !address.isUnspecified(words, 0) && !address.isLinkLocal(words, 0)
  }
}
