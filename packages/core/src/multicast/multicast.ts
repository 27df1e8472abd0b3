/**
 * Multicast and broadcast.
 *
 * ```
 *   guest :5353 → 224.0.0.251:5353     KIND_GROUP: a flow whose socket is not connected. It leaves by one interface, with the guest's
 *                                      hop limit, and whoever answers to its port reaches the guest under their own name
 *   guest: "I am in 224.0.0.251"       KIND_MEMBERSHIP: a socket joins it on the host (IGMP, MLD: reports.ts)
 *   peer → 224.0.0.251:5353            KIND_GROUP_PORT: a socket bound to that group and port gets it, and so does the guest
 * ```
 *
 * A socket hears one port, and a report names none. The ports of a group are those that the guest has sent to, those that everybody
 * uses (well-known.ts), those of forwarding rules, whose sockets hear all groups of the host, and of a namespace of this host all
 * that somebody there listens on. Of broadcast, the ports that the guest has sent from.
 *
 * Ports of groups are bound to the group itself: single nodes' datagrams to that port stay with whoever listens for them.
 *
 * Who may answer: any single node, as long as the guest itself has sent within the time of a question; answers don't prolong it.
 * The guest gets every datagram with the hop limit that it came with, so that its own check of nearness (mDNS: 255) holds.
 *
 * No loops: what the guest sent is recognised when the host brings it back (echoes.ts); what comes from the network never leaves again.
 *
 * We are the querier of the guest's link: memberships are asked for when the guest appears and every 125 seconds while there are
 * some, end 260 seconds after their last report, two seconds after a report of leaving that nobody contradicts, or with the guest.
 *
 * Reads first: RFC 1112, RFC 3376 section 6, RFC 3810 section 7; ip(7): IP_MULTICAST_ALL, IP_ADD_MEMBERSHIP; RFC 6762 section 11.
 */
import type { Context } from "../context.ts"
import { serveErrors } from "../datagram/errors.ts"
import { blocked, keepOut } from "../datagram/keep-out.ts"
import { expireOrWait, silenceMs } from "../datagram/expiry.ts"
import { FAILED, HOP_LIMIT, READABLE, remember, SLOT_BYTES } from "../datagram/state.ts"
import { EAGAIN, EMSGSIZE, ENOBUFS } from "../errno.ts"
import {
  BATCH_HEAD,
  DIRECTION_FROM_GUEST,
  FD,
  FLOW_SHIFT,
  GUEST,
  HOST_FAMILY,
  KIND,
  KIND_GROUP,
  KIND_GROUP_PORT,
  KIND_MEMBERSHIP,
  LAST_ACTIVE,
  PEER,
  PORT,
  SIDE_GUEST,
  SIDE_HOST,
  STATE,
} from "../flow/table.ts"
import type { Listeners } from "../forward/listen.ts"
import { FRAME_SEGMENT_UDP } from "../frames.ts"
import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  type GroupKernel,
  PLACE_NAMESPACE,
  PORT_MAP_BYTES,
  SCAN_UDP,
} from "../kernel.ts"
import { DATAGRAM_BATCH_MAX } from "../limits.ts"
import { WAITING } from "../policy/verdict.ts"
import type { Protocol } from "../protocol.ts"
import { COUNTER } from "../stats.ts"
import { copy, isMapped } from "../wire/address.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as udp from "../wire/udp.ts"
import { deliver, groupHeaderLength } from "./deliver.ts"
import { digest, Echoes } from "./echoes.ts"
import { Memberships } from "./memberships.ts"
import { connectGroupFlow, openGroupFlow, toRecord } from "./open.ts"
import { askIgmp, askMld, QUERY_SECONDS, ROBUSTNESS } from "./query.ts"
import { hearIgmp, hearMld } from "./reports.ts"
import { isAnyBroadcast, isGroup } from "./state.ts"

