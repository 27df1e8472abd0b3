/**
 * New flows to groups: where the guest's datagrams leave from.
 *
 * The socket is not connected, for answers come from anybody. It is bound to the address that the host uses towards the group, so
 * that it gets neither what is sent to groups nor what is for other addresses, and to the guest's own port:
 *
 *   nobody has that port        all is well; the guest's other flows may use it, too
 *   another program has it      if the protocol talks from its own port to its own port (mDNS takes answers from port 5353 only), the
 *                               socket is bound to the group instead: the source is right, and what comes back for that port alone is
 *                               the other program's, as it was before
 *                               else the kernel chooses a port, which answers are translated from
 */
import type { Context } from "../context.ts"
import { allocate, begin, discard, isExhaustion } from "../datagram/begin.ts"
import { keepOut } from "../datagram/keep-out.ts"
import { needsScope } from "../datagram/socket.ts"
import { EACCES, EADDRINUSE } from "../errno.ts"
import {
  FD,
  FLOW_SHIFT,
  GUEST,
  GUEST_FAMILY,
  HOST_FAMILY,
  KIND_GROUP,
  OUR,
  PEER,
  PORT,
  SCOPE,
  SIDE_GUEST,
  SIDE_HOST,
} from "../flow/table.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE, ADDRESS_WORDS, type GroupKernel, PLACE_HOST } from "../kernel.ts"
import { DIRECTION_OUT } from "../policy/matcher.ts"
import { WAITING } from "../policy/verdict.ts"
import { COUNTER } from "../stats.ts"
import { copy, isMapped, isMulticast, isUnicast, isUnspecified } from "../wire/address.ts"
import { groupDevice, groupScope } from "./state.ts"

const SITE = "group-flow"

/** Opens a flow for a datagram from the guest to a group, whose key is in `ctx.flows.key`.
 * @param silence milliseconds after which the flow may end
 * @returns the flow, or -1: counted */
export function openGroupFlow(ctx: Context, groups: GroupKernel, silence: number): number {
  const { flows } = ctx
  const { key } = flows
  const mapped = isMapped(key, 1)
  if (key[9] === 0 || key[10] === 0 || !isUnicast(key, 1) || isMapped(key, 5) !== mapped) {
    ctx.count(COUNTER.dropAddress)
    return -1
  }
  const flow = allocate(ctx, KIND_GROUP, SITE)
  if (flow < 0) return -1
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const family = mapped ? 4 : 6
  w[base + GUEST_FAMILY] = family
  w[base + HOST_FAMILY] = family
  copy(w, base + PEER, key, 5)
  w[base + PEER + PORT] = key[10]
  w[base + PEER + SCOPE] = needsScope(w, base + PEER) ? groupScope(ctx, family) : 0
  if (ctx.gate !== undefined) {
    const verdict = ctx.gate.ask(flow, DIRECTION_OUT)
    if (verdict >= WAITING) return keepOut(ctx, flow, verdict, SIDE_GUEST)
  }
  return connectGroupFlow(ctx, groups, flow, silence)
}

/** Opens the socket of a flow. @returns the flow, or -1: counted */
export function connectGroupFlow(ctx: Context, groups: GroupKernel, flow: number, silence: number): number {
  const { flows } = ctx
  const w = ctx.words
  const base = flow << FLOW_SHIFT
  const family = w[base + HOST_FAMILY]
  let result = findSource(ctx, groups, base, family)
  if (result >= 0) result = bindSource(ctx, groups, base, family, w[base + GUEST + PORT])
  if (result < 0) {
    ctx.count(isExhaustion(result) ? COUNTER.dropNoFlow : COUNTER.dropDatagram)
    return discard(ctx, flow)
  }
  if (begin(ctx, flow, 0, silence) < 0) return -1
  // What comes back from the host's own loop is recognised by its ends.
  flows.index(flow, SIDE_HOST)
  ctx.begin(flow, COUNTER.groupFlows)
  return flow
}

