/**
 * Flows, seen from outside: rows of the table as objects, made when somebody looks. The table is walked in slices, for it may have
 * 131,072 rows and frames must not wait; what begins or ends between slices may be missed.
 */
import type { Context } from "../context.ts"
import { isStream, LISTENER } from "../datagram/state.ts"
import {
  DIRECTION_FROM_GUEST,
  DIRECTION_TO_GUEST,
  FAR,
  FLOW_SHIFT,
  GUEST,
  KIND,
  KIND_GROUP,
  KIND_PING,
  KIND_TCP,
  KIND_TCP_SPLICE,
  KIND_UDP,
  KIND_UDP_SPLICE_IN,
  KIND_UDP_SPLICE_OUT,
  LAST_ACTIVE,
  OUR,
  PEER,
  PORT,
  STATE,
} from "../flow/table.ts"
import { PLACE_NAMESPACE } from "../kernel.ts"
import { WAITING } from "../policy/verdict.ts"
import { CONNECTING as SPLICE_CONNECTING, DRAINING, ENDED, LOST, PLACE } from "../tcp/splice/state.ts"
import * as tcp from "../tcp/state.ts"
import { format, isUnspecified } from "../wire/address.ts"

export interface FlowEnd {
  /** As text; IPv6 without brackets. */
  readonly address: string
  /** Of an echo flow, the identifier. */
  readonly port: number
}

export type FlowState =
  /** The policy has not decided yet; or it has, against the flow, which is not there but remembered for some seconds. */
  | "waiting"
  | "refused"
  /** A handshake, with the guest or with the host's peer, is not done. */
  | "opening"
  /** Datagrams: only one side has spoken, or each only once. */
  | "query"
  | "established"
  /** One side, or both, has said its last. */
  | "closing"

export interface FlowClass {
  readonly protocol: "tcp" | "udp" | "icmp"
  /** "link": frames on one side, a socket on the other. "splice": from socket to socket. "group": multicast or broadcast. */
  readonly kind: "link" | "splice" | "group"
  /** Who began. Datagrams of groups are always the guest's. */
  readonly direction: "in" | "out"
  readonly state: FlowState
}

export interface FlowPolicy {
  readonly verdict: "none" | "allowed" | "redirected" | "waiting" | "refused" | "dropped"
  /** Index of the rule that decided; null: the default did, or the program's function. */
  readonly rule: number | null
  readonly label: string | null
  /** Names that the guest had found the other end by when the flow began, latest first. */
  readonly names: readonly string[]
}

export interface FlowView extends FlowClass {
  /** Row of the table; another flow's once this one has ended. */
  readonly row: number
  /** The guest's side: its own end, and the far one as it sees that. Spliced flows have their target's in `guest` alone. */
  readonly guest: FlowEnd | null
  readonly far: FlowEnd | null
  /** The host's side: our socket's end (null while unknown), and what it talks to. */
  readonly our: FlowEnd | null
  readonly peer: FlowEnd | null
  /** Since it began, milliseconds modulo 2^32. */
  readonly ageMs: number
  /** Since the last packet; null: not known (spliced connections). */
  readonly idleMs: number | null
  /** Payload. */
  readonly bytesFromGuest: number
  readonly bytesToGuest: number
  /** Segments with payload (large segments of a tap count once), or datagrams; 0 of spliced connections, which have none. */
  readonly packetsFromGuest: number
  readonly packetsToGuest: number
  /** Round-trip time of the host's connection, microseconds; null: not measured. */
  readonly rttMicros: number | null
  /** What the policy has said; absent without one. */
  readonly policy?: FlowPolicy
}

/** @param from row to begin with @param count rows to look at @returns the next row, -1: that was all */
export function visitFlows(ctx: Context, from: number, count: number, visit: (flow: FlowView) => void): number {
  const { highWater } = ctx.flows
  const end = Math.min(from + count, highWater)
  for (let row = from; row < end; row++) {
    const view = viewFlow(ctx, row)
    if (view !== undefined) visit(view)
  }
  return end < highWater ? end : -1
}

/** How many flows there are of each kind and state, a slice at a time as `visitFlows`; cheaper, for nothing is told of each. */
export function visitClasses(ctx: Context, from: number, count: number, visit: (found: FlowClass) => void): number {
  const { highWater } = ctx.flows
  const end = Math.min(from + count, highWater)
  for (let row = from; row < end; row++) {
    const found = classify(ctx, row)
    if (found !== undefined) visit(found)
  }
  return end < highWater ? end : -1
}

