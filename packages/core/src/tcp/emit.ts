/**
 * TCP segments to the guest.
 */
import type { Context } from "../context.ts"
import { HOP_LIMIT, networkHeaderLength, writeEthernet, writeNetwork } from "../emit.ts"
import { FAR, FLOW_SHIFT, GUEST, GUEST_FAMILY, PORT, STATE } from "../flow/table.ts"
import { FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4, FRAME_SEGMENT_TCP6 } from "../frames.ts"
import { COUNTER } from "../stats.ts"
import { pseudo4, pseudo6 } from "../wire/checksum.ts"
import * as ethernet from "../wire/ethernet.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import * as tcp from "../wire/tcp.ts"
import { WINDOW_SCALE } from "./constants.ts"
import {
  ACCEPTED,
  ACK_DUE,
  ACK_SENT,
  ACK_TO_GUEST,
  EDGE_SENT,
  EDGE_TO_GUEST,
  MSS,
  SCALE_TO_GUEST_SHIFT,
  SCALES,
} from "./state.ts"

/** Bytes of options in a SYN: MSS (4), NOP and window scale (4). */
const SYN_OPTIONS = 8

/** Length of all headers of a segment without options to this flow's guest, bytes. */
export function segmentHeaderLength(w: Int32Array, base: number): number {
  return networkHeaderLength(w, base) + tcp.HEADER_LENGTH
}

/** Writes the headers of a segment into a reserved row and commits it. Payload lies behind the headers already.
 * It carries the flow's ACK_TO_GUEST and window; what was owed in that respect is settled.
 * @param payload bytes; more than the MSS means that the link cuts it */
export function emitSegment(
  ctx: Context,
  flow: number,
  row: number,
  payload: number,
  sequence: number,
  flags: number,
): void {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const frames = ctx.frames
  const o = frames.offset[row]!
  const l4 = writeNetwork(ctx, o, base, ipv4.PROTOCOL_TCP, tcp.HEADER_LENGTH + payload, flow, HOP_LIMIT)
  const ack = w[base + ACK_TO_GUEST]!
  let edge = w[base + EDGE_TO_GUEST]!
  // Rounded up to the unit of the scale: rounded down, the edge that the guest sees would move back as the acknowledgement
  // advances (RFC 7323 section 2.4). What it sees is what it is held to.
  const scale = w[base + SCALES]! >> SCALE_TO_GUEST_SHIFT
  const offered = (edge - ack) | 0
  let window = offered > 0 ? (offered + (1 << scale) - 1) >> scale : 0
  if (window > 0xffff) window = 0xffff
  const seen = (ack + (window << scale)) | 0
  if (((seen - edge) | 0) > 0) w[base + EDGE_TO_GUEST] = seen
  edge = seen
  tcp.write(
    ctx.view,
    l4,
    tcp.HEADER_LENGTH,
    w[base + FAR + PORT]!,
    w[base + GUEST + PORT]!,
    sequence,
    ack,
    (w[base + STATE]! & ACCEPTED) !== 0 ? flags : flags | tcp.ACK,
    window,
  )
  const header = l4 - o + tcp.HEADER_LENGTH
  frames.payload[row] = header
  frames.payloadLength[row] = payload
  frames.length[row] = header + payload
  finish(ctx, base, row, l4, tcp.HEADER_LENGTH + payload, payload > w[base + MSS]! ? w[base + MSS]! : 0)
  w[base + ACK_SENT] = ack
  w[base + EDGE_SENT] = edge
  w[base + STATE] = w[base + STATE]! & ~ACK_DUE
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
}

/** Sends a segment without payload. @returns false when there was no room */
export function emitBare(ctx: Context, flow: number, sequence: number, flags: number): boolean {
  const row = ctx.link.reserve(segmentHeaderLength(ctx.words, flow << FLOW_SHIFT))
  if (row < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return false
  }
  emitSegment(ctx, flow, row, 0, sequence, flags)
  return true
}

/** Sends a SYN or SYN,ACK with our MSS and window scale.
 * @param mss to announce, bytes @param withAck whether the guest's SYN is acknowledged
 * @param scale whether to offer a window scale (RFC 7323 section 2.2: in a SYN,ACK only if the SYN had one)
 * @returns false when there was no room */
export function emitSyn(
  ctx: Context,
  flow: number,
  sequence: number,
  mss: number,
  withAck: boolean,
  scale: boolean,
  window: number,
): boolean {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  const header = tcp.HEADER_LENGTH + SYN_OPTIONS
  const row = ctx.link.reserve(networkHeaderLength(w, base) + header)
  if (row < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return false
  }
  const frames = ctx.frames
  const v = ctx.view
  const o = frames.offset[row]!
  const l4 = writeNetwork(ctx, o, base, ipv4.PROTOCOL_TCP, header, flow, HOP_LIMIT)
  tcp.write(
    v,
    l4,
    header,
    w[base + FAR + PORT]!,
    w[base + GUEST + PORT]!,
    sequence,
    withAck ? w[base + ACK_TO_GUEST]! : 0,
    withAck ? tcp.SYN | tcp.ACK : tcp.SYN,
    window > 0xffff ? 0xffff : window,
  )
  v.setInt32(l4 + tcp.HEADER_LENGTH, (tcp.OPTION_MSS << 24) | (4 << 16) | mss)
  v.setInt32(
    l4 + tcp.HEADER_LENGTH + 4,
    scale ? (tcp.OPTION_NOP << 24) | (tcp.OPTION_WINDOW_SCALE << 16) | (3 << 8) | WINDOW_SCALE : 0x01010101,
  )
  frames.length[row] = l4 - o + header
  frames.payload[row] = l4 - o + header
  frames.payloadLength[row] = 0
  finish(ctx, base, row, l4, header, 0)
  ctx.link.commit(row)
  ctx.count(COUNTER.framesToGuest)
  return true
}

