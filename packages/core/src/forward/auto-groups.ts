/** Rules that are `auto`, sorted by protocol and place, as automatic ports are looked after (auto.ts). */
import { PLACE_HOST, PLACE_NAMESPACE, PORT_MAP_BYTES, SCAN_TCP, SCAN_UDP, type SpliceKernel } from "../kernel.ts"
import type { ForwardRule } from "./rule.ts"

/** The auto rules of one protocol that listen at one place. */
export interface Group {
  readonly protocol: "tcp" | "udp"
  readonly place: number
  /** Indices of rules. */
  readonly rules: readonly number[]
  /** Target ports that all rules listen for. */
  readonly served: Uint8Array
  /** Target ports that some rules could not be served for: to be tried again. */
  readonly failed: Uint8Array
}

/** @param before groups whose ports are served now: they stay so, and are looked at again for rules that are new */
export function groupsOf(rules: readonly (ForwardRule | undefined)[], before: readonly Group[]): Group[] {
  const groups: Group[] = []
  for (const place of [PLACE_HOST, PLACE_NAMESPACE]) {
    for (const protocol of ["tcp", "udp"] as const) {
      const own = rules.flatMap((rule, r) => {
        return rule?.auto && rule.protocol === protocol && (rule.place ?? PLACE_HOST) === place ? [r] : []
      })
      if (own.length === 0) continue
      const old = before.find((group) => group.place === place && group.protocol === protocol)
      const served = new Uint8Array(PORT_MAP_BYTES)
      const failed = new Uint8Array(PORT_MAP_BYTES)
      if (old) {
        served.set(old.served)
        for (let i = 0; i < PORT_MAP_BYTES; i++) failed[i] = old.failed[i]! | old.served[i]!
      }
      groups.push({ protocol, place, rules: own, served, failed })
    }
  }
  return groups
}

/** Makes the maps, by place, of who listens where these groups ask. */
export function provideMaps(
  groups: readonly Group[],
  tcp: (Uint8Array | undefined)[],
  udp: (Uint8Array | undefined)[],
): void {
  for (const { place, protocol } of groups) {
    tcp[1 - place] ??= new Uint8Array(PORT_MAP_BYTES)
    if (protocol === "udp") udp[1 - place] ??= new Uint8Array(PORT_MAP_BYTES)
  }
}

/** Asks once, everywhere, who listens, and forgets the answer: what asking needs is open from then on. */
export function prepareScans(splice: SpliceKernel): void {
  const map = new Uint8Array(PORT_MAP_BYTES)
  for (const place of [PLACE_HOST, PLACE_NAMESPACE]) {
    splice.scan(place, SCAN_TCP, map)
    splice.scan(place, SCAN_UDP, map)
  }
}
