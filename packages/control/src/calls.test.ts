import { describe, expect, test } from "vitest"
import type { ForwardRule } from "@passt/cli"
import { EACCES, EADDRINUSE, PLACE_HOST } from "@passt/core"

import { GUEST4 } from "../../core/src/sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../../core/src/sim/datagram-world.ts"
import { openCalls } from "./calls.ts"
import { Capture } from "./capture.ts"
import { Forwards } from "./forwards.ts"
import { parseOpenMetrics } from "./test-support/openmetrics.ts"
import { Wire } from "./test-support/wire.ts"

const PEER = "198.51.100.9"
const FIRST: ForwardRule = {
  protocol: "udp",
  place: PLACE_HOST,
  address: null,
  dualStack: true,
  device: "",
  first: 5000,
  last: 5000,
  targetFirst: 53,
  targetAddress: null,
  weak: false,
  auto: false,
}

function newScene(options: { flowMax?: number } = {}): {
  world: DatagramWorld
  ask: (request: object, descriptor?: number) => Record<string, unknown>[]
  captured: number[]
  wire: Wire
} {
  const world = new DatagramWorld({ rules: [FIRST], ...options })
  const ports = {
    ipv4: true,
    ipv6: true,
    tcp: true,
    udp: true,
    ephemeralFirst: 49_152,
    ephemeralLast: 65_535,
    auto: false,
  }
  const forwards = new Forwards(world.engine, [FIRST], ports)
  const captured: number[] = []
  const kernel = {
    captureTo: (fd: number) => (fd === 66 ? -22 : (captured.push(fd), 0)),
    closeCapture: () => captured.push(-1),
  }
  const context = {
    engine: world.engine,
    forwards,
    capture: new Capture(kernel, false),
    program: "passt",
    version: "1.2.3",
    uptimeSeconds: () => 4.5,
  }
  const wire = new Wire(openCalls(context), forwards)
  const fd = wire.connect()
  const ask = (request: object, descriptor = -1): Record<string, unknown>[] => {
    wire.write(fd, `${JSON.stringify(request)}\n`, descriptor)
    return wire.lines(fd)
  }
  return { world, ask, captured, wire }
}

