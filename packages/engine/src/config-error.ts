/** A field of a configuration has a value that can't be honoured. `message` begins with the field. */
export class ConfigError extends TypeError {
  override readonly name = "ConfigError"
  readonly code = "ERR_PASST_CONFIG"
  /** The field, as it is written: "address[1]", "forwards[0].ports". */
  readonly field: string

  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`)
    this.field = field
  }
}

/** The engine could not start, or a socket or device could not be had. */
export class EngineError extends Error {
  override readonly name = "EngineError"
  /** "ERR_PASST_START", "ERR_PASST_STATE" or "ERR_PASST_CAPTURE". */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
