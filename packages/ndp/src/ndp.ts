/**
 * Neighbour discovery answers (RFC 4861): we are every neighbour, and the router.
 *
 * As with ARP, any address is here, so every solicitation is answered; except the search for duplicates (source ::), which
 * an answer would turn into a conflict, and the guest's own address. Router advertisements give the guest its prefix,
 * MTU, resolvers and search list, when it asks and every now and then; their content is in advertise.ts.
 *
 * Reads first: RFC 4861 sections 4 and 6.2, RFC 8106 section 5.
 */
import { FRAME_NEEDS_CHECKSUM } from "@passt/core"
import type { GuestState, Link, Responder } from "@passt/core"
import { address, checksum, ethernet, icmp, ipv6 } from "@passt/core/wire"
import { Advertisement } from "./advertise.ts"
import type { AdvertiseConfig, AdvertiseUpdate } from "./advertise.ts"
import type { NeighbourTable } from "./neighbours.ts"
import * as options from "./options.ts"
import * as wire from "./wire.ts"

/** RFC 4861 section 6.2.1: MaxRtrAdvInterval's default, and a third of it. */
const INTERVAL_MS_MIN = 200_000
const INTERVAL_MS_MAX = 600_000
/** Until the next try when the link had no room for an advertisement that was due. */
const RETRY_MS = 1_000
/** RFC 4861 section 10: MAX_INITIAL_RTR_ADVERTISEMENTS, and MIN_DELAY_BETWEEN_RAS with some room. */
const ANNOUNCEMENTS = 3
const ANNOUNCE_MS = 4_000

const L3 = ethernet.HEADER_LENGTH
const L4: number = ethernet.HEADER_LENGTH + ipv6.HEADER_LENGTH
const NEIGHBOUR_LENGTH: number = wire.NEIGHBOUR_OPTIONS + options.LINK_ADDRESS_LENGTH

const ALL_NODES = Int32Array.of(0xff020000, 0, 0, 1)

export interface NdpConfig extends AdvertiseConfig {
  /** Whether routers are advertised at all; off, router solicitations are swallowed. */
  advertise: boolean
  /** Uniformly distributed 32-bit words, signed or not. */
  random: () => number
}

export class NdpResponder implements Responder {
  /** Messages that RFC 4861 tells receivers to throw away. */
  invalid = 0
  /** Answers for which the link had no room; the guest asks again. */
  noRoom = 0

  readonly #link: Link
  readonly #guest: GuestState
  readonly #neighbours: NeighbourTable
  readonly #config: NdpConfig
  readonly #advertisement: Advertisement
  /** Address words of the message at hand: where from, and the target. */
  readonly #peer: Int32Array = new Int32Array(4)
  readonly #target: Int32Array = new Int32Array(4)
  readonly #multicastMac: Uint8Array = new Uint8Array(6)
  #deadlineMs = 0
  /** Advertisements of a change that are still to be sent. */
  #repeats = 0
  #isScheduled = false

  constructor(link: Link, guest: GuestState, neighbours: NeighbourTable, config: NdpConfig) {
    this.#link = link
    this.#guest = guest
    this.#neighbours = neighbours
    this.#config = config
    this.#advertisement = new Advertisement(guest, config)
  }

