// Everything in a domain that is not ours survives, byte for byte; and what comes out, put in again, stays as it is.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { childrenNamed, type Element, parseDocument } from "./domain/document.ts"
import { mutate } from "./mutate.ts"
import { context, DOMAINS, machineJson } from "./test-support/machines.ts"

const BACKINGS = [
  "",
  "<memoryBacking/>",
  "<memoryBacking></memoryBacking>",
  "<memoryBacking>\n    <hugepages/>\n  </memoryBacking>",
  "<memoryBacking><!-- as it is --><source type='memfd'/><access mode=\"shared\" /></memoryBacking>",
  "<memoryBacking ><locked/><discard/></memoryBacking >",
]
const OURS = [
  "",
  "<interface type='ethernet'><alias name='ua-default'/></interface>",
  "<interface\ttype='user' ><x:y xmlns:x='urn:x'>?</x:y><alias name='ua-default'></alias>\r\n</interface >",
]

const name = fc.constantFrom("disk", "console", "hostdev", "qemu:arg", "vendor-element", "interface", "ä", "x.y")
const value = fc.string({
  unit: fc.constantFrom("a", " ", "é", "𝄞", "&lt;", "&#10;", "<!--", ">", "'", "/", "\t"),
  maxLength: 12,
})
const attribute = value.map((text) => `a="${text.replaceAll("<!--", "&lt;!--").replaceAll('"', "")}"`)
const piece: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    "\n    ",
    "\r\n",
    " ",
    "",
    "text",
    "&amp;",
    "𝄞",
    "<!-- <devices> -->",
    "<![CDATA[</devices>]]>",
    "<?pi x?>",
  ),
  fc
    .tuple(name, attribute, fc.boolean())
    .map(([tag, attributes, empty]) => (empty ? `<${tag} ${attributes}/>` : `<${tag}\n${attributes}>in</${tag}>`)),
)
const pieces = fc.array(piece, { maxLength: 6 }).map((list) => list.join(""))

const domains: fc.Arbitrary<string> = fc
  .record({
    head: fc.constantFrom("", "<?xml version='1.0' encoding='UTF-8'?>\n", "<!-- 1 -->"),
    root: fc.tuple(pieces, pieces, pieces),
    devices: fc.tuple(pieces, pieces),
    backing: fc.constantFrom(...BACKINGS),
    backingFirst: fc.boolean(),
    ours: fc.constantFrom(...OURS),
  })
  .map(({ head, root, devices, backing, backingFirst, ours }) => {
    const open = `${head}<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>`
    const [before, between, after] = root
    const first = backingFirst ? backing : ""
    const last = backingFirst ? "" : backing
    return `${open}${before}${first}${between}<devices>${devices[0]}${ours}${devices[1]}</devices>${last}${after}</domain>`
  })

function ours(text: string): { readonly interface: Element | undefined; readonly backing: Element | undefined } {
  const root = parseDocument(text)
  const interfaces = childrenNamed(childrenNamed(root, "devices")[0]!, "interface")
  const found = interfaces.find((each) =>
    childrenNamed(each, "alias").some((alias) => alias.attributes.get("name") === "ua-default"),
  )
  return { interface: found, backing: childrenNamed(root, "memoryBacking")[0] }
}

/** What `after` can have been before `element` got in: the old element in its place, or else nothing, with or without white space beside. */
function without(after: string, element: Element, old: string | undefined, side: "before" | "behind"): string[] {
  const head = after.slice(0, element.start)
  const tail = after.slice(element.end)
  if (old !== undefined) return [head + old + tail]
  const results = [head + tail]
  if (side === "before") {
    for (let end = head.length; /\s/.test(head[end - 1] ?? "");) results.push(head.slice(0, --end) + tail)
  } else for (let start = 0; /\s/.test(tail[start] ?? "");) results.push(head + tail.slice(++start))
  return results
}

/** Whether only our interface and the memory's backing differ, and everything else is the same, to the byte. */
function expectOnlyOurs(before: string, after: string): void {
  const old = ours(before)
  const textOf = (each: Element | undefined): string | undefined => each && before.slice(each.start, each.end)
  const candidates = without(after, ours(after).interface!, textOf(old.interface), "before").flatMap((text) =>
    without(text, ours(text).backing!, textOf(old.backing), "behind"),
  )
  if (!candidates.includes(before)) expect(candidates[0]).toBe(before)
}

const machines = fc.record({
  libvirt: fc.boolean(),
  macAddress: fc.constantFrom(undefined, "02:00:00:00:00:01"),
  pciAddress: fc.constantFrom(undefined, "0000:05:00.0"),
  acpiIndex: fc.constantFrom(undefined, 7),
  ports: fc.constantFrom(undefined, [{ port: 80 }], [{ port: 80 }, { port: 53, protocol: "UDP" }]),
  istio: fc.boolean(),
})

describe("any domain", () => {
  test("what is not ours survives byte for byte, and twice is once", () => {
    fc.assert(
      fc.property(domains, machines, (text, { libvirt, istio, ...wish }) => {
        const annotations = istio ? { "sidecar.istio.io/inject": "true" } : {}
        const json = machineJson({ interfaces: [wish], annotations })
        const where = context(libvirt ? { PASST_ENGINE: "libvirt" } : {})
        const { domain } = mutate(json, text, where)
        expectOnlyOurs(text, domain)
        expect(mutate(json, domain, where).domain).toBe(domain)
      }),
      { numRuns: 200 },
    )
  })

  test.each(Object.entries(DOMAINS))("%s: only our interface and memory backing are new", (_, text) => {
    for (const engine of ["sidecar", "libvirt"]) {
      const where = context({ PASST_ENGINE: engine })
      const { domain } = mutate(machineJson(), text, where)
      expect(mutate(machineJson(), domain, where).domain).toBe(domain)
      expectOnlyOurs(text, domain)
    }
  })

  test("any text is either refused or changed as it should be, and never anything else", () => {
    const mangled = fc.tuple(domains, fc.nat(), fc.string({ maxLength: 4 })).map(([text, at, noise]) => {
      const place = at % text.length
      return text.slice(0, place) + noise + text.slice(place + noise.length)
    })
    fc.assert(
      fc.property(mangled, (text) => {
        try {
          const { domain } = mutate(machineJson(), text, context())
          expect(mutate(machineJson(), domain, context()).domain).toBe(domain)
        } catch (error) {
          expect((error as Error).name).toBe("Refusal")
        }
      }),
      { numRuns: 200 },
    )
  })
})