/** @returns undefined for rows that are no flow */
export function viewFlow(ctx: Context, row: number): FlowView | undefined {
  const w = ctx.words
  const base = row << FLOW_SHIFT
  const found = classify(ctx, row)
  if (found === undefined) return undefined
  const { flows } = ctx
  const isSplice = found.kind === "splice"
  const isTcp = found.protocol === "tcp"
  const ageMs = (ctx.now - flows.began[row]!) >>> 0
  let idleMs: number | null = Math.min(ageMs, (ctx.now - w[base + LAST_ACTIVE]!) >>> 0)
  if (isTcp) idleMs = isSplice ? null : Math.min(idleMs, (ctx.now - w[base + tcp.LAST_FROM_GUEST]!) >>> 0)
  const rtt = isTcp && !isSplice ? w[base + tcp.RTT]! : 0
  return {
    row,
    ...found,
    guest: end(w, base + GUEST),
    far: isSplice ? null : end(w, base + FAR),
    our: end(w, base + OUR),
    peer: end(w, base + PEER),
    ageMs,
    idleMs,
    bytesFromGuest: flows.bytes[2 * row + DIRECTION_FROM_GUEST]!,
    bytesToGuest: flows.bytes[2 * row + DIRECTION_TO_GUEST]!,
    packetsFromGuest: flows.packets[2 * row + DIRECTION_FROM_GUEST]!,
    packetsToGuest: flows.packets[2 * row + DIRECTION_TO_GUEST]!,
    rttMicros: rtt > 0 ? rtt : null,
    ...(ctx.gate === undefined ? {} : { policy: ctx.gate.describe(row) }),
  }
}

/** @returns undefined for rows that are no flow: free ones, those that have ended, memberships of groups */
function classify(ctx: Context, row: number): FlowClass | undefined {
  const found = classifyRow(ctx.words, row << FLOW_SHIFT)
  const verdict = ctx.gate === undefined ? 0 : ctx.gate.verdicts[row]!
  if (found === undefined || verdict < WAITING) return found
  return { ...found, state: verdict === WAITING ? "waiting" : "refused" }
}

function classifyRow(w: Int32Array, base: number): FlowClass | undefined {
  const state = w[base + STATE]!
  switch (w[base + KIND]) {
    case KIND_TCP: {
      const direction = (state & tcp.INBOUND) !== 0 ? "in" : "out"
      return { protocol: "tcp", kind: "link", direction, state: tcpState(state) }
    }
    case KIND_UDP: {
      const direction = w[base + LISTENER]! >= 0 ? "in" : "out"
      return { protocol: "udp", kind: "link", direction, state: datagramState(w, base) }
    }
    case KIND_PING:
      return { protocol: "icmp", kind: "link", direction: "out", state: datagramState(w, base) }
    case KIND_GROUP:
      return { protocol: "udp", kind: "group", direction: "out", state: "query" }
    case KIND_TCP_SPLICE: {
      const direction = w[base + PLACE] === PLACE_NAMESPACE ? "out" : "in"
      return { protocol: "tcp", kind: "splice", direction, state: spliceState(state) }
    }
    case KIND_UDP_SPLICE_IN:
      return { protocol: "udp", kind: "splice", direction: "in", state: datagramState(w, base) }
    case KIND_UDP_SPLICE_OUT:
      return { protocol: "udp", kind: "splice", direction: "out", state: datagramState(w, base) }
    default:
      return undefined
  }
}

/** Who began a flow. @returns 0: the guest; 1: the other side; -1: the row is no flow */
export function directionOf(ctx: Context, row: number): number {
  const found = classifyRow(ctx.words, row << FLOW_SHIFT)
  return found === undefined ? -1 : found.direction === "out" ? 0 : 1
}

function datagramState(w: Int32Array, base: number): FlowState {
  return isStream(w, base) ? "established" : "query"
}

function end(w: Int32Array, at: number): FlowEnd | null {
  const port = w[at + PORT]!
  return port === 0 && isUnspecified(w, at) ? null : { address: format(w, at), port }
}

function tcpState(state: number): FlowState {
  if ((state & tcp.ESTABLISHED) === 0) return "opening"
  return (state & (tcp.HOST_EOF | tcp.GUEST_FIN)) === 0 ? "established" : "closing"
}

function spliceState(state: number): FlowState {
  if ((state & SPLICE_CONNECTING) !== 0) return "opening"
  return (state & (ENDED | (ENDED << 1) | LOST | (LOST << 1) | DRAINING)) === 0 ? "established" : "closing"
}

/** Rows of each kind that are looked at, until the runtime has made the best of it. */
const REHEARSALS = 15000

/** Looks at rows that are no flows, so that the code for real ones has been compiled. */
export function rehearseViews(ctx: Context): void {
  const { flows, words } = ctx
  for (const kind of [KIND_TCP, KIND_UDP]) {
    const row = flows.allocate(kind)
    if (row < 0) return
    const base = row << FLOW_SHIFT
    for (const at of [GUEST, FAR, PEER]) words.set([0, 0, 0xffff, 0x7f000001, 1], base + at)
    if (kind === KIND_UDP) words[base + LISTENER] = -1
    for (let i = 0; i < REHEARSALS; i++) {
      // Both families by turns.
      words[base + PEER + 2] = (i & 1) !== 0 ? 0xffff : 0
      viewFlow(ctx, row)
    }
    flows.retire(row)
    flows.free(row)
  }
}
