import { describe, expect, test, vi } from "vitest"

import { PLACE_NAMESPACE } from "../kernel.ts"
import type { FlowView } from "../live/flows.ts"
import { GUEST4, GUEST6, record, words } from "../sim/config.ts"
import { bytesOf, datagram, DatagramWorld, echoRequest, textOf } from "../sim/datagram-world.ts"
import { SpliceWorld } from "../sim/splice-world.ts"
import { PEER4, TcpDialogue } from "../sim/tcp-dialogue.ts"
import { COUNTER } from "../stats.ts"
import { REMEMBER_MS } from "./gate.ts"
import type { Decide, Decision, FlowQuestion, PolicyOptions } from "./rule.ts"

const PEER6 = "2001:db8:9::9"

/** A function whose answers the test gives when it likes. */
function slow(): { decide: Decide; questions: FlowQuestion[]; answer: (decision: Decision) => Promise<void> } {
  const questions: FlowQuestion[] = []
  const waiting: ((decision: Decision) => void)[] = []
  return {
    questions,
    decide: (question) => {
      questions.push(question)
      return new Promise((resolve) => waiting.push(resolve))
    },
    answer: async (decision) => {
      waiting.shift()!(decision)
      await Promise.resolve()
      await Promise.resolve()
    },
  }
}

function flowsOf(world: { engine: { flows: DatagramWorld["engine"]["flows"] } }): FlowView[] {
  const found: FlowView[] = []
  world.engine.flows(0, 1000, (flow) => found.push(flow))
  return found
}

