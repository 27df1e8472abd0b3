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
  /** A handshake, with the guest or with the host's peer, is not done. */
  | "opening"
  /** Datagrams: only one side has spoken, or each only once. */
  | "query"
  | "established"
  /** One side, or both, has said its last. */
  | "closing"

export interface FlowView {
  /** Row of the table; another flow's once this one has ended. */
  readonly row: number
  readonly protocol: "tcp" | "udp" | "icmp"
  /** "link": frames on one side, a socket on the other. "splice": from socket to socket. "group": multicast or broadcast. */
  readonly kind: "link" | "splice" | "group"
  /** Who began. Datagrams of groups are always the guest's. */
  readonly direction: "in" | "out"
  readonly state: FlowState
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
  /** Round-trip time of the host's connection, microseconds; null: not measured. */
  readonly rttMicros: number | null
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

/** @returns undefined for rows that are no flow: free ones, those that have ended, memberships of groups */
function viewFlow(ctx: Context, row: number): FlowView | undefined {
  const w = ctx.words
  const base = row << FLOW_SHIFT
  const { flows } = ctx
  const kind = w[base + KIND]!
  const ageMs = (ctx.now - flows.began[row]!) >>> 0
  const common = {
    row,
    guest: end(w, base + GUEST),
    far: end(w, base + FAR),
    our: end(w, base + OUR),
    peer: end(w, base + PEER),
    ageMs,
    idleMs: Math.min(ageMs, (ctx.now - w[base + LAST_ACTIVE]!) >>> 0),
    bytesFromGuest: flows.bytes[2 * row + DIRECTION_FROM_GUEST]!,
    bytesToGuest: flows.bytes[2 * row + DIRECTION_TO_GUEST]!,
    rttMicros: null,
  }
  switch (kind) {
    case KIND_TCP: {
      const state = w[base + STATE]!
      const rtt = w[base + tcp.RTT]!
      return {
        ...common,
        protocol: "tcp",
        kind: "link",
        direction: (state & tcp.ACCEPTED) !== 0 ? "in" : "out",
        state: tcpState(state),
        idleMs: Math.min(common.idleMs, (ctx.now - w[base + tcp.LAST_FROM_GUEST]!) >>> 0),
        rttMicros: rtt > 0 ? rtt : null,
      }
    }
    case KIND_UDP:
    case KIND_PING:
      return {
        ...common,
        protocol: kind === KIND_UDP ? "udp" : "icmp",
        kind: "link",
        direction: w[base + LISTENER]! >= 0 ? "in" : "out",
        state: isStream(w, base) ? "established" : "query",
      }
    case KIND_GROUP:
      return { ...common, protocol: "udp", kind: "group", direction: "out", state: "query" }
    case KIND_TCP_SPLICE:
      return {
        ...common,
        far: null,
        idleMs: null,
        protocol: "tcp",
        kind: "splice",
        direction: w[base + PLACE] === PLACE_NAMESPACE ? "out" : "in",
        state: spliceState(w[base + STATE]!),
      }
    case KIND_UDP_SPLICE_IN:
    case KIND_UDP_SPLICE_OUT:
      return {
        ...common,
        far: null,
        protocol: "udp",
        kind: "splice",
        direction: kind === KIND_UDP_SPLICE_IN ? "in" : "out",
        state: isStream(w, base) ? "established" : "query",
      }
    default:
      return undefined
  }
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
