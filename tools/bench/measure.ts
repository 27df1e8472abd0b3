/** One measurement: a fresh world, one implementation, one scenario. */

import { spawn, type ChildProcess } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { commandOf, type Implementation, type Observation } from "./implementations.ts"
import { lineReader, type LineReader } from "./lines.ts"
import { usageOf, type Usage } from "./process-usage.ts"
import { startProfiler, type ProfileShares } from "./profile.ts"
import { costOf, rateOf, type Scenario } from "./scenarios.ts"
import { openNamespaceWorld } from "./namespace-world.ts"
import { exited, openWorld, type World } from "./world.ts"

export interface MeasureOptions {
  bridge: string
  traffic: string
  warmupSeconds: number
  seconds: number
  streams: number
  /** Datagrams per second of a flood; 0: as many as the sender can. */
  datagramRate: number
  txQueueLength: number
  /** Buffers of each virtqueue. */
  queueEntries: number
  queuePairs: number
  packedQueues: boolean
  napi: boolean
  pin: boolean
  observation: Observation
}

export interface Measurement {
  /** In the scenario's unit. */
  rate: number
  /** Bytes, transactions or datagrams while measured, and for how long. */
  count: number
  seconds: number
  /** CPU seconds of passt while measured, and per GiB or million. */
  cpuSeconds: number
  cost: number
  /** The same seconds of the bridge: when it is near `seconds`, the bridge is the limit. */
  bridgeCpuSeconds: number
  residentBytes: number
  privateBytes: number | undefined
  /** Of one transaction, in microseconds. */
  latencyMedianUs?: number
  latencyP99Us?: number
  /** Garbage collections while measured. */
  collections?: number
  profile?: ProfileShares
}

interface Marks {
  startMs: number
  endMs: number
  passt: Usage
  bridgeCpuSeconds: number
  result: { count: number; seconds: number; p50?: number; p99?: number }
  cpuSeconds: number
}

const ANSWER_MS_MAX = 15_000
const NOTHING: Usage = { cpuSeconds: 0, residentBytes: 0, privateBytes: undefined }

const usage = (process: ChildProcess | undefined): Usage => (process === undefined ? NOTHING : usageOf(process.pid!))

const readMarks = async (meter: LineReader, world: World, seconds: number): Promise<Marks> => {
  if ((await meter.next(ANSWER_MS_MAX)) !== "START") throw new Error("no traffic went through")
  const before = usage(world.measured)
  const bridgeBefore = usage(world.bridge)
  const startMs = performance.now()
  const line = await meter.next(seconds * 1000 + ANSWER_MS_MAX)
  const after = usage(world.measured)
  const bridgeAfter = usage(world.bridge)
  if (line === undefined || !line.startsWith("END ")) throw new Error("the measuring program ended early")
  if (world.measured !== undefined && exited(world.measured)) throw new Error("the measured program ended early")
  return {
    startMs,
    endMs: performance.now(),
    passt: after,
    bridgeCpuSeconds: bridgeAfter.cpuSeconds - bridgeBefore.cpuSeconds,
    cpuSeconds: after.cpuSeconds - before.cpuSeconds,
    result: JSON.parse(line.slice(4)),
  }
}

const run = async (world: World, scenario: Scenario, options: MeasureOptions): Promise<Marks> => {
  const { kind, family } = scenario
  const children: ChildProcess[] = []
  let said = ""
  const start = (command: string[]): LineReader => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "pipe"] })
    child.stderr!.on("data", (text: Buffer) => (said += text.toString()))
    children.push(child)
    return lineReader(child.stdout!)
  }
  const ends = world.ends(kind, family)
  const meter = ["--warmup", String(options.warmupSeconds), "--time", String(options.seconds)]
  const size = kind.bytes === undefined ? [] : ["--size", String(kind.bytes)]
  const common = [options.traffic, "--with-parent", "--port", String(ends.port), ...size, ...meter]
  try {
    const server = start(ends.server.inside([...common, kind.server]))
    if ((await server.next(ANSWER_MS_MAX)) !== "LISTENING") throw new Error("the server did not start")
    const load = ["--streams", String(options.streams), "--rate", String(options.datagramRate)]
    const client = start(ends.client.inside([...common, kind.client, "--to", ends.to, ...load]))
    return await readMarks(kind.meter === "server" ? server : client, world, options.seconds)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${said}`.trim())
  } finally {
    for (const child of children) child.kill("SIGKILL")
  }
}

/** Measures once. Throws with what the programs said when nothing could be measured. */
export const measure = async (
  implementation: Implementation,
  scenario: Scenario,
  options: MeasureOptions,
): Promise<Measurement> => {
  const profileFolder = mkdtempSync(join(tmpdir(), "passt-bench-profile-"))
  const observation = implementation.isOurs ? options.observation : "none"
  try {
    const { mtu, link } = scenario
    const world = await (implementation.kind === "passt"
      ? openWorld({ ...options, passt: commandOf(implementation, observation), link, mtu })
      : openNamespaceWorld({ implementation, mtu, pin: options.pin }))
    try {
      const profiler = observation === "profile" ? startProfiler(world.measured!.pid!, profileFolder) : undefined
      const marks = await run(world, scenario, options)
      const { count, seconds, p50, p99 } = marks.result
      const measurement: Measurement = {
        rate: rateOf(scenario.kind, count, seconds),
        count,
        seconds,
        cpuSeconds: marks.cpuSeconds,
        cost: costOf(scenario.kind, count, marks.cpuSeconds),
        bridgeCpuSeconds: marks.bridgeCpuSeconds,
        residentBytes: marks.passt.residentBytes,
        privateBytes: marks.passt.privateBytes,
      }
      if (p50 !== undefined) measurement.latencyMedianUs = p50
      if (p99 !== undefined) measurement.latencyP99Us = p99
      if (observation === "collections") {
        measurement.collections = world.output!.seen.filter(
          ({ text, atMs }) => atMs >= marks.startMs && atMs <= marks.endMs && /Scavenge|Mark-Compact/.test(text),
        ).length
      }
      if (profiler !== undefined) measurement.profile = await profiler.read(marks)
      return measurement
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${world.log()}`.trim())
    } finally {
      world.close()
    }
  } finally {
    rmSync(profileFolder, { recursive: true, force: true })
  }
}