  respond(row: number, l3: number, l4: number, end: number): void {
    if (!this.#guest.ipv6) return
    const frames = this.#link.frames
    const type = wire.check(frames.view, l3, l4, end, (frames.flags[row] & FRAME_NEEDS_CHECKSUM) === 0)
    if (type < 0) this.invalid++
    if (type <= 0) return
    address.read6(this.#peer, 0, frames.view, l3 + ipv6.SOURCE)
    if (type === icmp.V6_NEIGHBOUR_SOLICITATION) {
      address.read6(this.#target, 0, frames.view, l4 + wire.NEIGHBOUR_TARGET)
      this.#answerNeighbour()
    } else if (this.#config.advertise) {
      // Who has no address yet can only hear what all nodes hear (RFC 4861 section 6.2.6).
      if (address.isUnspecified(this.#peer, 0)) this.#advertiseToAll()
      else this.#advertise(this.#guest.mac, this.#peer)
    }
  }

  /** Takes over what guests are told from now on, `GuestState` included, and tells them: at once, and some times more, for
   * nothing acknowledges it (RFC 4861 section 6.2.4). */
  update(update: AdvertiseUpdate, nowMs: number): void {
    this.#advertisement.update(update)
    if (!this.#config.advertise) return
    this.#repeats = ANNOUNCEMENTS
    this.#deadlineMs = nowMs
    this.#isScheduled = true
    this.tick(nowMs)
  }

  /** Sends the periodic advertisement when it is due. The first one is due after a whole interval: a guest that starts
   * solicits. */
  tick(nowMs: number): number {
    if (!this.#config.advertise) return -1
    if (!this.#isScheduled) this.#schedule(nowMs)
    if (untilMs(this.#deadlineMs, nowMs) <= 0) {
      const isOwed = this.#guest.ipv6 && this.#link.connected
      if (isOwed && !this.#advertiseToAll()) this.#deadlineMs = nowMs + RETRY_MS
      else if (--this.#repeats > 0) this.#deadlineMs = nowMs + ANNOUNCE_MS
      else this.#schedule(nowMs)
    }
    return untilMs(this.#deadlineMs, nowMs)
  }

  /** Asks for the guest's address, so that a guest that is already configured shows its MAC address by answering. */
  attached(_nowMs: number): void {
    const guest = this.#guest
    if (!guest.ipv6 || address.isUnspecified(guest.address6, 0)) return
    const row = this.#reserve(NEIGHBOUR_LENGTH)
    if (row < 0) return
    const { offset, view } = this.#link.frames
    const o = offset[row] + L4
    startMessage(view, o, icmp.V6_NEIGHBOUR_SOLICITATION)
    writeTarget(view, o, guest.address6, 0)
    options.writeLinkAddress(view, o + wire.NEIGHBOUR_OPTIONS, options.SOURCE_LINK_ADDRESS, guest.ourMac, 0)
    // Solicited-node multicast address: the last three bytes of the target (RFC 4291 section 2.7.1).
    this.#peer[0] = 0xff020000
    this.#peer[1] = 0
    this.#peer[2] = 1
    this.#peer[3] = 0xff000000 | (guest.address6[3] & 0xffffff)
    this.#send(row, NEIGHBOUR_LENGTH, this.#macOfGroup(this.#peer), this.#peer)
  }

  /** Tells the guest the MAC address of a row of the neighbour table: an advertisement that nobody solicited, and says
   * so (RFC 4861 section 7.2.6: the S flag is clear).
   * @returns whether it was queued */
  announce(row: number): boolean {
    const guest = this.#guest
    const { addresses } = this.#neighbours
    // To the guest this would be someone else claiming its address.
    const isOwn =
      address.equal(addresses, row * 4, guest.address6, 0) ||
      address.equal(addresses, row * 4, guest.seen6, 0) ||
      address.equal(addresses, row * 4, guest.seenLinkLocal6, 0)
    if (!guest.ipv6 || !this.#link.connected || isOwn) return false
    address.copy(this.#target, 0, addresses, row * 4)
    return this.#advertiseNeighbour(
      wire.NEIGHBOUR_ROUTER | wire.NEIGHBOUR_OVERRIDE,
      row,
      this.#macOfGroup(ALL_NODES),
      ALL_NODES,
    )
  }

  #answerNeighbour(): void {
    // The search for duplicates must find none, and the guest's own address is the guest's.
    if (address.isUnspecified(this.#peer, 0) || address.equal(this.#target, 0, this.#guest.address6, 0)) return
    this.#advertiseNeighbour(
      wire.NEIGHBOUR_ROUTER | wire.NEIGHBOUR_SOLICITED | wire.NEIGHBOUR_OVERRIDE,
      this.#neighbours.resolve(this.#target, 0),
      this.#guest.mac,
      this.#peer,
    )
  }

  /** Advertises `#target` with the MAC address of a row of the neighbour table, or ours if `neighbour` is -1. */
  #advertiseNeighbour(flags: number, neighbour: number, mac: Uint8Array, destination: Int32Array): boolean {
    const row = this.#reserve(NEIGHBOUR_LENGTH)
    if (row < 0) return false
    const { offset, view } = this.#link.frames
    const o = offset[row] + L4
    startMessage(view, o, icmp.V6_NEIGHBOUR_ADVERTISEMENT)
    view.setUint32(o + wire.NEIGHBOUR_FLAGS, flags)
    writeTarget(view, o, this.#target, 0)
    const macs = neighbour < 0 ? this.#guest.ourMac : this.#neighbours.macs
    const macIndex = neighbour < 0 ? 0 : neighbour * 6
    options.writeLinkAddress(view, o + wire.NEIGHBOUR_OPTIONS, options.TARGET_LINK_ADDRESS, macs, macIndex)
    this.#send(row, NEIGHBOUR_LENGTH, mac, destination)
    return true
  }

  #advertiseToAll(): boolean {
    return this.#advertise(this.#macOfGroup(ALL_NODES), ALL_NODES)
  }

  #advertise(mac: Uint8Array, destination: Int32Array): boolean {
    const length = this.#advertisement.length()
    const row = this.#reserve(length)
    if (row < 0) return false
    const { offset, view } = this.#link.frames
    const o = offset[row] + L4
    startMessage(view, o, icmp.V6_ROUTER_ADVERTISEMENT)
    this.#advertisement.write(view, o)
    this.#send(row, length, mac, destination)
    return true
  }

  /** @param length of the ICMPv6 message, bytes */
  #reserve(length: number): number {
    const row = this.#link.reserve(L4 + length)
    if (row < 0) this.noRoom++
    return row
  }

  #send(row: number, length: number, mac: Uint8Array, destination: Int32Array): void {
    const frames = this.#link.frames
    const { view } = frames
    const o = frames.offset[row]
    const from = this.#guest.ourLinkLocal6
    ethernet.write(view, o, mac, this.#guest.ourMac, ethernet.TYPE_IPV6)
    ipv6.write(view, o + L3, length, ipv6.PROTOCOL_ICMPV6, 255, 0, from, 0, destination, 0)
    const sum =
      checksum.pseudo6(from, 0, destination, 0, ipv6.PROTOCOL_ICMPV6, length) + checksum.sumOf(view, o + L4, length)
    view.setUint16(o + L4 + icmp.CHECKSUM, ~checksum.fold(sum))
    frames.length[row] = L4 + length
    frames.flags[row] = 0
    this.#link.commit(row)
  }

  /** RFC 2464 section 7: 33:33 and the last four bytes of the group. */
  #macOfGroup(group: Int32Array): Uint8Array {
    const mac = this.#multicastMac
    mac[0] = 0x33
    mac[1] = 0x33
    for (let i = 0; i < 4; i++) mac[2 + i] = group[3] >>> (24 - 8 * i)
    return mac
  }

  #schedule(nowMs: number): void {
    const spread = (this.#config.random() >>> 0) % (INTERVAL_MS_MAX - INTERVAL_MS_MIN + 1)
    this.#deadlineMs = nowMs + INTERVAL_MS_MIN + spread
    this.#isScheduled = true
    this.#repeats = 0
  }
}

/** Milliseconds from now until a deadline, negative when it has passed. The clock has 31 bits and wraps. */
function untilMs(deadlineMs: number, nowMs: number): number {
  return ((deadlineMs - nowMs) << 1) >> 1
}

/** Type, code 0, checksum 0 and the four bytes that follow 0. */
function startMessage(view: DataView, o: number, type: number): void {
  view.setUint32(o, (type << 24) >>> 0)
  view.setUint32(o + 4, 0)
}

function writeTarget(view: DataView, o: number, words: Int32Array, index: number): void {
  for (let i = 0; i < 4; i++) view.setInt32(o + wire.NEIGHBOUR_TARGET + 4 * i, words[index + i])
}
