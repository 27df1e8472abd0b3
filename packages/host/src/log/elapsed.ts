/**
 * How long the process has run, milliseconds with a fraction: the clock of `performance.now()`, without what is loaded when that is asked for the
 * first time, a twentieth of a start.
 */
export function elapsedMs(): number {
  return process.uptime() * 1000
}