/** A socket of the flow's family, ready for groups; becomes the flow's own. The flow's OUR is its source, if it has one.
 * @returns 0 or -errno */
function makeSocket(ctx: Context, groups: GroupKernel, base: number, family: number): number {
  const { kernel } = ctx
  const fd = kernel.udpSocket(family, ctx.config.freebind, PLACE_HOST)
  if (fd < 0) return fd
  ctx.words[base + FD] = fd
  toRecord(ctx, ADDRESS_LOCAL, base + OUR)
  const result = groups.prepare(fd, family, groupScope(ctx, family))
  const device = groupDevice(ctx, family)
  return result >= 0 && device !== "" ? kernel.bindToDevice(fd, device) : result
}

function closeSocket(ctx: Context, base: number): void {
  ctx.kernel.close(ctx.words[base + FD])
  ctx.words[base + FD] = -1
}

/** Sets OUR to the configured source, else to the address that the kernel would use: it tells on a socket that is connected.
 * @returns 0 or -errno */
function findSource(ctx: Context, groups: GroupKernel, base: number, family: number): number {
  const { kernel, config } = ctx
  const w = ctx.words
  const configured = family === 4 ? config.outbound4 : config.outbound6
  if (!isUnspecified(configured, 0)) {
    copy(w, base + OUR, configured, 0)
    w[base + OUR + SCOPE] = needsScope(configured, 0) ? groupScope(ctx, family) : 0
    return 0
  }
  let result = makeSocket(ctx, groups, base, family)
  if (result < 0) return result
  toRecord(ctx, ADDRESS_REMOTE, base + PEER)
  result = kernel.connect(w[base + FD], family)
  if (result >= 0) result = groups.localAddress(w[base + FD], family)
  if (result >= 0) {
    copy(w, base + OUR, kernel.address, ADDRESS_LOCAL)
    w[base + OUR + SCOPE] = needsScope(w, base + OUR) ? kernel.address[ADDRESS_LOCAL + SCOPE] : 0
  }
  closeSocket(ctx, base)
  return result
}

/** Makes the flow's socket and binds it; sets the port of OUR. @returns 0 or -errno */
function bindSource(ctx: Context, groups: GroupKernel, base: number, family: number, port: number): number {
  const { kernel } = ctx
  const w = ctx.words
  let result = makeSocket(ctx, groups, base, family)
  if (result < 0) return result
  w[base + OUR + PORT] = port
  toRecord(ctx, ADDRESS_LOCAL, base + OUR)
  result = kernel.bind(w[base + FD], family)
  if (result >= 0) {
    // Taken alone; the guest's flows to single nodes may join in.
    kernel.setReuseAddress(w[base + FD])
    return 0
  }
  if (result !== -EADDRINUSE && result !== -EACCES) return result
  if (result === -EADDRINUSE && port === w[base + PEER + PORT] && isMulticast(w, base + PEER)) {
    kernel.setReuseAddress(w[base + FD])
    toRecord(ctx, ADDRESS_LOCAL, base + PEER)
    if (kernel.bind(w[base + FD], family) >= 0) return 0
  }
  closeSocket(ctx, base)
  result = makeSocket(ctx, groups, base, family)
  if (result < 0) return result
  w[base + OUR + PORT] = 0
  toRecord(ctx, ADDRESS_LOCAL, base + OUR)
  result = kernel.bind(w[base + FD], family)
  if (result >= 0) result = groups.localAddress(w[base + FD], family)
  if (result >= 0) w[base + OUR + PORT] = kernel.address[ADDRESS_LOCAL + PORT]
  return result
}

/** Copies an end of a flow to an address record of the kernel's. */
export function toRecord(ctx: Context, record: number, from: number): void {
  const { address } = ctx.kernel
  for (let i = 0; i < ADDRESS_WORDS; i++) address[record + i] = ctx.words[from + i]
}