describe("calls", () => {
  test("version", () => {
    const { ask } = newScene()
    expect(ask({ call: "version", id: 1 })).toEqual([
      { id: 1, program: "passt", version: "1.2.3", protocol: 1, done: true },
    ])
  })

  test("fields that nobody knows, of the wrong type, or missing are refused", () => {
    const { ask } = newScene()
    for (const request of [
      { call: "version", x: 1 },
      { call: "flows", protocol: "sctp" },
      { call: "flows", protocol: 6 },
      { call: "flows", constructor: 1 },
      { call: "forward-add" },
      { call: "forward-add", protocol: "tcp" },
      { call: "forward-add", protocol: "tcp", spec: 80 },
      { call: "forward-add", protocol: "tcp", spec: "80", place: "moon" },
      { call: "forward-remove" },
      { call: "forward-remove", number: "1" },
      { call: "forward-remove", number: 1.5 },
      { call: "forward-remove", number: 1, protocol: "tcp" },
      { call: "capture-start" },
    ]) {
      expect(ask(request), JSON.stringify(request)).toMatchObject([{ error: { code: "bad-request" } }])
    }
    expect(ask({ call: "flow" })).toMatchObject([{ error: { code: "unknown-call" } }])
    expect(ask({ call: "toString" })).toMatchObject([{ error: { code: "unknown-call" } }])
  })

  test("flows are listed, all or those of a protocol", () => {
    const { world, ask } = newScene({ flowMax: 600 })
    for (let port = 1; port <= 500; port++) world.send(datagram(GUEST4, port, PEER, 53, bytesOf("x")))
    const lines = ask({ call: "flows", id: "f" })
    expect(lines).toHaveLength(501)
    expect(lines.at(-1)).toEqual({ id: "f", count: 500, done: true })
    const ports = lines.slice(0, -1).map(({ flow }) => (flow as { guest: { port: number } }).guest.port)
    expect(ports.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
    expect(ask({ call: "flows", protocol: "tcp" })).toEqual([{ count: 0, done: true }])
    expect(ask({ call: "flows", protocol: "udp", kind: "link" })).toHaveLength(501)
  })

  test("forwards are listed, added and removed, by specification and by number", () => {
    const { world, ask } = newScene()
    const rule = "UDP [*]:5000  =>  53"
    const first = { number: 1, protocol: "udp", place: "host", rule, first: 5000, last: 5000, open: 1 }
    expect(ask({ call: "forwards" })).toEqual([{ forward: first }, { count: 1, done: true }])
    expect(ask({ call: "forward-add", protocol: "udp", spec: "6000-6002:7000-7002,8000" })).toMatchObject([
      { forward: { number: 2, first: 6000, last: 6002, open: 3 }, ok: true },
      { forward: { number: 3, first: 8000, open: 1 }, ok: true },
      { added: 2, failed: 0, done: true },
    ])
    expect(world.kernel.open.map((socket) => socket.local[4])).toEqual([5000, 6000, 6001, 6002, 8000])
    expect(ask({ call: "forward-remove", protocol: "udp", spec: "5000:53" })).toMatchObject([
      { forward: { number: 1 }, ok: true },
      { removed: 1, failed: 0, done: true },
    ])
    expect(ask({ call: "forward-remove", number: 2 })).toMatchObject([{ ok: true }, { removed: 1 }])
    expect(ask({ call: "forward-remove", number: 2 })).toMatchObject([
      { ok: false, error: { message: "There is no rule 2" } },
      { removed: 0, failed: 1 },
    ])
    expect(world.kernel.open.map((socket) => socket.local[4])).toEqual([8000])
    // The same port, to another target, is not the same rule.
    expect(ask({ call: "forward-remove", protocol: "udp", spec: "8000:1" })).toMatchObject([
      { error: { code: "failed", message: "There is no such rule" } },
    ])
  })

  test("each rule has its own result, and one that fails leaves nothing", () => {
    const { world, ask } = newScene()
    world.kernel.failNext("listenUdp", 0, 0, EADDRINUSE)
    expect(ask({ call: "forward-add", protocol: "udp", spec: "6000,6001-6003,6010,5000" })).toMatchObject([
      { ok: true, forward: { first: 6000 } },
      { ok: false, error: { message: "Listen failed for UDP *:6002: Address already in use" } },
      { ok: true, forward: { first: 6010 } },
      { ok: false, error: { message: "Conflicts with UDP [*]:5000  =>  53 (1)" } },
      { added: 2, failed: 2, done: true },
    ])
    expect(world.kernel.open.map((socket) => socket.local[4])).toEqual([5000, 6000, 6010])
  })

  test("best effort: how many ports could not be had is told", () => {
    const { world, ask } = newScene()
    world.kernel.failNext("listenUdp", EACCES, EACCES)
    // Ports 1 to 3 but for the first two.
    expect(ask({ call: "forward-add", protocol: "udp", spec: "~4-65535" })).toMatchObject([
      { ok: true, failedPorts: 2, forward: { first: 1, last: 3, open: 1 } },
      { added: 1 },
    ])
  })

  test("specifications that are no good are refused whole, as on the command line", () => {
    const { world, ask } = newScene()
    for (const spec of ["", "x", "0", "70000", "1-2:3", "none", "auto", "80,,81", "127.0.0.1/"]) {
      expect(ask({ call: "forward-add", protocol: "udp", spec }), spec).toMatchObject([{ error: { code: "failed" } }])
    }
    expect(ask({ call: "forward-add", protocol: "udp", spec: "80", place: "namespace" })).toMatchObject([
      { error: { code: "failed", message: "There is no namespace to listen in" } },
    ])
    expect(world.kernel.open).toHaveLength(1)
  })

  test("a change goes on when who asked for it is gone", () => {
    const { world, wire } = newScene()
    const fd = wire.connect()
    wire.allow(fd, 0)
    wire.write(fd, '{"call":"forward-add","protocol":"udp","spec":"6000-6999"}\n')
    wire.end(fd)
    wire.pass(60_000)
    expect(wire.isClosed(fd)).toBe(true)
    expect(world.engine.listeners.count).toBe(1001)
  })

  test("statistics", () => {
    const { world, ask } = newScene()
    world.send(datagram(GUEST4, 1, PEER, 53, bytesOf("hello")))
    expect(ask({ call: "stats" })).toMatchObject([
      {
        uptimeSeconds: 4.5,
        alive: { udp: 1, tcp: 0 },
        forwards: 1,
        listening: 1,
        capturing: false,
        counters: { udpFlows: 1, bytesFromGuest: 5, dropIp: 0 },
        done: true,
      },
    ])
  })

  test("metrics are OpenMetrics, and tell what happened", () => {
    const { world, ask } = newScene()
    world.send(datagram(GUEST4, 1, PEER, 53, bytesOf("hello")))
    const [answer] = ask({ call: "metrics" })
    expect(answer).toMatchObject({ done: true })
    const families = parseOpenMetrics(answer!["text"] as string)
    expect(families.get("passt_flows")?.samples).toEqual(new Map([['protocol="udp",kind="link",state="query"', 1]]))
    const bytes = families.get("passt_payload_bytes")!
    expect(bytes.type).toBe("counter")
    expect(bytes.samples.get('protocol="udp",kind="link",direction="from_guest"')).toBe(5)
    expect(families.get("passt_frames")?.samples.get('direction="from_guest"')).toBe(1)
    expect(families.get("passt_drops")?.samples.get('reason="tcp-sequence"')).toBe(0)
    expect(families.get("passt_forwards")?.samples.get("")).toBe(1)
  })

  test("captures go into a file that comes along, one at a time", () => {
    const { ask, captured, wire } = newScene()
    expect(ask({ call: "capture-stop" })).toMatchObject([{ error: { code: "failed" } }])
    expect(ask({ call: "capture-start" }, 66)).toMatchObject([{ error: { code: "failed" } }])
    expect(ask({ call: "capture-start", id: 1 }, 77)).toEqual([{ id: 1, done: true }])
    expect(ask({ call: "capture-start" }, 78)).toMatchObject([{ error: { message: "There is a capture already" } }])
    expect(wire.closed).toEqual([78])
    expect(ask({ call: "capture-stop" })).toEqual([{ done: true }])
    expect(captured).toEqual([77, -1])
  })
})
