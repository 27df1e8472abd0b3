/**
 * Rules, compiled: which is the first that matches a flow, in time that hardly depends on how many there are.
 *
 * ```
 *   class = direction, protocol, family ──▶ lengths of prefixes that its rules have, those with the earliest rules first
 *     per length: hash of (class, length, address cut to it) ──▶ bucket ──▶ segments of ports ──▶ first rule
 * ```
 * A length is not looked at when all of its rules come after one that has been found. Names lead to buckets likewise: that of a name, and
 * those of "*.suffix" for each of its suffixes.
 *
 * Compiling is a generator, for it may have to go on between turns of the loop; matching allocates nothing.
 */
import { isMapped } from "../wire/address.ts"
import { flatten, NO_RULE, searchFrom } from "./ports.ts"
import type { PolicyProtocol, PolicyRule } from "./rule.ts"

export { NO_RULE } from "./ports.ts"

export const DIRECTION_OUT = 0
export const DIRECTION_IN = 1
export const PROTOCOLS: readonly PolicyProtocol[] = ["tcp", "udp", "icmp"]
export const PROTOCOL_TCP = 0
export const PROTOCOL_UDP = 1
export const PROTOCOL_ICMP = 2
const PROTOCOL_COUNT = 3
const CLASSES: number = 2 * PROTOCOL_COUNT * 2
const MAPPED_BITS = 96
const ALL_PORTS = { first: 0, last: 0xffff }

/** Words of a slot of the table: class and length (0: free), address, bucket, its first rule. */
const SLOT_WORDS = 7
const SLOT_BUCKET = 5
const SLOT_FIRST = 6
/** Rules, and buckets, that are compiled between two steps of the generator. */
const STEP = 64

interface Entry {
  readonly rule: number
  readonly first: number
  readonly last: number
}
interface Collected {
  readonly group: number
  readonly bits: number
  readonly address: Int32Array
  readonly entries: Entry[]
}

function classOf(direction: number, protocol: number, v4: boolean): number {
  return (direction * PROTOCOL_COUNT + protocol) * 2 + (v4 ? 0 : 1)
}

/** The part of a word that lies within the first `bits` of an address. @param i which word */
function cut(word: number, i: number, bits: number): number {
  const left = bits - 32 * i
  return left <= 0 ? 0 : left >= 32 ? word : word & (-1 << (32 - left))
}

function hash(kind: number, w0: number, w1: number, w2: number, w3: number): number {
  let h = Math.imul(kind ^ w3, 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 15) ^ w2, 0xc2b2ae35)
  h = Math.imul(h ^ (h >>> 13) ^ w1, 0x27d4eb2f)
  h = Math.imul(h ^ (h >>> 16) ^ w0, 0x165667b1)
  return h ^ (h >>> 15)
}

const NO_WORDS = new Int32Array(4)

export class Matcher {
  /** Whether some rule has names. */
  readonly hasNames: boolean
  /** Buckets of names, three each by protocol, -1: none. */
  readonly #names: ReadonlyMap<string, Int32Array>
  readonly #slots: Int32Array
  readonly #mask: number
  /** Per class, where its lengths begin. */
  readonly #lengthsFrom: Int32Array
  readonly #lengthBits: Int32Array
  readonly #lengthFirst: Int32Array
  /** Per bucket, where its segments begin. */
  readonly #segmentsFrom: Int32Array
  readonly #starts: Int32Array
  readonly #rules: Int32Array

  private constructor(parts: {
    names: Map<string, Int32Array>
    slots: Int32Array
    mask: number
    lengthsFrom: Int32Array
    lengthBits: Int32Array
    lengthFirst: Int32Array
    segmentsFrom: Int32Array
    starts: Int32Array
    rules: Int32Array
  }) {
    this.hasNames = parts.names.size > 0
    this.#names = parts.names
    this.#slots = parts.slots
    this.#mask = parts.mask
    this.#lengthsFrom = parts.lengthsFrom
    this.#lengthBits = parts.lengthBits
    this.#lengthFirst = parts.lengthFirst
    this.#segmentsFrom = parts.segmentsFrom
    this.#starts = parts.starts
    this.#rules = parts.rules
  }

