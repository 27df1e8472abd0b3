/**
 * What the guest sent to groups and the host brings back.
 *
 * Other programs of the host must hear the guest, so the kernel's loop (IP_MULTICAST_LOOP) stays on, and our own sockets hear the
 * guest as well. Its source tells nothing: the host's mDNS responder and the guest's share address and port 5353. So each
 * datagram that the guest sends to a group leaves a digest here, which the same datagram takes away when it comes back. The
 * loop takes no time, so a digest is good for a short while only.
 */
import { ECHO_MAX } from "../limits.ts"

/** Milliseconds for which a datagram may come back: it may have to wait in its socket while the guest doesn't read. */
const ECHO_MS = 2000

/** Bytes that a digest covers: on every link they lie in the window of the frame's headers. */
const DIGEST_BYTES = 64

const PRIME = 0x01000193

/** @param at arena offset of the payload, `length` its bytes */
export function digest(view: DataView, at: number, length: number): number {
  let sum = Math.imul(0x811c9dc5 ^ length, PRIME)
  const end = at + (length < DIGEST_BYTES ? length : DIGEST_BYTES)
  let i = at
  for (; i + 4 <= end; i += 4) sum = Math.imul(sum ^ view.getInt32(i), PRIME)
  for (; i < end; i++) sum = Math.imul(sum ^ view.getUint8(i), PRIME)
  return sum
}

export class Echoes {
  /** A ring: flow (-1: taken), digest and time of each. */
  readonly #flow: Int32Array = new Int32Array(ECHO_MAX)
  readonly #digest: Int32Array = new Int32Array(ECHO_MAX)
  readonly #at: Int32Array = new Int32Array(ECHO_MAX)
  #first = 0
  #count = 0
  /** Until when some may have been forgotten too early; only while #lossy. */
  #lossyUntil = 0
  #lossy = false

  /** The guest has sent a datagram. */
  add(flow: number, sum: number, now: number): void {
    if (this.#count === ECHO_MAX) {
      if (((now - this.#at[this.#first]) | 0) < ECHO_MS) {
        this.#lossy = true
        this.#lossyUntil = (now + ECHO_MS) | 0
      }
      this.#dropFirst()
    }
    const at = (this.#first + this.#count++) % ECHO_MAX
    this.#flow[at] = flow
    this.#digest[at] = sum
    this.#at[at] = now
  }

  /** A datagram has come that could be one of a flow's. @returns whether it is; with too much in between to tell, it is */
  take(flow: number, sum: number, now: number): boolean {
    while (this.#count > 0 && (this.#flow[this.#first] < 0 || ((now - this.#at[this.#first]) | 0) >= ECHO_MS)) {
      this.#dropFirst()
    }
    for (let i = 0; i < this.#count; i++) {
      const at = (this.#first + i) % ECHO_MAX
      if (this.#flow[at] !== flow || this.#digest[at] !== sum) continue
      this.#flow[at] = -1
      return true
    }
    if (this.#lossy && ((now - this.#lossyUntil) | 0) >= 0) this.#lossy = false
    return this.#lossy
  }

  #dropFirst(): void {
    this.#first = (this.#first + 1) % ECHO_MAX
    this.#count--
  }
}
