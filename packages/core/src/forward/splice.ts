/**
 * Where spliced flows lead: those between loopback addresses of the host and the namespace, which no link can carry.
 */
import type { Context, SpliceConfig } from "../context.ts"
import { PORT, SCOPE } from "../flow/table.ts"
import { PLACE_NAMESPACE } from "../kernel.ts"
import { copy, isLoopback } from "../wire/address.ts"
import type { ForwardRule } from "./rule.ts"

/** The flow goes over the link. */
export const OVER_LINK = 0
/** It goes from socket to socket, and the target is known. */
export const SPLICED = 1
/** There is no way for it. */
export const NO_WAY = 2

/** Decides how a flow that came to a listening socket goes on. From the host, a rule with a target address means an address beyond
 * the namespace; any other leads to the address that the namespace has in public, unless it is to be its loopback address. From
 * the namespace, only loopback leads to loopback.
 * @param a,source,local ends of the flow, as address records @param port that was listened on
 * @param to,ti where the record of the target goes @returns OVER_LINK, SPLICED or NO_WAY */
export function spliceTarget(
  ctx: Context,
  config: SpliceConfig,
  rule: ForwardRule,
  a: Int32Array,
  source: number,
  local: number,
  port: number,
  to: Int32Array,
  ti: number,
): number {
  to[ti + PORT] = rule.targetFirst + port - rule.first
  to[ti + SCOPE] = 0
  if (rule.place === PLACE_NAMESPACE) {
    if (!isLoopback(a, source) || !isLoopback(a, local)) return NO_WAY
    copy(to, ti, a, local)
    return SPLICED
  }
  if (!config.inbound || rule.targetAddress !== null || !isLoopback(a, source)) return config.only ? NO_WAY : OVER_LINK
  if (config.toLoopback && isLoopback(a, local)) {
    copy(to, ti, a, local)
    return SPLICED
  }
  return ctx.translator.guestAddress(a, source, to, ti) ? SPLICED : NO_WAY
}

/** Whether an address is a loopback address that the kernel would not choose by itself: it means something, and is kept. */
export function isChosenLoopback(a: Int32Array, i: number): boolean {
  return isLoopback(a, i) && a[i + 2] === 0xffff && a[i + 3] !== 0x7f000001
}
