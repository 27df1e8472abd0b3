/** The command line of the benchmark. */

import { parseArgs } from "node:util"
import type { Observation } from "./implementations.ts"
import type { Program } from "./debian-release.ts"
import { defaultsOf, kindsOf, mtusOf, type Scenario } from "./scenarios.ts"
import type { Family, Link } from "./world.ts"

const scenarioLines = (program: Program): string =>
  `${kindsOf(program)
    .map((kind) => kind.id)
    .join(",")}, or all
                    (default: ${defaultsOf(program).join(",")})`

export const HELP: string = `usage: npm run bench -- [options]
Measures passt, or pasta, beside reference binaries, in namespaces of its own, alternating between them in one run.

  --pasta           measure pasta; else passt
  --vhost-user      measure passt with virtqueues, instead of its stream socket
  --scenario LIST   ${scenarioLines("passt")}
                    of pasta: ${scenarioLines("pasta")}
  --impl LIST       ours, debian (the installed one), a newer Debian release's name, NAME=PATH; for pasta also
                    slirp4netns, and veth: the kernel alone
                    (default: ours,debian,trixie, with --vhost-user ours,trixie, for pasta ours,trixie,slirp4netns,veth; what is not there is left out
                    with a note)
  --mtu LIST        MTUs, e.g. 1280,9000 (default: 65520 and 1500 for bulk, 65520 for the rest)
  --family LIST     4, 6 or 4,6 (default: 4)
  --time S          seconds of each measurement (default: 2)
  --warmup S        seconds before it (default: 0.7)
  --runs N          measurements of each; the median counts (default: 3)
  --streams N       connections or sockets at once (default: 1)
  --rate N          datagrams per second of a flood (default: as many as possible)
  --txqueuelen N    frames that the guest's interface holds for the bridge (default: 1000)
  --queue N         buffers of each virtqueue, a power of two (default: 256, as QEMU's network card has unless told otherwise)
  --pairs N         pairs of virtqueues, up to 8 (default: 1)
  --packed          virtqueues of the packed layout, which the reference does not know
  --pin             guest and bridge on the first processor, passt and its peers on the second: what an exchange takes
                    depends on where the scheduler puts each of them, by a factor of three from run to run
  --napi            let the guest's kernel coalesce received frames
  --json FILE       write everything measured there too
  --check           exit 1 if ours misses a target
  --profile         record ours with perf and tell JavaScript from native code
  --gc              count garbage collections of ours while measured
  --quick           one short run of each, without fetching anything: does it all still work?
`

export interface Options {
  program: Program
  scenarios: Scenario[]
  implementations: string[]
  /** Whether an implementation that is missing is an error. */
  isExplicit: boolean
  seconds: number
  warmupSeconds: number
  runs: number
  streams: number
  datagramRate: number
  txQueueLength: number
  /** Buffers of each virtqueue. */
  queueEntries: number
  /** Pairs of virtqueues. */
  queuePairs: number
  packedQueues: boolean
  napi: boolean
  pin: boolean
  json: string | undefined
  check: boolean
  observation: Observation
}

/** Thrown for a command line that can't be obeyed; the message is for the user. */
export class UsageError extends Error {}

const numberOf = (name: string, text: string, low: number, high: number): number => {
  const value = Number(text)
  if (text.trim() === "" || !(value >= low && value <= high)) {
    throw new UsageError(`--${name}: a number from ${low} to ${high} is needed, not "${text}"`)
  }
  return value
}

const integerOf = (name: string, text: string, low: number, high: number): number => {
  const value = numberOf(name, text, low, high)
  if (!Number.isInteger(value)) throw new UsageError(`--${name}: a whole number is needed, not "${text}"`)
  return value
}

const listOf = (text: string): string[] => text.split(",").map((item) => item.trim())

const scenariosOf = (
  names: readonly string[],
  mtus: number[] | undefined,
  families: Family[],
  program: Program,
  link: Link,
): Scenario[] =>
  names.flatMap((name) => {
    const kind = kindsOf(program).find(({ id }) => id === name)
    if (kind === undefined) throw new UsageError(`--scenario: there is no "${name}" of ${program}`)
    return (mtus ?? mtusOf(kind, program)).flatMap((mtu) =>
      families.map((family) => ({ kind, mtu, family, program, link })),
    )
  })

