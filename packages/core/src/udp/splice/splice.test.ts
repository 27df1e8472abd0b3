import { beforeEach, describe, expect, test } from "vitest"

import type { EngineConfig } from "../../context.ts"
import { Engine } from "../../engine.ts"
import { EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, EMFILE } from "../../errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE } from "../../kernel.ts"
import { forwardRule, GUEST4, GUEST6, newConfig, newGuest, record } from "../../sim/config.ts"
import type { AddressRecord, SimSocket } from "../../sim/datagram-kernel.ts"
import { SimLink } from "../../sim/sim-link.ts"
import { SpliceDatagramKernel } from "../../sim/splice-datagrams.ts"
import { COUNTER } from "../../stats.ts"

let kernel: SpliceDatagramKernel
let link: SimLink
let engine: Engine
let log: string[]

function build(options: Partial<EngineConfig> = {}): void {
  kernel = new SpliceDatagramKernel()
  link = new SimLink()
  kernel.attach(link.frames)
  log = []
  engine = new Engine({
    ...newConfig(kernel, link, newGuest()),
    tcp: false,
    rules: [
      forwardRule("udp", { first: 53, targetFirst: 5353 }),
      forwardRule("udp", { first: 123, targetFirst: 1123, place: PLACE_NAMESPACE, device: "lo" }),
    ],
    splice: { inbound: true, toLoopback: false },
    log: (level, site, message) => log.push(`${level} ${site}: ${message}`),
    ...options,
  })
  engine.listen()
}
beforeEach(() => build())

function turn(count = 4): void {
  for (let i = 0; i < count; i++) engine.turn(0)
}

const listener = (place: number): SimSocket => kernel.open.find((s) => s.listening && kernel.place(s) === place)!
const flowSockets = (): SimSocket[] => kernel.open.filter((s) => !s.listening)
const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes)
const bytes = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0))

/** A datagram of a client lands in the listening socket. */
function arrive(place: number, remote: AddressRecord, local: AddressRecord, ...contents: string[]): void {
  for (const content of contents) kernel.put(listener(place), remote, local, bytes(content))
  turn()
}

const CLIENT = record("127.0.0.1", 4000)
const CALLED = record("127.0.0.1", 53)

