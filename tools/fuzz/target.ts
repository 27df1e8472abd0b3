/** What main.ts and the tests drive. */
export interface Target {
  readonly name: string
  /** Runs one case; a seed is a case. @throws Failure, or whatever the code under test throws */
  run(seed: number): void
  /** Called when there are no more cases. */
  end?(): void
}

/** A case has failed; the message has all that is needed to see why. */
export class Failure extends Error {}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex")
}

/** What was thrown, with the place. */
export function describe(error: unknown): string {
  return error instanceof Failure
    ? error.message
    : error instanceof Error
      ? (error.stack ?? String(error))
      : String(error)
}

/** Leaves out as much of a failing case as possible (delta debugging, Zeller 2002, with complements only).
 * @param fails whether a part of the case fails still
 * @param triesMax calls of `fails`, at most */
export function minimise<T>(
  items: readonly T[],
  fails: (part: readonly T[]) => boolean,
  triesMax: number,
): readonly T[] {
  let best = items
  let tries = 0
  for (let size = Math.ceil(best.length / 2); size >= 1; size = size > 1 ? Math.ceil(size / 2) : 0) {
    for (let at = 0; at < best.length && tries < triesMax;) {
      const part = [...best.slice(0, at), ...best.slice(at + size)]
      tries++
      if (part.length < best.length && fails(part)) best = part
      else at += size
    }
  }
  return best
}
