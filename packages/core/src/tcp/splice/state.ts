/**
 * What a spliced connection keeps in its row. Side 0 is the socket that was accepted, side 1 the one that was connected;
 * direction d leads from side d to the other.
 */
import { FD, PROTOCOL_WORDS } from "../../flow/table.ts"

/** Descriptor of side 1; that of side 0 is FD. */
export const FD1: number = PROTOCOL_WORDS
/** Per direction: the pipe that holds bytes, -1: none; how many. */
export const PIPE: number = PROTOCOL_WORDS + 1
export const PENDING: number = PROTOCOL_WORDS + 3
/** When a connection that has lost a side ends, whatever is still to be delivered, milliseconds. */
export const DEADLINE: number = PROTOCOL_WORDS + 5
/** PLACE_… of side 0. */
export const PLACE: number = PROTOCOL_WORDS + 6

/** Bits of STATE, each for side or direction 0, and shifted left by one for 1. */
/** There may be something to read at this side. */
export const READABLE = 1
/** This side takes no more now. */
export const FULL: number = 1 << 2
/** This side's stream has an end, or an error, that has not been read yet. */
export const ENDING: number = 1 << 4
/** There may be urgent data among what this side sent. */
export const URGENT: number = 1 << 8
/** All that this side had to say has been read. */
export const ENDED: number = 1 << 10
/** Everything has been delivered in this direction that ever will be, and its end been told. */
export const DONE: number = 1 << 12
/** This side's connection is dead: it can't be written to, but what it sent before can still be read. */
export const LOST: number = 1 << 14
/** Much was moved at once in this direction. */
export const BULK: number = 1 << 16

/** Side 1 is not connected yet. */
export const CONNECTING: number = 1 << 20
/** No pipe was to be had; the timer tries again. */
export const STARVED: number = 1 << 21
/** One side is dead, the other has bytes to send before it gets its reset. */
export const DRAINING: number = 1 << 22

export function fdOf(w: Int32Array, base: number, side: number): number {
  return w[base + (side === 0 ? FD : FD1)]!
}
