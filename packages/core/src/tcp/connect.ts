/**
 * Connections begin: from the guest (its SYN makes a socket connect, and is answered when that has an outcome, so that the guest
 * sees the real peer's answer and the real time it took) and from the host (an accepted socket makes a SYN to the guest).
 */
import { type Context, REF_FLOW, REF_SHIFT } from "../context.ts"
import { EACCES, ECONNREFUSED, EINPROGRESS, ETIMEDOUT } from "../errno.ts"
import {
  FAR,
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HOST_FAMILY,
  KIND_TCP,
  LAST_ACTIVE,
  NEIGHBOUR,
  OUR,
  PEER,
  PORT,
  SCOPE,
  SIDE_GUEST,
  STATE,
} from "../flow/table.ts"
import { hash11 } from "../flow/hash.ts"
import type { Listeners } from "../forward/listen.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE, ADDRESS_WORDS, INFO_SEND_MSS, PLACE_HOST } from "../kernel.ts"
import { FRAME_LENGTH_MAX } from "../limits.ts"
import { tellConnectError } from "../icmp/connect-error.ts"
import { isGroupFrame, isOneNode } from "../icmp/error.ts"
import { DIRECTION_IN, DIRECTION_OUT } from "../policy/matcher.ts"
import { DROPPED, TELL_PROHIBITED, WAITING } from "../policy/verdict.ts"
import { COUNTER } from "../stats.ts"
import { copy, format, isLinkLocal, isLoopback, isMapped, isUnicast, isUnspecified } from "../wire/address.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as tcp from "../wire/tcp.ts"
import {
  MSS_DEFAULT4,
  MSS_DEFAULT6,
  MSS_MIN,
  PACKET_MAX,
  WINDOW_SCALE,
  WINDOW_SCALE_MAX,
  WINDOW_UNSCALED_MAX,
} from "./constants.ts"
import { emitReset, emitSyn, rejectSegment } from "./emit.ts"
import { carryHopLimit, HOP_LIMIT_USUAL, hopLimitOf } from "./hop-limit.ts"
import {
  ACCEPTED,
  ACKED_BY_GUEST,
  ACK_SENT,
  ACK_TO_GUEST,
  CONNECTED,
  CONNECTING,
  EDGE_SENT,
  EDGE_TO_GUEST,
  ESTABLISHED,
  FIRST_FROM_GUEST,
  GROUP_FRAME,
  HOLD_HEAD,
  HOP_LIMIT,
  HOST_ENDING,
  INBOUND,
  LAST_FROM_GUEST,
  LAST_WINDOW,
  LOCAL,
  MSS,
  RECOVER,
  RTO_ARMED,
  RTO_AT,
  RETRIES,
  SCALES,
  SCALE_TO_GUEST_SHIFT,
  SENT_MAX,
  SEQ_FROM_GUEST,
  SEQ_TO_GUEST,
  SYN_DUE,
  SYN_RETRIED,
  URGENT,
  WINDOW_FROM_GUEST,
  WRITTEN,
} from "./state.ts"

/** Bytes of IP and TCP header without options. */
function headers(family: number): number {
  return family === 4 ? 40 : 60
}

/** Initial sequence number, RFC 6528: a keyed hash of the connection plus a clock. */
function initialSequence(ctx: Context, base: number): number {
  const w = ctx.words
  const key = ctx.flows.key
  key[0] = KIND_TCP
  for (let i = 0; i < 4; i++) {
    key[1 + i] = w[base + GUEST + i]!
    key[5 + i] = w[base + FAR + i]!
  }
  key[9] = w[base + GUEST + PORT]!
  key[10] = w[base + FAR + PORT]!
  const { secret } = ctx.config
  return (hash11(key, secret[2]!, secret[3]!) + (ctx.kernel.nowMicros() >> 2)) | 0
}

