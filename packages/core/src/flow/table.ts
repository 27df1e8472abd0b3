/**
 * The flow table: every exchange that the engine tracks, allocated once.
 *
 * One row of FLOW_WORDS 32-bit words per flow, all rows in one Int32Array, so that a flow lies in four neighbouring cache
 * lines. `base(flow)` is a row's first word; the constants below are distances from it.
 *
 * ```
 *          guest side (the tap)                 host side (a socket)
 *   GUEST ─────────────────── FAR      │      OUR ─────────────────── PEER
 *   the guest's address       the other end   the socket's own        what the socket
 *   and port                  as the guest    address and port        talks to
 *                             sees it
 * ```
 * Each end is an address record as in kernel.ts: four words, port, scope.
 *
 * Life of a row: FREE → `allocate` (kind set, in no index) → `index` (found by packets) → `free` at the end of the turn.
 * Nothing returns to the loop with a row that is allocated but neither indexed nor freed.
 */
import { FLOW_MAX } from "../limits.ts"
import { hash11 } from "./hash.ts"

export const FLOW_SHIFT = 6
export const FLOW_WORDS: number = 1 << FLOW_SHIFT

/** KIND_…; 0 when the row is free. */
export const KIND = 0
/** Socket descriptor, or -1. */
export const FD = 1
/** Events and flags, of the protocol's own meaning. */
export const STATE = 2
/** Family of the guest side: 4 or 6. */
export const GUEST_FAMILY = 3
/** Family of the socket: 4 or 6. */
export const HOST_FAMILY = 4
/** Next free row, while free; next row of the work queue, else; -1 ends. */
export const WORK_NEXT = 5
/** First and last frame of this flow in the batch at hand; -1: none. */
export const BATCH_HEAD = 6
export const BATCH_TAIL = 7
/** Timer list and deadline, see timers.ts. */
export const TIMER_NEXT = 8
export const TIMER_PREVIOUS = 9
/** Slot of the wheel, -1: not armed. */
export const TIMER_SLOT = 10
/** Milliseconds. */
export const TIMER_DEADLINE = 11
/** Next entry (flow * 2 + side) of the hash chain of each side; -1 ends, -2: side not indexed. */
export const HASH_NEXT = 12
export const NOT_INDEXED: number = -2
/** Time of the last packet in either direction, milliseconds. */
export const LAST_ACTIVE = 14
/** Row of the neighbour table whose MAC address frames to the guest carry, -1: ours. */
export const NEIGHBOUR = 15

export const GUEST = 16
export const FAR = 22
export const OUR = 28
export const PEER = 34
/** First word for the protocol's own use; up to FLOW_WORDS. */
export const PROTOCOL_WORDS = 40

/** Distances within an end. */
export const PORT = 4
export const SCOPE = 5

export const KIND_FREE = 0
export const KIND_TCP = 1
export const KIND_UDP = 2
export const KIND_PING = 3
/** Ended, waits in a work queue to be freed. */
export const KIND_RETIRED = 4
/** From socket to socket: the "host side" is the one that asked (PEER, OUR), FD is its socket; there is no guest side. */
export const KIND_TCP_SPLICE = 5
/** From the host, and from the namespace: the same addresses mean something else there. */
export const KIND_UDP_SPLICE_IN = 6
export const KIND_UDP_SPLICE_OUT = 7
/** Multicast and broadcast, see multicast/: from the guest to a group; a group that it is in; a port of a group. The last two have
 * no guest side and are in no index. */
export const KIND_GROUP = 8
export const KIND_MEMBERSHIP = 9
export const KIND_GROUP_PORT = 10
const KINDS = 11

/** Whether flows of this kind go between two kernels, past the link. */
export function isSplicedKind(kind: number): boolean {
  return kind === KIND_TCP_SPLICE || kind === KIND_UDP_SPLICE_IN || kind === KIND_UDP_SPLICE_OUT
}

