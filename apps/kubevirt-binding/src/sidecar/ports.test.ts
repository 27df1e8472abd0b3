import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { MESHES } from "./mesh.ts"
import { normalize, parsePortList, portSet, type PortRange, subtract, toSpecification } from "./ports.ts"

const port = fc.integer({ min: 1, max: 65_535 })
const range = fc.tuple(port, port).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }))
const ranges = fc.array(range, { maxLength: 8 })

function has(set: readonly PortRange[], number: number): boolean {
  return set.some(({ first, last }) => first <= number && number <= last)
}

describe("sets of ports", () => {
  test("normalize and subtract keep exactly what they should, sorted and apart", () => {
    fc.assert(
      fc.property(ranges, ranges, fc.array(port, { minLength: 1, maxLength: 20 }), (a, b, probes) => {
        const rest = subtract(a, normalize(b))
        const edges = [...a, ...b].flatMap(({ first, last }) => [first - 1, first, last, last + 1])
        for (const number of [...probes, ...edges]) {
          expect(has(normalize(a), number)).toBe(has(a, number))
          expect(has(rest, number)).toBe(has(a, number) && !has(b, number))
        }
        const inOrder = normalize(a)
        for (let i = 1; i < inOrder.length; i++) expect(inOrder[i]!.first).toBeGreaterThan(inOrder[i - 1]!.last + 1)
      }),
    )
  })

  test.each([
    ["all, when none are listed", portSet([], false, []), "all"],
    ["all but a proxy's", portSet([], false, [{ first: 15_000, last: 15_001 }]), "~15000-15001"],
    ["only those that are listed", portSet([{ first: 80, last: 80 }], true, []), "80"],
    ["none of a protocol of which none is listed", portSet([], true, []), "none"],
    [
      "duplicates and neighbours are one",
      portSet(
        [80, 80, 81].map((n) => ({ first: n, last: n })),
        true,
        [],
      ),
      "80-81",
    ],
    ["a proxy's port, listed", portSet([{ first: 1, last: 3 }], true, [{ first: 2, last: 2 }]), "1,3"],
    ["nothing but a proxy's port", portSet([{ first: 2, last: 2 }], true, [{ first: 2, last: 2 }]), "none"],
  ])("%s", (_, set, specification) => {
    expect(toSpecification(set)).toBe(specification)
    if (specification !== "none") expect(toSpecification(set, "net1")).toBe(`%net1/${specification}`)
  })
})

describe("lists of ports in the configuration", () => {
  test("protocols, ranges, and both protocols when none is named", () => {
    expect(parsePortList("4143, udp:5000-5010,TCP:22,", "it")).toEqual({
      tcp: [
        { first: 22, last: 22 },
        { first: 4143, last: 4143 },
      ],
      udp: [
        { first: 4143, last: 4143 },
        { first: 5000, last: 5010 },
      ],
    })
  })

  test.each(["0", "65536", "5-4", "x", "tcp:", "1-2-3", "sctp:4", "-1", "1e3"])("%s is refused", (text) => {
    expect(() => parsePortList(text, "it")).toThrow(`it: "${text}" is not a port`)
  })
})

describe("meshes by metadata", () => {
  const inject = "sidecar.istio.io/inject"
  test.each([
    ["nothing", {}, {}, []],
    ["Istio's annotation", { [inject]: "true" }, {}, ["istio"]],
    ["in any case", { [inject]: "True" }, {}, ["istio"]],
    ["Istio's label", {}, { [inject]: "true" }, ["istio"]],
    ["the label wins", { [inject]: "true" }, { [inject]: "false" }, []],
    ["not injected", { [inject]: "false" }, {}, []],
    ["ambient mode", {}, { "istio.io/dataplane-mode": "ambient" }, ["istio"]],
    ["Linkerd", { "linkerd.io/inject": "enabled" }, {}, ["linkerd"]],
    ["not Linkerd", { "linkerd.io/inject": "disabled" }, {}, []],
  ])("%s", (_, annotations, labels, names) => {
    const found = MESHES.filter((mesh) => mesh.isIn({ annotations, labels }))
    expect(found.map(({ name }) => name)).toEqual(names)
  })
})
