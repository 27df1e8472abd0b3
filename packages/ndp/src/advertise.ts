/**
 * What a router advertisement says (RFC 4861 section 4.2, RFC 8106): we are the default router; this is your prefix, the
 * MTU, the resolvers and the search list. Nothing of it ever expires: we are gone when it stops being true, or say what is true
 * instead, and that the former ends, with lifetimes of 0.
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
/** Prefixes and resolvers that ended, and are still told so: the last few places that a traveller has been to. */
const ENDED_MAX = 4
/** Everything that holds but the search list, at its largest, and the search list's own first eight bytes. */
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

/** What of it may change while the program runs. */
export interface AdvertiseUpdate {
  dns: readonly Int32Array[]
  search: readonly string[]
  /** Whether the host has a way to the world in IPv6: without, the guest is to prefer IPv4. */
  online: boolean
}

const none: Int32Array[] = []

export class Advertisement {
  readonly #guest: GuestState
  readonly #config: AdvertiseConfig
  #servers: Int32Array[] = none
  #search: Uint8Array = new Uint8Array(0)
  #domains: readonly string[] = []
  /** Domains that ended with the last update. */
  #endedSearch: Uint8Array = new Uint8Array(0)
  #endedServers: Int32Array[] = none
  /** First two words of each: a /64. */
  #endedPrefixes: Int32Array[] = none
  /** Those of them for which there is room. */
  #toldServers: Int32Array[] = none
  #toldPrefixes: Int32Array[] = none
  /** The prefix as it was advertised last. */
  #prefix: Int32Array = new Int32Array(2)
  #online = true

  constructor(guest: GuestState, config: AdvertiseConfig) {
    this.#guest = guest
    this.#config = config
    this.update({ ...config, online: true })
  }

  /** Takes over what is to be told from now on; the guest's address has been changed before. What it replaces has ended. */
  update({ dns, search, online }: AdvertiseUpdate): void {
    const { advertiseDns, advertiseSearch } = this.#config
    const servers = advertiseDns ? dns.filter((words) => !address.isMapped(words, 0)).slice(0, SERVER_MAX) : []
    this.#endedServers = ended(this.#endedServers, this.#servers, servers)
    this.#servers = servers.map((words) => words.slice(0, 4))
    const prefix = this.#hasPrefix() ? this.#guest.address6.slice(0, 2) : new Int32Array(2)
    const listOf = (words: Int32Array): Int32Array[] => (words.some((word) => word !== 0) ? [words] : [])
    this.#endedPrefixes = ended(this.#endedPrefixes, listOf(this.#prefix), listOf(prefix))
    this.#prefix = prefix
    // With or without an IPv6 resolver: the search list serves IPv4 resolvers just as well.
    const domains = advertiseSearch ? search : []
    this.#search = encodeSearch(domains, SEARCH_BYTES_MAX)
    // What ended is told as far as there is room, the newest first.
    this.#toldPrefixes = none
    this.#toldServers = none
    this.#endedSearch = new Uint8Array(0)
    const room = (): number => MESSAGE_MAX - this.length()
    this.#toldPrefixes = this.#endedPrefixes.slice(0, room() >> 5)
    this.#toldServers = this.#endedServers.slice(0, Math.max(0, room() - 8) >> 4)
    const gone = this.#domains.filter((domain) => !domains.includes(domain))
    this.#endedSearch = encodeSearch(gone, Math.max(0, room() - 8) & ~7)
    this.#domains = domains
    this.#online = online
  }

  /** Bytes that `write` writes: at most 1,240. */
  length(): number {
    let length = wire.ADVERTISEMENT_OPTIONS + options.LINK_ADDRESS_LENGTH
    if (this.#hasPrefix()) length += 32
    length += 32 * this.#toldPrefixes.length
    if (this.#guest.mtu !== 0) length += 8
    for (const servers of [this.#servers, this.#toldServers]) if (servers.length > 0) length += 8 + servers.length * 16
    for (const search of [this.#search, this.#endedSearch]) {
      if (search.length > 0) length += (8 + search.length + 7) & ~7
    }
    return length
  }

  /** Writes the message behind its type, code and checksum. @param o offset of the ICMPv6 header */
  write(view: DataView, o: number): void {
    const guest = this.#guest
    const hasPrefix = this.#hasPrefix()
    view.setUint8(o + wire.ADVERTISEMENT_HOP_LIMIT, 255)
    // Without an address there is none that DHCPv6 could give out.
    view.setUint8(o + wire.ADVERTISEMENT_FLAGS, this.#config.managed && hasPrefix ? wire.ADVERTISEMENT_MANAGED : 0)
    view.setUint16(o + wire.ADVERTISEMENT_LIFETIME, this.#online ? ROUTER_LIFETIME : 0)
    view.setUint32(o + wire.ADVERTISEMENT_REACHABLE, 0)
    view.setUint32(o + wire.ADVERTISEMENT_RETRANSMIT, 0)
    let at = o + wire.ADVERTISEMENT_OPTIONS
    const flags = options.PREFIX_ON_LINK | options.PREFIX_AUTONOMOUS
    const { FOREVER } = options
    // Valid, but not to be preferred, while it leads nowhere (RFC 4862 section 5.5.4).
    if (hasPrefix) at = options.writePrefix64(view, at, flags, guest.address6, FOREVER, this.#online ? FOREVER : 0)
    for (const prefix of this.#toldPrefixes) at = options.writePrefix64(view, at, flags, prefix, 0, 0)
    if (guest.mtu !== 0) at = options.writeMtu(view, at, guest.mtu)
    if (this.#servers.length > 0) at = options.writeRdnss(view, at, flat(this.#servers), FOREVER)
    if (this.#toldServers.length > 0) at = options.writeRdnss(view, at, flat(this.#toldServers), 0)
    if (this.#search.length > 0) at = options.writeDnssl(view, at, this.#search, FOREVER)
    if (this.#endedSearch.length > 0) at = options.writeDnssl(view, at, this.#endedSearch, 0)
    options.writeLinkAddress(view, at, options.SOURCE_LINK_ADDRESS, guest.ourMac, 0)
  }

  /** Without an upstream the guest's address is the link-local one that it chose: no prefix to give. */
  #hasPrefix(): boolean {
    const words = this.#guest.address6
    return !address.isUnspecified(words, 0) && !address.isLinkLocal(words, 0)
  }
}

/** What has ended before, and what ends now; but nothing that has come back. The newest ones. */
function ended(before: readonly Int32Array[], was: readonly Int32Array[], is: readonly Int32Array[]): Int32Array[] {
  const isIn = (list: readonly Int32Array[], words: Int32Array): boolean =>
    list.some((other) => words.every((word, index) => other[index] === word))
  const gone = was.filter((words) => !isIn(is, words))
  const older = before.filter((words) => !isIn(is, words) && !isIn(gone, words))
  return [...gone.map((words) => words.slice()), ...older].slice(0, ENDED_MAX)
}

function flat(list: readonly Int32Array[]): Int32Array {
  return Int32Array.from(list.flatMap((words) => [...words]))
}
