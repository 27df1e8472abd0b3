/**
 * Binding and connecting the socket of a flow.
 */
import type { Context } from "../context.ts"
import { EACCES, EADDRINUSE } from "../errno.ts"
import { HOST_FAMILY, OUR, PEER, PORT, SCOPE } from "../flow/table.ts"
import { ADDRESS_LOCAL, ADDRESS_REMOTE, ADDRESS_WORDS } from "../kernel.ts"
import { copy, isLinkLocal, isLoopback, isMapped, isUnspecified } from "../wire/address.ts"

/** Scopes of IPv6 multicast (RFC 7346): up to 2, link-local, an address says nothing without an interface. */
const MULTICAST_SCOPE_LINK = 2

/** Whether an address means something only together with an interface: fe80::/10, and multicast of at most the link. */
export function needsScope(a: Int32Array, i: number): boolean {
  if (isMapped(a, i)) return false
  return isLinkLocal(a, i) || (a[i] >>> 24 === 0xff && ((a[i] >>> 16) & 0xf) <= MULTICAST_SCOPE_LINK)
}

/** Copies an end of a flow to an address record of the kernel's. */
function toRecord(ctx: Context, record: number, from: number): void {
  const { address } = ctx.kernel
  const w = ctx.words
  for (let i = 0; i < ADDRESS_WORDS; i++) address[record + i] = w[from + i]
}

/** Connects a socket to its flow's PEER, which gets its scope here.
 * @returns 0 or -errno */
export function connectPeer(ctx: Context, fd: number, base: number): number {
  const w = ctx.words
  if (w[base + PEER + SCOPE] === 0 && needsScope(w, base + PEER)) w[base + PEER + SCOPE] = ctx.linkLocalScope
  toRecord(ctx, ADDRESS_REMOTE, base + PEER)
  return ctx.kernel.connect(fd, w[base + HOST_FAMILY])
}

/** Binds a socket for the guest to the configured source, and to the guest's own port number if the host has it free, so
 * that the far end sees the port that the guest meant; then connects it. OUR is set to what was bound, port 0 for one that
 * the kernel chose.
 * @returns 0 or -errno */
export function connectOutbound(ctx: Context, fd: number, base: number, port: number): number {
  const { kernel, config } = ctx
  const w = ctx.words
  const family = w[base + HOST_FAMILY]
  const source = family === 4 ? config.outbound4 : config.outbound6
  w[base + OUR + SCOPE] = 0
  // The host itself is reached through its loopback interface, whatever is configured for the world outside.
  if (isLoopback(w, base + PEER)) {
    w.fill(0, base + OUR, base + OUR + 4)
  } else {
    const device = family === 4 ? config.outboundDevice4 : config.outboundDevice6
    if (device !== "") {
      const result = kernel.bindToDevice(fd, device)
      if (result < 0) return result
    }
    copy(w, base + OUR, source, 0)
    if (needsScope(w, base + OUR)) w[base + OUR + SCOPE] = ctx.linkLocalScope
  }
  w[base + OUR + PORT] = port
  toRecord(ctx, ADDRESS_LOCAL, base + OUR)
  let result = kernel.bind(fd, family)
  if (result === -EADDRINUSE || result === -EACCES) {
    w[base + OUR + PORT] = 0
    toRecord(ctx, ADDRESS_LOCAL, base + OUR)
    result = isUnspecified(w, base + OUR) ? 0 : kernel.bind(fd, family)
  }
  return result < 0 ? result : connectPeer(ctx, fd, base)
}

/** Binds the socket of a flow that the host's side opened to exactly the address and port that the peer knows, and connects it.
 * @returns 0 or -errno */
export function connectInbound(ctx: Context, fd: number, base: number, device: string): number {
  const { kernel } = ctx
  const w = ctx.words
  let result = device === "" ? 0 : kernel.bindToDevice(fd, device)
  if (result < 0) return result
  toRecord(ctx, ADDRESS_LOCAL, base + OUR)
  result = kernel.bind(fd, w[base + HOST_FAMILY])
  return result < 0 ? result : connectPeer(ctx, fd, base)
}
