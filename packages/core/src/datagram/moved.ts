/**
 * Whether the host's network has changed under a flow of datagrams.
 *
 * A connected socket keeps the source address that the kernel chose when it was connected. When that address is gone, nothing can be
 * sent from it; when the route has moved to another interface, it goes out there with an address that answers don't find. So
 * the kernel is asked what it would choose today, by a socket of its own, which is connected but sends nothing.
 */
import type { Context } from "../context.ts"
import { EADDRNOTAVAIL } from "../errno.ts"
import { FAR, FD, HOST_FAMILY, KIND, KIND_UDP, OUR, PEER, PORT, SCOPE } from "../flow/table.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE, ADDRESS_WORDS, PLACE_HOST } from "../kernel.ts"
import { LISTENER } from "./state.ts"
import { copy, equal, isLoopback, isMulticast, isUnspecified } from "../wire/address.ts"

/** Any port: nothing is sent. */
const PROBE_PORT = 9

const held = new Int32Array(4)

/** @param base first word of the flow: UDP or ping, with a socket */
export function hasMoved(ctx: Context, base: number): boolean {
  const { kernel, words: w } = ctx
  const fd = w[base + FD]
  if (fd < 0 || kernel.localAddress === undefined) return false
  if (isTranslatedAnew(ctx, base)) return true
  if (isLoopback(w, base + PEER) || isMulticast(w, base + PEER)) return false
  // Given by the user, or by who spoke first: it is right as long as it is there.
  if (!isUnspecified(w, base + OUR)) return !isOurs(ctx, base)
  const family = w[base + HOST_FAMILY]
  if (kernel.localAddress(fd, family) < 0) return false
  const probe = kernel.udpSocket(family, false, PLACE_HOST)
  if (probe < 0) return false
  copy(held, 0, kernel.address, ADDRESS_LOCAL)
  const moved = chosenToday(ctx, base, probe, family) && !equal(held, 0, kernel.address, ADDRESS_LOCAL)
  kernel.close(probe)
  return moved
}

/** Whether what the guest talks to is another address on the host's side by now: the resolver is another one. */
function isTranslatedAnew(ctx: Context, base: number): boolean {
  const w = ctx.words
  if (w[base + LISTENER] !== -1) return false
  ctx.translator.outbound(w, base + FAR, w[base + FAR + PORT], w[base + KIND] === KIND_UDP, held, 0)
  return !equal(held, 0, w, base + PEER)
}

/** Fills ADDRESS_LOCAL with what the kernel would choose for the flow's peer. @returns false if there is no way there: then
 * the old one may be right again in a moment */
function chosenToday(ctx: Context, base: number, probe: number, family: number): boolean {
  const { kernel, words: w, config } = ctx
  const device = family === 4 ? config.outboundDevice4 : config.outboundDevice6
  if (device !== "" && kernel.bindToDevice(probe, device) < 0) return false
  copy(kernel.address, ADDRESS_REMOTE, w, base + PEER)
  kernel.address[ADDRESS_REMOTE + PORT] = PROBE_PORT
  kernel.address[ADDRESS_REMOTE + SCOPE] = w[base + PEER + SCOPE]
  if (kernel.connect(probe, family) < 0) return false
  return kernel.localAddress!(probe, family) >= 0 && !isUnspecified(kernel.address, ADDRESS_LOCAL)
}

/** Whether the flow's own address can still be had. */
function isOurs(ctx: Context, base: number): boolean {
  const { kernel, words: w, config } = ctx
  if (config.freebind) return true
  const family = w[base + HOST_FAMILY]
  const probe = kernel.udpSocket(family, false, PLACE_HOST)
  if (probe < 0) return true
  for (let i = 0; i < ADDRESS_WORDS; i++) kernel.address[ADDRESS_LOCAL + i] = w[base + OUR + i]
  kernel.address[ADDRESS_LOCAL + PORT] = 0
  const result = kernel.bind(probe, family)
  kernel.close(probe)
  return result !== -EADDRNOTAVAIL
}
