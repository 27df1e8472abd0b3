/** Rules whose sockets hear every multicast group that the host is in. */
import { PLACE_HOST } from "../kernel.ts"
import { isUnspecified } from "../wire/address.ts"
import type { ForwardRule } from "./rule.ts"

/** Those that listen for datagrams to any address of the host. */
export function wildcardsOf(rules: readonly (ForwardRule | undefined)[]): ForwardRule[] {
  return rules.filter((rule) => rule !== undefined && isWildcard(rule)) as ForwardRule[]
}

function isWildcard(rule: ForwardRule): boolean {
  return (
    rule.protocol === "udp" &&
    (rule.place ?? PLACE_HOST) === PLACE_HOST &&
    rule.auto !== true &&
    (rule.address === null || isUnspecified(rule.address, 0))
  )
}

/** Whether both lists have the same rules. */
export function areSame(a: readonly ForwardRule[], b: readonly ForwardRule[]): boolean {
  return a.length === b.length && a.every((rule, i) => rule === b[i])
}