/** Seconds between the questions to a guest that has just appeared (RFC 3376 section 8.6). */
const STARTUP_SECONDS: number = Math.round(QUERY_SECONDS / 4)
/** Ports of the namespace that are taken for ports of its groups. */
const NAMESPACE_PORTS_MAX = 64

const nobody: Int32Array = new Int32Array(4)

export class Multicast implements Protocol {
  readonly memberships: Memberships
  readonly #ctx: Context
  readonly #groups: GroupKernel
  readonly #listeners: Listeners
  readonly #echoes: Echoes = new Echoes()
  /** Milliseconds. */
  readonly #silence: number
  /** Questions that are left to ask a new guest; when the next one is due, if `#asking`. */
  #startup = 0
  #asking = false
  #askAt = 0
  /** Who listens in the namespace that is our guest. */
  readonly #map: Uint8Array<ArrayBuffer> = new Uint8Array(PORT_MAP_BYTES)
  /** The same as words, and as it was at the last look. */
  readonly #words: Int32Array = new Int32Array(this.#map.buffer)
  readonly #scanned: Int32Array = new Int32Array(PORT_MAP_BYTES / 4)
  #generation = 0

  constructor(ctx: Context, groups: GroupKernel, listeners: Listeners) {
    this.#ctx = ctx
    this.#groups = groups
    this.#listeners = listeners
    this.#silence = silenceMs(ctx.config.udpTimeout)
    this.memberships = new Memberships(ctx, groups)
  }

