/**
 * The groups that the guest is in, and the sockets that listen for them.
 *
 * ```
 *   membership   one per group: a socket without port that has joined it, so that the host's network delivers the group
 *   port         one per group and port: a socket bound to that group and port, which hears nothing else
 * ```
 * Both are rows of the flow table, so that events, timers and the work queue serve them; their numbers are listed here as well,
 * for there are few. A broadcast address is a group that needs no joining.
 */
import { type Context, REF_FLOW, REF_SHIFT } from "../context.ts"
import {
  FD,
  FLOW_SHIFT,
  HOST_FAMILY,
  KIND_GROUP_PORT,
  KIND_MEMBERSHIP,
  LAST_ACTIVE,
  PEER,
  PORT,
  SCOPE,
} from "../flow/table.ts"
import { discard } from "../datagram/begin.ts"
import { needsScope } from "../datagram/socket.ts"
import type { ForwardRule } from "../forward/rule.ts"
import { areSame, wildcardsOf } from "../forward/wildcards.ts"
import { ADDRESS_LOCAL, ADDRESS_WORDS, type GroupKernel, PLACE_HOST } from "../kernel.ts"
import { GROUP_PORT_MAX, GROUP_PORT_MEMORY, MEMBERSHIP_MAX } from "../limits.ts"
import { COUNTER } from "../stats.ts"
import { copy, equal, isMapped } from "../wire/address.ts"
import { askIgmp, askMld, LAST_MEMBER_MS, QUERY_SECONDS, RESPONSE_MS, ROBUSTNESS } from "./query.ts"
import { groupDevice, groupScope, LEAVING } from "./state.ts"
import { KNOWN_COUNT, wellKnownPort } from "./well-known.ts"

/** Milliseconds that a membership lasts without a report (RFC 3376 section 8.4, RFC 3810 section 9.4). */
export const MEMBERSHIP_MS: number = ROBUSTNESS * QUERY_SECONDS * 1000 + RESPONSE_MS

/** Milliseconds that a broadcast port is listened on after the guest has last sent from it. */
export const BROADCAST_MS = 120_000

const SITE = "membership"

export class Memberships {
  readonly #ctx: Context
  readonly #groups: GroupKernel
  /** Rules whose sockets hear groups, because they are bound to no address. */
  #wildcards: readonly ForwardRule[] = []
  readonly #members: Int32Array = new Int32Array(MEMBERSHIP_MAX)
  #memberCount = 0
  readonly #ports: Int32Array = new Int32Array(GROUP_PORT_MAX)
  #portCount = 0
  /** Where the guest has sent: a ring of groups and ports. */
  readonly #seen: Int32Array = new Int32Array(GROUP_PORT_MEMORY * 5)
  #seenNext = 0
  /** Groups to join again, and the one at hand. */
  readonly #again: Int32Array = new Int32Array(MEMBERSHIP_MAX * 4)
  readonly #one: Int32Array = new Int32Array(4)

  constructor(ctx: Context, groups: GroupKernel) {
    this.#ctx = ctx
    this.#groups = groups
    this.rulesChanged()
  }