describe("connections of the guest", () => {
  test("are refused by a reset, and the next SYN is asked about anew", () => {
    const decide = vi.fn(() => "refuse" as const)
    const d = new TcpDialogue({ policy: { decide } })
    d.say("S", { mss: 1460 })
    expect(d.lines()).toEqual(["RA seq 0 ack 1"])
    expect(d.kernel.byId.size).toBe(0)
    d.say("S", { seq: 0 })
    expect(decide).toHaveBeenCalledTimes(2)
    expect(d.counter("policyRefused")).toBe(2)
    expect(d.engine.ctx.flows.count).toBe(0)
  })

  test("are refused as prohibited, if told so", () => {
    const d = new TcpDialogue({ policy: { rules: [{ action: "refuse", refuseWith: "prohibited" }] } })
    d.say("S", { mss: 1460 })
    expect(d.lines()).toEqual([])
    expect(d.errors).toMatchObject([{ code: 13 }])
  })

  test("are dropped without a word, once for all SYNs of some seconds", () => {
    const decide = vi.fn(() => "drop" as const)
    const d = new TcpDialogue({ policy: { decide } })
    d.say("S", { mss: 1460 })
    d.pass(1000)
    d.say("S", { seq: 0 })
    expect(d.lines()).toEqual([])
    expect(decide).toHaveBeenCalledTimes(1)
    expect(flowsOf(d)).toMatchObject([{ state: "refused", policy: { verdict: "dropped", rule: null } }])
    d.pass(REMEMBER_MS)
    expect(d.engine.ctx.flows.count).toBe(0)
  })

  test("are refused when the answer only looks like a promise", async () => {
    // oxlint-disable-next-line unicorn/no-thenable
    const broken = [{ then: 5 }, Object.defineProperty({}, "then", { get: () => expect.unreachable() })]
    for (const answer of broken) {
      const d = new TcpDialogue({ policy: { decide: () => answer as unknown as Decision } })
      d.say("S", { mss: 1460 })
      await new Promise(setImmediate)
      d.pass(1)
      expect(d.lines()).toEqual(["RA seq 0 ack 1"])
      expect(d.counter("policyFailures")).toBe(1)
    }
  })

  test("wait for an answer: the SYN is held, and repeated ones change nothing", async () => {
    const { decide, questions, answer } = slow()
    const begun: boolean[] = []
    const d = new TcpDialogue({ policy: { decide }, onFlow: (_, begins) => begun.push(begins) })
    d.say("S", { mss: 1460 })
    d.pass(1000)
    d.say("S", { seq: 0, mss: 1460 })
    expect([d.lines(), d.kernel.byId.size, begun]).toEqual([[], 0, []])
    expect(questions).toMatchObject([
      {
        protocol: "tcp",
        kind: "link",
        direction: "out",
        guest: { address: GUEST4, port: 40_000 },
        remote: { address: PEER4, port: 80 },
        far: { address: PEER4, port: 80 },
        port: 80,
      },
    ])
    expect(flowsOf(d)).toMatchObject([{ state: "waiting" }])
    await answer({ action: "allow", label: "web" })
    d.settle()
    d.socket.establish(d.peer)
    d.settle()
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
    expect(begun).toEqual([true])
    expect(flowsOf(d)).toMatchObject([{ policy: { verdict: "allowed", label: "web" } }])
  })

  test("whose answer comes too late, or never, are refused; reported and counted", async () => {
    const { decide, answer } = slow()
    const log: string[] = []
    const d = new TcpDialogue({
      policy: { decide, deadlineMs: 3000 },
      log: (_, site, message) => log.push(site + message),
    })
    d.say("S", { mss: 1460 })
    d.pass(2900)
    expect(d.lines()).toEqual([])
    d.pass(200)
    expect(d.lines()).toEqual(["RA seq 0 ack 1"])
    expect(log).toEqual([expect.stringContaining("has not answered within 3000 ms")])
    await answer("allow")
    d.settle()
    expect([d.kernel.byId.size, d.counter("policyFailures")]).toEqual([0, 1])
  })

  test("end with a reset of the guest while they wait", async () => {
    const { decide, answer } = slow()
    const begun: boolean[] = []
    const d = new TcpDialogue({ policy: { decide }, onFlow: (_, begins) => begun.push(begins) })
    d.say("S", { mss: 1460 })
    d.say("R", { seq: 1 })
    expect(d.engine.ctx.flows.count).toBe(0)
    await answer("allow")
    d.settle()
    expect([d.kernel.byId.size, begun, d.engine.policy!.waiting]).toEqual([0, [], 0])
  })

  test.each<[string, Decide]>([
    [
      "throws",
      () => {
        throw new Error("oops")
      },
    ],
    ["answers with nonsense", () => ({ action: "perhaps" }) as unknown as Decision],
    ["redirects to nowhere", () => ({ action: "redirect" })],
    ["redirects to no address", () => ({ action: "redirect", address: "example.org" })],
    ["redirects to a group", () => ({ action: "redirect", address: "224.0.0.1" })],
    ["redirects to a port beyond all", () => ({ action: "redirect", port: 65_536 })],
  ])("are refused when the function %s", (_, decide) => {
    const log: string[] = []
    const d = new TcpDialogue({ policy: { decide }, log: (level, site) => log.push(`${level} ${site}`) })
    d.say("S", { mss: 1460 })
    expect(d.lines()).toEqual(["RA seq 0 ack 1"])
    expect([d.counter("policyFailures"), log]).toEqual([1, ["error policy-function"]])
  })

  test("go elsewhere, and the guest does not see it", () => {
    const redirect = { address: words("2001:db8::80"), port: 8080 }
    const d = new TcpDialogue({
      policy: { rules: [{ action: "redirect", direction: "out", redirect, label: "proxy" }] },
    })
    d.connect()
    expect(d.socket.family).toBe(6)
    expect(flowsOf(d)).toMatchObject([
      {
        far: { address: PEER4, port: 80 },
        peer: { address: "2001:db8::80", port: 8080 },
        policy: { verdict: "redirected", rule: 0, label: "proxy" },
      },
    ])
  })
})

