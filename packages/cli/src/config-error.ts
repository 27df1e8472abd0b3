/**
 * A wrong configuration: an option, or a value of one, that can't be honoured. `message` is one line that says what is
 * wrong in the user's terms; programs print it on standard error and exit with status 1.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError"
}

/**
 * A command line that can't be read at all (unknown option, missing argument). `message` has the wording of GNU
 * getopt_long without the program's name; programs print it, prefixed by their name, before the usage text.
 */
export class UsageError extends Error {
  override readonly name = "UsageError"
}