const FLAGS = {
  pasta: { type: "boolean", default: false },
  "vhost-user": { type: "boolean", default: false },
  scenario: { type: "string" },
  impl: { type: "string" },
  mtu: { type: "string" },
  family: { type: "string", default: "4" },
  time: { type: "string" },
  warmup: { type: "string" },
  runs: { type: "string" },
  streams: { type: "string", default: "1" },
  rate: { type: "string", default: "0" },
  txqueuelen: { type: "string", default: "1000" },
  queue: { type: "string", default: "256" },
  pairs: { type: "string", default: "1" },
  packed: { type: "boolean", default: false },
  napi: { type: "boolean", default: false },
  pin: { type: "boolean", default: false },
  json: { type: "string" },
  check: { type: "boolean", default: false },
  profile: { type: "boolean", default: false },
  gc: { type: "boolean", default: false },
  quick: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const

/** Reads the command line; undefined when only help was asked for. Throws UsageError. */
export const parseOptions = (args: string[]): Options | undefined => {
  const { values } = (() => {
    try {
      return parseArgs({ args, options: FLAGS, allowPositionals: false })
    } catch (error) {
      throw new UsageError((error as Error).message)
    }
  })()
  if (values.help) return undefined
  if (values.gc && values.profile) throw new UsageError("--gc and --profile disturb each other: choose one")
  const families = listOf(values.family).map((text) => {
    if (text !== "4" && text !== "6") throw new UsageError(`--family: 4 or 6, not "${text}"`)
    return Number(text) as Family
  })
  const mtus =
    values.mtu === undefined ? undefined : listOf(values.mtu).map((text) => integerOf("mtu", text, 576, 65521))
  if (families.includes(6) && mtus?.some((mtu) => mtu < 1280)) throw new UsageError("--mtu: IPv6 needs at least 1280")
  const program: Program = values.pasta ? "pasta" : "passt"
  if (values.pasta && values["vhost-user"]) throw new UsageError("--vhost-user is passt's")
  if (values.pasta && (values.gc || values.profile)) throw new UsageError("--gc and --profile are for passt alone")
  const names = values.scenario === undefined ? defaultsOf(program) : listOf(values.scenario)
  const wanted = names.includes("all") ? kindsOf(program).map((kind) => kind.id) : names
  // The installed one may be older than vhost-user.
  const newest = values["vhost-user"] ? "ours,trixie" : "ours,debian,trixie"
  const usual = values.pasta ? "ours,trixie,slirp4netns,veth" : newest
  const implementations = values.impl ?? (values.quick ? (values["vhost-user"] ? "ours" : "ours,debian") : usual)
  return {
    program,
    scenarios: scenariosOf(wanted, mtus, families, program, values["vhost-user"] ? "vhost-user" : "unix"),
    implementations: listOf(implementations),
    isExplicit: values.impl !== undefined,
    seconds: numberOf("time", values.time ?? (values.quick ? "0.4" : "2"), 0.1, 3600),
    warmupSeconds: numberOf("warmup", values.warmup ?? (values.quick ? "0.2" : "0.7"), 0, 3600),
    runs: integerOf("runs", values.runs ?? (values.quick ? "1" : "3"), 1, 1000),
    streams: integerOf("streams", values.streams, 1, 64),
    datagramRate: numberOf("rate", values.rate, 0, 1e9),
    txQueueLength: integerOf("txqueuelen", values.txqueuelen, 1, 1_000_000),
    queueEntries: integerOf("queue", values.queue, 32, 1024),
    queuePairs: integerOf("pairs", values.pairs, 1, 8),
    packedQueues: values.packed,
    napi: values.napi,
    pin: values.pin,
    json: values.json,
    check: values.check,
    observation: values.gc ? "collections" : values.profile ? "profile" : "none",
  }
}
