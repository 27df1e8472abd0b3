/**
 * What a policy costs per new flow, and how long a list of many flows holds the data path.
 *
 *   node tools/bench/policy.ts [--rules 10000] [--flows 100000] [--only list]
 *
 * The runtime's flags are those of the programs (native/launcher/runtime-flags.h) where they are given:
 * --single-threaded --v8-pool-size=0 --min-semi-space-size=2 --max-semi-space-size=2 --no-memory-reducer.
 *
 * The rules are as mixed as rules of people are: single addresses, networks of all lengths, ranges of ports, names. Every rule matches something
 * that is asked about. The list is the control socket's own, over a model of it, step by step, in a fresh process: the longest step is what a
 * frame may have to wait for.
 */
import { parseArgs } from "node:util"
import { FlowTable } from "../../packages/core/src/flow/table.ts"
import { Matcher } from "../../packages/core/src/policy/matcher.ts"
import type { PolicyRule } from "../../packages/core/src/policy/rule.ts"
import { bytesOf, datagram, DatagramWorld } from "../../packages/core/src/sim/datagram-world.ts"
import { GUEST4 } from "../../packages/core/src/sim/config.ts"
import { setMapped } from "../../packages/core/src/wire/address.ts"
import { openCalls } from "../../packages/control/src/calls.ts"
import { Capture } from "../../packages/control/src/capture.ts"
import { Forwards } from "../../packages/control/src/forwards.ts"
import { Wire } from "../../packages/control/src/test-support/wire.ts"
import { Random } from "../fuzz/random.ts"

const { values } = parseArgs({
  options: {
    rules: { type: "string", default: "10000" },
    flows: { type: "string", default: "100000" },
    only: { type: "string" },
  },
})
const ruleCount = Number(values.rules)
const flowCount = Number(values.flows)

function mixedRules(count: number): PolicyRule[] {
  const random = new Random(7)
  return Array.from({ length: count }, (_, i): PolicyRule => {
    const address = new Int32Array(4)
    if (i % 4 === 3) return { action: "allow", names: [`*.n${i}.example.org`], ports: [{ first: 443, last: 443 }] }
    if (random.chance(0.3)) {
      const bits = random.between(32, 128)
      address[0] = 0x20010db8
      address[1] = random.word()
      address[2] = bits > 64 ? random.word() : 0
      if (bits < 64) address[1] &= -1 << Math.min(31, 64 - bits)
      if (bits < 96) address[2] &= bits <= 64 ? 0 : -1 << (96 - bits)
      return { action: "allow", remotes: [{ address, bits }], protocols: ["tcp"] }
    }
    const bits = random.between(8, 32)
    setMapped(address, 0, random.word() & (-1 << (32 - bits)))
    const first = random.between(1, 60_000)
    return {
      action: random.chance(0.5) ? "allow" : "refuse",
      remotes: [{ address, bits: 96 + bits }],
      ports: [{ first, last: first + random.below(1000) }],
    }
  })
}

function nanoseconds(rounds: number, run: (i: number) => void): number {
  for (let i = 0; i < rounds; i++) run(i)
  const before = process.hrtime.bigint()
  for (let i = 0; i < rounds; i++) run(i)
  return Number(process.hrtime.bigint() - before) / rounds
}

if (values.only !== "list") measureRules()