/** Takes MSS and window scale from a SYN of the guest. @param l4 arena offset of the TCP header */
function takeOptions(ctx: Context, base: number, l4: number): void {
  const w = ctx.words
  const family = w[base + GUEST_FAMILY]!
  const mssAt = tcp.option(ctx.view, l4, tcp.OPTION_MSS, 2)
  let mss = mssAt >= 0 ? ctx.view.getUint16(mssAt) : family === 4 ? MSS_DEFAULT4 : MSS_DEFAULT6
  if (mss < MSS_MIN) mss = MSS_MIN
  // A guest may ask for more than a frame can carry.
  const most = Math.min(FRAME_LENGTH_MAX - ethernet.HEADER_LENGTH - headers(family), ctx.link.segmentBytesMax)
  w[base + MSS] = mss > most ? most : mss
  const scaleAt = tcp.option(ctx.view, l4, tcp.OPTION_WINDOW_SCALE, 1)
  if (scaleAt < 0) {
    w[base + SCALES] = 0
  } else {
    const scale = ctx.view.getUint8(scaleAt)
    w[base + SCALES] = (scale > WINDOW_SCALE_MAX ? WINDOW_SCALE_MAX : scale) | (WINDOW_SCALE << SCALE_TO_GUEST_SHIFT)
  }
}

/** The MSS that we announce: the link's MTU, in whole pages if there are any, since senders then copy aligned blocks. */
function offeredMss(ctx: Context, base: number): number {
  const family = ctx.words[base + GUEST_FAMILY]!
  let mss = ctx.guest.mtu - headers(family)
  if (ctx.guest.mtu === 0) {
    // No MTU was announced: what the kernel sends towards the peer is as good as it gets.
    const known = ctx.kernel.tcpInfo(ctx.words[base + FD]!) >= 0 ? ctx.kernel.info[INFO_SEND_MSS]! : 0
    mss = known > 0 ? known : family === 4 ? MSS_DEFAULT4 : MSS_DEFAULT6
    if (mss > PACKET_MAX - headers(family)) mss = PACKET_MAX - headers(family)
  }
  if (mss > 4096) mss -= mss % 4096
  return mss < MSS_MIN ? MSS_MIN : mss
}

/** Sets what both directions share, once the guest's addresses are in the row. */
function begin(ctx: Context, base: number): void {
  const w = ctx.words
  const isn = initialSequence(ctx, base)
  w[base + SEQ_TO_GUEST] = isn
  w[base + ACKED_BY_GUEST] = isn
  w[base + SENT_MAX] = isn
  w[base + RECOVER] = isn
  w[base + HOLD_HEAD] = -1
  w[base + HOP_LIMIT] = HOP_LIMIT_USUAL
  w[base + LAST_ACTIVE] = ctx.now
  w[base + LAST_FROM_GUEST] = ctx.now
  const neighbours = ctx.config.neighbours
  if (neighbours !== undefined) w[base + NEIGHBOUR] = neighbours.lookup(w, base + FAR)
}

/** Sets where the guest's stream begins. @param first sequence number of its first byte */
function beginFromGuest(w: Int32Array, base: number, first: number): void {
  w[base + SEQ_FROM_GUEST] = first
  w[base + WRITTEN] = first
  w[base + FIRST_FROM_GUEST] = first
  w[base + ACK_TO_GUEST] = first
  w[base + ACK_SENT] = first
  // What any send buffer has room for, and all that fits the field: the kernel is asked once half of it is used up.
  w[base + LAST_WINDOW] = WINDOW_UNSCALED_MAX
  w[base + EDGE_TO_GUEST] = (first + WINDOW_UNSCALED_MAX) | 0
  w[base + EDGE_SENT] = w[base + EDGE_TO_GUEST]!
}

/** Opens a connection for a segment that belongs to none; its key is in `ctx.flows.key`.
 * @returns the flow, or -1: the segment was answered with a reset, or dropped */
