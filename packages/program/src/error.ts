import { errnoText } from "@passt/host"

/** The start has failed: one line for the user. */
export class StartError extends Error {}

/** What failed, and why the system says so: an error of node:fs. */
export function systemError(what: string, error: unknown): StartError {
  const errno = (error as { errno?: number }).errno
  return new StartError(`${what}: ${errno === undefined ? String(error) : errnoText(Math.abs(errno))}`)
}

/** The same for the result of a native call, where it is negative. */
export function checkResult(what: string, result: number): number {
  if (result < 0) throw new StartError(`${what}: ${errnoText(-result)}`)
  return result
}
