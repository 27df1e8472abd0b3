/** What was decided about a flow, as numbers of the gate's column: those from WAITING on have no socket, and must not have one. */
export const NONE = 0
export const ALLOWED = 1
export const REDIRECTED = 2
export const WAITING = 3
export const REFUSED = 4
export const DROPPED = 5

/** How a refusal is told. */
export const TELL_USUAL = 0
export const TELL_RESET = 1
export const TELL_PORT = 2
export const TELL_PROHIBITED = 3