/** The guest's side of a flow; the key is (kind, GUEST, FAR). */
export const SIDE_GUEST = 0
/** The socket's side; the key is (kind, PEER, OUR). Indexed for datagrams that arrive on listening sockets. */
export const SIDE_HOST = 1

const BUCKETS: number = 1 << 18

/** Directions of `bytes`. For spliced flows the namespace is the guest. */
export const DIRECTION_FROM_GUEST = 0
export const DIRECTION_TO_GUEST = 1

export class FlowTable {
  /** All rows. */
  readonly words: Int32Array<ArrayBuffer> = new Int32Array(FLOW_MAX * FLOW_WORDS)
  /** Payload bytes of each flow, two per flow: DIRECTION_FROM_GUEST, DIRECTION_TO_GUEST. Doubles, which are exact to 2^53. */
  readonly bytes: Float64Array<ArrayBuffer> = new Float64Array(FLOW_MAX * 2)
  /** Segments with payload, or datagrams, of each flow, as in `bytes`. */
  readonly packets: Float64Array<ArrayBuffer> = new Float64Array(FLOW_MAX * 2)
  /** When each flow began, milliseconds. */
  readonly began: Int32Array<ArrayBuffer> = new Int32Array(FLOW_MAX)
  /** Payload bytes of all flows that there have been, by kind, as in `bytes`. */
  readonly kindBytes: Float64Array<ArrayBuffer> = new Float64Array(KINDS * 2)
  readonly kindPackets: Float64Array<ArrayBuffer> = new Float64Array(KINDS * 2)
  /** The time of this turn, milliseconds: kept by the engine. */
  now = 0
  /** Rows ever used: a sweep needs to look no further. */
  highWater = 0
  /** Rows in use. */
  count = 0
  /** Rows in use by kind. */
  readonly counts: Int32Array = new Int32Array(KINDS)
  /** Where a lookup's key is put: kind, four words, four words, two ports. The order is (endpoint, us). */
  readonly key: Int32Array = new Int32Array(11)
  readonly #buckets: Int32Array = new Int32Array(BUCKETS).fill(-1)
  readonly #secret: Int32Array
  readonly #max: number
  #freeHead = -1

  /** @param secret two words of entropy, so that a guest or a peer can't choose tuples that collide
   * @param max rows to allow, at most FLOW_MAX */
  constructor(secret: Int32Array, max: number = FLOW_MAX) {
    this.#secret = secret
    this.#max = Math.min(max, FLOW_MAX)
  }

