import { readFileSync } from "node:fs"
import { LatencyHistogram } from "@passt/core"
import { expect, test } from "vitest"

import { GUEST4 } from "../../core/src/sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../../core/src/sim/datagram-world.ts"
import { Capture } from "./capture.ts"
import { CollectionCounter } from "./collections.ts"
import { Forwards } from "./forwards.ts"
import { Metrics } from "./metrics.ts"
import { type Family, parseOpenMetrics } from "./test-support/openmetrics.ts"

/** Metrics of a program that has all that can be measured. */
function everything(): { families: Map<string, Family>; world: DatagramWorld } {
  const world = new DatagramWorld({ rules: [], policy: { default: "allow" } })
  world.engine.latency = new LatencyHistogram()
  const ports = { ipv4: true, ipv6: true, tcp: true, udp: true, ephemeralFirst: 1, ephemeralLast: 2, auto: false }
  const collections = new CollectionCounter(0)
  for (let i = 0; i < 3; i++) world.send(datagram(GUEST4, 1, "198.51.100.9", 53, bytesOf("hello")))
  const metrics = new Metrics({
    engine: world.engine,
    forwards: new Forwards(world.engine, [], ports),
    capture: new Capture({ captureTo: () => 0, closeCapture: () => 0 }, false),
    program: "passt",
    version: "1.2.3",
    uptimeSeconds: () => 1,
    collections: () => collections.read(),
  })
  while (!metrics.step()) continue
  return { families: parseOpenMetrics(metrics.text()), world }
}

test("packets, verdicts, turns and collections are counted", () => {
  const { families, world } = everything()
  const packets = families.get("passt_packets")!.samples
  expect(packets.get('protocol="udp",kind="link",direction="from_guest"')).toBe(3)
  expect(families.get("passt_policy_decisions")!.samples.get('verdict="allowed"')).toBe(1)
  // Of each turn but the last, which has not ended.
  expect(families.get("passt_turn_duration_seconds")!.samples.get("count{}")).toBe(world.counter("turns") - 1)
  expect(families.get("passt_gc_duration_seconds")!.type).toBe("summary")
  expect(families.get("passt_gc_duration_seconds")!.samples.has('count{kind="minor"}')).toBe(true)
})

test("every query of the dashboard is about metrics and labels that there are", () => {
  const { families } = everything()
  const names = new Map<string, Set<string>>()
  for (const [family, { type, samples }] of families) {
    const suffixes = { counter: ["_total"], gauge: [""], info: ["_info"], summary: ["_count", "_sum"] }[type] ?? [
      "_bucket",
      "_count",
      "_sum",
    ]
    const labels = new Set(
      [...samples.keys()].flatMap((key) => [...key.matchAll(/([a-z_]+)="/g)].map((found) => found[1]!)),
    )
    for (const suffix of suffixes) names.set(`${family}${suffix}`, labels)
  }
  const path = new URL("../share/grafana-dashboard.json", import.meta.url)
  const dashboard = JSON.parse(readFileSync(path, "utf8")) as {
    panels: { title: string; targets: { expr: string; legendFormat: string }[] }[]
    templating: { list: { query: string }[] }
  }
  const queries = dashboard.panels.flatMap(({ targets }) => targets)
  expect(queries.length).toBeGreaterThan(10)
  for (const { expr, legendFormat } of queries) {
    const used = [...expr.matchAll(/\bpasst_[a-z0-9_]+/g)].map(([name]) => name)
    expect(used.length, expr).toBeGreaterThan(0)
    for (const name of used) expect(names.has(name), `${name} in ${expr}`).toBe(true)
    // Flows show their states by label only while there are flows.
    const known = new Set([...used.flatMap((name) => [...names.get(name)!]), "le", "state"])
    const by = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap((found) => found[1]!.split(/,\s*/))
    const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map((found) => found[1]!)
    for (const label of [...by, ...shown]) expect(known.has(label), `${label} in ${expr}`).toBe(true)
    expect((expr.match(/\(/g) ?? []).length).toBe((expr.match(/\)/g) ?? []).length)
  }
  for (const { query } of dashboard.templating.list) {
    for (const [name] of query.matchAll(/passt_\w+/g)) expect(names.has(name!)).toBe(true)
  }
})

test.each([
  ["", "does not end"],
  ["# TYPE a counter\na_total 1\n", "does not end"],
  ["# TYPE a counter\na 1\n# EOF\n", "not of its family"],
  ["# TYPE a_total counter\na_total_total 1\n# EOF\n", "a suffix in a name"],
  ["# TYPE a gauge\na 1\na 2\n# EOF\n", "twice"],
  ['# TYPE a gauge\na{b="1",b="2"} 1\n# EOF\n', "a label twice"],
  ["# TYPE a gauge\n# TYPE b gauge\n# HELP a x\n# EOF\n", "misplaced"],
  ['# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_count 1\nh_sum 1\n# EOF\n', "out of order"],
  ['# TYPE h histogram\nh_bucket{le="1"} 1\nh_count 1\nh_sum 1\n# EOF\n', "don't belong together"],
])("the reader is strict: %j", (text, fault) => {
  expect(() => parseOpenMetrics(text)).toThrow(fault)
})
