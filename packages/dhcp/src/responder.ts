/**
 * DHCP answers (RFC 2131): one guest, one address, for ever, or for as long as the host has it.
 *
 * There is no pool and no lease database: whoever asks on this link is the guest, and gets the address that it is to have.
 * So there is nothing to refuse: a request for another address is acknowledged with ours, which every client takes.
 *
 * ```
 *   DISCOVER → OFFER (ACK with Rapid Commit)   REQUEST, BOOTP → ACK   INFORM → ACK without lease
 *   DECLINE, RELEASE, what servers send → nothing
 * ```
 *
 * Reads first: RFC 2131 sections 2 and 4.3, RFC 2132, RFC 3442.
 */
import type { GuestState, Link, Responder } from "@passt/core"
import { address, udp } from "@passt/core/wire"
import { SERVER_MAX } from "./config.ts"
import type { DhcpConfig, DhcpUpdate } from "./config.ts"
import { encodeName, encodeSearch, fitting } from "./names.ts"
import type { SearchList } from "./names.ts"
import * as options from "./options.ts"
import { HEADERS4, send4 } from "./send.ts"
import * as wire from "./wire.ts"

/** Longest message with IP and UDP headers that all clients take (RFC 2131 section 2), and the longest that is sent: what fits
 * an Ethernet of the usual MTU. */
const MESSAGE_SIZE_MIN = 576
const MESSAGE_SIZE_MAX = 1500
/** What of a message isn't options: headers, fixed fields, and the end option. */
const OVERHEAD = 28 + wire.OPTIONS + 1
/** Longest search list. */
const SEARCH_BYTES_MAX = 1024
/** Makes a message of 300 bytes, the least that BOOTP knows (RFC 1542 section 2.1). */
const OPTION_BYTES_MIN = 60
const FOREVER = -1
const BROADCAST_MAC = new Uint8Array([255, 255, 255, 255, 255, 255])

/** FQDN option, RFC 4702 section 2.1: the name is in wire form (E). The two bytes after the flags are of no use any more,
 * and 255. */
const FQDN_HEADER = [0x04, 255, 255]

export interface Dhcp4Config extends DhcpConfig {
  /** Host name of the guest. */
  hostname?: string
}

export class DhcpResponder implements Responder {
  /** Messages that were no well-formed ones of a client. */
  invalid = 0
  /** Answers for which the link had no room; the guest asks again. */
  noRoom = 0

  readonly #link: Link
  readonly #guest: GuestState
  readonly #info: ((line: string) => void) | undefined
  readonly #config: Dhcp4Config
  #servers: Int32Array = new Int32Array(0)
  #search: SearchList = encodeSearch([], true, 0)
  /** Seconds; -1: for ever. */
  #lease = FOREVER
  readonly #hostname: Uint8Array | undefined
  readonly #fqdn: Uint8Array | undefined
  readonly #options = new options.OptionWriter()
  readonly #client: Int32Array = new Int32Array(4)
  /** A route to the gateway, which is not on the guest's subnet, and the default route through it (RFC 3442). */
  readonly #routes: Uint8Array = new Uint8Array(14)

  constructor(link: Link, guest: GuestState, config: Dhcp4Config) {
    this.#link = link
    this.#guest = guest
    this.#info = config.info
    this.#config = config
    this.update(config)
    this.#hostname = config.hostname === undefined ? undefined : asciiOf(config.hostname)
    const fqdn = config.fqdn === undefined ? undefined : encodeName(config.fqdn)
    this.#fqdn = fqdn && Uint8Array.of(...FQDN_HEADER, ...fqdn)
  }

  /** What clients are told from now on. */
  update({ dns, search, renewSeconds }: DhcpUpdate): void {
    const { advertiseDns, advertiseSearch } = this.#config
    const servers = advertiseDns ? dns.filter((words) => address.isMapped(words, 0)) : []
    this.#servers = Int32Array.from(servers.slice(0, SERVER_MAX), (words) => words[3])
    this.#search = encodeSearch(advertiseSearch ? search : [], true, SEARCH_BYTES_MAX)
    // Clients ask again after half of it (RFC 2131 section 4.4.5).
    this.#lease = renewSeconds === undefined ? FOREVER : renewSeconds * 2
  }

