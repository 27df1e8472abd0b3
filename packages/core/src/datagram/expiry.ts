/**
 * The end of a flow of datagrams: nobody says that it is over, so silence does.
 *
 * The timer is lazy: traffic only notes its time; when the timer fires it moves to when the flow would really be due.
 */
import type { Context } from "../context.ts"
import { FLOW_SHIFT, LAST_ACTIVE } from "../flow/table.ts"

/** Longest silence, milliseconds, that can be told from a clock that wraps at 2^32. */
const SILENCE_MS_MAX: number = 1 << 30

/** A configured time in milliseconds. */
export function silenceMs(seconds: number): number {
  return Math.min(Math.max(1, Math.round(seconds * 1000)), SILENCE_MS_MAX)
}

/** Ends the flow if it has been silent for long enough, else arms its timer again. */
export function expireOrWait(ctx: Context, flow: number, silence: number): void {
  const due = (ctx.words[(flow << FLOW_SHIFT) + LAST_ACTIVE] + silence) | 0
  if (((due - ctx.now) | 0) <= 0) ctx.retire(flow, false)
  else ctx.timers.arm(flow, due)
}
