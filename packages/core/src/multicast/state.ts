/**
 * What rows of the kinds KIND_GROUP, KIND_MEMBERSHIP and KIND_GROUP_PORT keep, and what they share.
 */
import type { Context } from "../context.ts"
import { PROTOCOL_WORDS } from "../flow/table.ts"
import type { GuestState } from "../guest.ts"
import { isBroadcast, isMapped, isMulticast, isUnspecified } from "../wire/address.ts"

/** Of a membership: questions that are left to ask before it ends; 0: it is not ending. Beyond the words of datagram/state.ts. */
export const LEAVING: number = PROTOCOL_WORDS + 6

/** Longest prefix of a subnet that has a broadcast address (RFC 3021). */
const PREFIX_MAX = 30

/** Interface index for a family's groups, 0: the kernel's choice. */
export function groupScope(ctx: Context, family: number): number {
  return family === 4 ? ctx.groupScope4 : ctx.groupScope6
}

export function groupDevice(ctx: Context, family: number): string {
  return family === 4 ? ctx.config.outboundDevice4 : ctx.config.outboundDevice6
}

/** The broadcast address of the guest's subnet (RFC 919 section 7). */
function isDirectedBroadcast(guest: GuestState, a: Int32Array, i: number): boolean {
  if (guest.prefix4 < 1 || guest.prefix4 > PREFIX_MAX || !isMapped(a, i)) return false
  const hosts = -1 >>> guest.prefix4
  return (a[i + 3] | ~hosts) === -1 && ((a[i + 3] ^ guest.address4[3]) & ~hosts) === 0
}

/** 255.255.255.255, or the broadcast address of the guest's subnet. */
export function isAnyBroadcast(guest: GuestState, a: Int32Array, i: number): boolean {
  return isBroadcast(a, i) || (isDirectedBroadcast(guest, a, i) && !isUnspecified(guest.address4, 0))
}

/** Whether an address is no single node's: multicast, or broadcast. */
export function isGroup(guest: GuestState, a: Int32Array, i: number): boolean {
  return isMulticast(a, i) || isAnyBroadcast(guest, a, i)
}