describe("connections to the guest", () => {
  test("are reset when they are refused, before the guest hears of them", () => {
    const d = new TcpDialogue({ policy: { rules: [{ action: "refuse", direction: "in" }] } })
    d.arrive()
    expect(d.lines()).toEqual([])
    expect([d.kernel.sockets.size, d.engine.ctx.flows.count]).toEqual([1, 0])
  })

  test("wait, and go on", async () => {
    const { decide, questions, answer } = slow()
    const d = new TcpDialogue({ policy: { decide } })
    d.arrive()
    expect(d.lines()).toEqual([])
    expect(questions).toMatchObject([{ direction: "in", remote: { address: PEER4 }, port: 5000 }])
    await answer("allow")
    d.settle()
    expect(d.lines()).toEqual(["S seq 0 ack 0"])
  })
})

describe("datagrams of the guest", () => {
  test.each([
    [GUEST4, PEER4, 3, 3],
    [GUEST6, PEER6, 1, 4],
  ])("from %s are refused once a second, and asked about once", (guest, peer, type, code) => {
    const decide = vi.fn(() => "refuse" as const)
    const world = new DatagramWorld({ policy: { decide } })
    for (let i = 0; i < 3; i++) world.send(datagram(guest, 4321, peer, 53, bytesOf("hello")))
    expect(world.received()).toMatchObject([{ type, code }])
    world.pass(1000)
    world.send(datagram(guest, 4321, peer, 53, bytesOf("hello")))
    expect(world.received()).toHaveLength(1)
    expect(decide).toHaveBeenCalledTimes(1)
    expect(world.kernel.open).toEqual([])
    expect(world.counter("dropPolicy")).toBe(4)
    world.pass(REMEMBER_MS + 1000)
    expect(world.flows).toBe(0)
  })

  test("are kept while the flow waits, and sent in order; not more than a few", async () => {
    const { decide, answer } = slow()
    const world = new DatagramWorld({ policy: { decide } })
    for (let i = 0; i < 20; i++) world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf(`n${i}`), { hopLimit: 9 }))
    expect(world.kernel.open).toEqual([])
    await answer("allow")
    world.turn()
    expect(world.kernel.open[0]).toMatchObject({ remote: record(PEER4, 53), local: record("::", 4321), hopLimit: 9 })
    expect(world.kernel.sent.map(({ bytes }) => textOf(bytes))).toEqual(Array.from({ length: 16 }, (_, i) => `n${i}`))
    expect(world.counter("dropPolicy")).toBe(4)
  })

  test("of echo requests: prohibited, or kept", async () => {
    const { decide, answer } = slow()
    const world = new DatagramWorld({ policy: { decide } })
    world.send(echoRequest(GUEST4, PEER4, 7, 1, bytesOf("ping")))
    world.send(echoRequest(GUEST6, PEER6, 8, 1, bytesOf("ping")))
    await answer("allow")
    await answer("refuse")
    world.turn()
    expect(world.kernel.open).toMatchObject([{ kind: "ping", remote: [...words(PEER4), 0, 0] }])
    expect(world.kernel.sent).toHaveLength(1)
    expect(world.received()).toMatchObject([{ family: 6, type: 1, code: 1 }])
  })

  test("what is loaded anew holds for what was refused", () => {
    const world = new DatagramWorld({ policy: { default: "drop" } })
    world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf("hello")))
    expect([world.received(), world.kernel.open]).toEqual([[], []])
    world.engine.policy!.load({ rules: [], default: "allow" })
    world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf("hello")))
    expect(world.kernel.open).toHaveLength(1)
  })

  test("are redirected, answers come from where the guest has sent to", () => {
    const redirect = { address: words("203.0.113.53"), port: 5353 }
    const world = new DatagramWorld({
      policy: { rules: [{ action: "redirect", redirect, ports: [{ first: 53, last: 53 }] }] },
    })
    world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf("hello")))
    world.kernel.arrive(record("203.0.113.53", 5353), record(GUEST4, 4321), bytesOf("answer"))
    world.turn()
    expect(world.received()).toMatchObject([{ source: PEER4, sourcePort: 53 }])
  })
})