  /** Takes a free row, most recently freed first.
   * @returns the flow, or -1 when the table is full */
  allocate(kind: number): number {
    const w = this.words
    let flow = this.#freeHead
    if (flow >= 0) {
      this.#freeHead = w[(flow << FLOW_SHIFT) + WORK_NEXT]!
    } else {
      if (this.highWater >= this.#max) return -1
      flow = this.highWater++
    }
    const base = flow << FLOW_SHIFT
    w.fill(0, base, base + FLOW_WORDS)
    w[base + KIND] = kind
    w[base + FD] = -1
    w[base + WORK_NEXT] = -1
    w[base + BATCH_HEAD] = -1
    w[base + BATCH_TAIL] = -1
    w[base + TIMER_SLOT] = -1
    w[base + HASH_NEXT] = NOT_INDEXED
    w[base + HASH_NEXT + 1] = NOT_INDEXED
    w[base + NEIGHBOUR] = -1
    this.bytes[2 * flow] = 0
    this.bytes[2 * flow + 1] = 0
    this.packets[2 * flow] = 0
    this.packets[2 * flow + 1] = 0
    this.began[flow] = this.now
    this.count++
    this.counts[kind] = this.counts[kind]! + 1
    return flow
  }

  /** Takes a row out of the index; it stays allocated until `free`. The caller closes its socket and disarms its timer. */
  retire(flow: number): void {
    const w = this.words
    const base = flow << FLOW_SHIFT
    this.#unindex(flow, SIDE_GUEST)
    this.#unindex(flow, SIDE_HOST)
    const kind = w[base + KIND]!
    this.counts[kind] = this.counts[kind]! - 1
    this.counts[KIND_RETIRED] = this.counts[KIND_RETIRED]! + 1
    w[base + KIND] = KIND_RETIRED
  }

  /** Gives a retired row back. */
  free(flow: number): void {
    const w = this.words
    const base = flow << FLOW_SHIFT
    this.counts[KIND_RETIRED] = this.counts[KIND_RETIRED]! - 1
    this.count--
    w[base + KIND] = KIND_FREE
    w[base + WORK_NEXT] = this.#freeHead
    this.#freeHead = flow
  }

  /** Makes a side findable by its key. */
  index(flow: number, side: number): void {
    const w = this.words
    const base = flow << FLOW_SHIFT
    this.#fillKey(base, side)
    const bucket = this.#bucket()
    w[base + HASH_NEXT + side] = this.#buckets[bucket]!
    this.#buckets[bucket] = flow * 2 + side
  }

  /** Finds the flow whose `side` has the key that is in `key`. @returns the flow or -1 */
  find(side: number): number {
    const w = this.words
    const key = this.key
    const endpoint = side === SIDE_GUEST ? GUEST : PEER
    const us = side === SIDE_GUEST ? FAR : OUR
    let ref = this.#buckets[this.#bucket()]!
    while (ref >= 0) {
      const base = (ref >> 1) << FLOW_SHIFT
      if ((ref & 1) === side && matches(w, base, base + endpoint, base + us, key)) return ref >> 1
      ref = w[base + HASH_NEXT + (ref & 1)]!
    }
    return -1
  }

  /** Whether this flow's guest side has the key in `key`: the shortcut for runs of one flow's packets. */
  isGuestSide(flow: number): boolean {
    const base = flow << FLOW_SHIFT
    return matches(this.words, base, base + GUEST, base + FAR, this.key)
  }

  #fillKey(base: number, side: number): void {
    const w = this.words
    const key = this.key
    const endpoint = base + (side === SIDE_GUEST ? GUEST : PEER)
    const us = base + (side === SIDE_GUEST ? FAR : OUR)
    key[0] = w[base + KIND]!
    for (let i = 0; i < 4; i++) {
      key[1 + i] = w[endpoint + i]!
      key[5 + i] = w[us + i]!
    }
    key[9] = w[endpoint + PORT]!
    key[10] = w[us + PORT]!
  }

  #bucket(): number {
    return hash11(this.key, this.#secret[0]!, this.#secret[1]!) & (BUCKETS - 1)
  }

  #unindex(flow: number, side: number): void {
    const w = this.words
    const base = flow << FLOW_SHIFT
    if (w[base + HASH_NEXT + side] === NOT_INDEXED) return
    this.#fillKey(base, side)
    const bucket = this.#bucket()
    const self = flow * 2 + side
    const next = w[base + HASH_NEXT + side]!
    let ref = this.#buckets[bucket]!
    if (ref === self) {
      this.#buckets[bucket] = next
    } else {
      while (ref >= 0) {
        const at = ((ref >> 1) << FLOW_SHIFT) + HASH_NEXT + (ref & 1)
        ref = w[at]!
        if (ref === self) {
          w[at] = next
          break
        }
      }
    }
    w[base + HASH_NEXT + side] = NOT_INDEXED
  }
}

function matches(w: Int32Array, base: number, endpoint: number, us: number, key: Int32Array): boolean {
  return (
    w[endpoint + PORT] === key[9] &&
    w[us + PORT] === key[10] &&
    w[endpoint + 3] === key[4] &&
    w[us + 3] === key[8] &&
    w[base + KIND] === key[0] &&
    w[endpoint] === key[1] &&
    w[endpoint + 1] === key[2] &&
    w[endpoint + 2] === key[3] &&
    w[us] === key[5] &&
    w[us + 1] === key[6] &&
    w[us + 2] === key[7]
  )
}