export function openFromGuest(ctx: Context, row: number): number {
  const frames = ctx.frames
  const key = ctx.flows.key
  const w = ctx.words
  const l4 = frames.offset[row]! + frames.checksumStart[row]!
  const flags = tcp.flags(ctx.view, l4)
  // Not even a reset may go to, or come from, what is no end of a connection: RFC 1122 sections 3.2.1.3 and 4.2.3.10.
  if (key[9] === 0 || key[10] === 0 || !isUnicast(key, 1) || !isOneNode(ctx, key, 5)) {
    ctx.count(COUNTER.dropAddress)
    return -1
  }
  if ((flags & (tcp.SYN | tcp.ACK | tcp.RST)) !== tcp.SYN) {
    rejectSegment(ctx, row)
    return -1
  }
  const family = isMapped(key, 1) ? 4 : 6
  if (hopLimitOf(ctx, family, row) === 0) {
    ctx.count(COUNTER.dropIp)
    return -1
  }
  const flow = ctx.flows.allocate(KIND_TCP)
  if (flow < 0) {
    ctx.count(COUNTER.dropNoFlow)
    ctx.log("warning", "tcp-flow", "Flow table is full, connection refused")
    rejectSegment(ctx, row)
    return -1
  }
  const base = flow << FLOW_SHIFT
  copy(w, base + GUEST, key, 1)
  copy(w, base + FAR, key, 5)
  w[base + GUEST + PORT] = key[9]!
  w[base + FAR + PORT] = key[10]!
  w[base + GUEST_FAMILY] = family
  ctx.translator.outbound(key, 5, key[10]!, true, w, base + PEER)
  w[base + PEER + PORT] = key[10]!
  w[base + HOST_FAMILY] = isMapped(w, base + PEER) ? 4 : 6
  begin(ctx, base)
  takeOptions(ctx, base, l4)
  // The window of a SYN is never scaled, RFC 7323 section 2.2.
  w[base + WINDOW_FROM_GUEST] = tcp.window(ctx.view, l4)
  beginFromGuest(w, base, (tcp.sequence(ctx.view, l4) + 1) | 0)
  w[base + FIRST_FROM_GUEST] = tcp.sequence(ctx.view, l4)
  const group = isGroupFrame(ctx, row) ? GROUP_FRAME : 0
  w[base + STATE] = CONNECTING | group | (isLoopback(w, base + PEER) ? LOCAL : 0)
  ctx.flows.index(flow, SIDE_GUEST)
  if (ctx.gate !== undefined) {
    const verdict = ctx.gate.ask(flow, DIRECTION_OUT)
    if (verdict >= WAITING) return keepOut(ctx, flow, verdict)
  }
  return goOn(ctx, flow, row)
}

/** Connects for the guest. @param row its SYN, -1: that is gone @returns the flow, -1: refused */
function goOn(ctx: Context, flow: number, row: number): number {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  w[base + STATE] = (w[base + STATE]! & ~LOCAL) | (isLoopback(w, base + PEER) ? LOCAL : 0)
  ctx.begin(flow, COUNTER.tcpFlows)
  const error = connectSocket(ctx, flow, row)
  if (error < 0) {
    refuse(ctx, flow, -error)
    return -1
  }
  return flow
}

/** What becomes of a connection of the guest that the policy has not allowed (yet). @returns the flow, -1: it has ended */
function keepOut(ctx: Context, flow: number, verdict: number): number {
  const gate = ctx.gate!
  if (verdict === WAITING) {
    gate.wait(flow)
    return flow
  }
  if (verdict === DROPPED) {
    // Its SYN comes again; nobody is asked again.
    if (gate.remember(flow)) return flow
    ctx.retire(flow, false)
    return -1
  }
  refuse(ctx, flow, gate.tellOf(flow) >= TELL_PROHIBITED ? EACCES : ECONNREFUSED)
  return -1
}

/** The policy has decided about a connection that has waited. */
export function settled(ctx: Context, flow: number): void {
  const verdict = ctx.gate!.verdicts[flow]!
  const base = flow << FLOW_SHIFT
  if ((ctx.words[base + STATE]! & INBOUND) !== 0) {
    if (verdict >= WAITING || !enterFromHost(ctx, flow)) ctx.retire(flow, true)
  } else if (verdict >= WAITING) keepOut(ctx, flow, verdict)
  else goOn(ctx, flow, -1)
}

