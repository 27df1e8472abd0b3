/**
 * The host's neighbours, mirrored: which MAC address the guest sees for which IP address.
 *
 * A guest that shares the host's addresses sits, in its own eyes, on the host's link. With the mirror it sees the real
 * MAC addresses of that link, so that what looks at them in the guest (DHCP snooping, licences, neighbour displays) sees
 * what the host would see. Addresses that we translate (our "blockers") always have our own MAC address.
 *
 * ```
 *   index  [ row+1 | 0 | row+1 | … ]   open addressing, twice as many slots as rows: never full, short probes
 *   rows   addresses 4 words, macs 6 bytes, state 1 byte
 * ```
 */
import type { GuestState } from "@passt/core"
import { address } from "@passt/core/wire"

/** Neighbours that are mirrored. A /24 fits twice; further ones look like the gateway, as all far addresses do. */
export const NEIGHBOUR_MAX = 512

const SLOT_COUNT = 1024
const SLOT_MASK = SLOT_COUNT - 1

const FREE = 0
const LEARNED = 1
const PERMANENT = 2

export class NeighbourTable {
  /** MAC address of a row: six bytes at `row * 6`. */
  readonly macs: Uint8Array = new Uint8Array(NEIGHBOUR_MAX * 6)
  /** Address of a row: four words at `row * 4`. */
  readonly addresses: Int32Array = new Int32Array(NEIGHBOUR_MAX * 4)
  /** Bumped when any answer of `lookup` or `resolve` may have changed, so that prepared headers can be renewed. */
  generation = 0
  /** Rows in use, 0…NEIGHBOUR_MAX. */
  count = 0
  /** Neighbours that found no room. */
  refused = 0

  readonly #guest: GuestState
  readonly #key0: number
  readonly #key1: number
  readonly #index = new Int16Array(SLOT_COUNT)
  readonly #state = new Uint8Array(NEIGHBOUR_MAX)

  /** @param key0 random word, as `key1`: nodes of the host's link choose their addresses, and must not be able to make
   *   them share a slot */
  constructor(guest: GuestState, key0: number, key1: number) {
    this.#guest = guest
    this.#key0 = key0 | 0
    this.#key1 = key1 | 0
  }

  /** Finds the row of an address (four words at `words[index…]`). @returns the row, or -1. Allocates nothing. */
  lookup(words: Int32Array, index: number): number {
    for (let slot = this.#slotOf(words, index); ; slot = (slot + 1) & SLOT_MASK) {
      const row = this.#index[slot] - 1
      if (row < 0) return -1
      if (address.equal(this.addresses, row * 4, words, index)) return row
    }
  }

  /** Finds whose MAC address the guest is to see for an address: the neighbour's own, else that of the guest's gateway
   * in that family. @returns the row, or -1: ours (`GuestState.ourMac`). Allocates nothing. */
  resolve(words: Int32Array, index: number): number {
    const row = this.lookup(words, index)
    if (row >= 0) return row
    return this.lookup(address.isMapped(words, index) ? this.#guest.gateway4 : this.#guest.gateway6, 0)
  }

  /** Gives an address our own MAC address for good: one that we answer for ourselves, whoever has it on the host's link.
   * @returns false when the table is full. */
  block(words: Int32Array, index: number): boolean {
    let row = this.lookup(words, index)
    if (row < 0) row = this.#insert(words, index)
    if (row < 0) return false
    this.#state[row] = PERMANENT
    this.macs.set(this.#guest.ourMac, row * 6)
    this.generation = (this.generation + 1) | 0
    return true
  }

  /** Takes over what the host knows of a neighbour.
   * @param mac six bytes
   * @returns the row if the guest should be told (new or changed, and not our own MAC address); -1 if there is nothing to
   *   tell, or the entry is no unicast one, blocked, or finds no room (`refused`). */
  update(words: Int32Array, index: number, mac: Uint8Array): number {
    if (!address.isUnicast(words, index) || address.isLoopback(words, index) || !isUnicastMac(mac)) return -1
    let row = this.lookup(words, index)
    if (row >= 0 && (this.#state[row] === PERMANENT || sameMac(this.macs, row * 6, mac))) return -1
    if (row < 0) row = this.#insert(words, index)
    if (row < 0) {
      this.refused++
      return -1
    }
    this.macs.set(mac.subarray(0, 6), row * 6)
    this.generation = (this.generation + 1) | 0
    return sameMac(this.#guest.ourMac, 0, mac) ? -1 : row
  }

  /** Forgets a neighbour that the host has lost; blockers stay. @returns whether there was one. */
  remove(words: Int32Array, index: number): boolean {
    const row = this.lookup(words, index)
    if (row < 0 || this.#state[row] === PERMANENT) return false
    this.#state[row] = FREE
    this.count--
    this.#reindex()
    return true
  }

  /** Forgets all neighbours but the blockers, before the host's table is read anew. */
  clear(): void {
    for (let row = 0; row < NEIGHBOUR_MAX; row++) {
      if (this.#state[row] !== LEARNED) continue
      this.#state[row] = FREE
      this.count--
    }
    this.#reindex()
  }

  #insert(words: Int32Array, index: number): number {
    const row = this.#state.indexOf(FREE)
    if (row < 0) return -1
    this.#state[row] = LEARNED
    address.copy(this.addresses, row * 4, words, index)
    this.count++
    this.#link(row)
    return row
  }

  #link(row: number): void {
    let slot = this.#slotOf(this.addresses, row * 4)
    while (this.#index[slot] !== 0) slot = (slot + 1) & SLOT_MASK
    this.#index[slot] = row + 1
  }

  // A hole in a probe sequence would hide what lies behind it. Removal is rare and the table small: rebuilding is
  // simpler than tombstones, which would never go away here.
  #reindex(): void {
    this.#index.fill(0)
    for (let row = 0; row < NEIGHBOUR_MAX; row++) if (this.#state[row] !== FREE) this.#link(row)
    this.generation = (this.generation + 1) | 0
  }

  #slotOf(words: Int32Array, index: number): number {
    let h = this.#key0
    for (let i = 0; i < 4; i++) {
      h = Math.imul(h ^ words[index + i], 0x9e3779b1)
      h = (h << 13) | (h >>> 19)
    }
    h = Math.imul(h ^ this.#key1, 0x85ebca6b)
    h ^= h >>> 15
    return h & SLOT_MASK
  }
}

/** Not multicast and not all zero (point-to-point links report the latter). */
function isUnicastMac(mac: Uint8Array): boolean {
  if (mac.length < 6 || (mac[0] & 1) !== 0) return false
  return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) !== 0
}

function sameMac(a: Uint8Array, ai: number, b: Uint8Array): boolean {
  for (let i = 0; i < 6; i++) if (a[ai + i] !== b[i]) return false
  return true
}
