import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { PLACE_HOST, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"
import { ConfigError } from "./config-error.ts"
import { formatRule, rulesConflict, type ForwardRule } from "./forward-rule.ts"
import { parsePortOptions, type PortContext } from "./port-spec.ts"

const CONTEXT: PortContext = {
  ipv4: true,
  ipv6: true,
  tcp: true,
  udp: true,
  auto: false,
  ephemeralFirst: 32768,
  ephemeralLast: 60999,
}
const parse = (spec: string): ForwardRule[] =>
  parsePortOptions([{ protocol: "tcp", place: 0, spec, written: "-t" }], CONTEXT)

const range = (first: number, last: number): string => (first === last ? `${first}` : `${first}-${last}`)

/** Inclusions that don't overlap (gaps and lengths), each with the shift of its target, and exclusions anywhere. */
const listing = fc.record({
  listen: fc.constantFrom("", "/", "*/", "127.0.0.1/", "0.0.0.0/", "::/", "[fe80::1]%eth0/", "%eth0/"),
  included: fc.array(
    fc.record({
      gap: fc.integer({ min: 1, max: 3000 }),
      length: fc.integer({ min: 1, max: 3000 }),
      shift: fc.integer({ min: 0, max: 1000 }),
    }),
    { minLength: 1, maxLength: 8 },
  ),
  excluded: fc.array(
    fc.record({ first: fc.integer({ min: 0, max: 50_000 }), length: fc.integer({ min: 1, max: 2000 }) }),
    { maxLength: 6 },
  ),
  seed: fc.integer(),
})

describe("parsePortOptions", () => {
  it("makes of a list what a walk over its ports would", () => {
    fc.assert(
      fc.property(listing, ({ listen, included, excluded, seed }) => {
        const model = new Map<number, number>()
        const chunks: string[] = []
        let next = 1
        for (const { gap, length, shift } of included) {
          const first = next + gap
          const last = first + length - 1
          next = last + 1
          chunks.push(shift === 0 ? range(first, last) : `${range(first, last)}:${range(first + shift, last + shift)}`)
          for (let port = first; port <= last; port++) model.set(port, port + shift)
        }
        for (const { first, length } of excluded) {
          // Anywhere in the list.
          chunks.splice(Math.abs(seed) % (chunks.length + 1), 0, `~${range(first, first + length - 1)}`)
          for (let port = first; port < first + length; port++) model.delete(port)
        }
        const found = new Map<number, number>()
        const twice: number[] = []
        for (const rule of parse(listen + chunks.join(","))) {
          expect(rule.weak || rule.auto).toBe(false)
          for (let port = rule.first; port <= rule.last; port++) {
            if (found.has(port)) twice.push(port)
            found.set(port, rule.targetFirst + port - rule.first)
          }
        }
        expect(twice).toEqual([])
        expect([...found].toSorted((a, b) => a[0] - b[0])).toEqual([...model])
      }),
      { numRuns: 60 },
    )
  })

  it("takes all ports but the excluded and ephemeral ones when none is named", () => {
    const exclusions = fc.array(
      fc.record({ first: fc.integer({ min: 0, max: 65_535 }), length: fc.integer({ min: 1, max: 500 }) }),
      { minLength: 1, maxLength: 6 },
    )
    fc.assert(
      fc.property(exclusions, (excluded) => {
        const open = new Uint8Array(65_536).fill(1)
        open[0] = 0
        open.fill(0, CONTEXT.ephemeralFirst, CONTEXT.ephemeralLast + 1)
        const chunks = excluded.map(({ first, length }) => {
          const last = Math.min(first + length - 1, 65_535)
          open.fill(0, first, last + 1)
          return `~${range(first, last)}`
        })
        const found = new Uint8Array(65_536)
        for (const rule of parse(chunks.join(","))) {
          expect([rule.weak, rule.targetFirst]).toEqual([true, rule.first])
          found.fill(1, rule.first, rule.last + 1)
        }
        expect(Buffer.compare(found, open)).toBe(0)
      }),
    )
  })

  it("answers any text with rules or one line", () => {
    const pieces = fc.constantFrom(
      ..."22 80 0 65535 65536 - : , ~ / % * [ ] ::1 10.0.0.1 all auto none eth0 . fe80:: x".split(" "),
      " ",
      "\n",
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join("")),
    )
    fc.assert(
      fc.property(text, (spec) => {
        try {
          for (const rule of parse(spec)) {
            expect(rule.first).toBeGreaterThan(0)
            expect(rule.targetFirst).toBeGreaterThan(0)
            expect(rule.last).toBeGreaterThanOrEqual(rule.first)
            expect(Math.max(rule.last, rule.targetFirst + rule.last - rule.first)).toBeLessThan(65_536)
            expect(formatRule(rule)).toMatch(/^TCP \[\S+\](%\S+)?:[\d-]+  =>  \S+ /)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError)
        }
      }),
      { numRuns: 3000 },
    )
  })
})

describe("rulesConflict", () => {
  const rule: fc.Arbitrary<ForwardRule> = fc
    .record({
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      place: fc.constantFrom(PLACE_HOST, PLACE_NAMESPACE),
      host: fc.constantFrom(null, "0.0.0.0", "::", "10.0.0.1", "10.0.0.2", "fd00::1"),
      device: fc.constantFrom("", "eth0", "eth1"),
      first: fc.integer({ min: 1, max: 6 }),
      length: fc.integer({ min: 1, max: 3 }),
    })
    .map(({ protocol, place, host, device, first, length }) => ({
      protocol,
      place,
      device,
      first,
      last: first + length - 1,
      targetFirst: first,
      targetAddress: null,
      address: host === null ? null : address.parse(host)!,
      dualStack: host === null,
      weak: false,
      auto: false,
    }))

  /** Every packet that a rule would take: place, protocol, destination, interface it came in by, port. */
  function taken(one: ForwardRule): Set<string> {
    const packets = new Set<string>()
    const own = one.address && address.format(one.address)
    for (const host of ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"]) {
      const any = host.includes(":") ? "::" : "0.0.0.0"
      if (own !== null && own !== any && own !== host) continue
      for (const device of ["eth0", "eth1", "eth2"]) {
        if (one.device !== "" && one.device !== device) continue
        for (let port = one.first; port <= one.last; port++)
          packets.add(`${one.place} ${one.protocol} ${host} ${device} ${port}`)
      }
    }
    return packets
  }

  it("holds exactly for rules that would take the same packet", () => {
    fc.assert(
      fc.property(rule, rule, (a, b) => {
        const packets = taken(b)
        const overlap = [...taken(a)].some((packet) => packets.has(packet))
        expect([rulesConflict(a, b), rulesConflict(b, a)]).toEqual([overlap, overlap])
      }),
      { numRuns: 2000 },
    )
  })
})
