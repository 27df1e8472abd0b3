import { describe, expect, test } from "vitest"

import { EADDRINUSE, EADDRNOTAVAIL, ECONNRESET, EMFILE, ENETUNREACH, ENOMEM, EPIPE } from "../../errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE } from "../../kernel.ts"
import { forwardRule, GUEST4, GUEST6, newGuest, record, words } from "../../sim/config.ts"
import { SpliceWorld } from "../../sim/splice-world.ts"
import { COUNTER } from "../../stats.ts"

const bytes = (length: number, seed = 0): number[] => Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff)

describe("where connections lead", () => {
  test("from the host's loopback to the namespace's public address, at the port of the rule", () => {
    const world = new SpliceWorld()
    world.connect()
    expect(world.connected[0]).toMatchObject({ place: PLACE_NAMESPACE, remote: record(GUEST4, 8080), local: undefined })
    world.connect("::1", "::1")
    expect(world.connected[1]!.remote).toEqual(record(GUEST6, 8080))
    expect(world.engine.counters[COUNTER.tcpSpliceFlows]).toBe(2)
  })

  test("or to its loopback address, if asked to: the one that was called", () => {
    const world = new SpliceWorld({ splice: { inbound: true, toLoopback: true } })
    world.connect("127.0.0.1", "127.0.0.9")
    expect(world.connected[0]!.remote).toEqual(record("127.0.0.9", 8080))
    // Called by its public address, the host means the namespace's.
    world.connect("127.0.0.1", "192.0.2.200")
    expect(world.connected[1]!.remote).toEqual(record(GUEST4, 8080))
  })

  test("from the namespace to the host's loopback, addresses kept", () => {
    const world = new SpliceWorld()
    world.connect("127.0.0.1", "127.0.0.1", PLACE_NAMESPACE)
    expect(world.connected[0]).toMatchObject({ place: PLACE_HOST, remote: record("127.0.0.1", 5433), local: undefined })
    world.connect("127.0.0.2", "127.0.0.3", PLACE_NAMESPACE)
    expect(world.connected[1]).toMatchObject({ remote: record("127.0.0.3", 5433), local: record("127.0.0.2", 0) })
    world.connect("::1", "::1", PLACE_NAMESPACE)
    expect(world.connected[2]!.remote).toEqual(record("::1", 5433))
  })

  test("nothing but loopback leads out of the namespace", () => {
    const world = new SpliceWorld()
    for (const [from, to] of [
      [GUEST4, "127.0.0.1"],
      ["127.0.0.1", GUEST4],
      [GUEST6, GUEST6],
    ] as const) {
      expect(world.connect(from, to, PLACE_NAMESPACE).client.wasReset).toBe(true)
    }
    expect(world.connected).toEqual([])
    expect(world.engine.counters[COUNTER.dropNoGuest]).toBe(3)
    world.expectNothingLeft()
  })

  test("other connections, rules with a target, and all without inbound splicing go over the link", () => {
    const target = words("198.51.100.7")
    const worlds = [
      { world: new SpliceWorld(), from: "198.51.100.9" },
      { world: new SpliceWorld({ splice: { inbound: false, toLoopback: false } }), from: "127.0.0.1" },
      {
        world: new SpliceWorld({ rules: [forwardRule("tcp", { first: 80, targetAddress: target })] }),
        from: "127.0.0.1",
      },
    ]
    for (const { world, from } of worlds) {
      world.connect(from, "192.0.2.200")
      expect(world.engine.counters[COUNTER.tcpFlows]).toBe(1)
      expect(world.connected).toEqual([])
    }
  })

  test("without a link they are refused", () => {
    const world = new SpliceWorld({ splice: { inbound: true, toLoopback: true, only: true } })
    expect(world.connect("198.51.100.9", "192.0.2.200").client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("without a known address of the namespace they are refused", () => {
    const guest = newGuest()
    guest.address4.fill(0)
    const world = new SpliceWorld({ guest })
    expect(world.connect().client.wasReset).toBe(true)
    world.expectNothingLeft()
  })
})

describe("data", () => {
  test("both ways, in order, however small the pieces", () => {
    const world = new SpliceWorld()
    const sizes = [1, 7, 3, 50, 2]
    let i = 0
    world.kernel.step = () => sizes[i++ % sizes.length]!
    const { client, server } = world.connect()
    client.write(bytes(1000))
    server().write(bytes(777, 5))
    world.turn()
    expect(server().received).toEqual(bytes(1000))
    expect(client.received).toEqual(bytes(777, 5))
    expect(world.engine.counters[COUNTER.bytesSplicedIn]).toBe(1000)
    expect(world.engine.counters[COUNTER.bytesSplicedOut]).toBe(777)
    expect(world.kernel.pipes.size).toBe(0)
  })

  test("what comes before the connection is made waits", () => {
    const world = new SpliceWorld()
    world.answer("hang")
    const { client, server } = world.connect()
    client.write(bytes(10))
    client.end()
    world.turn()
    expect(server().received).toEqual([])
    world.kernel.establish(world.connected[0]!)
    world.turn()
    expect(server().received).toEqual(bytes(10))
    expect(server().ended).toBe(true)
  })

  test("a target that is full holds one pipe, and nobody is asked until it has room", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    server().appetite = 0
    client.write(bytes(1000))
    world.turn()
    expect(world.kernel.pipes.size).toBe(1)
    const calls = world.kernel.calls.length
    client.write(bytes(10, 9))
    world.turn()
    expect(world.kernel.calls.length).toBe(calls)
    // The other direction is not held up.
    server().write(bytes(300))
    world.turn()
    expect(client.received).toEqual(bytes(300))
    server().read(5000)
    world.turn()
    expect(server().received).toEqual([...bytes(1000), ...bytes(10, 9)])
    expect(world.kernel.pipes.size).toBe(0)
  })

  test("flows take turns: a share each", () => {
    const world = new SpliceWorld()
    const a = world.connect()
    const b = world.connect()
    a.client.write(bytes(5000))
    b.client.write(bytes(500))
    world.engine.turn(0)
    expect(a.server().received.length).toBeLessThan(400)
    expect(b.server().received.length).toBeGreaterThan(0)
    world.turn()
    expect(a.server().received).toEqual(bytes(5000))
    expect(b.server().received).toEqual(bytes(500))
  })

  test("without a pipe nothing is read; later it is", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    world.kernel.pipeMax = 0
    client.write(bytes(100))
    world.turn()
    expect(world.log).toEqual([
      "warning tcp-splice-pipe: No descriptor or memory left for a pipe: spliced connections wait",
    ])
    expect(server().received).toEqual([])
    world.pass(30)
    expect(server().received).toEqual([])
    world.kernel.pipeMax = 4
    world.pass(30)
    expect(server().received).toEqual(bytes(100))
  })
})

describe("the end", () => {
  test("of one direction leaves the other open", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.write(bytes(300))
    client.end()
    world.turn()
    expect(server().received).toEqual(bytes(300))
    expect(server().ended).toBe(true)
    expect(client.ended).toBe(false)
    server().write(bytes(400, 3))
    world.turn()
    server().write(bytes(10, 4))
    server().end()
    world.turn()
    expect(client.received).toEqual([...bytes(400, 3), ...bytes(10, 4)])
    expect(client.ended).toBe(true)
    expect(client.wasReset || server().wasReset).toBe(false)
    world.expectNothingLeft()
  })

  test("is told only after all data, also by a server that speaks first", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.appetite = 0
    server().write(bytes(1000))
    server().end()
    world.turn()
    expect(client.ended).toBe(false)
    client.read(950)
    world.turn()
    expect(client.ended).toBe(false)
    client.read(100)
    world.turn()
    expect(client.received).toEqual(bytes(1000))
    expect(client.ended).toBe(true)
    client.end()
    world.turn()
    expect(server().ended).toBe(true)
    world.expectNothingLeft()
  })

  test("a silent connection stays", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    world.kernel.timeMs += 10 * 3600 * 1000
    world.turn()
    client.write(bytes(5))
    world.turn()
    expect(server().received).toEqual(bytes(5))
  })

  test("of the engine resets everybody", () => {
    const world = new SpliceWorld()
    const one = world.connect()
    const two = world.connect("127.0.0.1", "127.0.0.1", PLACE_NAMESPACE)
    one.server().appetite = 0
    one.client.write(bytes(500))
    world.turn()
    world.engine.close()
    for (const peer of [one.client, one.server(), two.client, two.server()]) expect(peer.wasReset).toBe(true)
    expect(world.kernel.open).toBe(0)
    expect(world.engine.ctx.flows.count).toBe(0)
  })
})

