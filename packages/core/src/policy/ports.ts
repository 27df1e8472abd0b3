/** Which rule is the first to hold for a port: ranges of many rules, flattened to segments that don't overlap. */

interface Entry {
  readonly rule: number
  readonly first: number
  readonly last: number
}

export const NO_RULE = 0x7fffffff

export interface Segments {
  /** First port of each segment, ascending; the first is 0. */
  readonly starts: Int32Array
  /** The first rule that holds there, NO_RULE: none. */
  readonly rules: Int32Array
}

/** @param entries in the order of their rules */
export function flatten(entries: readonly Entry[]): Segments {
  const edges = new Set<number>([0])
  for (const { first, last } of entries) {
    edges.add(first)
    if (last < 0xffff) edges.add(last + 1)
  }
  const starts = Int32Array.from(edges).sort()
  const rules = new Int32Array(starts.length).fill(NO_RULE)
  // next[i]: the first segment from i on that no rule has yet, found through those that were passed before.
  const next = Int32Array.from({ length: starts.length + 1 }, (_, i) => i)
  const free = (from: number): number => {
    let end = from
    while (next[end] !== end) end = next[end]!
    for (let i = from; i !== end;) {
      const after = next[i]!
      next[i] = end
      i = after
    }
    return end
  }
  for (const { rule, first, last } of entries) {
    for (let i = free(indexOf(starts, first)); i < starts.length && starts[i]! <= last; i = free(i)) {
      rules[i] = rule
      next[i] = i + 1
    }
  }
  return merge(starts, rules)
}

function merge(starts: Int32Array, rules: Int32Array): Segments {
  let count = 0
  for (let i = 0; i < starts.length; i++) {
    if (i > 0 && rules[i] === rules[count - 1]) continue
    starts[count] = starts[i]!
    rules[count++] = rules[i]!
  }
  return { starts: starts.slice(0, count), rules: rules.slice(0, count) }
}

/** The segment that a port lies in. */
function indexOf(starts: Int32Array, port: number): number {
  return searchFrom(starts, 0, starts.length, port)
}

/** Among starts[from … end-1]: the last that is not beyond the port. */
export function searchFrom(starts: Int32Array, from: number, end: number, port: number): number {
  let low = from
  let high = end - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (starts[middle]! <= port) low = middle
    else high = middle - 1
  }
  return low
}
