/**
 * DHCPv6 answers (RFC 8415): one guest, one address, for ever, or for as long as the host has it.
 *
 * ```
 *   SOLICIT → ADVERTISE (REPLY with Rapid Commit)    REQUEST, RENEW, REBIND → REPLY with the address
 *   CONFIRM, RELEASE, DECLINE → REPLY with a status  INFORMATION-REQUEST → REPLY without address
 * ```
 *
 * Our identifier (DUID) holds the time of our start, so after a restart a renewing client does not find its server any more
 * and rebinds: a Rebind names no server and is answered.
 *
 * Reads first: RFC 8415 sections 16, 18.3 and 21; RFC 3646; RFC 4704.
 */
import type { GuestState, Link, Responder } from "@passt/core"
import { address, ipv6, udp } from "@passt/core/wire"
import { SERVER_MAX } from "../config.ts"
import type { DhcpConfig, DhcpUpdate } from "../config.ts"
import { encodeName, encodeSearch, fitting } from "../names.ts"
import type { SearchList } from "../names.ts"
import { HEADERS6, send6 } from "../send.ts"
import * as options from "./options.ts"
import * as wire from "./wire.ts"

/** Makes an IPv6 packet of 1280 bytes, which fits every link (RFC 8200 section 5). */
const MESSAGE_MAX: number = 1280 - ipv6.HEADER_LENGTH - udp.HEADER_LENGTH
/** A DUID has at most 128 bytes behind its type (RFC 8415 section 11.1). */
const CLIENT_ID_MAX = 130
/** Identity associations answered in one message; clients send one or two. */
const ASSOCIATION_MAX = 8
/** FQDN flags, RFC 4704 section 4.1: the client wants the server to update AAAA records; the server did otherwise. */
const FQDN_SERVER = 0x01
const FQDN_OVERRIDE = 0x02

/** Whether a message must name us, must name no server, or may do either (RFC 8415 section 16). */
const NAMES = { us: 0, none: 1, either: 2 } as const

export interface Dhcpv6Config extends DhcpConfig {
  /** Time for our identifier (DUID-LLT, RFC 8415 section 11.2): seconds since the start of the year 2000, UTC, modulo
   * 2^32. */
  duidTime: number
}

export class Dhcpv6Responder implements Responder {
  /** Messages that RFC 8415 section 16 tells servers to throw away, but not those that are for another server. */
  invalid = 0
  /** Answers for which the link had no room; the guest asks again. */
  noRoom = 0

  readonly #link: Link
  readonly #guest: GuestState
  readonly #info: ((line: string) => void) | undefined
  readonly #duid: Uint8Array
  readonly #config: Dhcpv6Config
  #servers: Int32Array = new Int32Array(0)
  #search: SearchList = encodeSearch([], false, 0)
  /** Seconds until clients renew (T1); -1: never. */
  #renew = -1
  readonly #fqdn: Uint8Array | undefined
  readonly #options = new options.OptionWriter()
  readonly #client: Int32Array = new Int32Array(4)
  readonly #asked: Int32Array = new Int32Array(4)