  /** Looks which forwarding rules hear groups. */
  rulesChanged(): void {
    const now = wildcardsOf(this.#ctx.rules)
    if (areSame(now, this.#wildcards)) return
    this.#wildcards = now
    // Which ports of groups need a socket of their own is another question now.
    if (this.#memberCount > 0) this.rejoin()
  }

  /** Another number whenever a group was joined. */
  generation = 0

  /** Groups that the guest is in. */
  get count(): number {
    return this.#memberCount
  }

  /** The guest is in a group, and wants what is sent there. */
  joined(group: Int32Array): void {
    const ctx = this.#ctx
    const known = this.#member(group)
    if (known >= 0) {
      ctx.words[(known << FLOW_SHIFT) + LEAVING] = 0
      ctx.timers.arm(known, (ctx.now + MEMBERSHIP_MS) | 0)
      return
    }
    if (isOurs(group)) return
    if (this.#memberCount === MEMBERSHIP_MAX) {
      ctx.count(COUNTER.dropMembership)
      ctx.log(
        "warning",
        SITE,
        `The guest is in more than ${MEMBERSHIP_MAX} multicast groups: further ones are not joined`,
      )
      return
    }
    const row = this.#row(KIND_MEMBERSHIP, group, 0)
    if (row < 0) return
    const base = row << FLOW_SHIFT
    const family = ctx.words[base + HOST_FAMILY]
    const result = this.#joinOn(base, family)
    if (result < 0) {
      this.#refused(row, result)
      return
    }
    this.#members[this.#memberCount++] = row
    this.generation++
    ctx.timers.arm(row, (ctx.now + MEMBERSHIP_MS) | 0)
    ctx.count(COUNTER.memberships)
    for (let n = 0; n < KNOWN_COUNT; n++) {
      const port = wellKnownPort(n, group, 0)
      if (port !== 0) this.listen(group, 0, port)
    }
    for (let at = 0; at < GROUP_PORT_MEMORY * 5; at += 5) {
      if (this.#seen[at + 4] !== 0 && equal(this.#seen, at, group, 0)) this.listen(group, 0, this.#seen[at + 4])
    }
  }

  /** Somebody behind the link is no longer in a group; another program there may still be: ask. */
  left(group: Int32Array): void {
    const ctx = this.#ctx
    const row = this.#member(group)
    if (row < 0 || ctx.words[(row << FLOW_SHIFT) + LEAVING] > 0) return
    ctx.words[(row << FLOW_SHIFT) + LEAVING] = ROBUSTNESS
    this.#ask(row)
  }

  #ask(row: number): void {
    const ctx = this.#ctx
    const base = row << FLOW_SHIFT
    if (ctx.words[base + HOST_FAMILY] === 4) askIgmp(ctx, ctx.words[base + PEER + 3])
    else askMld(ctx, ctx.words, base + PEER)
    ctx.timers.arm(row, (ctx.now + LAST_MEMBER_MS) | 0)
  }

  /** The timer of a membership is due. */
  expire(row: number): void {
    const w = this.#ctx.words
    const base = row << FLOW_SHIFT
    if (w[base + LEAVING] > 1) {
      w[base + LEAVING]--
      this.#ask(row)
      return
    }
    this.#end(row)
  }

  /** The timer of a port is due: it is one of a broadcast address. */
  expirePort(row: number): void {
    const ctx = this.#ctx
    const due = (ctx.words[(row << FLOW_SHIFT) + LAST_ACTIVE] + BROADCAST_MS) | 0
    if (((due - ctx.now) | 0) > 0) {
      ctx.timers.arm(row, due)
      return
    }
    for (let i = 0; i < this.#portCount; i++) {
      if (this.#ports[i] === row) this.#ports[i] = this.#ports[--this.#portCount]
    }
    ctx.retire(row, false)
  }

  /** Ends a membership and the ports that go with it. */
  #end(row: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const group = (row << FLOW_SHIFT) + PEER
    for (let i = this.#portCount - 1; i >= 0; i--) {
      const port = this.#ports[i]
      if (!equal(w, (port << FLOW_SHIFT) + PEER, w, group)) continue
      this.#ports[i] = this.#ports[--this.#portCount]
      ctx.retire(port, false)
    }
    for (let i = 0; i < this.#memberCount; i++) {
      if (this.#members[i] === row) this.#members[i] = this.#members[--this.#memberCount]
    }
    ctx.retire(row, false)
  }

  /** The host's interfaces or addresses have changed: joins everything again, where it is now. */
  rejoin(): void {
    const count = this.#memberCount
    for (let i = 0; i < count; i++) {
      copy(this.#again, 4 * i, this.#ctx.words, (this.#members[i] << FLOW_SHIFT) + PEER)
    }
    for (let i = this.#memberCount - 1; i >= 0; i--) this.#end(this.#members[i])
    for (let i = 0; i < count; i++) {
      copy(this.#one, 0, this.#again, 4 * i)
      this.joined(this.#one)
    }
  }

  /** The guest is gone, and with it all of this. */
  clear(): void {
    const ctx = this.#ctx
    for (let i = 0; i < this.#portCount; i++) ctx.retire(this.#ports[i], false)
    for (let i = 0; i < this.#memberCount; i++) ctx.retire(this.#members[i], false)
    this.#portCount = 0
    this.#memberCount = 0
    this.#seen.fill(0)
  }

  /** The guest has sent to a port of a group: others there will send to the same. */
  sent(group: Int32Array, i: number, port: number): void {
    const seen = this.#seen
    for (let at = 0; at < GROUP_PORT_MEMORY * 5; at += 5) {
      if (seen[at + 4] === port && equal(seen, at, group, i)) return
    }
    const next = this.#seenNext
    this.#seenNext = (next + 5) % (GROUP_PORT_MEMORY * 5)
    copy(seen, next, group, i)
    seen[next + 4] = port
    if (this.#memberAt(group, i) >= 0) this.listen(group, i, port)
  }

  /** The guest has sent from a port to a broadcast address: others may do the same, or answer so. */
  sentBroadcast(group: Int32Array, i: number, port: number): void {
    const ctx = this.#ctx
    const known = this.#port(group, i, port)
    const row = known >= 0 ? known : this.listen(group, i, port)
    if (row < 0) return
    ctx.words[(row << FLOW_SHIFT) + LAST_ACTIVE] = ctx.now
    if (known < 0) ctx.timers.arm(row, (ctx.now + BROADCAST_MS) | 0)
  }

  /** Listens on the ports of a map, for all groups. @param portsMax of them, from the lowest */
  listenOnMap(map: Uint8Array, portsMax: number): void {
    let ports = 0
    for (let port = 1; port < 65_536; port++) {
      if (map[port >> 3] === 0) {
        port |= 7
        continue
      }
      if ((map[port >> 3] & (1 << (port & 7))) === 0) continue
      if (ports++ === portsMax) return
      for (let m = 0; m < this.#memberCount; m++) {
        this.listen(this.#ctx.words, (this.#members[m] << FLOW_SHIFT) + PEER, port)
      }
    }
  }

  /** Opens a socket for a port of a group, unless one hears it already. @returns its row, -1: none was opened */
  listen(group: Int32Array, i: number, port: number): number {
    const ctx = this.#ctx
    if (this.#port(group, i, port) >= 0 || this.#isForwarded(group, i, port)) return -1
    if (this.#portCount === GROUP_PORT_MAX) {
      ctx.count(COUNTER.dropMembership)
      ctx.log(
        "warning",
        SITE,
        `More than ${GROUP_PORT_MAX} ports of multicast groups: further ones are not listened on`,
      )
      return -1
    }
    const row = this.#row(KIND_GROUP_PORT, group, i)
    if (row < 0) return -1
    const base = row << FLOW_SHIFT
    const w = ctx.words
    w[base + PEER + PORT] = port
    w[base + LAST_ACTIVE] = ctx.now
    const family = w[base + HOST_FAMILY]
    // Beside every other program that listens for the same, and out of the way of what is for these alone.
    ctx.kernel.setReuseAddress(w[base + FD])
    this.#toLocal(base)
    let result = ctx.kernel.bind(w[base + FD], family)
    if (result >= 0 && this.#memberAt(group, i) >= 0) result = this.#joinOn(base, family)
    if (result >= 0) result = ctx.kernel.watch(w[base + FD], (REF_FLOW << REF_SHIFT) | row)
    if (result < 0) return this.#refused(row, result)
    this.#ports[this.#portCount++] = row
    return row
  }

  /** A row with a socket that is ready for its group. @returns it, or -1: counted */
  #row(kind: number, group: Int32Array, i: number): number {
    const ctx = this.#ctx
    const row = ctx.flows.allocate(kind)
    if (row < 0) {
      ctx.count(COUNTER.dropNoFlow)
      return -1
    }
    const w = ctx.words
    const base = row << FLOW_SHIFT
    const family = isMapped(group, i) ? 4 : 6
    w[base + HOST_FAMILY] = family
    copy(w, base + PEER, group, i)
    w[base + PEER + SCOPE] = needsScope(w, base + PEER) ? groupScope(ctx, family) : 0
    const { address } = ctx.kernel
    const fd = ctx.kernel.udpSocket(family, false, PLACE_HOST)
    if (fd < 0) return this.#refused(row, fd)
    w[base + FD] = fd
    address.fill(0, ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS)
    let result = this.#groups.prepare(fd, family, groupScope(ctx, family))
    const device = groupDevice(ctx, family)
    if (result >= 0 && device !== "") result = ctx.kernel.bindToDevice(fd, device)
    return result < 0 ? this.#refused(row, result) : row
  }

  #refused(row: number, result: number): number {
    const ctx = this.#ctx
    ctx.count(COUNTER.dropMembership)
    ctx.log("debug", SITE, `A multicast group, or a port of one, is not heard: error ${-result}`)
    return discard(ctx, row)
  }

  #toLocal(base: number): void {
    const { address } = this.#ctx.kernel
    for (let i = 0; i < ADDRESS_WORDS; i++) address[ADDRESS_LOCAL + i] = this.#ctx.words[base + PEER + i]
  }

  #joinOn(base: number, family: number): number {
    const ctx = this.#ctx
    this.#toLocal(base)
    return this.#groups.joinGroup(ctx.words[base + FD], family, groupScope(ctx, family))
  }

  #member(group: Int32Array): number {
    return this.#memberAt(group, 0)
  }

  #memberAt(group: Int32Array, i: number): number {
    const w = this.#ctx.words
    for (let m = 0; m < this.#memberCount; m++) {
      const row = this.#members[m]
      if (equal(w, (row << FLOW_SHIFT) + PEER, group, i)) return row
    }
    return -1
  }

  #port(group: Int32Array, i: number, port: number): number {
    const w = this.#ctx.words
    for (let p = 0; p < this.#portCount; p++) {
      const peer = (this.#ports[p] << FLOW_SHIFT) + PEER
      if (w[peer + PORT] === port && equal(w, peer, group, i)) return this.#ports[p]
    }
    return -1
  }

  /** Whether the socket of a rule hears this port of every group. */
  #isForwarded(group: Int32Array, i: number, port: number): boolean {
    const v4 = isMapped(group, i)
    for (let r = 0; r < this.#wildcards.length; r++) {
      const rule = this.#wildcards[r]
      if (port < rule.first || port > rule.last) continue
      if (rule.address === null || isMapped(rule.address, 0) === v4) return true
    }
    return false
  }
}

/** Whether a group is of no use beyond the guest's own link: all nodes, routers (we are one), neighbour discovery, reports. */
function isOurs(group: Int32Array): boolean {
  const last = group[3]
  // 224.0.0.1, .2, .22.
  if (isMapped(group, 0)) return last === (0xe0000001 | 0) || last === (0xe0000002 | 0) || last === (0xe0000016 | 0)
  // RFC 4291 section 2.7: scopes 0 and 1 never leave a node.
  if (((group[0] >>> 16) & 0xf) <= 1) return true
  if (group[0] !== (0xff020000 | 0) || group[1] !== 0) return false
  if (group[2] === 0) return last === 1 || last === 2 || last === 0x16
  // ff02::1:ff00:0/104, solicited nodes.
  return group[2] === 1 && last >>> 24 === 0xff
}
