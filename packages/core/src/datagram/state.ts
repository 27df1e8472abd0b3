/**
 * What flows of datagrams, UDP and ping, keep in their rows beyond what every flow has.
 */
import { FLOW_SHIFT, LAST_ACTIVE, PROTOCOL_WORDS, STATE } from "../flow/table.ts"
import type { Context } from "../context.ts"
import { FRAME_LENGTH_MAX } from "../limits.ts"
import { EVENT_ERR, EVENT_HUP, EVENT_IN } from "../kernel.ts"

/** Hop limit that the socket was last told, 0: none, it uses the host's default. */
export const HOP_LIMIT: number = PROTOCOL_WORDS
/** Datagrams to ask for in the next read. */
export const SLOTS: number = PROTOCOL_WORDS + 1
/** Second of the clock in which ERRORS_TOLD counts. */
export const ERROR_SECOND: number = PROTOCOL_WORDS + 2
/** Errors told to the guest in that second. */
export const ERRORS_TOLD: number = PROTOCOL_WORDS + 3
/** Listening socket that the flow came from, -1: the guest opened it. */
export const LISTENER: number = PROTOCOL_WORDS + 4
/** Turns that the flow has waited for its listening socket to be emptied. */
export const WAITED: number = PROTOCOL_WORDS + 5

/** Bits of STATE. The socket may have datagrams: events are told once, so this stays until a read found it empty. */
export const READABLE = 1
/** The error queue may have entries. */
export const FAILED = 2
/** The queue may hold datagrams from before the socket was connected, which can be anyone's. */
export const UNSORTED = 4
/** A datagram came from the guest; more than one did; one went to the guest; more than one did. */
export const FROM_GUEST = 8
export const FROM_GUEST_AGAIN = 16
export const TO_GUEST = 32
export const TO_GUEST_AGAIN = 64

/** Room for one datagram in the send area, bytes: an odd number of 64-byte cache lines over 64 KiB, so that the headers of
 * neighbouring slots fall into different sets of the cache. */
export const SLOT_BYTES: number = 1027 * 64

/** Fewest datagrams to ask for: the second slot comes back empty and says that the socket is, without another call. */
export const SLOTS_MIN = 2

/** Room offered to the kernel for one datagram behind `header` bytes of headers: one byte more than a frame can carry, so
 * that a datagram that was cut off shows. */
export function datagramRoom(header: number): number {
  return FRAME_LENGTH_MAX - header + 1
}

/** Remembers an event. @returns whether it asks for service */
export function remember(ctx: Context, flow: number, mask: number): boolean {
  const at = (flow << FLOW_SHIFT) + STATE
  const w = ctx.words
  let bits = 0
  if (mask & (EVENT_IN | EVENT_HUP)) bits = READABLE
  // An error that a read ran into may have hidden datagrams behind it: look for those as well.
  if (mask & EVENT_ERR) bits = READABLE | FAILED
  w[at] |= bits
  return bits !== 0
}

/** Notes traffic from the guest. @param count datagrams, at least 1 */
export function noteFromGuest(ctx: Context, base: number, count: number): void {
  const w = ctx.words
  const state = w[base + STATE]
  w[base + LAST_ACTIVE] = ctx.now
  w[base + STATE] = state | (count > 1 || state & FROM_GUEST ? FROM_GUEST | FROM_GUEST_AGAIN : FROM_GUEST)
}

/** Notes traffic to the guest. @param count datagrams, at least 1 */
export function noteToGuest(ctx: Context, base: number, count: number): void {
  const w = ctx.words
  const state = w[base + STATE]
  w[base + LAST_ACTIVE] = ctx.now
  w[base + STATE] = state | (count > 1 || state & TO_GUEST ? TO_GUEST | TO_GUEST_AGAIN : TO_GUEST)
}

/** Whether both ends talk, and one of them has more to say than a question or an answer: as conntrack of Linux tells a
 * stream from a query. */
export function isStream(w: Int32Array, base: number): boolean {
  const state = w[base + STATE]
  return (
    (state & (FROM_GUEST | TO_GUEST)) === (FROM_GUEST | TO_GUEST) && (state & (FROM_GUEST_AGAIN | TO_GUEST_AGAIN)) !== 0
  )
}