  constructor(link: Link, guest: GuestState, config: Dhcpv6Config) {
    this.#link = link
    this.#guest = guest
    this.#info = config.info
    // DUID-LLT is type 1, Ethernet is hardware type 1.
    this.#duid = Uint8Array.of(0, 1, 0, 1, 0, 0, 0, 0, ...guest.ourMac)
    new DataView(this.#duid.buffer).setUint32(4, config.duidTime)
    this.#config = config
    this.update(config)
    const fqdn = config.fqdn === undefined ? undefined : encodeName(config.fqdn)
    this.#fqdn = fqdn && Uint8Array.of(0, ...fqdn)
  }

  /** What clients are told from now on. */
  update({ dns, search, renewSeconds }: DhcpUpdate): void {
    const { advertiseDns, advertiseSearch } = this.#config
    const servers = advertiseDns ? dns.filter((words) => !address.isMapped(words, 0)) : []
    this.#servers = Int32Array.from(servers.slice(0, SERVER_MAX).flatMap((words) => [...words.subarray(0, 4)]))
    this.#search = encodeSearch(advertiseSearch ? search : [], false, MESSAGE_MAX)
    this.#renew = renewSeconds ?? -1
  }

  respond(_row: number, l3: number, l4: number, end: number): void {
    const guest = this.#guest
    const { view } = this.#link.frames
    // A link-local address is the guest's own choice: without upstream there is none to give.
    const hasAddress = !address.isUnspecified(guest.address6, 0) && !address.isLinkLocal(guest.address6, 0)
    if (!guest.ipv6 || !hasAddress) return
    // To the servers' group only (RFC 8415 section 7.1).
    if (view.getUint8(l3 + ipv6.DESTINATION) !== 0xff) return
    address.read6(this.#client, 0, view, l3 + ipv6.SOURCE)
    const after = wire.check(view, l4, end)
    if (after < 0 || !address.isUnicast(this.#client, 0)) {
      this.invalid++
      return
    }
    const request = l4 + udp.HEADER_LENGTH
    const first = request + wire.OPTIONS
    switch (view.getUint8(request)) {
      case wire.SOLICIT:
        if (this.#isValid(first, after, NAMES.none)) this.#solicited(request, first, after)
        break
      case wire.REQUEST:
      case wire.RENEW:
        if (this.#isValid(first, after, NAMES.us)) this.#requested(request, first, after)
        break
      case wire.REBIND:
        if (this.#isValid(first, after, NAMES.none)) this.#requested(request, first, after)
        break
      case wire.CONFIRM:
        if (this.#isValid(first, after, NAMES.none)) this.#confirmed(request, first, after)
        break
      case wire.RELEASE:
      case wire.DECLINE:
        // The address stays the guest's: there is nothing to do but to say so.
        if (this.#isValid(first, after, NAMES.us)) this.#sendStatus(request, first, after, options.STATUS_SUCCESS)
        break
      case wire.INFORMATION_REQUEST:
        this.#informationRequested(request, first, after)
        break
    }
  }

  /** Checks the identifiers of client and server. */
  #isValid(first: number, after: number, names: number): boolean {
    const { view } = this.#link.frames
    const client = options.find(view, first, after, options.CLIENT_ID)
    const length = client < 0 ? 0 : options.lengthAt(view, client)
    const server = options.find(view, first, after, options.SERVER_ID)
    const isPresenceRight = names === NAMES.either || server >= 0 === (names === NAMES.us)
    // Who asks for information only may stay anonymous.
    const isClientRight = (length > 0 && length <= CLIENT_ID_MAX) || (client < 0 && names === NAMES.either)
    if (!isClientRight || !isPresenceRight) {
      this.invalid++
      return false
    }
    return server < 0 || this.#isUs(server)
  }

  #isUs(server: number): boolean {
    const { arena, view } = this.#link.frames
    const duid = this.#duid
    if (options.lengthAt(view, server) !== duid.length) return false
    for (let i = 0; i < duid.length; i++) if (arena[server + options.HEADER_LENGTH + i] !== duid[i]) return false
    return true
  }

  #solicited(request: number, first: number, after: number): void {
    const isRapid = options.find(this.#link.frames.view, first, after, options.RAPID_COMMIT) >= 0
    const row = this.#start(request, first, after, isRapid ? wire.REPLY : wire.ADVERTISE)
    if (row < 0) return
    if (isRapid) this.#options.empty(options.RAPID_COMMIT)
    this.#writeAssociations(first, after, options.STATUS_NO_ADDRESSES)
    this.#writeConfiguration(first, after)
    this.#send(row, request, isRapid ? wire.REPLY : wire.ADVERTISE)
  }

  #requested(request: number, first: number, after: number): void {
    const row = this.#start(request, first, after, wire.REPLY)
    if (row < 0) return
    const isRenewal = this.#link.frames.view.getUint8(request) !== wire.REQUEST
    const isOther = this.#addressesOf(first, after) === ADDRESSES.other
    if (isOther && isRenewal && this.#renew >= 0) {
      this.#writeReplacement(first, after)
      this.#writeConfiguration(first, after)
    } else if (isOther) {
      this.#writeRefusals(first, after, options.STATUS_NOT_ON_LINK)
    } else {
      this.#writeAssociations(first, after, isRenewal ? options.STATUS_NO_BINDING : options.STATUS_NO_ADDRESSES)
      this.#writeConfiguration(first, after)
    }
    this.#send(row, request, wire.REPLY)
  }

  #confirmed(request: number, first: number, after: number): void {
    const found = this.#addressesOf(first, after)
    // Nothing to confirm: RFC 8415 section 18.3.3 forbids an answer.
    if (found === ADDRESSES.none) return
    const status = found === ADDRESSES.ours ? options.STATUS_SUCCESS : options.STATUS_NOT_ON_LINK
    this.#sendStatus(request, first, after, status)
  }

  #informationRequested(request: number, first: number, after: number): void {
    const { view } = this.#link.frames
    const hasAssociation =
      options.find(view, first, after, options.IA_NA) >= 0 || options.find(view, first, after, options.IA_TA) >= 0
    if (hasAssociation) {
      this.invalid++
      return
    }
    if (!this.#isValid(first, after, NAMES.either)) return
    const row = this.#start(request, first, after, wire.REPLY)
    if (row < 0) return
    this.#writeConfiguration(first, after)
    this.#send(row, request, wire.REPLY)
  }

  #sendStatus(request: number, first: number, after: number, status: number): void {
    const row = this.#start(request, first, after, wire.REPLY)
    if (row < 0) return
    this.#options.status(status)
    this.#send(row, request, wire.REPLY)
  }

  /** Whether the associations of a message name addresses, and only the guest's. */
  #addressesOf(first: number, after: number): number {
    const { view } = this.#link.frames
    let found: number = ADDRESSES.none
    for (let at = first; at < after; at = options.after(view, at)) {
      const inner = options.innerOptions(options.codeAt(view, at))
      if (inner === 0) continue
      for (let i = at + inner; i < options.after(view, at); i = options.after(view, i)) {
        if (options.codeAt(view, i) !== options.IA_ADDRESS) continue
        address.read6(this.#asked, 0, view, i + options.HEADER_LENGTH)
        if (!address.equal(this.#asked, 0, this.#guest.address6, 0)) return ADDRESSES.other
        found = ADDRESSES.ours
      }
    }
    return found
  }

  /** Gives the address to the first association for addresses; others get a status. */
  #writeAssociations(first: number, after: number, status: number): void {
    const { view } = this.#link.frames
    const guest = this.#guest
    let isGiven = false
    let count = 0
    for (let at = first; at < after && count < ASSOCIATION_MAX; at = options.after(view, at)) {
      const code = options.codeAt(view, at)
      if (options.innerOptions(code) === 0) continue
      const id = view.getInt32(at + options.HEADER_LENGTH)
      if (code === options.IA_NA && !isGiven) this.#options.association(id, guest.address6, this.#renew)
      else this.#options.refusal(code, id, status)
      isGiven ||= code === options.IA_NA
      count++
    }
    // Traffic from outside goes to the address that the guest is about to use.
    if (isGiven) address.copy(guest.seen6, 0, guest.address6, 0)
  }

  /** The host has another address than it had when the client got its own: the first association gets that one, and the lifetimes
   * of those that are gone become 0 (RFC 8415 section 18.3.4). */
  #writeReplacement(first: number, after: number): void {
    const { view } = this.#link.frames
    const guest = this.#guest
    const at = options.find(view, first, after, options.IA_NA)
    if (at < 0) {
      this.#writeRefusals(first, after, options.STATUS_NO_BINDING)
      return
    }
    const inner = at + options.HEADER_LENGTH + options.IA_NA_OPTIONS
    this.#options.replacement(
      view.getInt32(at + options.HEADER_LENGTH),
      guest.address6,
      this.#renew,
      inner,
      options.after(view, at),
    )
    address.copy(guest.seen6, 0, guest.address6, 0)
  }

  #writeRefusals(first: number, after: number, status: number): void {
    const { view } = this.#link.frames
    let count = 0
    for (let at = first; at < after && count < ASSOCIATION_MAX; at = options.after(view, at)) {
      const code = options.codeAt(view, at)
      if (options.innerOptions(code) === 0) continue
      this.#options.refusal(code, view.getInt32(at + options.HEADER_LENGTH), status)
      count++
    }
  }

  /** In order of importance: what has no room is left out. */
  #writeConfiguration(first: number, after: number): void {
    const { view } = this.#link.frames
    const list = this.#options
    if (this.#servers.length > 0) list.words(options.DNS, this.#servers)
    const searchLength = fitting(this.#search, list.room)
    if (searchLength > 0) list.bytes(options.SEARCH, this.#search.bytes, searchLength)
    if (this.#fqdn) {
      const asked = options.find(view, first, after, options.FQDN)
      const flagsAt = asked >= 0 && options.lengthAt(view, asked) > 0 ? asked + options.HEADER_LENGTH : -1
      // We update no name service; a client that asked for that is told so.
      this.#fqdn[0] = flagsAt >= 0 && (view.getUint8(flagsAt) & FQDN_SERVER) !== 0 ? FQDN_OVERRIDE : 0
      list.bytes(options.FQDN, this.#fqdn)
    }
  }

  /** Starts an answer: type, transaction, identifiers. @returns its row, or -1. */
  #start(request: number, first: number, after: number, type: number): number {
    const link = this.#link
    const row = link.reserve(HEADERS6 + MESSAGE_MAX)
    if (row < 0) {
      this.noRoom++
      return -1
    }
    const { view, offset } = link.frames
    const o = offset[row] + HEADERS6
    view.setInt32(o, (type << 24) | (view.getUint32(request + wire.TYPE_TRANSACTION) & 0xffffff))
    this.#options.start(view, o + wire.OPTIONS, o + MESSAGE_MAX)
    this.#options.bytes(options.SERVER_ID, this.#duid)
    const client = options.find(view, first, after, options.CLIENT_ID)
    if (client >= 0) this.#options.copy(client)
    return row
  }

  #send(row: number, request: number, type: number): void {
    const { view, offset } = this.#link.frames
    const guest = this.#guest
    const transaction = view.getUint32(request + wire.TYPE_TRANSACTION) & 0xffffff
    const length = this.#options.end - offset[row] - HEADERS6
    const from = guest.ourLinkLocal6
    send6(this.#link, guest, row, transaction, from, wire.SERVER_PORT, this.#client, wire.CLIENT_PORT, length)
    if (this.#info) {
      const answer = type === wire.ADVERTISE ? "advertise" : "reply"
      this.#info(`DHCPv6: ${answer} to ${NAME_OF[view.getUint8(request)]} from ${address.format(this.#client)}`)
    }
  }
}

/** What addresses the associations of a message name. */
const ADDRESSES = { none: 0, ours: 1, other: 2 } as const

const NAME_OF: Record<number, string> = {
  [wire.SOLICIT]: "solicit",
  [wire.REQUEST]: "request",
  [wire.CONFIRM]: "confirm",
  [wire.RENEW]: "renew",
  [wire.REBIND]: "rebind",
  [wire.RELEASE]: "release",
  [wire.DECLINE]: "decline",
  [wire.INFORMATION_REQUEST]: "information-request",
}
