/** Log lines: one JSON object each, on standard output, as collectors of a cluster's logs take them. */
const LEVELS = ["debug", "info", "warning", "error"] as const

export type Level = (typeof LEVELS)[number]

export function isLevel(text: string): text is Level {
  return (LEVELS as readonly string[]).includes(text)
}

/** @param write gets one line, without its end */
export class Log {
  readonly #threshold: number
  readonly #write: (line: string) => void

  constructor(level: Level, write: (line: string) => void) {
    this.#threshold = LEVELS.indexOf(level)
    this.#write = write
  }

  debug(message: string, fields: object = {}): void {
    this.#line("debug", message, fields)
  }

  info(message: string, fields: object = {}): void {
    this.#line("info", message, fields)
  }

  warning(message: string, fields: object = {}): void {
    this.#line("warning", message, fields)
  }

  error(message: string, fields: object = {}): void {
    this.#line("error", message, fields)
  }

  #line(level: Level, message: string, fields: object): void {
    if (LEVELS.indexOf(level) < this.#threshold) return
    this.#write(JSON.stringify({ time: new Date().toISOString(), level, message, ...fields }))
  }
}