describe("failures", () => {
  test("a refused connection is a reset, at once", () => {
    const world = new SpliceWorld()
    world.answer("refuse")
    const { client } = world.connect()
    expect(client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("a reset is passed on, after what came before it", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.write(bytes(3000))
    client.reset()
    world.turn()
    expect(server().received).toEqual(bytes(3000))
    expect(server().wasReset).toBe(true)
    expect(server().ended).toBe(false)
    world.expectNothingLeft()
  })

  test("a reset waits until the other side has sent what it has", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.appetite = 0
    server().write(bytes(80))
    world.turn()
    server().reset()
    world.pass(100)
    expect(client.wasReset).toBe(false)
    client.read(80)
    world.pass(30)
    expect(client.received).toEqual(bytes(80))
    expect(client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("but not for ever, whether the rest is in the send queue or in a pipe", () => {
    for (const length of [80, 800]) {
      const world = new SpliceWorld()
      const { client, server } = world.connect()
      client.appetite = 0
      server().write(bytes(length))
      world.turn()
      server().reset()
      world.pass(4900)
      expect(client.wasReset).toBe(false)
      world.pass(200)
      expect(client.wasReset).toBe(true)
      world.expectNothingLeft()
    }
  })

  test("a server that closes on its client's data still gets its last words through", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    server().appetite = 0
    client.write(bytes(2000))
    world.turn()
    server().write(bytes(40, 1))
    // Closed with data unread: a reset, behind what was said.
    server().reset()
    world.turn()
    expect(client.received).toEqual(bytes(40, 1))
    expect(client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("a reset after the end is a reset", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.write(bytes(10))
    client.end()
    world.turn()
    expect(server().ended).toBe(true)
    client.reset()
    world.turn()
    expect(server().wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("both sides fail", () => {
    const world = new SpliceWorld()
    const { client, server } = world.connect()
    client.write(bytes(10))
    client.reset()
    server().reset()
    world.turn()
    world.expectNothingLeft()
  })

  test("the client goes while the server has not answered", () => {
    const world = new SpliceWorld()
    world.answer("hang")
    const { client, server } = world.connect()
    client.write(bytes(10))
    client.reset()
    world.turn()
    world.kernel.establish(world.connected[0]!)
    world.turn()
    expect(server().received).toEqual(bytes(10))
    expect(server().wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("every call that can fail ends the connection and nothing else", () => {
    for (const [call, ...errnos] of [
      ["tcpSocket", EMFILE],
      ["connect", ENETUNREACH],
      ["watch", ENOMEM],
      ["watch", 0, ENOMEM],
      ["bind", EADDRNOTAVAIL],
    ] as const) {
      const world = new SpliceWorld()
      world.kernel.failNext(call, ...errnos)
      const { client } = world.connect("127.0.0.2", "127.0.0.1", PLACE_NAMESPACE)
      expect(client.wasReset, call).toBe(true)
      world.expectNothingLeft()
    }
    for (const [call, errno] of [
      ["read", ECONNRESET],
      ["write", EPIPE],
      ["write", ECONNRESET],
    ] as const) {
      const world = new SpliceWorld()
      const { client, server } = world.connect()
      world.kernel.failNext(call, errno)
      client.write(bytes(10))
      world.turn()
      expect(call === "read" ? server().wasReset : client.wasReset, call).toBe(true)
      world.expectNothingLeft()
    }
    const world = new SpliceWorld()
    const { client } = world.connect()
    world.kernel.failNext("shutdownWrite", ECONNRESET)
    client.end()
    world.turn()
    expect(client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("without descriptors new connections are refused and old ones live", () => {
    const world = new SpliceWorld()
    const old = world.connect()
    world.kernel.descriptorMax = world.kernel.open
    expect(world.connect().client.wasReset).toBe(true)
    world.kernel.descriptorMax = world.kernel.open + 2
    expect(world.connect().client.wasReset).toBe(false)
    expect(world.log.every((line) => /Can't open another socket/.test(line))).toBe(true)
    world.kernel.descriptorMax += 2
    old.client.write(bytes(100))
    world.turn()
    expect(old.server().received).toEqual(bytes(100))
  })

  test("when the kernel has no port left, ports are chosen by number", () => {
    const world = new SpliceWorld()
    world.kernel.failNext("connect", EADDRNOTAVAIL, EADDRNOTAVAIL, 0)
    world.kernel.failNext("bind", 0, EADDRINUSE, 0)
    const { client, server } = world.connect()
    client.write([1, 2, 3])
    world.turn()
    expect(server().received).toEqual([1, 2, 3])
    expect(world.connected[0]!.local).toEqual(record("::", 32_771))
    world.connect()
    expect(world.connected[1]!.local).toBeUndefined()
    world.engine.close()
    expect(world.kernel.open).toBe(0)
  })

  test("after thousands of connections they are chosen by number at once, until it is quiet again", () => {
    const world = new SpliceWorld()
    const last = (): number | undefined => world.connected.at(-1)!.local?.[4]
    for (let i = 0; i < 7010; i++) {
      const { client, server } = world.connect()
      client.end()
      world.turn()
      server().end()
      world.turn()
      if (i === 6999) expect(last()).toBeUndefined()
    }
    expect(last()).toBe(32_778)
    world.kernel.timeMs += 60_000
    world.connect()
    expect(last()).toBe(32_779)
    world.kernel.timeMs += 60_000
    world.connect()
    expect(last()).toBeUndefined()
  })

  test("when no port at all is to be had, the connection is refused", () => {
    const world = new SpliceWorld()
    world.kernel.fault = (call) => (call === "connect" ? EADDRNOTAVAIL : 0)
    expect(world.connect().client.wasReset).toBe(true)
    world.expectNothingLeft()
  })

  test("without flows new connections are refused", () => {
    const world = new SpliceWorld({ flowMax: 1 })
    world.connect()
    expect(world.connect().client.wasReset).toBe(true)
    expect(world.log).toEqual(["warning tcp-splice: Flow table is full, connection refused"])
  })
})
