/**
 * Echo requests of the guest, by ping sockets (icmp(7): SOCK_DGRAM with IPPROTO_ICMP), which need no privilege where
 * net.ipv4.ping_group_range allows them.
 *
 * A flow is a destination and an identifier. Its socket is bound to the guest's identifier as "port", or to one of the
 * kernel's choice where another ping has that one; the kernel puts the socket's identifier into requests and sorts replies by it,
 * so replies get the guest's identifier back. Sequence number and data go through as they are. The kernel does not look
 * at a reply's source, though a connected socket might suggest it: so that is checked here.
 *
 * Hop limits go through both ways, and errors come back (datagram/errors.ts): traceroute with echo requests works. Nothing else
 * of ICMP is forwarded; there are no echo requests from outside, for a ping socket can't receive them.
 *
 * Reads first: RFC 792, RFC 4443 section 4; RFC 5508 section 3.
 */
import type { Context } from "../context.ts"
import { allocate, begin, discard, isExhaustion } from "../datagram/begin.ts"
import { serveErrors } from "../datagram/errors.ts"
import { expireOrWait, silenceMs } from "../datagram/expiry.ts"
import { blocked, keepOut } from "../datagram/keep-out.ts"
import { sendBatch } from "../datagram/send.ts"
import { connectOutbound } from "../datagram/socket.ts"
import { FAILED, READABLE, remember } from "../datagram/state.ts"
import { EACCES, EPERM } from "../errno.ts"
import {
  DIRECTION_TO_GUEST,
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HOST_FAMILY,
  KIND_PING,
  PEER,
  PORT,
  SIDE_GUEST,
  STATE,
} from "../flow/table.ts"
import { DIRECTION_OUT } from "../policy/matcher.ts"
import { mustWait } from "../policy/shaper.ts"
import { WAITING } from "../policy/verdict.ts"
import type { Protocol } from "../protocol.ts"
import { COUNTER } from "../stats.ts"
import { isMapped, isUnicast, isUnspecified } from "../wire/address.ts"
import * as icmp from "../wire/icmp.ts"
import { PROTOCOL_ICMP } from "../wire/ipv4.ts"
import { PROTOCOL_ICMPV6 } from "../wire/ipv6.ts"
import { serveReplies } from "./reply.ts"
import { tellUnreachable } from "./error.ts"

/** RFC 5508 section 3.2: at least 60 seconds. */
const SILENCE_MS: number = silenceMs(60)
const SITE = "ping"

export class Ping implements Protocol {
  readonly #ctx: Context

  constructor(ctx: Context) {
    this.#ctx = ctx
  }

  open(row: number): number {
    const ctx = this.#ctx
    const { key } = ctx.flows
    const mapped = isMapped(key, 1)
    const at = ctx.frames.offset[row] + ctx.frames.checksumStart[row]
    if (ctx.view.getUint16(at) !== (mapped ? icmp.ECHO_REQUEST << 8 : icmp.V6_ECHO_REQUEST << 8)) {
      ctx.count(COUNTER.dropProtocol)
      return -1
    }
    if (!isUnicast(key, 1) || isUnspecified(key, 5) || isMapped(key, 5) !== mapped) {
      ctx.count(COUNTER.dropAddress)
      return -1
    }
    const flow = allocate(ctx, KIND_PING, SITE)
    if (flow < 0) return -1
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const family = mapped ? 4 : 6
    w[base + GUEST_FAMILY] = family
    w[base + HOST_FAMILY] = family
    ctx.translator.outbound(key, 5, 0, false, w, base + PEER)
    if (ctx.gate !== undefined) {
      const verdict = ctx.gate.ask(flow, DIRECTION_OUT)
      if (verdict >= WAITING) return keepOut(ctx, flow, verdict, SIDE_GUEST)
    }
    return this.#connect(flow, row)
  }

  /** Opens the socket of a flow. @param row its first request, -1: that is gone @returns the flow or -1 */
  #connect(flow: number, row: number): number {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    const family = w[base + GUEST_FAMILY]
    const fd = ctx.kernel.pingSocket(family)
    w[base + FD] = fd < 0 ? -1 : fd
    if (fd === -EACCES || fd === -EPERM) {
      ctx.count(COUNTER.dropPing)
      ctx.log(
        "warning",
        "ping-socket",
        "Can't open an echo socket, so the guest's pings are dropped: the group of this process must be within net.ipv4.ping_group_range",
      )
      return discard(ctx, flow)
    }
    const result = fd < 0 ? fd : connectOutbound(ctx, fd, base, w[base + GUEST + PORT])
    if (result < 0) {
      if (isExhaustion(result)) {
        ctx.count(COUNTER.dropNoFlow)
        ctx.log("warning", SITE, "No descriptor or memory left for an echo socket: the guest's pings are dropped")
      } else {
        ctx.count(COUNTER.dropPing)
        if (row >= 0) tellUnreachable(ctx, row, -result)
      }
      return discard(ctx, flow)
    }
    ctx.kernel.wantHopLimits(fd, family)
    if (begin(ctx, flow, 0, SILENCE_MS) < 0) return -1
    ctx.begin(flow, COUNTER.pingFlows)
    return flow
  }

  fromGuest(flow: number): void {
    const ctx = this.#ctx
    if (ctx.words[(flow << FLOW_SHIFT) + FD] < 0) blocked(ctx, flow)
    else sendBatch(ctx, flow)
  }

  settled(flow: number): void {
    const ctx = this.#ctx
    const verdict = ctx.gate!.verdicts[flow]
    if (verdict >= WAITING) keepOut(ctx, flow, verdict, SIDE_GUEST)
    else if (this.#connect(flow, -1) >= 0) ctx.gate!.replayFrames(flow, this)
  }

  event(flow: number, mask: number): void {
    if (remember(this.#ctx, flow, mask)) this.#ctx.work.add(flow)
  }

  service(flow: number): void {
    const ctx = this.#ctx
    const w = ctx.words
    const base = flow << FLOW_SHIFT
    if (ctx.gate !== undefined && mustWait(ctx, flow, DIRECTION_TO_GUEST)) return
    const at = base + STATE
    const protocol = w[base + GUEST_FAMILY] === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6
    const room = (w[at] & FAILED) === 0 || serveErrors(ctx, flow, protocol, 0)
    if (room && (w[at] & READABLE) !== 0) serveReplies(ctx, flow)
    if ((w[at] & (READABLE | FAILED)) !== 0) ctx.work.add(flow)
  }

  timer(flow: number): void {
    expireOrWait(this.#ctx, flow, SILENCE_MS)
  }

  /** There are no listening sockets for echo requests. */
  accept(): void {}

  sweep(): void {}
}
