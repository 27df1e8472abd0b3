/**
 * One rule of forwarding: connections and datagrams to ports of the host go to ports of the guest, or in pasta those to the
 * namespace's loopback to ports of the host's. The record that port specifications are parsed into, its printed form and
 * what makes two rules conflict.
 */
import type { PLACE_HOST, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"
import type { AddressWords } from "./values.ts"

/** Where a rule listens. */
export type Place = typeof PLACE_HOST | typeof PLACE_NAMESPACE

export interface ForwardRule {
  readonly protocol: "tcp" | "udp"
  readonly place: Place
  /** Where to listen: four words, IPv4 mapped; 0.0.0.0 or :: is any address of that family only. Null: any address of
   * both families, by one IPv6 socket without IPV6_V6ONLY. */
  readonly address: AddressWords | null
  /** Whether `address` is null. */
  readonly dualStack: boolean
  /** Interface to listen on (SO_BINDTODEVICE); empty: any. */
  readonly device: string
  /** Ports to listen on, 1…65535, both ends included. */
  readonly first: number
  readonly last: number
  /** Port on the other side that `first` leads to; the others follow in step. */
  readonly targetFirst: number
  /** Address in the guest's network, of the family of `address`; null: the guest's own address. */
  readonly targetAddress: AddressWords | null
  /** Best effort: ports that can't be bound are passed over, unless all of the rule can't. */
  readonly weak: boolean
  /** Ports open and close with the listeners on the other side (pasta only). */
  readonly auto: boolean
}

/** Most rules of a place, of all protocols together. */
export const FORWARD_RULE_MAX = 255

/** The form in which rules are shown: `TCP [*]%eth0:80-81  =>  8080-8081  (best effort)`. */
export function formatRule(rule: ForwardRule): string {
  const listen = rule.address ? address.format(rule.address) : "*"
  const device = rule.device === "" ? "" : `%${rule.device}`
  const targetLast = rule.targetFirst + rule.last - rule.first
  let target = formatRange(rule.targetFirst, targetLast)
  if (rule.targetAddress) {
    const text = address.format(rule.targetAddress)
    target = `${text.includes(":") ? `[${text}]` : text}:${target}`
  }
  const flags = (rule.weak ? " (best effort)" : "") + (rule.auto ? " (auto-scan)" : "")
  const ports = formatRange(rule.first, rule.last)
  return `${rule.protocol.toUpperCase()} [${listen}]${device}:${ports}  =>  ${target} ${flags}`
}

function formatRange(first: number, last: number): string {
  return first === last ? String(first) : `${first}-${last}`
}

/**
 * Whether Linux would refuse to listen for both: a port in common, addresses that overlap (any address overlaps all of
 * its family) and interfaces that overlap (sockets bound to two different interfaces don't meet).
 */
export function rulesConflict(a: ForwardRule, b: ForwardRule): boolean {
  if (a.protocol !== b.protocol || a.place !== b.place || a.first > b.last || b.first > a.last) return false
  if (a.device !== "" && b.device !== "" && a.device !== b.device) return false
  if (!a.address || !b.address) return true
  if (address.isMapped(a.address, 0) !== address.isMapped(b.address, 0)) return false
  if (address.isUnspecified(a.address, 0) || address.isUnspecified(b.address, 0)) return true
  return address.equal(a.address, 0, b.address, 0)
}
