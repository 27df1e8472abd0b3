/** A strict reader of the OpenMetrics 1.0 text format, for the types that are used here. @throws Error at the first fault */
export interface Family {
  readonly type: string
  readonly unit: string | undefined
  /** By labels as written; of histograms and summaries by "bucket{…}", "count{…}" and "sum{…}". */
  readonly samples: Map<string, number>
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const SAMPLE =
  /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?=[a-zA-Z_]))?)*)\})? (\S+)$/
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: ["_total"],
  gauge: [""],
  info: ["_info"],
  histogram: ["_bucket", "_count", "_sum"],
  summary: ["_count", "_sum"],
}

export function parseOpenMetrics(text: string): Map<string, Family> {
  if (!text.endsWith("\n# EOF\n")) throw new Error("does not end with # EOF")
  const families = new Map<string, Family>()
  let name = ""
  let samplesBegun = false
  for (const line of text.slice(0, -"# EOF\n".length).split("\n").slice(0, -1)) {
    const meta = /^# (TYPE|UNIT|HELP) (\S+) (.+)$/.exec(line)
    if (meta) {
      const [, kind, family, rest] = meta as unknown as [string, string, string, string]
      if (family !== name) {
        if (kind !== "TYPE" || families.has(family) || !NAME.test(family)) throw new Error(`misplaced: ${line}`)
        if (SUFFIXES[rest] === undefined) throw new Error(`unknown type: ${line}`)
        if (/_(?:total|info|bucket|count|sum|created)$/.test(family)) throw new Error(`a suffix in a name: ${line}`)
        name = family
        samplesBegun = false
        families.set(name, { type: rest, unit: undefined, samples: new Map() })
      } else if (kind === "TYPE" || samplesBegun) throw new Error(`misplaced: ${line}`)
      if (kind === "UNIT" && !name.endsWith(`_${rest}`)) throw new Error(`name lacks its unit: ${line}`)
      continue
    }
    const sample = SAMPLE.exec(line)
    const family = families.get(name)
    if (!sample || !family) throw new Error(`not a sample: ${line}`)
    const [, sampleName, labels = "", value] = sample
    const suffix = SUFFIXES[family.type]!.find((each) => sampleName === `${name}${each}`)
    if (suffix === undefined) throw new Error(`not of its family: ${line}`)
    if (!/^\d+(\.\d+)?(e-\d+)?$/.test(value!)) throw new Error(`not a number: ${line}`)
    const names = [...labels.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="/g)].map((found) => found[1])
    if (new Set(names).size !== names.length) throw new Error(`a label twice: ${line}`)
    const key = SUFFIXES[family.type]!.length > 1 ? `${suffix.slice(1)}{${labels}}` : labels
    if (family.samples.has(key)) throw new Error(`twice: ${line}`)
    family.samples.set(key, Number(value))
    samplesBegun = true
  }
  for (const [family, { type, samples }] of families) if (type === "histogram") checkHistogram(family, samples)
  return families
}

/** One without labels of its own: buckets in order, each at least as much as the last, up to all. */
function checkHistogram(name: string, samples: ReadonlyMap<string, number>): void {
  let bound = Number.NEGATIVE_INFINITY
  let below = 0
  for (const [key, value] of samples) {
    const le = /^bucket\{le="([^"]+)"\}$/.exec(key)?.[1]
    if (le === undefined) continue
    const next = le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le)
    if (!(next > bound) || value < below) throw new Error(`${name}: the bucket ${le} is out of order`)
    bound = next
    below = value
  }
  if (bound !== Number.POSITIVE_INFINITY || samples.get("count{}") !== below || samples.get("sum{}") === undefined) {
    throw new Error(`${name}: buckets, count and sum don't belong together`)
  }
}
