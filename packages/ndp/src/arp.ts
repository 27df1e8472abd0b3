/**
 * ARP answers (RFC 826): every address is here.
 *
 * The guest's link has only the guest and us, and we carry packets to anywhere, so we answer for any address: on-link
 * neighbours of the host, the gateway, and addresses of nobody. Two kinds of requests are left alone: announcements, which
 * ask nothing (RFC 5227 section 3), and those for the guest's own address, which an answer would make a duplicate
 * (RFC 5227 section 2.1.1).
 */
import type { GuestState, Link, Responder } from "@passt/core"
import { address, arp, ethernet } from "@passt/core/wire"
import type { NeighbourTable } from "./neighbours.ts"

const ETHERNET = 1
const FRAME_LENGTH = ethernet.HEADER_LENGTH + arp.LENGTH
const BROADCAST_MAC = new Uint8Array([255, 255, 255, 255, 255, 255])
const NO_MAC = new Uint8Array(6)

/** Whether the ARP packet in `o…end` is a well-formed request for IPv4 over Ethernet. */
export function isRequest(d: DataView, o: number, end: number): boolean {
  return (
    end - o >= arp.LENGTH &&
    d.getUint16(o + arp.HARDWARE_TYPE) === ETHERNET &&
    d.getUint16(o + arp.PROTOCOL_TYPE) === ethernet.TYPE_IPV4 &&
    d.getUint8(o + arp.HARDWARE_LENGTH) === 6 &&
    d.getUint8(o + arp.PROTOCOL_LENGTH) === 4 &&
    d.getUint16(o + arp.OPERATION) === arp.REQUEST
  )
}

/** Writes a packet. Addresses as signed words; MAC addresses are six bytes at `senderMac[senderIndex…]` and
 * `targetMac[targetIndex…]`. */
export function write(
  d: DataView,
  o: number,
  operation: number,
  senderMac: Uint8Array,
  senderIndex: number,
  sender: number,
  targetMac: Uint8Array,
  targetIndex: number,
  target: number,
): void {
  d.setUint16(o + arp.HARDWARE_TYPE, ETHERNET)
  d.setUint16(o + arp.PROTOCOL_TYPE, ethernet.TYPE_IPV4)
  d.setUint8(o + arp.HARDWARE_LENGTH, 6)
  d.setUint8(o + arp.PROTOCOL_LENGTH, 4)
  d.setUint16(o + arp.OPERATION, operation)
  for (let i = 0; i < 6; i++) {
    d.setUint8(o + arp.SENDER_HARDWARE + i, senderMac[senderIndex + i])
    d.setUint8(o + arp.TARGET_HARDWARE + i, targetMac[targetIndex + i])
  }
  d.setInt32(o + arp.SENDER_PROTOCOL, sender)
  d.setInt32(o + arp.TARGET_PROTOCOL, target)
}

export class ArpResponder implements Responder {
  /** Frames that were no well-formed request; replies and announcements count too, as they need no answer. */
  ignored = 0
  /** Answers for which the link had no room; the guest asks again. */
  noRoom = 0

  readonly #link: Link
  readonly #guest: GuestState
  readonly #neighbours: NeighbourTable
  readonly #target: Int32Array = new Int32Array(4)

  constructor(link: Link, guest: GuestState, neighbours: NeighbourTable) {
    this.#link = link
    this.#guest = guest
    this.#neighbours = neighbours
  }

  respond(_row: number, l3: number, _l4: number, end: number): void {
    const { arena, view } = this.#link.frames
    const guest = this.#guest
    if (!guest.ipv4 || !isRequest(view, l3, end)) {
      this.ignored++
      return
    }
    const sender = view.getInt32(l3 + arp.SENDER_PROTOCOL)
    const target = view.getInt32(l3 + arp.TARGET_PROTOCOL)
    const isAnnouncement = sender === target && sender !== 0
    const isOwn = target === guest.address4[3] && target !== 0
    if (isAnnouncement || isOwn) {
      this.ignored++
      return
    }
    address.setMapped(this.#target, 0, target)
    const neighbour = this.#neighbours.resolve(this.#target, 0)
    const mac = neighbour < 0 ? guest.ourMac : this.#neighbours.macs
    const macIndex = neighbour < 0 ? 0 : neighbour * 6
    this.#send(guest.mac, arp.REPLY, mac, macIndex, target, arena, l3 + arp.SENDER_HARDWARE, sender)
  }

  /** Asks for the guest's address, so that a guest that is already configured shows its MAC address by answering. */
  attached(_nowMs: number): void {
    const guest = this.#guest
    if (!guest.ipv4 || address.isUnspecified(guest.address4, 0)) return
    this.#send(BROADCAST_MAC, arp.REQUEST, guest.ourMac, 0, guest.gateway4[3], NO_MAC, 0, guest.address4[3])
  }

  /** Tells the guest the MAC address of a row of the neighbour table (an announcement, RFC 5227 section 3).
   * @returns whether it was queued */
  announce(row: number): boolean {
    const guest = this.#guest
    const ipv4 = this.#neighbours.addresses[row * 4 + 3]
    // To the guest this would be someone else claiming its address.
    const isOwn = ipv4 === guest.address4[3] || ipv4 === guest.seen4[3]
    if (!guest.ipv4 || !this.#link.connected || isOwn) return false
    return this.#send(BROADCAST_MAC, arp.REQUEST, this.#neighbours.macs, row * 6, ipv4, NO_MAC, 0, ipv4)
  }

  #send(
    destination: Uint8Array,
    operation: number,
    senderMac: Uint8Array,
    senderIndex: number,
    sender: number,
    targetMac: Uint8Array,
    targetIndex: number,
    target: number,
  ): boolean {
    const link = this.#link
    const frames = link.frames
    const row = link.reserve(FRAME_LENGTH)
    if (row < 0) {
      this.noRoom++
      return false
    }
    const o = frames.offset[row]
    ethernet.write(frames.view, o, destination, this.#guest.ourMac, ethernet.TYPE_ARP)
    const l3 = o + ethernet.HEADER_LENGTH
    write(frames.view, l3, operation, senderMac, senderIndex, sender, targetMac, targetIndex, target)
    frames.length[row] = FRAME_LENGTH
    frames.flags[row] = 0
    link.commit(row)
    return true
  }
}
