/** Lines of a child's output, awaited one by one. */

import { createInterface } from "node:readline"
import type { Readable } from "node:stream"

export interface LineReader {
  /** The next line; undefined when the stream ends or nothing comes for that many milliseconds. */
  next(timeoutMs: number): Promise<string | undefined>
  /** All lines so far, with the monotonic time in milliseconds at which each arrived. */
  readonly seen: readonly { text: string; atMs: number }[]
}

export const lineReader = (stream: Readable): LineReader => {
  const seen: { text: string; atMs: number }[] = []
  let taken = 0
  let ended = false
  let wake: (() => void) | undefined
  const lines = createInterface({ input: stream })
  lines.on("line", (text) => {
    seen.push({ text, atMs: performance.now() })
    wake?.()
  })
  lines.on("close", () => {
    ended = true
    wake?.()
  })
  const next = async (timeoutMs: number): Promise<string | undefined> => {
    const deadline = performance.now() + timeoutMs
    while (taken === seen.length) {
      const left = deadline - performance.now()
      if (ended || left <= 0) return undefined
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return seen[taken++]!.text
  }
  return { next, seen }
}