  respond(_row: number, _l3: number, l4: number, end: number): void {
    const guest = this.#guest
    if (!guest.ipv4 || address.isUnspecified(guest.address4, 0) || address.isUnspecified(guest.gateway4, 0)) return
    const { view } = this.#link.frames
    const after = wire.check(view, l4, end)
    if (after < 0) {
      this.invalid++
      return
    }
    const request = l4 + udp.HEADER_LENGTH
    const first = request + wire.OPTIONS
    const typeAt = options.find(view, first, after, options.MESSAGE_TYPE)
    if (typeAt >= 0 && options.lengthAt(view, typeAt) !== 1) {
      this.invalid++
      return
    }
    // Without type: BOOTP.
    const type = typeAt < 0 ? 0 : view.getUint8(typeAt)
    if (type === wire.REQUEST && !this.#isForUs(first, after)) return
    if (type !== 0 && type !== wire.DISCOVER && type !== wire.REQUEST && type !== wire.INFORM) return
    if (type === wire.INFORM && !this.#isAnswerable(request)) {
      this.invalid++
      return
    }
    const isRapid = type === wire.DISCOVER && options.find(view, first, after, options.RAPID_COMMIT) >= 0
    const size = this.#messageSize(first, after)
    this.#answer(request, size, type, type === wire.DISCOVER && !isRapid ? wire.OFFER : wire.ACK, isRapid)
  }

  /** Whether a request names no server or us: a client that has chosen another server tells all (RFC 2131 section
   * 4.3.2). */
  #isForUs(first: number, after: number): boolean {
    const { view } = this.#link.frames
    const at = options.find(view, first, after, options.SERVER_ID)
    return at < 0 || (options.lengthAt(view, at) === 4 && view.getInt32(at) === this.#guest.gateway4[3])
  }

  /** Whether an answer to the address of a client that has one can arrive: the address is none, or a host's. */
  #isAnswerable(request: number): boolean {
    address.setMapped(this.#client, 0, this.#link.frames.view.getInt32(request + wire.CLIENT_ADDRESS))
    const isNone = address.isUnspecified(this.#client, 0)
    return isNone || (address.isUnicast(this.#client, 0) && !address.isLoopback(this.#client, 0))
  }

  /** How long an answer may be: what the client says (RFC 2132 section 9.10), as far as its link carries that in one packet. */
  #messageSize(first: number, after: number): number {
    const { view } = this.#link.frames
    const at = options.find(view, first, after, options.MESSAGE_SIZE)
    if (at < 0 || options.lengthAt(view, at) !== 2) return MESSAGE_SIZE_MIN
    const mtu = this.#guest.mtu === 0 ? MESSAGE_SIZE_MAX : this.#guest.mtu
    return Math.max(MESSAGE_SIZE_MIN, Math.min(view.getUint16(at), mtu, MESSAGE_SIZE_MAX))
  }

  /** @param request offset of the message to answer @param size longest answer */
  #answer(request: number, size: number, asked: number, type: number, isRapid: boolean): void {
    const link = this.#link
    const optionsMax = size - OVERHEAD
    const row = link.reserve(HEADERS4 + wire.OPTIONS + optionsMax + 1)
    if (row < 0) {
      this.noRoom++
      return
    }
    const { view, arena, offset } = link.frames
    const guest = this.#guest
    const o = offset[row] + HEADERS4
    const isInform = asked === wire.INFORM
    const flags = view.getUint16(request + wire.FLAGS)
    const clientAddress = view.getInt32(request + wire.CLIENT_ADDRESS)

    arena.fill(0, o, o + wire.OPTIONS)
    view.setUint8(o + wire.OP, wire.BOOTREPLY)
    view.setUint8(o + wire.HARDWARE_TYPE, view.getUint8(request + wire.HARDWARE_TYPE))
    view.setUint8(o + wire.HARDWARE_LENGTH, view.getUint8(request + wire.HARDWARE_LENGTH))
    view.setUint32(o + wire.XID, view.getUint32(request + wire.XID))
    view.setUint16(o + wire.FLAGS, flags)
    view.setInt32(o + wire.CLIENT_ADDRESS, clientAddress)
    if (!isInform) view.setInt32(o + wire.YOUR_ADDRESS, guest.address4[3])
    view.setInt32(o + wire.RELAY_ADDRESS, view.getInt32(request + wire.RELAY_ADDRESS))
    arena.copyWithin(o + wire.CLIENT_HARDWARE, request + wire.CLIENT_HARDWARE, request + wire.CLIENT_HARDWARE + 16)
    view.setUint32(o + wire.MAGIC, wire.MAGIC_COOKIE)
    const length = this.#writeOptions(view, o + wire.OPTIONS, optionsMax, type, isInform, isRapid) - o

    const isBroadcast = (flags & wire.FLAG_BROADCAST) !== 0
    // Who informs has an address already, and it need not be the one we would give (RFC 2131 section 4.3.5).
    const unicast = isInform && clientAddress !== 0 ? clientAddress : guest.address4[3]
    const to = isBroadcast ? -1 : unicast
    const mac = isBroadcast ? BROADCAST_MAC : guest.mac
    send4(link, guest, row, mac, guest.gateway4[3], wire.SERVER_PORT, to, wire.CLIENT_PORT, length)
    if (this.#info) this.#info(`${describe(asked, type)} from ${macOf(view, request + wire.CLIENT_HARDWARE)}`)
  }

  /** In order of importance: what has no room is left out. @param most bytes without the end option @returns the offset after the options. */
  #writeOptions(view: DataView, at: number, most: number, type: number, isInform: boolean, isRapid: boolean): number {
    const guest = this.#guest
    const gateway = guest.gateway4[3]
    const list = this.#options
    list.start(view, at, at + most)
    list.byte(options.MESSAGE_TYPE, type)
    list.word(options.SERVER_ID, gateway)
    if (!isInform) list.word(options.LEASE_TIME, this.#lease)
    const mask = guest.prefix4 === 0 ? 0 : -1 << (32 - guest.prefix4)
    list.word(options.SUBNET_MASK, mask)
    list.word(options.ROUTER, gateway)
    if (isRapid) list.empty(options.RAPID_COMMIT)
    if (((guest.address4[3] ^ gateway) & mask) !== 0) {
      this.#fillRoutes(gateway)
      list.bytes(options.CLASSLESS_ROUTE, this.#routes)
    }
    if (guest.mtu !== 0) list.short(options.MTU, guest.mtu)
    if (this.#servers.length > 0) list.words(options.DNS, this.#servers)
    if (this.#hostname) list.bytes(options.HOSTNAME, this.#hostname)
    const searchLength = fitting(this.#search, list.room)
    if (searchLength > 0) list.bytes(options.SEARCH, this.#search.bytes, searchLength)
    if (this.#fqdn) list.bytes(options.FQDN, this.#fqdn)
    return list.finish(at + OPTION_BYTES_MIN)
  }

  #fillRoutes(gateway: number): void {
    // 32 gateway 0.0.0.0: on the link itself; 0 gateway: everything else through it.
    const routes = this.#routes
    routes[0] = 32
    for (let i = 0; i < 4; i++) {
      routes[1 + i] = gateway >>> (24 - 8 * i)
      routes[10 + i] = gateway >>> (24 - 8 * i)
    }
  }
}

function describe(asked: number, type: number): string {
  if (asked === 0) return "BOOTP: reply to request"
  if (asked === wire.INFORM) return "DHCP: ack to inform"
  if (asked === wire.REQUEST) return "DHCP: ack to request"
  return type === wire.OFFER ? "DHCP: offer to discover" : "DHCP: ack to discover"
}

function macOf(view: DataView, o: number): string {
  return Array.from({ length: 6 }, (_, i) =>
    view
      .getUint8(o + i)
      .toString(16)
      .padStart(2, "0"),
  ).join(":")
}

/** Bytes of a text of 1 to 255 printable ASCII characters, else undefined. */
function asciiOf(text: string): Uint8Array | undefined {
  if (!/^[\x21-\x7e]{1,255}$/.test(text)) return undefined
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}
