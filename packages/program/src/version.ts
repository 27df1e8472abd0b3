/** The version that `--version`, the log file and bug reports show. */
export const VERSION = "0.1.0"
