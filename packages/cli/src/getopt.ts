/**
 * Reads a command line the way GNU getopt_long does with a leading "+" in its short options: options end at the first
 * word that isn't one, or at "--"; long options may be shortened as far as they stay unambiguous; "--name=value" and
 * bundled short options work. Callers of passt match on the error texts, so these are glibc's (intl-free) wordings.
 */
import { UsageError } from "./config-error.ts"

/** One spelling of an option. Spellings with the same `id` are one option: they never make each other ambiguous. */
export interface OptionSpelling {
  /** Long: without dashes. Short: one character. */
  readonly spelling: string
  readonly id: string
  readonly takesArgument: boolean
}

export interface GetoptTable {
  readonly short: readonly OptionSpelling[]
  readonly long: readonly OptionSpelling[]
}

export interface ParsedOption {
  readonly id: string
  /** The argument; null for an option that takes none. */
  readonly value: string | null
  /** The option as it is named in messages: "-t", or the full long name "--tcp-ports" even when it was shortened. */
  readonly written: string
}

/**
 * Yields options from left to right, so that a consumer can act on one (`--version`) before a later one is found wrong.
 * @returns the index of the first operand in `args`.
 * @throws UsageError at the first option that can't be read.
 */
export function* getopt(args: readonly string[], table: GetoptTable): Generator<ParsedOption, number, undefined> {
  let next = 0
  while (next < args.length) {
    const word = args[next]!
    if (word === "--") return next + 1
    if (!word.startsWith("-") || word === "-") return next
    next++
    if (word.startsWith("--")) {
      const equals = word.indexOf("=")
      const option = findLong(table.long, word.slice(2, equals < 0 ? undefined : equals), word)
      const written = `--${option.spelling}`
      let value: string | null = null
      if (equals >= 0) {
        if (!option.takesArgument) throw new UsageError(`option '${written}' doesn't allow an argument`)
        value = word.slice(equals + 1)
      } else if (option.takesArgument) {
        if (next >= args.length) throw new UsageError(`option '${written}' requires an argument`)
        value = args[next++]!
      }
      yield { id: option.id, value, written }
      continue
    }
    const letters = Array.from(word.slice(1))
    for (let i = 0; i < letters.length; i++) {
      const letter = letters[i]!
      const option = table.short.find((candidate) => candidate.spelling === letter)
      if (!option) throw new UsageError(`invalid option -- '${letter}'`)
      const written = `-${letter}`
      if (!option.takesArgument) {
        yield { id: option.id, value: null, written }
        continue
      }
      let value = letters.slice(i + 1).join("")
      if (value === "") {
        if (next >= args.length) throw new UsageError(`option requires an argument -- '${letter}'`)
        value = args[next++]!
      }
      yield { id: option.id, value, written }
      break
    }
  }
  return next
}

/** An exact name, or the only option that begins so. `word` is the whole word, which messages quote. */
function findLong(options: readonly OptionSpelling[], name: string, word: string): OptionSpelling {
  const candidates: OptionSpelling[] = []
  for (const option of options) {
    if (option.spelling === name) return option
    if (!option.spelling.startsWith(name)) continue
    // A further spelling of the first candidate is no rival to it.
    if (candidates.length === 0 || candidates[0]!.id !== option.id) candidates.push(option)
  }
  if (candidates.length === 0) throw new UsageError(`unrecognized option '${word}'`)
  if (candidates.length > 1) {
    const possibilities = candidates.map((candidate) => ` '--${candidate.spelling}'`).join("")
    throw new UsageError(`option '${word}' is ambiguous; possibilities:${possibilities}`)
  }
  return candidates[0]!
}
