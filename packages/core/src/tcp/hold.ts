/**
 * The hold pool: payload from the guest that can't go to its socket yet, because the socket is full or because data before
 * it is missing. One pool for all flows, of blocks in the arena's hold area; a flow's blocks form a list in sequence order
 * without overlaps. When the pool is empty, or a flow has its share, data is dropped: the guest will send it again.
 */
import type { Context } from "../context.ts"
import { HOLD_AREA } from "../frames.ts"
import { HOLD_ARENA_BYTES } from "../limits.ts"
import { HOLD_COUNT, HOLD_HEAD } from "./state.ts"

const BLOCK_BYTES = 4096
/** Blocks of the pool. */
export const HOLD_BLOCKS: number = HOLD_ARENA_BYTES / BLOCK_BYTES
/** Blocks that one flow may have: half of the pool. */
const FLOW_BLOCKS_MAX: number = HOLD_BLOCKS / 2

export class HoldPool {
  readonly #ctx: Context
  readonly #next: Int32Array = new Int32Array(HOLD_BLOCKS)
  /** Sequence number of a block's first byte. */
  readonly sequence: Int32Array = new Int32Array(HOLD_BLOCKS)
  /** Where a block's bytes begin, arena offset. */
  readonly offset: Int32Array = new Int32Array(HOLD_BLOCKS)
  readonly length: Int32Array = new Int32Array(HOLD_BLOCKS)
  #free = 0
  /** Blocks in use. */
  used = 0

  constructor(ctx: Context) {
    this.#ctx = ctx
    for (let i = 0; i < HOLD_BLOCKS; i++) this.#next[i] = i + 1 < HOLD_BLOCKS ? i + 1 : -1
  }

  /** Holds `length` bytes of a row's payload.
   * @param from bytes from the start of the frame @param seq sequence number of the first byte
   * @returns true if all of it is held now (or was already), false if some had to be dropped */
  insert(base: number, row: number, from: number, length: number, seq: number): boolean {
    const w = this.#ctx.words
    let previous = -1
    let block = w[base + HOLD_HEAD]!
    while (length > 0) {
      // Pass the blocks that end at or before `seq`.
      while (block >= 0 && ((this.sequence[block]! + this.length[block]! - seq) | 0) <= 0) {
        previous = block
        block = this.#next[block]!
      }
      let room = length
      if (block >= 0) {
        const gap = (this.sequence[block]! - seq) | 0
        if (gap <= 0) {
          // Held already: pass over the overlap.
          const overlap = Math.min(length, (this.sequence[block]! + this.length[block]! - seq) | 0)
          seq = (seq + overlap) | 0
          from += overlap
          length -= overlap
          continue
        }
        if (gap < room) room = gap
      }
      if (room > BLOCK_BYTES) room = BLOCK_BYTES
      const fresh = this.#free
      if (fresh < 0 || w[base + HOLD_COUNT]! >= FLOW_BLOCKS_MAX) return false
      this.#free = this.#next[fresh]!
      this.used++
      w[base + HOLD_COUNT] = w[base + HOLD_COUNT]! + 1
      const at = HOLD_AREA + fresh * BLOCK_BYTES
      this.#ctx.kernel.holdPayload(row, from, room, at)
      this.sequence[fresh] = seq
      this.offset[fresh] = at
      this.length[fresh] = room
      this.#next[fresh] = block
      if (previous >= 0) this.#next[previous] = fresh
      else w[base + HOLD_HEAD] = fresh
      previous = fresh
      seq = (seq + room) | 0
      from += room
      length -= room
    }
    return true
  }

  /** @returns the sequence number after the bytes that are held without a hole from `seq` on */
  contiguous(base: number, seq: number): number {
    let block = this.#ctx.words[base + HOLD_HEAD]!
    while (block >= 0 && ((this.sequence[block]! - seq) | 0) <= 0) {
      const end = (this.sequence[block]! + this.length[block]!) | 0
      if (((end - seq) | 0) > 0) seq = end
      block = this.#next[block]!
    }
    return seq
  }

  /** Forgets the bytes of the first block before `seq`, and the block if none are left. */
  consume(base: number, seq: number): void {
    const w = this.#ctx.words
    const block = w[base + HOLD_HEAD]!
    const taken = (seq - this.sequence[block]!) | 0
    if (taken < this.length[block]!) {
      this.sequence[block] = seq
      this.offset[block] = this.offset[block]! + taken
      this.length[block] = this.length[block]! - taken
      return
    }
    w[base + HOLD_HEAD] = this.#next[block]!
    this.#give(base, block)
  }

  /** Forgets what is held from `end` on. */
  truncate(base: number, end: number): void {
    const w = this.#ctx.words
    let previous = -1
    let block = w[base + HOLD_HEAD]!
    while (block >= 0 && ((this.sequence[block]! - end) | 0) < 0) {
      const beyond = (this.sequence[block]! + this.length[block]! - end) | 0
      if (beyond > 0) this.length[block] = this.length[block]! - beyond
      previous = block
      block = this.#next[block]!
    }
    if (previous >= 0) this.#next[previous] = -1
    else w[base + HOLD_HEAD] = -1
    while (block >= 0) {
      const next = this.#next[block]!
      this.#give(base, block)
      block = next
    }
  }

  #give(base: number, block: number): void {
    const w = this.#ctx.words
    w[base + HOLD_COUNT] = w[base + HOLD_COUNT]! - 1
    this.#next[block] = this.#free
    this.#free = block
    this.used--
  }

  /** Forgets all blocks of a flow. */
  release(base: number): void {
    const w = this.#ctx.words
    if (w[base + HOLD_HEAD]! >= 0) this.truncate(base, this.sequence[w[base + HOLD_HEAD]!]!)
  }
}
