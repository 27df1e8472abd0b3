import { describe, expect, test } from "vitest"
import { type ForwardRule, FORWARD_RULE_MAX, type PortContext } from "@passt/cli"
import { EADDRINUSE, EMFILE, PLACE_HOST, PLACE_NAMESPACE } from "@passt/core"
import { address } from "@passt/core/wire"

import { DatagramWorld } from "../../../core/src/sim/datagram-world.ts"
import { Forwards } from "../forwards.ts"
import { END, hexRule, PestoWire, table } from "../test-support/pesto-wire.ts"
import { PESTO_PATIENCE_MS } from "./server.ts"

function rule(first: number, more: Partial<ForwardRule> = {}): ForwardRule {
  return {
    protocol: "udp",
    place: PLACE_HOST,
    address: null,
    dualStack: true,
    device: "",
    first,
    last: first,
    targetFirst: first,
    targetAddress: null,
    weak: false,
    auto: false,
    ...more,
  }
}
const at = (text: string): Partial<ForwardRule> => ({ address: address.parse(text)!, dualStack: false })

const HOST = 1
const SPLICE = 3
const A = rule(5000)
const B = rule(6000, { last: 6009, targetFirst: 7000 })
const N = rule(9000, { place: PLACE_NAMESPACE, device: "lo" })

function newScene(rules: readonly ForwardRule[] = [A, B], more: Partial<PortContext> = {}) {
  const world = new DatagramWorld({ rules })
  const context: PortContext = {
    ipv4: true,
    ipv6: true,
    tcp: true,
    udp: true,
    ephemeralFirst: 49_152,
    ephemeralLast: 65_535,
    auto: true,
    ...more,
  }
  const forwards = new Forwards(world.engine, rules, context)
  const wire = new PestoWire(forwards, context)
  return {
    world,
    wire,
    forwards,
    /** Texts of the rules that are served, in their order. */
    served: () => forwards.served.map(({ text }) => text),
    sockets: () => new Map(world.kernel.open.map(({ fd, local }) => [local[4]!, fd])),
  }
}

describe("what a client is told", () => {
  test("the tables, with what can be in them", () => {
    const { wire } = newScene([A, N])
    expect(wire.exchange()).toEqual([
      { id: HOST, name: "HOST", capabilities: 0x3f, rules: [hexRule(A)] },
      { id: SPLICE, name: "SPLICE", capabilities: 0x3f, rules: [hexRule(N)] },
    ])
    expect(wire.mode).toBe(0o777)
    expect(wire.log).toEqual(["Accepted configuration client"])
  })

  test("a program without a namespace has one table", () => {
    const { wire } = newScene([], { auto: false, ipv6: false, tcp: false })
    expect(wire.exchange()).toEqual([{ id: HOST, name: "HOST", capabilities: 0x29, rules: [] }])
  })

  test("a client that reads slowly gets all of it, one that does not read is let go", () => {
    const { wire } = newScene()
    const slow = wire.connect(7)
    for (let i = 0; i < 100; i++) wire.give(slow, 7)
    expect(wire.told(slow)[0]!.rules).toHaveLength(2)
    wire.end(slow)
    const dead = wire.connect(0)
    wire.pass(PESTO_PATIENCE_MS - 1)
    expect(wire.isClosed(dead)).toBe(false)
    wire.pass(1)
    expect(wire.isClosed(dead)).toBe(true)
    expect(wire.log.at(-1)).toMatch(/^warning: .* more than 10 seconds/)
  })
})

