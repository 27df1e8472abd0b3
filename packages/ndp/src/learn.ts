/**
 * What a change in the host's neighbour table means for the guest: the mirror takes it over, and the guest is told, so that
 * an entry it has already resolved (to the gateway's MAC address, or an old one) does not stay wrong.
 */
import { address } from "@passt/core/wire"
import type { ArpResponder } from "./arp.ts"
import type { NdpResponder } from "./ndp.ts"
import type { NeighbourTable } from "./neighbours.ts"

export interface Announcers {
  arp?: ArpResponder
  ndp?: NdpResponder
}

/** Takes over one neighbour of the host and announces it to the guest if that is news.
 * @param words four address words at `words[index…]`, IPv4 mapped
 * @param mac six bytes
 * @returns whether an announcement was queued */
export function learnNeighbour(
  table: NeighbourTable,
  announcers: Announcers,
  words: Int32Array,
  index: number,
  mac: Uint8Array,
): boolean {
  const row = table.update(words, index, mac)
  if (row < 0) return false
  const announcer = address.isMapped(words, index) ? announcers.arp : announcers.ndp
  return announcer !== undefined && announcer.announce(row)
}
