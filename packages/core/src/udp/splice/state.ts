/**
 * What a spliced flow of datagrams keeps in its row, beside what datagram/state.ts says. Side 0 is the socket towards who
 * began the flow, side 1 the one towards its target.
 */
import { PROTOCOL_WORDS } from "../../flow/table.ts"

/** Descriptor of side 1; that of side 0 is FD. */
export const FD1: number = PROTOCOL_WORDS + 8

/** Bits of STATE beside datagram/state.ts', for side 0; shifted left by one for side 1. The socket may have datagrams. */
export const SIDE_READABLE: number = 1 << 8