describe("what a client wants", () => {
  const both = (host: readonly ForwardRule[], splice: readonly ForwardRule[] = []): Buffer =>
    Buffer.concat([table(HOST, host), table(SPLICE, splice), END])

  test("a rule more, one fewer, in the client's order; sockets in common stay", () => {
    const { wire, served, sockets } = newScene()
    const before = sockets()
    wire.exchange(both([rule(4000), B, A]))
    expect(served()).toEqual(["UDP [*]:4000  =>  4000", "UDP [*]:6000-6009  =>  7000-7009", "UDP [*]:5000  =>  5000"])
    for (const [port, fd] of before) expect(sockets().get(port)).toBe(fd)
    expect(wire.log).toEqual([
      "Accepted configuration client",
      "New forwarding rules for HOST:",
      "    UDP [*]:4000  =>  4000",
      "    UDP [*]:6000-6009  =>  7000-7009",
      "    UDP [*]:5000  =>  5000",
    ])
    wire.exchange(both([A]))
    expect(served()).toEqual(["UDP [*]:5000  =>  5000"])
    expect([...sockets()]).toEqual([[5000, before.get(5000)]])
    expect(wire.exchange()[0]!.rules).toEqual([hexRule(A)])
  })

  test("the same again changes nothing, and says nothing", () => {
    const { wire, forwards } = newScene()
    const before = forwards.list(0, 100)
    wire.exchange(both([A, B]))
    expect(forwards.list(0, 100)).toEqual(before)
    expect(wire.log).toEqual(["Accepted configuration client"])
  })

  test("tables that are not sent are empty, one sent twice counts twice", () => {
    const { wire, served } = newScene([A, N])
    wire.exchange(table(HOST, [rule(1)]), table(HOST, [rule(2)]), END)
    expect(served()).toEqual(["UDP [*]:1  =>  1", "UDP [*]:2  =>  2"])
    wire.exchange(END)
    expect(served()).toEqual([])
  })

  test("byte by byte, with a descriptor that nobody asked for, and with more after the end", () => {
    const { wire, served } = newScene()
    const fd = wire.connect()
    const bytes = Buffer.concat([both([A, rule(4000, at("::1"))]), Buffer.from("more")])
    wire.write(fd, bytes.subarray(0, 1), 77)
    for (let i = 1; i < bytes.length && !wire.isClosed(fd); i++) wire.write(fd, bytes.subarray(i, i + 1))
    expect(wire.closed).toContain(77)
    expect(wire.isClosed(fd)).toBe(true)
    expect(served()).toEqual(["UDP [*]:5000  =>  5000", "UDP [::1]:4000  =>  4000"])
  })

  test("an update that breaks off is none", () => {
    const { wire, served } = newScene()
    const bytes = both([rule(1)])
    for (let length = 0; length < bytes.length; length++) wire.exchange(bytes.subarray(0, length))
    expect(served()).toHaveLength(2)
    expect(wire.log.every((line) => line === "Accepted configuration client")).toBe(true)
  })

  test("a port that can't be had leaves everything as it was, and is told to the log", () => {
    const { world, wire, served, sockets } = newScene()
    const before = sockets()
    world.kernel.failNext("listenUdp", EADDRINUSE)
    wire.exchange(both([rule(4000), B]))
    expect(served()).toHaveLength(2)
    expect(sockets()).toEqual(before)
    expect(wire.log.at(-1)).toBe(
      "warning: Listen failed for UDP *:4000: Address already in use; forwarding rules are as before",
    )
  })

  test("as many rules as a table holds, and not one more", () => {
    const { wire, served } = newScene()
    const many = Array.from({ length: FORWARD_RULE_MAX }, (_, i) => rule(10_000 + i))
    wire.exchange(both(many, [N]))
    expect(served()).toHaveLength(FORWARD_RULE_MAX + 1)
    expect(wire.exchange()[0]!.rules).toEqual(many.map(hexRule))
    wire.exchange(table(HOST, [], FORWARD_RULE_MAX + 1))
    expect(wire.log.at(-1)).toBe("warning: Received 256 rules (maximum 255)")
    expect(served()).toHaveLength(FORWARD_RULE_MAX + 1)
  })

  const auto = { auto: true, weak: true }
  const edited = (change: (bytes: Buffer) => unknown): Buffer => {
    const bytes = Buffer.from(hexRule(rule(4000, at("127.0.0.1"))), "hex")
    change(bytes)
    return bytes
  }
  test.each([
    ["Unsupported protocol 0x1 for forwarding rule", edited((b) => b.writeUInt8(1, 54))],
    ["Rule has invalid flags 0x8", edited((b) => b.writeUInt8(8, 55))],
    ["Forwarding rule attempts to map from port 0", edited((b) => b.writeUInt16BE(0, 48))],
    ["Rule has invalid port range 4000-3000", edited((b) => b.writeUInt16BE(3000, 50))],
    ["Forwarding rule attempts to map to port 0", edited((b) => b.writeUInt16BE(0, 52))],
    ["attempts to map 4000-5000 beyond port 65535", rule(4000, { last: 5000, targetFirst: 65_000 })],
    ["Interface name was not NULL terminated", edited((b) => b.fill("x", 32, 48))],
    ['Invalid interface name in rule: "a/b\\n"', edited((b) => b.write("a/b\n", 32))],
    ["Invalid interface name", edited((b) => b.fill(0xff, 32, 40))],
    ["Dual stack rule has non-wildcard address 127.0.0.1", edited((b) => b.writeUInt8(1, 55))],
    ["Dual stack forward to IPv4 address 10.0.0.1", rule(4000, { targetAddress: address.parse("10.0.0.1")! })],
    [
      "Forward from IPv4 (127.0.0.1) to IPv6 (2001:db8::1) unsupported",
      rule(4000, { ...at("127.0.0.1"), targetAddress: address.parse("2001:db8::1")! }),
    ],
    ["no unicast address", rule(4000, { ...at("127.0.0.1"), targetAddress: address.parse("224.0.0.1")! })],
    ["no unicast address", rule(4000, { ...at("127.0.0.1"), targetAddress: address.parse("0.0.0.0")! })],
  ])("refused: %s", (message, wrong) => {
    const { wire, served } = newScene()
    wire.exchange(table(HOST, [rule(1), wrong]), END)
    expect(wire.log.at(-1)).toContain(message)
    expect(served()).toHaveLength(2)
  })

  test("refused: what the program does not do", () => {
    const machine = newScene([], { auto: false, ipv6: false, tcp: false })
    const refusal = (...parts: Buffer[]): string => {
      machine.wire.exchange(...parts)
      return machine.wire.log.at(-1)!
    }
    const only4 = at("0.0.0.0")
    expect(refusal(table(HOST, [rule(1)]))).toBe("warning: IPv6 forwarding rule, but it is disabled")
    expect(refusal(table(HOST, [rule(1, { ...only4, protocol: "tcp" })]))).toContain("--no-tcp")
    expect(refusal(table(HOST, [rule(1, { ...only4, ...auto })]))).toContain("only allowed for pasta")
    expect(refusal(table(SPLICE, [N]))).toContain("non-existent table")
    expect(refusal(table(9, []))).toContain("non-existent table")
    expect(refusal(table(HOST, [rule(1, only4), rule(1, at("127.0.0.1"))]), END)).toBe(
      "warning: Forwarding configuration conflict: UDP [127.0.0.1]:1  =>  1 versus UDP [0.0.0.0]:1  =>  1; forwarding rules are as before",
    )
    expect(machine.served()).toEqual([])
    expect(machine.wire.exchange()).toHaveLength(1)
    const { wire } = newScene([])
    wire.exchange(table(SPLICE, [rule(1, { place: PLACE_NAMESPACE })]))
    expect(wire.log.at(-1)).toContain("does not listen on the loopback interface")
    wire.exchange(table(SPLICE, [{ ...N, ...at("127.0.0.1"), targetAddress: address.parse("10.0.0.1")! }]))
    expect(wire.log.at(-1)).toContain("Target address not allowed in SPLICE")
  })
})

