import fc from "fast-check"
import { expect, test } from "vitest"

import { words } from "../sim/config.ts"
import { isMapped } from "../wire/address.ts"
import { DIRECTION_OUT, Matcher, NO_RULE, PROTOCOLS } from "./matcher.ts"
import type { PolicyRule, Prefix } from "./rule.ts"

function bit(address: Int32Array, i: number): number {
  return (address[i >> 5]! >>> (31 - (i & 31))) & 1
}

function holds(prefix: Prefix, address: Int32Array): boolean {
  const v4 = prefix.bits >= 96 && isMapped(prefix.address, 0)
  if (v4 !== isMapped(address, 0)) return false
  for (let i = 0; i < prefix.bits; i++) if (bit(prefix.address, i) !== bit(address, i)) return false
  return true
}

function nameHolds(pattern: string, name: string): boolean {
  if (pattern === "*") return true
  return pattern.startsWith("*.")
    ? name.endsWith(pattern.slice(1)) && name.length > pattern.length - 1
    : name === pattern
}

/** Looks at one rule after the other. */
function naive(
  rules: readonly PolicyRule[],
  direction: number,
  protocol: number,
  address: Int32Array,
  port: number,
  names: readonly string[],
): number {
  const found = rules.findIndex((rule) => {
    if (rule.direction !== undefined && (rule.direction === "out") !== (direction === DIRECTION_OUT)) return false
    if (rule.protocols !== undefined && !rule.protocols.includes(PROTOCOLS[protocol]!)) return false
    if (rule.ports !== undefined) {
      if (protocol === 2 || !rule.ports.some(({ first, last }) => first <= port && port <= last)) return false
    }
    if (rule.names !== undefined) {
      return direction === DIRECTION_OUT && rule.names.some((pattern) => names.some((name) => nameHolds(pattern, name)))
    }
    return rule.remotes === undefined || rule.remotes.some((prefix) => holds(prefix, address))
  })
  return found < 0 ? NO_RULE : found
}

function fast(
  matcher: Matcher,
  direction: number,
  protocol: number,
  address: Int32Array,
  port: number,
  names: readonly string[],
): number {
  let best = matcher.match(direction, protocol, address, 0, port)
  if (direction !== DIRECTION_OUT) return best
  for (const name of names) {
    for (const buckets of matcher.bucketsOf(name)) {
      const bucket = buckets[protocol]!
      if (bucket >= 0) best = Math.min(best, matcher.ruleOf(bucket, port))
    }
  }
  return best
}

// Few values, so that rules overlap.
const address = fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 255 })).map(([a, b]) => words(`10.${a}.0.${b}`)),
  fc
    .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 15 }))
    .map(([a, b]) => words(`2001:db8:${a}::${b}`)),
)
const prefix = fc
  .tuple(address, fc.integer({ min: 0, max: 32 }), fc.integer({ min: 0, max: 128 }))
  .map(([a, short, long]) => ({ address: a, bits: isMapped(a, 0) ? 96 + short : long }))
const port = fc.integer({ min: 0, max: 12 }).map((n) => (n === 12 ? 65_535 : n))
const range = fc.tuple(port, port).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }))
const name = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."))
const pattern = fc.oneof(
  name,
  name.map((text) => `*.${text}`),
  fc.constant("*"),
)
const protocols = fc.subarray([...PROTOCOLS], { minLength: 1 })
const common = {
  action: fc.constantFrom("allow" as const, "refuse" as const),
  direction: fc.constantFrom("in" as const, "out" as const),
  protocols,
  ports: fc.array(range, { minLength: 1, maxLength: 3 }),
}
const rule: fc.Arbitrary<PolicyRule> = fc.oneof(
  fc.record({ ...common, remotes: fc.array(prefix, { minLength: 1, maxLength: 3 }) }, { requiredKeys: ["action"] }),
  fc.record(
    { ...common, names: fc.array(pattern, { minLength: 1, maxLength: 2 }) },
    { requiredKeys: ["action", "names"] },
  ),
)

test("the compiled rules find what a look at one rule after the other finds", () => {
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 30 }),
      fc.array(fc.tuple(fc.nat(1), fc.nat(2), address, port, fc.array(name, { maxLength: 2 })), { minLength: 1 }),
      (rules, questions) => {
        const matcher = Matcher.of(rules)
        for (const [direction, protocol, remote, asked, names] of questions) {
          expect(fast(matcher, direction, protocol, remote, asked, names)).toBe(
            naive(rules, direction, protocol, remote, asked, names),
          )
        }
      },
    ),
    { numRuns: 500 },
  )
})

test("::/0 is all of IPv6 and nothing of IPv4", () => {
  const matcher = Matcher.of([{ action: "allow", remotes: [{ address: words("::"), bits: 0 }] }])
  expect(matcher.match(0, 0, words("2001:db8::1"), 0, 80)).toBe(0)
  expect(matcher.match(0, 0, words("192.0.2.1"), 0, 80)).toBe(NO_RULE)
})

test("the first rule of many wins, whatever the lengths of their prefixes", () => {
  const rules: PolicyRule[] = [
    { action: "refuse", remotes: [{ address: words("10.0.0.0"), bits: 104 }], ports: [{ first: 80, last: 90 }] },
    { action: "allow", remotes: [{ address: words("10.0.0.1"), bits: 128 }] },
    { action: "drop" },
  ]
  const matcher = Matcher.of(rules)
  expect(matcher.match(0, 0, words("10.0.0.1"), 0, 85)).toBe(0)
  expect(matcher.match(0, 0, words("10.0.0.1"), 0, 91)).toBe(1)
  expect(matcher.match(0, 2, words("10.0.0.1"), 0, 0)).toBe(1)
  expect(matcher.match(1, 0, words("192.0.2.1"), 0, 85)).toBe(2)
})