/** @param row the guest's SYN, -1: that is gone @returns 0, or -errno: the caller refuses */
function connectSocket(ctx: Context, flow: number, row: number): number {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const { kernel, config } = ctx
  const family = w[base + HOST_FAMILY]!
  const given = ctx.gate === undefined ? -1 : ctx.gate.takeSocket(flow)
  if (given >= 0) {
    w[base + FD] = given
    w[base + STATE] = w[base + STATE]! | LOCAL
    const watched = kernel.watch(given, (REF_FLOW << REF_SHIFT) | flow)
    return watched < 0 ? watched : hostConnected(ctx, flow)
  }
  const fd = kernel.tcpSocket(family, PLACE_HOST)
  if (fd < 0) {
    ctx.count(COUNTER.dropNoFlow)
    ctx.log("warning", "tcp-socket", "Can't open another socket, connection refused")
    return fd
  }
  w[base + FD] = fd
  if (row >= 0) carryHopLimit(ctx, flow, row)
  // Not for all, since it takes two calls: else the error number alone is told, as where the kernel can't (before 5.18 it queues
  // nothing while connecting).
  if (w[base + HOP_LIMIT]! < HOP_LIMIT_USUAL) kernel.queueErrors(fd, family, true)
  const device = family === 4 ? config.outboundDevice4 : config.outboundDevice6
  const outbound = family === 4 ? config.outbound4 : config.outbound6
  if (!isLoopback(w, base + PEER)) {
    if (device !== "") {
      const result = kernel.bindToDevice(fd, device)
      if (result < 0) return result
    }
    if (!isUnspecified(outbound, 0)) {
      kernel.address.fill(0, ADDRESS_LOCAL, ADDRESS_LOCAL + ADDRESS_WORDS)
      copy(kernel.address, ADDRESS_LOCAL, outbound, 0)
      const result = kernel.bind(fd, family)
      if (result < 0) return result
    }
  }
  copy(kernel.address, ADDRESS_REMOTE, w, base + PEER)
  kernel.address[ADDRESS_REMOTE + PORT] = w[base + PEER + PORT]!
  kernel.address[ADDRESS_REMOTE + SCOPE] = isLinkLocal(w, base + PEER) ? ctx.linkLocalScope : 0
  const result = kernel.connect(fd, family)
  if (result < 0 && result !== -EINPROGRESS) return result
  const watched = kernel.watch(fd, (REF_FLOW << REF_SHIFT) | flow)
  if (watched < 0) return watched
  return result === 0 ? hostConnected(ctx, flow) : 0
}

/** The host's connection has failed before the guest was answered: tell it at once, as an ICMP error where there is one that
 * says why, else by a reset. But one that timed out is not answered at all: the guest has timers of its own, which say so
 * (RFC 9293 section 3.8.3), and should it try again, then so do we.
 * @param errno positive */
export function refuse(ctx: Context, flow: number, errno: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const told =
    (w[base + STATE]! & GROUP_FRAME) === 0 &&
    tellConnectError(ctx, flow, errno, w[base + FIRST_FROM_GUEST]!, w[base + WINDOW_FROM_GUEST]!)
  if (!told && errno !== ETIMEDOUT) emitReset(ctx, flow, 0)
  ctx.retire(flow, false)
}

/** The socket is connected: the guest gets its SYN,ACK. @returns 0, or -errno: the caller refuses */
export function hostConnected(ctx: Context, flow: number): number {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  // From here on they are no more than hints (RFC 1122 section 4.2.3.9), which the kernel minds by itself.
  if (w[base + HOP_LIMIT]! < HOP_LIMIT_USUAL) ctx.kernel.queueErrors(w[base + FD]!, w[base + HOST_FAMILY]!, false)
  if (ctx.gate !== undefined && ctx.gate.overheard[flow] !== 0) {
    const result = ctx.gate.relays.interpose(flow)
    if (result < 0) return result
  }
  w[base + STATE] = (w[base + STATE]! & ~CONNECTING) | CONNECTED | SYN_DUE
  w[base + RETRIES] = 0
  ctx.work.add(flow)
  return 0
}

