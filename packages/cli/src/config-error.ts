/**
 * A wrong configuration: an option, or a value of one, that can't be honoured. `message` is one line that says what is
 * wrong in the user's terms; programs print it on standard error and exit with status 1.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError"
  constructor(message: string) {
    super(oneLine(message))
  }
}

/**
 * A command line that can't be read at all (unknown option, missing argument). `message` has the wording of GNU
 * getopt_long without the program's name; programs print it, prefixed by their name, before the usage text.
 */
export class UsageError extends Error {
  override readonly name = "UsageError"
  constructor(message: string) {
    super(oneLine(message))
  }
}

/** Messages quote what the user wrote, which may have line breaks, or sequences that a terminal would follow: control
 * characters are shown as JSON writes them. */
function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  })
}