  /** Whether a destination is a group. */
  takes(a: Int32Array, i: number): boolean {
    return isGroup(this.#ctx.guest, a, i)
  }

  /** An IGMP message. */
  igmp(row: number, l4: number, end: number): void {
    hearIgmp(this.#ctx, this.memberships, row, l4, end)
  }

  /** An MLD message; addresses in the key. */
  mld(row: number, l3: number, l4: number, end: number): void {
    hearMld(this.#ctx, this.memberships, row, l3, l4, end)
  }

  /** A guest has been attached: it may be in groups already. */
  attached(): void {
    this.#startup = ROBUSTNESS
    this.#asking = true
    this.#askAt = this.#ctx.now
  }

  detached(): void {
    this.#asking = false
    this.memberships.clear()
  }

  /** The host's interfaces or addresses have changed: what the guest sends next leaves from where it has to now. */
  moved(): void {
    const ctx = this.#ctx
    for (let flow = 0; flow < ctx.flows.highWater; flow++) {
      if (ctx.words[(flow << FLOW_SHIFT) + KIND] !== KIND_GROUP) continue
      ctx.retire(flow, false)
      ctx.count(COUNTER.movedFlows)
    }
    this.memberships.rejoin()
  }

  open(): number {
    return openGroupFlow(this.#ctx, this.#groups, this.#silence)
  }

  settled(flow: number): void {
    const ctx = this.#ctx
    const verdict = ctx.gate!.verdicts[flow]
    if (verdict >= WAITING) keepOut(ctx, flow, verdict, SIDE_GUEST)
    else if (connectGroupFlow(ctx, this.#groups, flow, this.#silence) >= 0) ctx.gate!.replayFrames(flow, this)
  }

  fromGuest(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if (w[base + FD] < 0) {
      blocked(ctx, flow)
      return
    }
    const { frames } = ctx
    const { gather } = frames
    const v4 = w[base + HOST_FAMILY] === 4
    const at = ethernet.HEADER_LENGTH + (v4 ? ipv4.TTL : ipv6.HOP_LIMIT)
    let count = 0
    for (let row = w[base + BATCH_HEAD]; row >= 0; row = frames.next[row]) {
      const hops = ctx.view.getUint8(frames.offset[row] + at)
      if (hops === 0) {
        ctx.count(COUNTER.dropIp)
        continue
      }
      if (hops !== w[base + HOP_LIMIT]) {
        this.#send(flow, count)
        count = 0
        this.#groups.setHopLimit(w[base + FD], w[base + HOST_FAMILY], hops)
        w[base + HOP_LIMIT] = hops
      }
      gather[count++] = row
    }
    this.#send(flow, count)
    w[base + LAST_ACTIVE] = ctx.now
    if (v4 && isAnyBroadcast(ctx.guest, w, base + PEER)) {
      this.memberships.sentBroadcast(w, base + PEER, w[base + GUEST + PORT])
    } else {
      this.memberships.sent(w, base + PEER, w[base + PEER + PORT])
    }
  }

  /** Sends the rows gather[0 … count-1]. */
  #send(flow: number, count: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const { frames } = ctx
    const { gather } = frames
    let done = 0
    let retried = false
    while (done < count) {
      toRecord(ctx, ADDRESS_REMOTE, base + PEER)
      const result = this.#groups.send(w[base + FD], w[base + HOST_FAMILY], done, count - done)
      if (result > 0) {
        for (const end = done + result; done < end; done++) this.#remember(flow, gather[done])
        retried = false
      } else if (result === -EAGAIN || result === -ENOBUFS) {
        ctx.add(COUNTER.dropDatagram, count - done)
        return
      } else if (retried) {
        ctx.count(COUNTER.dropDatagram)
        done++
        retried = false
      } else {
        // The error of an earlier datagram: this one has not been tried.
        retried = true
      }
    }
  }

  /** Notes a datagram, or each one of a super-frame, that was sent. */
  #remember(flow: number, row: number): void {
    const ctx = this.#ctx
    const { frames, view } = ctx
    const length = frames.payloadLength[row]
    const each = (frames.flags[row] & FRAME_SEGMENT_UDP) !== 0 ? frames.segmentSize[row] : 0
    const step = each > 0 ? each : length
    let from = 0
    do {
      const part = length - from < step ? length - from : step
      this.#echoes.add(flow, digest(view, frames.offset[row] + frames.payload[row] + from, part), ctx.now)
      from += step
    } while (from < length)
    ctx.addBytes(COUNTER.bytesFromGuest, flow, DIRECTION_FROM_GUEST, length, 1)
  }

  event(flow: number, mask: number): void {
    if (remember(this.#ctx, flow, mask)) this.#ctx.work.add(flow)
  }

  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if ((w[base + STATE] & FAILED) !== 0) {
      // Nobody is told of an error about a group (RFC 1122 section 3.2.2); the queue must be emptied.
      if (w[base + KIND] === KIND_GROUP) serveErrors(ctx, flow, ipv4.PROTOCOL_UDP, udp.HEADER_LENGTH)
      else w[base + STATE] &= ~FAILED
    }
    if ((w[base + STATE] & READABLE) !== 0) this.#read(flow)
    if ((w[base + STATE] & (READABLE | FAILED)) !== 0) ctx.work.add(flow)
  }

  /** Reads a socket until it is empty, has had its share, or the link is full. */
  #read(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const { link, frames } = ctx
    const header = groupHeaderLength(w[base + HOST_FAMILY])
    const toGroup = w[base + KIND] === KIND_GROUP_PORT
    for (let i = 0; i < DATAGRAM_BATCH_MAX; i++) {
      if (link.reserveRows(1, SLOT_BYTES) === 0) return
      const row = link.reservedRow
      frames.payload[row] = header
      const result = this.#groups.receive(w[base + FD], row)
      if (result === -EAGAIN) {
        w[base + STATE] &= ~READABLE
        return
      }
      if (result < 0) {
        ctx.count(COUNTER.dropDatagram)
        if (result !== -EMSGSIZE) w[base + STATE] |= FAILED
        continue
      }
      if (toGroup) {
        if (!this.#isEcho(w, base + PEER, w[base + PEER + PORT], row, result)) {
          deliver(ctx, row, w, base + PEER, w[base + PEER + PORT])
        }
      } else {
        deliver(ctx, row, w, base + GUEST, w[base + GUEST + PORT])
      }
    }
  }

  /** Whether a datagram from ADDRESS_REMOTE to a group is one that the guest sent there. */
  #isEcho(group: Int32Array, i: number, port: number, row: number, length: number): boolean {
    const ctx = this.#ctx
    const { frames } = ctx
    const { key } = ctx.flows
    const { address } = ctx.kernel
    key[0] = KIND_GROUP
    copy(key, 1, group, i)
    copy(key, 5, address, ADDRESS_REMOTE)
    key[9] = port
    key[10] = address[ADDRESS_REMOTE + PORT]
    const flow = ctx.flows.find(SIDE_HOST)
    if (flow < 0) return false
    const sum = digest(ctx.view, frames.offset[row] + frames.payload[row], length)
    if (!this.#echoes.take(flow, sum, ctx.now)) return false
    ctx.count(COUNTER.groupEchoes)
    return true
  }

  /** Takes a datagram to a group from the socket of a forwarding rule: its destination is in ADDRESS_LOCAL, it is next in the queue.
   * @param row reserved for it */
  fromListener(listener: number, row: number): void {
    const ctx = this.#ctx
    const { frames, kernel } = ctx
    const { address } = kernel
    const listeners = this.#listeners
    const ourPort = listeners.port[listener]
    frames.payload[row] = groupHeaderLength(isMapped(address, ADDRESS_LOCAL) ? 4 : 6)
    const result = this.#groups.receive(listeners.fd[listener], row)
    if (result < 0) {
      ctx.count(COUNTER.dropDatagram)
      return
    }
    if (this.#isEcho(address, ADDRESS_LOCAL, ourPort, row, result)) return
    const rule = ctx.rules[listeners.rule[listener]]!
    const to = rule.targetFirst + (ourPort - rule.first)
    const { targetAddress } = rule
    if (targetAddress === null) deliver(ctx, row, address, ADDRESS_LOCAL, to)
    else if (isMapped(targetAddress, 0) !== isMapped(address, ADDRESS_LOCAL)) ctx.count(COUNTER.dropNoGuest)
    else deliver(ctx, row, targetAddress, 0, to)
  }

  timer(flow: number): void {
    switch (this.#ctx.words[(flow << FLOW_SHIFT) + KIND]) {
      case KIND_MEMBERSHIP:
        this.memberships.expire(flow)
        return
      case KIND_GROUP_PORT:
        this.memberships.expirePort(flow)
        return
      default:
        expireOrWait(this.#ctx, flow, this.#silence)
    }
  }

  accept(): void {}

  sweep(): void {
    const ctx = this.#ctx
    if (!ctx.link.connected) return
    const { count } = this.memberships
    if (count > 0) this.#scan()
    // A guest that is in no group after the first questions tells when it joins one.
    if (this.#startup === 0 && count === 0) {
      this.#asking = false
      return
    }
    if (!this.#asking) {
      this.#asking = true
      this.#askAt = (ctx.now + 1000 * QUERY_SECONDS) | 0
    }
    if (((ctx.now - this.#askAt) | 0) < 0) return
    if (this.#startup > 0) this.#startup--
    askIgmp(ctx, 0)
    askMld(ctx, nobody, 0)
    this.#askAt = (ctx.now + 1000 * (this.#startup > 0 ? STARTUP_SECONDS : QUERY_SECONDS)) | 0
  }

  /** Of a guest that is a namespace of this host, the kernel tells which ports somebody listens on. */
  #scan(): void {
    const { splice } = this.#ctx.kernel
    if (splice === undefined || this.#ctx.config.splice === undefined) return
    if (splice.scan(PLACE_NAMESPACE, SCAN_UDP, this.#map) < 0) return
    let changed = this.#generation !== this.memberships.generation
    for (let i = 0; i < this.#words.length; i++) {
      if (this.#words[i] === this.#scanned[i]) continue
      this.#scanned[i] = this.#words[i]
      changed = true
    }
    this.#generation = this.memberships.generation
    if (changed) this.memberships.listenOnMap(this.#map, NAMESPACE_PORTS_MAX)
  }
}