describe("datagrams to the guest", () => {
  const rules = [{ first: 5000 }]
  const send = (world: DatagramWorld, text: string): void => {
    world.kernel.arrive(record(PEER6, 999), record("2001:db8::1", 5000), bytesOf(text))
    world.turn()
  }

  test("are dropped, and asked about once", () => {
    const decide = vi.fn(() => "refuse" as const)
    const world = new DatagramWorld({ udpRules: rules, policy: { decide } })
    send(world, "a")
    send(world, "b")
    expect([world.received(), world.kernel.open.length]).toEqual([[], 1])
    expect(decide).toHaveBeenCalledTimes(1)
  })

  test("are kept while the flow waits", async () => {
    const { decide, answer } = slow()
    const world = new DatagramWorld({ udpRules: rules, policy: { decide } })
    send(world, "a")
    send(world, "b")
    await answer("allow")
    world.turn()
    send(world, "c")
    expect(world.received().map(({ data }) => textOf(data))).toEqual(["a", "b", "c"])
  })
})

describe("spliced connections", () => {
  const policies: [string, PolicyOptions, boolean][] = [
    ["out", { rules: [{ action: "refuse", direction: "out", ports: [{ first: 5433, last: 5433 }] }] }, true],
    ["in only", { rules: [{ action: "refuse", direction: "in" }] }, false],
  ]
  test.each(policies)("are refused: %s", (_, policy, refused) => {
    const world = new SpliceWorld({ policy })
    const { client } = world.connect("127.0.0.1", "127.0.0.1", PLACE_NAMESPACE)
    expect([client.wasReset, world.connected.length]).toEqual([refused, refused ? 0 : 1])
    if (refused) world.expectNothingLeft()
  })

  test("wait, and are redirected", async () => {
    const { decide, questions, answer } = slow()
    const world = new SpliceWorld({ policy: { decide } })
    world.connect("127.0.0.1", "127.0.0.1", PLACE_NAMESPACE)
    expect(world.connected).toEqual([])
    expect(questions).toMatchObject([
      {
        kind: "splice",
        direction: "out",
        guest: { port: 40_000 },
        remote: { address: "127.0.0.1", port: 5433 },
        far: null,
      },
    ])
    await answer({ action: "redirect", port: 1234 })
    world.turn()
    expect(world.connected[0]!.remote).toEqual(record("127.0.0.1", 1234))
    expect(world.engine.counters[COUNTER.policyRedirected]).toBe(1)
  })
})

describe("new rules and flows that have begun", () => {
  const port = (first: number): PolicyOptions => ({
    rules: [{ action: "allow", ports: [{ first, last: first }] }],
    default: "refuse",
  })
  const load = (world: DatagramWorld | TcpDialogue | SpliceWorld, options: PolicyOptions, end: boolean): void => {
    world.engine.policy!.load({ rules: options.rules!, default: options.default! })
    for (let row = 0; row >= 0;) row = world.engine.judgeFlows(row, 1, end)
  }

  test("a connection is reset on both sides, if that is wanted", () => {
    const d = new TcpDialogue({ policy: port(80) })
    d.connect()
    load(d, port(81), false)
    d.settle()
    expect([d.open, flowsOf(d)[0]!.policy]).toEqual([true, { verdict: "allowed", rule: null, label: null, names: [] }])
    load(d, port(80), true)
    d.settle()
    expect([d.open, flowsOf(d)[0]!.policy!.rule]).toEqual([true, 0])
    load(d, port(81), true)
    d.settle()
    expect([d.open, d.lines()]).toEqual([false, ["RA seq 1 ack 1"]])
    expect(d.counter("policyEnded")).toBe(1)
  })

  test("so are spliced ones, and flows of datagrams end", () => {
    const world = new SpliceWorld({ policy: {} })
    const { client } = world.connect()
    load(world, { rules: [], default: "drop" }, true)
    expect(client.wasReset).toBe(true)
    world.expectNothingLeft()
    const datagrams = new DatagramWorld({ policy: {} })
    datagrams.send(datagram(GUEST4, 1, PEER4, 9, bytesOf("x")))
    load(datagrams, { rules: [], default: "drop" }, true)
    datagrams.turn()
    expect([datagrams.flows, datagrams.kernel.open]).toEqual([0, []])
  })
})
