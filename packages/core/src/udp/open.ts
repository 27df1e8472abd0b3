/**
 * New UDP flows: their addresses on both sides, and a bound and connected socket.
 */
import type { Context } from "../context.ts"
import { allocate, begin, discard, isExhaustion } from "../datagram/begin.ts"
import { keepOut } from "../datagram/keep-out.ts"
import { connectInbound, connectOutbound } from "../datagram/socket.ts"
import { LISTENER, UNSORTED } from "../datagram/state.ts"
import {
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HASH_NEXT,
  HOST_FAMILY,
  KIND_UDP,
  NOT_INDEXED,
  OUR,
  PEER,
  PORT,
  SCOPE,
  SIDE_GUEST,
  SIDE_HOST,
} from "../flow/table.ts"
import type { Listeners } from "../forward/listen.ts"
import { tellUnreachable } from "../icmp/error.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE, PLACE_HOST } from "../kernel.ts"
import { DIRECTION_IN, DIRECTION_OUT } from "../policy/matcher.ts"
import { WAITING } from "../policy/verdict.ts"
import { COUNTER } from "../stats.ts"
import { copy, equal, isMapped, isUnicast } from "../wire/address.ts"

const SITE = "udp-flow"

/** Opens a flow for a datagram from the guest, whose key is in `ctx.flows.key`.
 * @param silence milliseconds after which the flow may end
 * @returns the flow, or -1: counted, and answered where the guest can be told why */
export function openFromGuest(ctx: Context, row: number, silence: number): number {
  const { flows } = ctx
  const { key } = flows
  const farPort = key[10]
  const mapped = isMapped(key, 1)
  if (key[9] === 0 || farPort === 0 || !isUnicast(key, 1) || !isUnicast(key, 5) || isMapped(key, 5) !== mapped) {
    ctx.count(COUNTER.dropAddress)
    return -1
  }
  const flow = allocate(ctx, KIND_UDP, SITE)
  if (flow < 0) return -1
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  w[base + GUEST_FAMILY] = mapped ? 4 : 6
  ctx.translator.outbound(key, 5, farPort, true, w, base + PEER)
  w[base + PEER + PORT] = farPort
  w[base + HOST_FAMILY] = isMapped(w, base + PEER) ? 4 : 6
  if (ctx.gate !== undefined) {
    const verdict = ctx.gate.ask(flow, DIRECTION_OUT)
    if (verdict >= WAITING) return keepOut(ctx, flow, verdict, SIDE_GUEST)
  }
  return connectFlow(ctx, flow, row, silence)
}

/** Opens the sockets of a flow of the guest's. @param row its first datagram, -1: that is gone @returns the flow or -1 */
function connectFlow(ctx: Context, flow: number, row: number, silence: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  let result = openSocket(ctx, base)
  if (result >= 0) result = connectOutbound(ctx, w[base + FD], base, w[base + GUEST + PORT])
  if (result < 0) {
    if (isExhaustion(result)) return exhausted(ctx, flow)
    ctx.count(COUNTER.dropDatagram)
    if (row >= 0) tellUnreachable(ctx, row, -result)
    return discard(ctx, flow)
  }
  if (begin(ctx, flow, UNSORTED, silence) < 0) return -1
  ctx.begin(flow, COUNTER.udpFlows)
  return flow
}

/** The policy has decided about a flow that has waited. @returns whether it goes on */
export function settled(ctx: Context, listeners: Listeners, flow: number, silence: number): boolean {
  const verdict = ctx.gate!.verdicts[flow]
  const listener = ctx.words[(flow << FLOW_SHIFT) + LISTENER]
  if (verdict >= WAITING) {
    keepOut(ctx, flow, verdict, listener < 0 ? SIDE_GUEST : SIDE_HOST)
    return false
  }
  if (listener < 0) return connectFlow(ctx, flow, -1, silence) >= 0
  return enter(ctx, listeners, flow, silence) >= 0
}

/** Finds the flow of a datagram from a listening socket, or opens one. Its source is in ADDRESS_REMOTE, its destination
 * in ADDRESS_LOCAL.
 * @returns the flow, or -1: counted */