  /** At once. */
  static of(rules: readonly PolicyRule[]): Matcher {
    const steps = Matcher.compile(rules)
    for (;;) {
      const { done, value } = steps.next()
      if (done) return value
    }
  }

  static *compile(rules: readonly PolicyRule[]): Generator<undefined, Matcher, undefined> {
    const prefixes = new Map<string, Collected>()
    const named = new Map<string, (Entry[] | undefined)[]>()
    for (let i = 0; i < rules.length; i++) {
      collect(rules[i]!, i, prefixes, named)
      if (i % STEP === STEP - 1) yield
    }
    const buckets: Entry[][] = []
    const table = yield* buildTable(prefixes, buckets)
    const names = new Map<string, Int32Array>()
    for (const [pattern, byProtocol] of named) {
      const found = new Int32Array(PROTOCOL_COUNT).fill(-1)
      byProtocol.forEach((entries, protocol) => {
        if (entries !== undefined) found[protocol] = buckets.push(entries) - 1
      })
      names.set(pattern, found)
      if (names.size % STEP === 0) yield
    }
    return new Matcher({ names, ...table, ...(yield* flattenAll(buckets)) })
  }

  /** @param a,ai the remote end's address @returns index of the first rule without names that matches, or NO_RULE */
  match(direction: number, protocol: number, a: Int32Array, ai: number, port: number): number {
    const v4 = isMapped(a, ai)
    const group = classOf(direction, protocol, v4)
    const end = this.#lengthsFrom[group + 1]!
    let best = NO_RULE
    for (let i = this.#lengthsFrom[group]!; i < end; i++) {
      if (this.#lengthFirst[i]! >= best) break
      const bits = this.#lengthBits[i]!
      const slot = v4
        ? this.#find((group << 8) | bits, 0, 0, 0, cut(a[ai + 3]!, 3, bits))
        : this.#find(
            (group << 8) | bits,
            cut(a[ai]!, 0, bits),
            cut(a[ai + 1]!, 1, bits),
            cut(a[ai + 2]!, 2, bits),
            cut(a[ai + 3]!, 3, bits),
          )
      if (slot < 0 || this.#slots[slot + SLOT_FIRST]! >= best) continue
      const found = this.ruleOf(this.#slots[slot + SLOT_BUCKET]!, port)
      if (found < best) best = found
    }
    return best
  }

  /** @returns the first rule of a bucket that holds for a port, or NO_RULE */
  ruleOf(bucket: number, port: number): number {
    const at = searchFrom(this.#starts, this.#segmentsFrom[bucket]!, this.#segmentsFrom[bucket + 1]!, port)
    return this.#rules[at]!
  }

  /** Buckets that a name leads to, three each by protocol; -1: none. @param name lower case, without a dot at the end */
  bucketsOf(name: string): Int32Array[] {
    const found: Int32Array[] = []
    if (!this.hasNames) return found
    const exact = this.#names.get(name)
    if (exact !== undefined) found.push(exact)
    for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
      const below = this.#names.get(`*${name.slice(dot)}`)
      if (below !== undefined) found.push(below)
    }
    const any = this.#names.get("*")
    if (any !== undefined) found.push(any)
    return found
  }

  #find(kind: number, w0: number, w1: number, w2: number, w3: number): number {
    const slots = this.#slots
    for (let i = hash(kind, w0, w1, w2, w3) & this.#mask; ; i = (i + 1) & this.#mask) {
      const at = i * SLOT_WORDS
      const there = slots[at]!
      if (there === 0) return -1
      if (
        there === kind + 1 &&
        slots[at + 4] === w3 &&
        slots[at + 1] === w0 &&
        slots[at + 2] === w1 &&
        slots[at + 3] === w2
      ) {
        return at
      }
    }
  }
}

function collect(
  rule: PolicyRule,
  index: number,
  prefixes: Map<string, Collected>,
  named: Map<string, (Entry[] | undefined)[]>,
): void {
  const hasPorts = rule.ports !== undefined
  const entries = (rule.ports ?? [ALL_PORTS]).map(({ first, last }) => ({ rule: index, first, last }))
  for (let protocol = 0; protocol < PROTOCOL_COUNT; protocol++) {
    if (rule.protocols !== undefined && !rule.protocols.includes(PROTOCOLS[protocol]!)) continue
    if (hasPorts && protocol === PROTOCOL_ICMP) continue
    for (let direction = DIRECTION_OUT; direction <= DIRECTION_IN; direction++) {
      if (rule.direction !== undefined && (rule.direction === "out") !== (direction === DIRECTION_OUT)) continue
      if (rule.names !== undefined) {
        if (direction !== DIRECTION_OUT) continue
        for (const name of rule.names) {
          const byProtocol = named.get(name) ?? Array.from({ length: PROTOCOL_COUNT }, () => undefined)
          named.set(name, byProtocol)
          const list = byProtocol[protocol]
          if (list === undefined) byProtocol[protocol] = [...entries]
          else list.push(...entries)
        }
        continue
      }
      if (rule.remotes === undefined) {
        add(prefixes, classOf(direction, protocol, true), MAPPED_BITS, NO_WORDS, entries)
        add(prefixes, classOf(direction, protocol, false), 0, NO_WORDS, entries)
        continue
      }
      for (const { address, bits } of rule.remotes) {
        const v4 = bits >= MAPPED_BITS && isMapped(address, 0)
        add(prefixes, classOf(direction, protocol, v4), bits, address, entries)
      }
    }
  }
}

function add(prefixes: Map<string, Collected>, group: number, bits: number, from: Int32Array, entries: Entry[]): void {
  // In classes of IPv4 the first 96 bits are the same for all, and left out.
  const v4 = (group & 1) === 0
  const address = Int32Array.from(from, (word, i) => (v4 && i < 3 ? 0 : cut(word, i, bits)))
  const key = `${group} ${bits} ${address.join()}`
  const known = prefixes.get(key)
  if (known === undefined) prefixes.set(key, { group, bits, address, entries: [...entries] })
  else known.entries.push(...entries)
}

function* buildTable(
  prefixes: Map<string, Collected>,
  buckets: Entry[][],
): Generator<
  undefined,
  { slots: Int32Array; mask: number; lengthsFrom: Int32Array; lengthBits: Int32Array; lengthFirst: Int32Array },
  undefined
> {
  let room = 4
  while (room < 2 * prefixes.size) room *= 2
  const slots = new Int32Array(room * SLOT_WORDS)
  const firsts = Array.from({ length: CLASSES }, () => new Map<number, number>())
  let count = 0
  for (const { group, bits, address, entries } of prefixes.values()) {
    const kind = (group << 8) | bits
    const first = entries[0]!.rule
    let i = hash(kind, address[0]!, address[1]!, address[2]!, address[3]!) & (room - 1)
    while (slots[i * SLOT_WORDS] !== 0) i = (i + 1) & (room - 1)
    slots.set([kind + 1, ...address, buckets.push(entries) - 1, first], i * SLOT_WORDS)
    const known = firsts[group]!.get(bits)
    if (known === undefined || first < known) firsts[group]!.set(bits, first)
    if (++count % STEP === 0) yield
  }
  const lengthsFrom = new Int32Array(CLASSES + 1)
  const lengths: [number, number][] = []
  firsts.forEach((byBits, group) => {
    lengths.push(...[...byBits].sort((a, b) => a[1] - b[1]))
    lengthsFrom[group + 1] = lengths.length
  })
  return {
    slots,
    mask: room - 1,
    lengthsFrom,
    lengthBits: Int32Array.from(lengths, ([bits]) => bits),
    lengthFirst: Int32Array.from(lengths, ([, first]) => first),
  }
}

function* flattenAll(
  buckets: readonly Entry[][],
): Generator<undefined, { segmentsFrom: Int32Array; starts: Int32Array; rules: Int32Array }, undefined> {
  const segmentsFrom = new Int32Array(buckets.length + 1)
  const starts: number[] = []
  const rules: number[] = []
  for (let i = 0; i < buckets.length; i++) {
    const flat = flatten(buckets[i]!)
    // One by one: a spread of many thousands would not fit the stack.
    for (let k = 0; k < flat.starts.length; k++) {
      starts.push(flat.starts[k]!)
      rules.push(flat.rules[k]!)
    }
    segmentsFrom[i + 1] = starts.length
    if (i % STEP === STEP - 1) yield
  }
  return { segmentsFrom, starts: Int32Array.from(starts), rules: Int32Array.from(rules) }
}
