/** Where a link listens: a path, or the first of the numbered ones that nobody serves. */
const NUMBERED_MAX = 99
const EADDRINUSE = 98

/**
 * Listens on `path`; without one, on the first /tmp/passt_N.socket (N from 1 to 99) that is free.
 * @param listen tries one path: 0 or -errno, -EADDRINUSE when somebody serves it
 * @returns 0 or -errno; -EADDRINUSE when somebody serves that path, or all of the numbered ones
 */
export function listenOnPath(path: string | undefined, listen: (path: string) => number): number {
  if (path !== undefined) return listen(path)
  for (let n = 1; n <= NUMBERED_MAX; n++) {
    const result = listen(`/tmp/passt_${n}.socket`)
    if (result !== -EADDRINUSE) return result
  }
  return -EADDRINUSE
}