/** Sends the SYN or SYN,ACK that is due, and arms its timer: the first `synLinear` retries come a second apart, later ones
 * after twice the time each (tcp_syn_linear_timeouts in ip-sysctl). @returns false when there was no room */
export function sendSyn(ctx: Context, flow: number): boolean {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const answer = (w[base + STATE]! & CONNECTED) !== 0
  // A retransmission carries the same number as the first.
  const isn = w[base + ACKED_BY_GUEST]!
  const scale = !answer || w[base + SCALES]! >> SCALE_TO_GUEST_SHIFT !== 0
  if (!emitSyn(ctx, flow, isn, offeredMss(ctx, base), answer, scale, WINDOW_UNSCALED_MAX)) return false
  w[base + SEQ_TO_GUEST] = (isn + 1) | 0
  w[base + SENT_MAX] = (isn + 1) | 0
  const exponent = w[base + RETRIES]! - ctx.config.synLinear
  const delay = 1000 << (exponent > 0 ? exponent : 0)
  w[base + RTO_AT] = (ctx.now + delay) | 0
  w[base + STATE] = (w[base + STATE]! & ~SYN_DUE) | RTO_ARMED
  ctx.timers.arm(flow, w[base + RTO_AT]!)
  return true
}

/** The guest's answer to our SYN, or its acknowledgement of our SYN,ACK.
 * @returns whether the connection is established now */
export function establish(ctx: Context, flow: number, row: number): boolean {
  const frames = ctx.frames
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const v = ctx.view
  const l4 = frames.offset[row]! + frames.checksumStart[row]!
  const flags = tcp.flags(v, l4)
  if ((flags & tcp.ACK) === 0) return false
  // Our SYN has not even left.
  if (w[base + SENT_MAX] === w[base + ACKED_BY_GUEST]) return false
  if (tcp.acknowledgement(v, l4) !== w[base + SENT_MAX]) {
    // Neither ours nor harmless: RFC 9293 section 3.10.7.3.
    rejectSegmentOf(ctx, flow, row)
    return false
  }
  const inbound = (w[base + STATE]! & ACCEPTED) !== 0
  if (inbound !== ((flags & tcp.SYN) !== 0)) return false
  if (!inbound) {
    // RFC 9293 section 3.10.7.4, first check: the segment lies in the window.
    const distance = (tcp.sequence(v, l4) - w[base + SEQ_FROM_GUEST]!) | 0
    if (distance < 0 || distance > WINDOW_UNSCALED_MAX) {
      ctx.count(COUNTER.dropTcpSequence)
      return false
    }
  }
  if (inbound) {
    takeOptions(ctx, base, l4)
    beginFromGuest(w, base, (tcp.sequence(v, l4) + 1) | 0)
    w[base + WINDOW_FROM_GUEST] = tcp.window(v, l4)
  } else {
    w[base + WINDOW_FROM_GUEST] = tcp.window(v, l4) << (w[base + SCALES]! & 0xff)
  }
  w[base + ACKED_BY_GUEST] = w[base + SENT_MAX]!
  w[base + RECOVER] = w[base + SENT_MAX]!
  const state = w[base + STATE]! & (LOCAL | URGENT | HOST_ENDING | INBOUND)
  w[base + STATE] = state | ESTABLISHED | (w[base + RETRIES]! > 0 ? SYN_RETRIED : 0)
  w[base + RETRIES] = 0
  return true
}

