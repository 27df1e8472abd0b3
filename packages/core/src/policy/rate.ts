/** Bounds of rate limits, bytes per second. */
export const RATE_MIN = 1000
export const RATE_MAX: number = 2 ** 40
