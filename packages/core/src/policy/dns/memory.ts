/**
 * Which names the guest has found which addresses by. Bounded: of names that some rule is about so many addresses, of others, which are only
 * shown, so many; the oldest make room. What a guest asks for in floods pushes out only what it has asked for itself.
 */
import { isMapped } from "../../wire/address.ts"
import type { Matcher } from "../matcher.ts"

/** Addresses of names that rules are about, and of others. */
const WANTED_MAX = 8192
const OTHERS_MAX = 1024
/** Names of one address, the latest. */
const NAMES_MAX = 8
/** Programs connect some time after they have asked, and keep what they know for a little longer than they should: seconds. */
const TTL_MIN = 60
const TTL_MAX = 86_400
const GRACE = 30

export interface KnownName {
  readonly name: string
  /** Until when it holds, milliseconds of a clock that does not wrap. */
  until: number
  /** What the name leads to, and in which compiled rules. */
  buckets: readonly Int32Array[]
  matcher: Matcher | undefined
}

type Key = number | string

function keyOf(a: Int32Array, i: number): Key {
  return isMapped(a, i) ? a[i + 3]! : `${a[i]},${a[i + 1]},${a[i + 2]},${a[i + 3]}`
}

const NOTHING: readonly KnownName[] = []

export class NameMemory {
  readonly #wanted = new Map<Key, KnownName[]>()
  readonly #others = new Map<Key, KnownName[]>()

  /** Addresses that are remembered. */
  get size(): number {
    return this.#wanted.size + this.#others.size
  }

  /** @param ttl seconds @param now milliseconds */
  learn(name: string, a: Int32Array, i: number, ttl: number, now: number, matcher: Matcher): void {
    const buckets = matcher.bucketsOf(name)
    const isWanted = buckets.length > 0
    const map = isWanted ? this.#wanted : this.#others
    const key = keyOf(a, i)
    const until = now + 1000 * (Math.min(Math.max(ttl, TTL_MIN), TTL_MAX) + GRACE)
    const names = map.get(key) ?? []
    // Behind the others: the first is the oldest.
    map.delete(key)
    map.set(key, names)
    const at = names.findIndex((known) => known.name === name)
    // Of two answers the later end counts: the earlier one was not wrong.
    const known = at < 0 ? { name, until, buckets, matcher } : names.splice(at, 1)[0]!
    known.until = Math.max(known.until, until)
    names.unshift(known)
    if (names.length > NAMES_MAX) names.pop()
    if (map.size > (isWanted ? WANTED_MAX : OTHERS_MAX)) map.delete(map.keys().next().value!)
  }

  /** Names of an address that hold now, those that rules are about first. */
  namesOf(a: Int32Array, i: number, now: number): readonly KnownName[] {
    const key = keyOf(a, i)
    const wanted = this.#alive(this.#wanted, key, now)
    const others = this.#alive(this.#others, key, now)
    return others.length === 0 ? wanted : wanted.length === 0 ? others : [...wanted, ...others]
  }

  #alive(map: Map<Key, KnownName[]>, key: Key, now: number): readonly KnownName[] {
    const names = map.get(key)
    if (names === undefined) return NOTHING
    for (let k = names.length - 1; k >= 0; k--) if (names[k]!.until < now) names.splice(k, 1)
    if (names.length === 0) map.delete(key)
    return names
  }
}

/** The first rule that is about one of these names. */
export function ruleByName(names: readonly KnownName[], matcher: Matcher, protocol: number, port: number): number {
  let best = 0x7fffffff
  for (let i = 0; i < names.length; i++) {
    const known = names[i]!
    if (known.matcher !== matcher) {
      known.matcher = matcher
      known.buckets = matcher.bucketsOf(known.name)
    }
    for (let k = 0; k < known.buckets.length; k++) {
      const bucket = known.buckets[k]![protocol]!
      if (bucket < 0) continue
      const found = matcher.ruleOf(bucket, port)
      if (found < best) best = found
    }
  }
  return best
}
