/** Longest message in UTF-16 units: datagrams to the log daemon and reading eyes both have limits. */
const MESSAGE_UNITS_MAX = 1000

/** Control characters (Cc), and what Unicode counts as ends of lines beyond them. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029]/u
const UNPRINTABLE_RUNS = /[\p{Cc}\u2028\u2029]+/gu

/** A message as one line: control characters, which may come from a guest, become spaces; what is too long is cut. */
export function singleLine(text: string): string {
  const line = UNPRINTABLE.test(text) ? text.replace(UNPRINTABLE_RUNS, " ").trimEnd() : text
  return line.length > MESSAGE_UNITS_MAX ? `${line.slice(0, MESSAGE_UNITS_MAX - 1)}…` : line
}

/** Seconds since start with four decimals: "12.0345". @param ms milliseconds since start */
export function timestamp(ms: number): string {
  const ticks = Math.max(0, Math.floor(ms * 10))
  return `${Math.floor(ticks / 10_000)}.${String(ticks % 10_000).padStart(4, "0")}`
}
