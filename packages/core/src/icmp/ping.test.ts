import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE, ECONNREFUSED, EMFILE, ENETUNREACH, EPERM } from "../errno.ts"
import { emptyTranslation } from "../forward/translate.ts"
import { FRAME_LENGTH_MAX } from "../limits.ts"
import type { SimSocket } from "../sim/datagram-kernel.ts"
import { GATEWAY4, GUEST4, GUEST6, record, words } from "../sim/config.ts"
import { bytesOf, DatagramWorld, decodeQuote, echoRequest, textOf } from "../sim/datagram-world.ts"
import { packet } from "../sim/packet.ts"
import * as icmp from "../wire/icmp.ts"

const PEER4 = "198.51.100.7"
const PEER6 = "2001:db8:1::7"
const DATA = bytesOf("twelve bytes")

/** Lets the far end answer what was sent last, as the kernel hands it to the socket. */
function answer(
  world: DatagramWorld,
  socket: SimSocket,
  from: string,
  patch?: (bytes: Uint8Array) => Uint8Array,
): void {
  const request = world.kernel.sent.at(-1)!
  const bytes = request.bytes.slice()
  bytes[0] = request.bytes[0] === icmp.ECHO_REQUEST ? icmp.ECHO_REPLY : icmp.V6_ECHO_REPLY
  world.kernel.put(socket, record(from, 0), request.local, patch === undefined ? bytes : patch(bytes))
  world.turn()
}

describe("echo", () => {
  for (const [guest, peer, family, reply] of [
    [GUEST4, PEER4, 4, icmp.ECHO_REPLY],
    [GUEST6, PEER6, 6, icmp.V6_ECHO_REPLY],
  ] as const) {
    test(`a request and its reply, IPv${family}`, () => {
      const world = new DatagramWorld()
      world.send(echoRequest(guest, peer, 0x4321, 7, DATA, { hopLimit: 9 }))
      const [socket] = world.kernel.open
      expect(socket).toMatchObject({ kind: "ping", family, hopLimit: 9 })
      expect(socket!.local[4]).toBe(0x4321)
      expect(socket!.remote!.slice(0, 4)).toEqual([...words(peer)])
      expect(world.kernel.sent).toHaveLength(1)
      answer(world, socket!, peer)
      const [got] = world.received()
      expect(got).toMatchObject({ family, source: peer, destination: guest, type: reply, code: 0 })
      expect(got!.second).toBe(((0x4321 << 16) | 7) >>> 0)
      expect(textOf(got!.data)).toBe("twelve bytes")
      expect(world.counter("pingFlows")).toBe(1)
    })
  }

  test("a reply has the hop limit that it arrived with", () => {
    for (const [guest, peer] of [
      [GUEST4, PEER4],
      [GUEST6, PEER6],
    ] as const) {
      const world = new DatagramWorld()
      world.send(echoRequest(guest, peer, 5, 1, DATA))
      const [socket] = world.kernel.open
      for (const hops of [63, 1, 0]) {
        world.kernel.put(socket!, record(peer, 0), socket!.local, world.kernel.sent[0]!.bytes, hops)
        world.turn()
      }
      // What the kernel does not tell is the largest.
      expect(world.received().map((r) => r.hopLimit)).toEqual([63, 1, 255])
    }
  })

  test("an identifier that another ping uses is replaced outside and restored inside", () => {
    const world = new DatagramWorld()
    world.send(echoRequest(GUEST4, PEER4, 99, 1, DATA), echoRequest(GUEST4, "198.51.100.8", 99, 1, DATA))
    const [first, second] = world.kernel.open
    expect(first!.local[4]).toBe(99)
    expect(second!.local[4]).not.toBe(99)
    answer(world, second!, "198.51.100.8")
    expect(world.received()).toMatchObject([{ source: "198.51.100.8", second: (99 << 16) | 1 }])
  })

  test("the host's refusal of the identifier is no end either", () => {
    const world = new DatagramWorld()
    world.kernel.failNext("bind", EADDRINUSE)
    world.send(echoRequest(GUEST6, PEER6, 5, 1, DATA))
    expect(world.kernel.sent).toHaveLength(1)
  })

  test("requests of one flow share a socket, sequence numbers may repeat", () => {
    const world = new DatagramWorld()
    for (const sequence of [1, 2, 2, 65_535]) world.send(echoRequest(GUEST4, PEER4, 5, sequence, DATA))
    expect(world.kernel.open).toHaveLength(1)
    answer(world, world.kernel.open[0]!, PEER4)
    answer(world, world.kernel.open[0]!, PEER4)
    expect(world.received().map((d) => d.second & 0xffff)).toEqual([65_535, 65_535])
  })

  test("the host behind the translated address answers under the name that the guest used", () => {
    const world = new DatagramWorld({ translation: { ...emptyTranslation(), mapHostLoopback4: words(GATEWAY4) } })
    world.send(echoRequest(GUEST4, GATEWAY4, 5, 1, DATA))
    expect(world.kernel.sent[0]!.remote.slice(0, 4)).toEqual([...words("127.0.0.1")])
    answer(world, world.kernel.open[0]!, "127.0.0.1")
    expect(world.received()).toMatchObject([{ source: GATEWAY4 }])
  })

  test("a reply from elsewhere, a stump, and one that is too long are dropped", () => {
    const world = new DatagramWorld()
    world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
    const [socket] = world.kernel.open
    answer(world, socket!, "198.51.100.66")
    answer(world, socket!, PEER4, (b) => b.subarray(0, 7))
    answer(world, socket!, PEER4, () => new Uint8Array(FRAME_LENGTH_MAX - 34 + 1))
    expect(world.received()).toEqual([])
    expect(world.counter("dropAddress")).toBe(1)
    expect(world.counter("dropDatagram")).toBe(2)
    answer(world, socket!, PEER4, () => new Uint8Array(FRAME_LENGTH_MAX - 34))
    expect(world.received()).toHaveLength(1)
  })

  test("many replies arrive, also when the guest is slow", () => {
    const world = new DatagramWorld()
    world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
    const [socket] = world.kernel.open
    world.link.stalled = true
    for (let i = 0; i < 30; i++) answer(world, socket!, PEER4)
    world.link.stalled = false
    world.turn(10)
    expect(world.received()).toHaveLength(30)
  })

  test("other types make no flow", () => {
    const world = new DatagramWorld()
    const body = new Uint8Array(12)
    for (const type of [0, 3, 13, 8]) {
      body[0] = type
      body[1] = type === 8 ? 1 : 0
      world.send(packet(words(GUEST4), words(PEER4), 1, body, 64))
    }
    world.send(packet(words(GUEST6), words(PEER6), 58, Uint8Array.of(129, 0, 0, 0, 0, 1, 0, 1), 64))
    expect(world.counter("dropProtocol")).toBe(5)
    expect(world.flows).toBe(0)
  })
})

