/** A strict reader of the OpenMetrics text format, as far as counters, gauges and infos go. @throws Error at the first fault */
export interface Family {
  readonly type: string
  readonly unit: string | undefined
  readonly samples: Map<string, number>
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const SAMPLE =
  /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?=[a-zA-Z_]))?)*)\})? (\S+)$/
const SUFFIX: Readonly<Record<string, string>> = { counter: "_total", gauge: "", info: "_info" }

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
        if (SUFFIX[rest] === undefined) throw new Error(`unknown type: ${line}`)
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
    if (sampleName !== `${name}${SUFFIX[family.type]}`) throw new Error(`not of its family: ${line}`)
    if (!/^\d+(\.\d+)?$/.test(value!)) throw new Error(`not a number: ${line}`)
    if (family.samples.has(labels)) throw new Error(`twice: ${line}`)
    family.samples.set(labels, Number(value))
    samplesBegun = true
  }
  return families
}