describe("a spliced flow", () => {
  test("from the host: the first datagrams get through, and both sockets are what they should be", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "one", "two", "")
    const [near, far] = flowSockets()
    expect(near).toMatchObject({ family: 4, local: CALLED, remote: CLIENT, reuse: true })
    expect(far).toMatchObject({ family: 4, remote: record(GUEST4, 5353) })
    expect(far!.local[4]).toBe(4000)
    expect([near, far].map((s) => kernel.place(s!))).toEqual([PLACE_HOST, PLACE_NAMESPACE])
    expect(kernel.sent.map((s) => [s.fd, text(s.bytes)])).toEqual([
      [far!.fd, "one"],
      [far!.fd, "two"],
      [far!.fd, ""],
    ])
    expect([...kernel.merged]).toEqual([near!.fd, far!.fd])
    expect(engine.ctx.flows.count).toBe(1)
    expect(engine.counters[COUNTER.bytesSplicedIn]).toBe(6)
  })

  test("from the namespace: to the host's loopback, kept as it was", () => {
    arrive(PLACE_NAMESPACE, record("127.0.0.5", 4000), record("127.0.0.7", 123), "q")
    const [near, far] = flowSockets()
    expect(near).toMatchObject({ device: "lo", local: record("127.0.0.7", 123) })
    expect(far).toMatchObject({ remote: record("127.0.0.7", 1123), local: record("127.0.0.5", 4000) })
    expect([near, far].map((s) => kernel.place(s!))).toEqual([PLACE_NAMESPACE, PLACE_HOST])
    arrive(PLACE_NAMESPACE, record("::1", 4001), record("::1", 123), "q")
    expect(flowSockets()[3]).toMatchObject({ family: 6, remote: record("::1", 1123) })
  })

  test("over IPv6", () => {
    arrive(PLACE_HOST, record("::1", 4000), record("::1", 53), "q")
    expect(flowSockets()[1]).toMatchObject({ family: 6, remote: record(GUEST6, 5353) })
  })

  test("goes on between its own sockets, both ways, many at a time", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "first")
    const [near, far] = flowSockets() as [SimSocket, SimSocket]
    kernel.sent.length = 0
    for (let i = 0; i < 300; i++) kernel.put(near, CLIENT, CALLED, bytes(`q${i}`))
    for (let i = 0; i < 300; i++) kernel.put(far, far.remote!, far.local, bytes(`a${i}`))
    turn(6)
    const got = (fd: number): string[] => kernel.sent.filter((s) => s.fd === fd).map((s) => text(s.bytes))
    expect(got(far.fd)).toEqual(Array.from({ length: 300 }, (_, i) => `q${i}`))
    expect(got(near.fd)).toEqual(Array.from({ length: 300 }, (_, i) => `a${i}`))
  })

  test("another client gets another flow; the same addresses in the other place, too", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "x")
    arrive(PLACE_HOST, record("127.0.0.1", 4001), CALLED, "y")
    arrive(PLACE_HOST, CLIENT, CALLED, "z")
    expect(engine.ctx.flows.count).toBe(2)
    arrive(PLACE_NAMESPACE, CLIENT, record("127.0.0.1", 123), "x")
    expect(engine.ctx.flows.count).toBe(3)
  })

  test("strays from before the sockets were connected: another client's is kept, towards the target they are dropped", () => {
    kernel.onConnect = (near) => {
      kernel.put(near, record("127.0.0.1", 4009), CALLED, bytes("other"))
      kernel.put(near, CLIENT, CALLED, bytes("mine"))
      kernel.onConnect = (far) => {
        kernel.put(far, record("127.0.0.1", 99), far.local, bytes("stranger"))
        kernel.onConnect = undefined
      }
    }
    arrive(PLACE_HOST, CLIENT, CALLED, "first")
    turn()
    expect(engine.ctx.flows.count).toBe(2)
    const by = new Map(flowSockets().map((s) => [s.fd, s]))
    const told = kernel.sent.map((s) => `${by.get(s.fd)!.local[4]} ${text(s.bytes)}`)
    expect(told.toSorted()).toEqual(["4000 first", "4000 mine", "4009 other"])
  })

  test("the client's port may be taken", () => {
    kernel.failNext("bind", 0, EADDRINUSE)
    arrive(PLACE_HOST, CLIENT, CALLED, "q")
    expect(flowSockets()[1]!.local[4]).not.toBe(4000)
    expect(kernel.sent).toHaveLength(1)
  })

  test("ends with silence: a question's after less than a stream's", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "q")
    kernel.timeMs += 29_000
    turn()
    expect(engine.ctx.flows.count).toBe(1)
    kernel.timeMs += 1100
    turn()
    expect(flowSockets()).toEqual([])
    arrive(PLACE_HOST, CLIENT, CALLED, "q", "q")
    const [, far] = flowSockets() as [SimSocket, SimSocket]
    kernel.put(far, far.remote!, far.local, bytes("a"))
    turn()
    kernel.timeMs += 119_000
    turn()
    expect(engine.ctx.flows.count).toBe(1)
    kernel.timeMs += 1100
    turn()
    expect(engine.ctx.flows.count).toBe(0)
    expect(engine.ctx.timers.armed).toBe(0)
  })

  test("errors cost nothing but what met them", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "q")
    const [, far] = flowSockets() as [SimSocket, SimSocket]
    kernel.report(far, {
      errno: ECONNREFUSED,
      origin: 2,
      type: 3,
      code: 3,
      info: 0,
      offender: record("0.0.0.0", 0),
      quote: bytes(""),
    })
    kernel.put(far, far.remote!, far.local, bytes("late"))
    turn()
    expect(text(kernel.sent.at(-1)!.bytes)).toBe("late")
    expect(engine.ctx.flows.count).toBe(1)
  })

  test("what a target does not take is counted", () => {
    kernel.sendMax = 0
    arrive(PLACE_HOST, CLIENT, CALLED, "a", "b")
    expect(engine.counters[COUNTER.dropDatagram]).toBe(2)
  })

  test("without descriptors: refused, told once, nothing left", () => {
    for (const call of ["udpSocket", "watch", "connect"]) {
      for (const nth of [0, 1]) {
        build()
        kernel.failNext(call, ...Array<number>(nth).fill(0), call === "connect" ? EADDRNOTAVAIL : EMFILE)
        arrive(PLACE_HOST, CLIENT, CALLED, "q")
        expect(flowSockets(), `${call} ${nth}`).toEqual([])
        expect(engine.ctx.flows.count).toBe(0)
        expect(log).toHaveLength(1)
        arrive(PLACE_HOST, CLIENT, CALLED, "again")
        expect(kernel.sent.map((s) => text(s.bytes))).toEqual(["again"])
      }
    }
  })

  test("ends with the engine", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "q")
    engine.close()
    expect(kernel.open).toEqual([])
    expect(engine.ctx.flows.count).toBe(0)
  })

  test("ends with an automatic port", () => {
    arrive(PLACE_HOST, CLIENT, CALLED, "q")
    arrive(PLACE_NAMESPACE, CLIENT, record("127.0.0.1", 123), "q")
    engine.listeners.closePort(0, 53)
    turn()
    expect(engine.ctx.flows.count).toBe(1)
    expect(flowSockets()).toHaveLength(2)
  })
})

describe("what is not spliced", () => {
  test("goes over the link, also from the same listening socket, in its order", () => {
    const far = record("198.51.100.9", 4000)
    const local = record("192.0.2.200", 53)
    kernel.put(listener(PLACE_HOST), CLIENT, CALLED, bytes("near"))
    kernel.put(listener(PLACE_HOST), far, local, bytes("far"))
    kernel.put(listener(PLACE_HOST), CLIENT, CALLED, bytes("near again"))
    kernel.put(listener(PLACE_HOST), far, local, bytes("far again"))
    turn(8)
    expect(kernel.sent.map((s) => text(s.bytes))).toEqual(["near", "near again"])
    expect(link.sent.map((frame) => text(frame.subarray(42)).slice(0, 9))).toEqual([
      expect.stringMatching(/^far\0*/),
      "far again",
    ])
  })

  test("is dropped where there is no link, or no way", () => {
    build({ splice: { inbound: true, toLoopback: true, only: true } })
    arrive(PLACE_HOST, record("198.51.100.9", 4000), record("192.0.2.200", 53), "far")
    build()
    arrive(PLACE_NAMESPACE, record(GUEST4, 4000), record(GUEST4, 123), "not loopback")
    expect(kernel.sent).toEqual([])
    expect(link.sent).toEqual([])
    expect(listener(PLACE_NAMESPACE).queue).toEqual([])
  })
})