export function flowFromHost(ctx: Context, listeners: Listeners, listener: number, silence: number): number {
  const { flows, kernel } = ctx
  const { key } = flows
  const { address } = kernel
  const ourPort = listeners.port[listener]
  const peerPort = address[ADDRESS_REMOTE + PORT]
  // Groups are not handled here, and not at all by a kernel without multicast.
  if (peerPort === 0 || !isUnicast(address, ADDRESS_REMOTE) || !isUnicast(address, ADDRESS_LOCAL)) {
    ctx.count(COUNTER.dropAddress)
    return -1
  }
  setHostKey(key, address, ADDRESS_REMOTE, peerPort, address, ADDRESS_LOCAL, ourPort)
  let flow = flows.find(SIDE_HOST)
  if (flow >= 0) return flow

  const rule = ctx.rules[listeners.rule[listener]]!
  const mapped = isMapped(address, ADDRESS_REMOTE)
  if (!(mapped ? ctx.guest.ipv4 : ctx.guest.ipv6) || !guestSide(ctx, rule.targetAddress)) {
    ctx.count(COUNTER.dropNoGuest)
    return -1
  }
  key[9] = rule.targetFirst + (ourPort - rule.first)
  key[10] = peerPort
  const w = ctx.words
  flow = flows.find(SIDE_GUEST)
  if (flow >= 0) {
    // The guest talks to this peer already. Were it another peer that looks the same to the guest, answers would go astray.
    const peer = (flow << FLOW_SHIFT) + PEER
    if (w[peer + PORT] === peerPort && equal(w, peer, address, ADDRESS_REMOTE)) return flow
    ctx.count(COUNTER.dropNoGuest)
    return -1
  }

  flow = allocate(ctx, KIND_UDP, SITE)
  if (flow < 0) return -1
  const base = flow << FLOW_SHIFT
  w[base + GUEST_FAMILY] = mapped ? 4 : 6
  // The peers of a dual-stack listener that use IPv4 get an IPv4 socket.
  w[base + HOST_FAMILY] = mapped ? 4 : 6
  copy(w, base + PEER, address, ADDRESS_REMOTE)
  w[base + PEER + PORT] = peerPort
  w[base + PEER + SCOPE] = mapped ? 0 : address[ADDRESS_REMOTE + SCOPE]
  copy(w, base + OUR, address, ADDRESS_LOCAL)
  w[base + OUR + PORT] = ourPort
  w[base + OUR + SCOPE] = mapped ? 0 : address[ADDRESS_LOCAL + SCOPE]
  w[base + LISTENER] = listener
  if (ctx.gate !== undefined) {
    const verdict = ctx.gate.ask(flow, DIRECTION_IN)
    if (verdict >= WAITING) return keepOut(ctx, flow, verdict, SIDE_HOST)
  }
  return enter(ctx, listeners, flow, silence)
}

/** Opens the socket of a flow that came to a listening one. @returns the flow or -1 */
function enter(ctx: Context, listeners: Listeners, flow: number, silence: number): number {
  const { flows } = ctx
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const rule = ctx.rules[listeners.rule[w[base + LISTENER]]]
  let result = openSocket(ctx, base)
  if (result >= 0) result = connectInbound(ctx, w[base + FD], base, rule === undefined ? "" : rule.device)
  if (result < 0) {
    if (isExhaustion(result)) return exhausted(ctx, flow)
    ctx.count(COUNTER.dropDatagram)
    ctx.log("warning", SITE, "Couldn't open a socket beside a listening one for its peer: a datagram was dropped")
    return discard(ctx, flow)
  }
  if (begin(ctx, flow, UNSORTED, silence) < 0) return -1
  if (w[base + HASH_NEXT + SIDE_HOST] === NOT_INDEXED) flows.index(flow, SIDE_HOST)
  ctx.begin(flow, COUNTER.udpFlows)
  return flow
}

/** Opens the flow's socket, ready to bind to a port that others of our sockets are bound to: one port of the guest
 * talks to many peers, each by a socket of its own.
 * @returns the descriptor, or -errno */
function openSocket(ctx: Context, base: number): number {
  const fd = ctx.kernel.udpSocket(ctx.words[base + HOST_FAMILY], ctx.config.freebind, PLACE_HOST)
  if (fd >= 0) {
    ctx.words[base + FD] = fd
    ctx.kernel.setReuseAddress(fd)
    ctx.kernel.wantHopLimits(fd, ctx.words[base + HOST_FAMILY])
  }
  return fd
}

function exhausted(ctx: Context, flow: number): number {
  ctx.count(COUNTER.dropNoFlow)
  ctx.log("warning", SITE, "No descriptor or memory left for a UDP socket: new flows are refused")
  return discard(ctx, flow)
}

function setHostKey(
  key: Int32Array,
  peer: Int32Array,
  pi: number,
  peerPort: number,
  our: Int32Array,
  oi: number,
  ourPort: number,
): void {
  key[0] = KIND_UDP
  copy(key, 1, peer, pi)
  copy(key, 5, our, oi)
  key[9] = peerPort
  key[10] = ourPort
}

/** Puts the addresses that the guest will see into the key: its own at 1, the peer's at 5.
 * @returns false when there is no such address */
function guestSide(ctx: Context, target: Int32Array | null): boolean {
  const { address } = ctx.kernel
  const { key } = ctx.flows
  if (!ctx.translator.inbound(address, ADDRESS_REMOTE, key, 5)) return false
  if (target !== null) copy(key, 1, target, 0)
  else if (!ctx.translator.guestAddress(key, 5, key, 1)) return false
  return isMapped(key, 1) === isMapped(key, 5)
}