describe("failures", () => {
  test("without permission: counted, one sentence that names the setting", () => {
    for (const errno of [EACCES, EPERM]) {
      const world = new DatagramWorld()
      world.kernel.always.set("pingSocket", errno)
      world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
      expect(world.counter("dropPing")).toBe(1)
      expect(world.flows).toBe(0)
      expect(world.log).toHaveLength(1)
      expect(world.log[0]!.message).toContain("net.ipv4.ping_group_range")
      expect(world.received()).toEqual([])
    }
  })

  test("no descriptor left", () => {
    const world = new DatagramWorld()
    world.kernel.failNext("pingSocket", EMFILE)
    world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
    expect(world.counter("dropNoFlow")).toBe(1)
    expect(world.log).toMatchObject([{ level: "warning", site: "ping" }])
    expect(world.kernel.open).toHaveLength(0)
  })

  test("no route: the guest is told", () => {
    const world = new DatagramWorld()
    world.kernel.failNext("connect", ENETUNREACH)
    world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
    const [error] = world.received()
    expect(error).toMatchObject({ source: GATEWAY4, type: icmp.UNREACHABLE, code: 0 })
    expect(decodeQuote(4, error!.data)).toMatchObject({ type: icmp.ECHO_REQUEST, second: (5 << 16) | 1 })
    expect(world.kernel.open).toHaveLength(0)
  })

  test("no error is sent about what goes to a group, to the guest's whole network, or in a frame to a group", () => {
    const toGroup = (frame: Uint8Array): Uint8Array => {
      frame[0] = 1
      return frame
    }
    for (const [frame, told] of [
      [echoRequest(GUEST4, PEER4, 5, 1, DATA), 1],
      [toGroup(echoRequest(GUEST4, PEER4, 5, 1, DATA)), 0],
      [toGroup(echoRequest(GUEST6, PEER6, 5, 1, DATA)), 0],
      [echoRequest(GUEST4, "192.0.2.255", 5, 1, DATA), 0],
      [echoRequest(GUEST4, "255.255.255.255", 5, 1, DATA), 0],
      [echoRequest(GUEST4, "224.0.0.1", 5, 1, DATA), 0],
      [echoRequest(GUEST6, "ff02::1", 5, 1, DATA), 0],
    ] as const) {
      const world = new DatagramWorld()
      world.guest.prefix4 = 24
      world.guest.address4.set(words(GUEST4))
      world.kernel.failNext("connect", EACCES)
      world.send(frame)
      expect(world.received()).toHaveLength(told)
    }
  })

  for (const [guest, peer, router, origin, family] of [
    [GUEST4, PEER4, "198.51.100.1", 2, 4],
    [GUEST6, PEER6, "2001:db8:9::1", 3, 6],
  ] as const) {
    test(`time exceeded on the way, with the guest's identifier in the quote, IPv${family}`, () => {
      const world = new DatagramWorld()
      world.kernel.takenPorts.add(77)
      world.send(echoRequest(guest, peer, 77, 3, DATA, { hopLimit: 1 }))
      const [socket] = world.kernel.open
      world.kernel.report(socket!, {
        errno: ECONNREFUSED,
        origin,
        type: family === 4 ? icmp.TIME_EXCEEDED : icmp.V6_TIME_EXCEEDED,
        code: 0,
        info: 0,
        offender: record(router, 0),
        quote: world.kernel.sent[0]!.bytes,
      })
      world.turn()
      const [error] = world.received()
      expect(error).toMatchObject({ source: router, destination: guest, code: 0, second: 0 })
      expect(error!.type).toBe(family === 4 ? icmp.TIME_EXCEEDED : icmp.V6_TIME_EXCEEDED)
      expect(decodeQuote(family, error!.data)).toMatchObject({
        source: guest,
        destination: peer,
        second: (77 << 16) | 3,
        type: family === 4 ? icmp.ECHO_REQUEST : icmp.V6_ECHO_REQUEST,
      })
    })
  }

  test("silence ends the flow after a minute", () => {
    const world = new DatagramWorld()
    world.send(echoRequest(GUEST4, PEER4, 5, 1, DATA))
    world.pass(50_000)
    world.send(echoRequest(GUEST4, PEER4, 5, 2, DATA))
    world.pass(59_000)
    expect(world.flows).toBe(1)
    world.pass(2000)
    expect(world.flows).toBe(0)
    expect(world.kernel.open).toHaveLength(0)
  })
})