function measureRules(): void {
  const rules = mixedRules(ruleCount)
  const began = performance.now()
  const matcher = Matcher.of(rules)
  const compileMs = performance.now() - began
  const remotes = Array.from({ length: 1024 }, (_, i) => {
    const address = new Int32Array(4)
    const rule = rules[(i * 7919) % rules.length]!
    if (i % 2 === 0 && rule.remotes !== undefined) address.set(rule.remotes[0]!.address)
    else setMapped(address, 0, (i * 2654435761) | 0)
    return address
  })
  let found = 0
  const matchNs = nanoseconds(300_000, (i) => (found += matcher.match(0, 0, remotes[i & 1023]!, 0, (i * 31) & 0xffff)))

  /** A new flow of datagrams, from its frame to its socket, and its end. @param policy absent: no gate */
  function perFlow(policy: { rules: readonly PolicyRule[]; default: "allow" } | undefined): number {
    const world = new DatagramWorld({ flowMax: 4096, ...(policy === undefined ? {} : { policy }) })
    const frames = Array.from({ length: 256 }, (_, i) => datagram(GUEST4, 1000 + i, "198.51.100.9", 4000, bytesOf("x")))
    const { ctx } = world.engine
    let opened = 0
    const round = (): void => {
      for (const frame of frames) world.link.push(frame)
      world.engine.turn(0)
      opened += 256
      for (let flow = 0; flow < ctx.flows.highWater; flow++) if (ctx.words[flow << 6] === 2) ctx.retire(flow, false)
      world.engine.turn(0)
      world.kernel.sent.length = 0
      world.link.sent.length = 0
    }
    for (let i = 0; i < 60; i++) round()
    opened = 0
    const before = process.hrtime.bigint()
    for (let i = 0; i < 150; i++) round()
    return Number(process.hrtime.bigint() - before) / opened
  }
  // In turns, for the first ones run code that is not compiled yet.
  let without = Number.POSITIVE_INFINITY
  let withRules = Number.POSITIVE_INFINITY
  for (let i = 0; i < 4; i++) {
    without = Math.min(without, perFlow(undefined))
    withRules = Math.min(withRules, perFlow({ rules, default: "allow" }))
  }

  console.log(
    `${ruleCount} rules: compiled in ${compileMs.toFixed(0)} ms, a look at them ${matchNs.toFixed(0)} ns (${found % 10})`,
  )
  console.log(
    `a new flow: ${without.toFixed(0)} ns without a policy, ${withRules.toFixed(0)} ns with it (in the model of a kernel)`,
  )
}

/** Steps of the control socket's list of flows. @returns the longest, milliseconds, and how many */
function list(world: DatagramWorld): { longest: number; steps: number } {
  const ports = { ipv4: true, ipv6: true, tcp: true, udp: true, ephemeralFirst: 1, ephemeralLast: 2, auto: false }
  const forwards = new Forwards(world.engine, [], ports)
  const capture = new Capture({ captureTo: () => 0, closeCapture: () => 0 }, false)
  const calls = openCalls({
    engine: world.engine,
    forwards,
    capture,
    program: "passt",
    version: "1",
    uptimeSeconds: () => 1,
  })
  const wire = new Wire(calls, forwards)
  const fd = wire.connect()
  let longest = 0
  let steps = 0
  let lines = -1
  // What is written is counted and forgotten, or the model's memory would be what is measured.
  wire.send = (_fd, bytes, from, to) => {
    for (let i = from; i < to; i++) if (bytes[i] === 10) lines++
    return to - from
  }
  // The request lies there; from now on each step is looked at.
  const { server } = wire
  const run = server.run.bind(server)
  server.run = (now) => {
    const before = performance.now()
    run(now)
    longest = Math.max(longest, performance.now() - before)
    steps++
  }
  wire.write(fd, '{"call":"flows"}\n')
  while (wire.run(1000) > 0) continue
  if (lines !== world.flows) throw new Error(`${lines} lines for ${world.flows} flows`)
  return { longest, steps }
}
const world = new DatagramWorld({ flowMax: flowCount, rules: [] })
const rehearsed = performance.now()
world.engine.prepareLists()
console.log(`a rehearsal at the start: ${(performance.now() - rehearsed).toFixed(0)} ms`)
fill(world.engine.ctx.flows, flowCount)
for (const name of ["first", "second"]) {
  const { longest, steps } = list(world)
  console.log(`${name} list of ${flowCount} flows: ${steps} steps, the longest ${longest.toFixed(2)} ms`)
}

/** Rows as UDP flows have them, without sockets: a list does not look at those. */
function fill(flows: FlowTable, count: number): void {
  for (let i = 0; i < count; i++) {
    const base = flows.allocate(2) << 6
    flows.words.set([0, 0, 0xffff, 0xc000020f, 1024 + (i % 60_000), 0], base + 16)
    flows.words.set([0, 0, 0xffff, 0x0a000000 + i, 443, 0], base + 22)
    flows.words.set([0, 0, 0xffff, 0x0a000000 + i, 443, 0], base + 34)
    flows.words[base + 44] = -1
  }
}