describe("many clients", () => {
  test("are served one after the other, each with what the one before has left", () => {
    const { wire, served } = newScene([])
    const first = wire.connect()
    const second = wire.connect()
    expect(wire.told(first)).toHaveLength(2)
    expect(wire.output(second)).toHaveLength(0)
    wire.write(first, Buffer.concat([table(HOST, [A]), END]))
    expect(wire.told(second)[0]!.rules).toEqual([hexRule(A)])
    wire.write(second, Buffer.concat([table(HOST, [A, B]), END]))
    expect(served()).toHaveLength(2)
    expect(wire.closed).toEqual([first, second])
  })

  test("one that does nothing keeps the others waiting for a while only", () => {
    const { wire } = newScene()
    const [idle, next] = [wire.connect(), wire.connect()]
    for (let i = 0; i < 9; i++) {
      wire.pass(PESTO_PATIENCE_MS / 10)
      wire.write(idle, table(HOST, []))
    }
    expect(wire.isClosed(idle)).toBe(false)
    wire.pass(PESTO_PATIENCE_MS / 10)
    expect(wire.isClosed(idle)).toBe(true)
    expect(wire.told(next)).toHaveLength(2)
  })

  test("one that can't be accepted for now is accepted later", () => {
    const { wire } = newScene()
    wire.acceptError = -EMFILE
    const fd = wire.connect()
    expect(wire.output(fd)).toHaveLength(0)
    wire.acceptError = 0
    wire.pass(1000)
    expect(wire.told(fd)).toHaveLength(2)
  })

  test("rules that come and go by the control socket meanwhile are let alone", () => {
    const { wire, forwards, served } = newScene()
    const fd = wire.connect()
    forwards.add(rule(4000))
    forwards.remove(1)
    wire.run()
    expect(served()).toEqual(["UDP [*]:6000-6009  =>  7000-7009", "UDP [*]:4000  =>  4000"])
    // Was told of A and B, and wants C instead of B.
    wire.write(fd, Buffer.concat([table(HOST, [A, rule(3000)]), END]))
    expect(served()).toEqual(["UDP [*]:3000  =>  3000", "UDP [*]:4000  =>  4000"])
  })

  test("no step takes long, however much is wanted", () => {
    const { wire, world } = newScene([])
    const fd = wire.connect()
    let most = 0
    let before = 0
    const listen = world.kernel.listenUdp.bind(world.kernel)
    let opened = 0
    world.kernel.listenUdp = (...args) => (opened++, listen(...args))
    const run = wire.server.run.bind(wire.server)
    wire.server.run = (now) => {
      before = opened
      run(now)
      most = Math.max(most, opened - before)
    }
    wire.write(fd, Buffer.concat([table(HOST, [rule(10_000, { last: 10_999 })]), END]))
    expect(opened).toBe(1000)
    expect(most).toBe(32)
  })
})