/** Tells the guest that the connection is gone. Lost when there is no room: a further segment is answered likewise. */
export function emitReset(ctx: Context, flow: number, sequence: number): void {
  const base = flow << FLOW_SHIFT
  const w = ctx.words
  w[base + EDGE_TO_GUEST] = w[base + ACK_TO_GUEST]!
  emitBare(ctx, flow, sequence, tcp.RST)
  ctx.count(COUNTER.tcpResets)
}

/** Pseudo-header sum, checksum place and, if `segment` is not 0, how to cut. */
function finish(ctx: Context, base: number, row: number, l4: number, length: number, segment: number): void {
  const w = ctx.words
  const frames = ctx.frames
  const v4 = w[base + GUEST_FAMILY] === 4
  const sum = v4
    ? pseudo4(w[base + FAR + 3]!, w[base + GUEST + 3]!, ipv4.PROTOCOL_TCP, length)
    : pseudo6(w, base + FAR, w, base + GUEST, ipv4.PROTOCOL_TCP, length)
  ctx.view.setUint16(l4 + tcp.CHECKSUM, sum)
  frames.checksumStart[row] = l4 - frames.offset[row]!
  frames.checksumOffset[row] = tcp.CHECKSUM
  frames.segmentSize[row] = segment
  const cut = segment === 0 ? 0 : v4 ? FRAME_SEGMENT_TCP4 : FRAME_SEGMENT_TCP6
  frames.flags[row] = frames.flags[row]! | FRAME_NEEDS_CHECKSUM | cut
}

/** Answers a segment that belongs to no connection (RFC 9293 section 3.10.7.1). The key of the segment is in
 * `ctx.flows.key`. */
export function rejectSegment(ctx: Context, row: number): void {
  const frames = ctx.frames
  const v = ctx.view
  const from = frames.offset[row]! + frames.checksumStart[row]!
  const flags = tcp.flags(v, from)
  if ((flags & tcp.RST) !== 0) return
  const consumed = frames.payloadLength[row]! + (flags & tcp.SYN ? 1 : 0) + (flags & tcp.FIN ? 1 : 0)
  const hasAck = (flags & tcp.ACK) !== 0
  const sequence = hasAck ? tcp.acknowledgement(v, from) : 0
  const ack = hasAck ? 0 : (tcp.sequence(v, from) + consumed) | 0
  const key = ctx.flows.key
  const v4 = ethernet.type(v, frames.offset[row]!) === ethernet.TYPE_IPV4
  const network = ethernet.HEADER_LENGTH + (v4 ? ipv4.HEADER_LENGTH : ipv6.HEADER_LENGTH)
  const out = ctx.link.reserve(network + tcp.HEADER_LENGTH)
  if (out < 0) {
    ctx.count(COUNTER.dropNoRoom)
    return
  }
  const o = frames.offset[out]!
  const ip = o + ethernet.HEADER_LENGTH
  let sum: number
  if (v4) {
    writeEthernet(ctx, o, ethernet.TYPE_IPV4, -1)
    ipv4.write(v, ip, ipv4.HEADER_LENGTH + tcp.HEADER_LENGTH, ipv4.PROTOCOL_TCP, HOP_LIMIT, key[8]!, key[4]!)
    sum = pseudo4(key[8]!, key[4]!, ipv4.PROTOCOL_TCP, tcp.HEADER_LENGTH)
  } else {
    writeEthernet(ctx, o, ethernet.TYPE_IPV6, -1)
    ipv6.write(v, ip, tcp.HEADER_LENGTH, ipv4.PROTOCOL_TCP, HOP_LIMIT, 0, key, 5, key, 1)
    sum = pseudo6(key, 5, key, 1, ipv4.PROTOCOL_TCP, tcp.HEADER_LENGTH)
  }
  const l4 = o + network
  tcp.write(v, l4, tcp.HEADER_LENGTH, key[10]!, key[9]!, sequence, ack, hasAck ? tcp.RST : tcp.RST | tcp.ACK, 0)
  v.setUint16(l4 + tcp.CHECKSUM, sum)
  frames.length[out] = network + tcp.HEADER_LENGTH
  frames.payload[out] = network + tcp.HEADER_LENGTH
  frames.payloadLength[out] = 0
  frames.checksumStart[out] = network
  frames.checksumOffset[out] = tcp.CHECKSUM
  frames.segmentSize[out] = 0
  frames.flags[out] = FRAME_NEEDS_CHECKSUM
  ctx.link.commit(out)
  ctx.count(COUNTER.tcpResets)
}