/** rejectSegment for a segment whose flow is known: puts the key back. */
function rejectSegmentOf(ctx: Context, flow: number, row: number): void {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const key = ctx.flows.key
  for (let i = 0; i < 4; i++) {
    key[1 + i] = w[base + GUEST + i]!
    key[5 + i] = w[base + FAR + i]!
  }
  key[9] = w[base + GUEST + PORT]!
  key[10] = w[base + FAR + PORT]!
  rejectSegment(ctx, row)
}

/** A connection for the guest was accepted: `ADDRESS_REMOTE` and `ADDRESS_LOCAL` hold its ends. */
export function openFromHost(ctx: Context, listeners: Listeners, listener: number, fd: number): void {
  const { kernel } = ctx
  const w = ctx.words
  const rule = ctx.rules[listeners.rule[listener]!]!
  const flow = ctx.flows.allocate(KIND_TCP)
  if (flow < 0) {
    ctx.count(COUNTER.dropNoFlow)
    ctx.log("warning", "tcp-flow", "Flow table is full, connection refused")
    kernel.reset(fd)
    return
  }
  const base = flow << FLOW_SHIFT
  w[base + FD] = fd
  const a = kernel.address
  for (let i = 0; i < ADDRESS_WORDS; i++) {
    w[base + PEER + i] = a[ADDRESS_REMOTE + i]!
    w[base + OUR + i] = a[ADDRESS_LOCAL + i]!
  }
  w[base + HOST_FAMILY] = isMapped(w, base + PEER) ? 4 : 6
  let known = ctx.translator.inbound(w, base + PEER, w, base + FAR)
  w[base + FAR + PORT] = w[base + PEER + PORT]!
  if (known) {
    if (rule.targetAddress) copy(w, base + GUEST, rule.targetAddress, 0)
    else known = ctx.translator.guestAddress(w, base + FAR, w, base + GUEST)
  }
  w[base + GUEST + PORT] = rule.targetFirst + listeners.port[listener]! - rule.first
  w[base + GUEST_FAMILY] = isMapped(w, base + GUEST) ? 4 : 6
  if (!known || isMapped(w, base + GUEST) !== isMapped(w, base + FAR)) {
    ctx.count(COUNTER.dropNoGuest)
    ctx.log("warning", "tcp-guest", `No way to the guest for a connection from ${format(w, base + PEER)}`)
    ctx.retire(flow, true)
    return
  }
  if (ctx.gate !== undefined) {
    const verdict = ctx.gate.ask(flow, DIRECTION_IN)
    if (verdict === WAITING) {
      w[base + STATE] = ACCEPTED | INBOUND
      ctx.gate.wait(flow)
      return
    }
    if (verdict > WAITING) {
      // The kernel has accepted it already: there is no silence to be had.
      ctx.retire(flow, true)
      return
    }
  }
  if (!enterFromHost(ctx, flow)) ctx.retire(flow, true)
}

/** Shows an accepted connection, the ends of which are in its row, to the guest. @returns false: not possible */
function enterFromHost(ctx: Context, flow: number): boolean {
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const key = ctx.flows.key
  key[0] = KIND_TCP
  for (let i = 0; i < 4; i++) {
    key[1 + i] = w[base + GUEST + i]!
    key[5 + i] = w[base + FAR + i]!
  }
  key[9] = w[base + GUEST + PORT]!
  key[10] = w[base + FAR + PORT]!
  if (ctx.flows.find(SIDE_GUEST) >= 0) {
    // The guest would see two connections with the same ends.
    ctx.count(COUNTER.dropAddress)
    return false
  }
  begin(ctx, base)
  w[base + MSS] = MSS_DEFAULT4
  w[base + STATE] = ACCEPTED | INBOUND | SYN_DUE | (isLoopback(w, base + PEER) ? LOCAL : 0)
  ctx.flows.index(flow, SIDE_GUEST)
  ctx.begin(flow, COUNTER.tcpFlows)
  if (ctx.kernel.watch(w[base + FD]!, (REF_FLOW << REF_SHIFT) | flow) < 0) return false
  ctx.work.add(flow)
  return true
}
