import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, EMFILE, EMSGSIZE, ENETUNREACH } from "../errno.ts"
import { FLOW_SHIFT, KIND_UDP } from "../flow/table.ts"
import { emptyTranslation } from "../forward/translate.ts"
import { DATAGRAM_BATCH_MAX, FRAME_LENGTH_MAX } from "../limits.ts"
import { READABLE } from "../datagram/state.ts"
import type { SimError } from "../sim/datagram-kernel.ts"
import { GATEWAY4, GATEWAY6, GUEST4, GUEST6, record, words } from "../sim/config.ts"
import { bytesOf, datagram, DatagramWorld, decodeQuote, textOf } from "../sim/datagram-world.ts"
import * as icmp from "../wire/icmp.ts"

const PEER4 = "198.51.100.7"
const PEER6 = "2001:db8:1::7"
const HOST4 = "203.0.113.9"
const LOCAL = record("0.0.0.0", 0)
const HELLO = bytesOf("hello")

/** An ICMP error as Linux reports it. */
function icmpError(
  type: number,
  code: number,
  offender: string,
  quote: Uint8Array,
  more: Partial<SimError> = {},
): SimError {
  return { errno: ECONNREFUSED, origin: 2, type, code, info: 0, offender: record(offender, 0), quote, ...more }
}

function icmp6Error(
  type: number,
  code: number,
  offender: string,
  quote: Uint8Array,
  more: Partial<SimError> = {},
): SimError {
  return icmpError(type, code, offender, quote, { origin: 3, ...more })
}

describe("flows of the guest", () => {
  for (const [guest, peer, family] of [
    [GUEST4, PEER4, 4],
    [GUEST6, PEER6, 6],
  ] as const) {
    test(`a question and its answer, IPv${family}`, () => {
      const world = new DatagramWorld()
      world.send(datagram(guest, 4321, peer, 53, HELLO, { hopLimit: 33 }))
      const { kernel } = world
      expect(kernel.sent).toHaveLength(1)
      const [sent] = kernel.sent
      expect(sent).toMatchObject({ remote: record(peer, 53), hopLimit: 33 })
      expect(textOf(sent!.bytes)).toBe("hello")
      expect(kernel.open[0]).toMatchObject({ family, reuse: true, device: "" })
      expect(kernel.open[0]!.local[4]).toBe(4321)

      expect(kernel.arrive(record(peer, 53), record(guest, 4321), bytesOf("answer"), 58)).toBe(kernel.open[0])
      world.turn()
      const answers = world.received()
      expect(answers).toHaveLength(1)
      expect(answers[0]).toMatchObject({
        family,
        source: peer,
        destination: guest,
        sourcePort: 53,
        destinationPort: 4321,
        hopLimit: 58,
      })
      expect(textOf(answers[0]!.data)).toBe("answer")
      expect(world.counter("udpFlows")).toBe(1)
      expect(world.counter("bytesFromGuest")).toBe(5)
      expect(world.counter("bytesToGuest")).toBe(6)
    })
  }

  test("IPv4 datagrams carry no checksum, IPv6 ones do, also when it would be zero", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST6, 1, PEER6, 2, HELLO), datagram(GUEST4, 1, PEER4, 2, HELLO))
    const [six, four] = world.kernel.open
    // Every value of one word passes by, so that one of them makes the sum zero; decode() checks each.
    for (let word = 0; word < 0x10000; word += 0x1001) {
      world.kernel.put(six!, record(PEER6, 2), LOCAL, Uint8Array.of(word >> 8, word & 255))
    }
    world.kernel.put(four!, record(PEER4, 2), LOCAL, HELLO)
    world.turn()
    const last = world.link.sent.at(-1)!
    expect(world.link.sent).toHaveLength(17)
    expect(last.length).toBe(14 + 20 + 8 + 5)
    expect([last[40], last[41]]).toEqual([0, 0])
    world.received()
  })

  test("zero-length datagrams pass both ways", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, new Uint8Array(0)))
    expect(world.kernel.sent[0]!.bytes).toHaveLength(0)
    world.kernel.arrive(record(PEER4, 2000), record(HOST4, 1000), new Uint8Array(0))
    world.turn()
    expect(world.received()[0]!.data).toHaveLength(0)
  })

  test("a batch leaves in one call, and each change of hop limit makes another", () => {
    const world = new DatagramWorld()
    const at = (hopLimit: number): Uint8Array => datagram(GUEST4, 1000, PEER4, 2000, HELLO, { hopLimit })
    world.send(at(64), at(64), at(64), at(1), at(1), at(2))
    expect(world.kernel.calls.filter((c) => c === "sendDatagrams")).toHaveLength(3)
    expect(world.kernel.sent.map((s) => s.hopLimit)).toEqual([64, 64, 64, 1, 1, 2])
    world.send(at(2))
    expect(world.kernel.calls.filter((c) => c === "setHopLimit")).toHaveLength(3)
  })

  test("a datagram with hop limit 0 is dropped, those around it are not", () => {
    const world = new DatagramWorld()
    const at = (hopLimit: number): Uint8Array => datagram(GUEST6, 1000, PEER6, 2000, HELLO, { hopLimit })
    world.send(at(9), at(0), at(9))
    expect(world.kernel.sent.map((s) => s.hopLimit)).toEqual([9, 9])
    expect(world.counter("dropIp")).toBe(1)
  })

  test("one port of the guest talks to many peers, each by its own socket on the same port", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 5000, PEER4, 1, HELLO), datagram(GUEST4, 5000, PEER4, 2, HELLO))
    expect(world.kernel.open.map((s) => s.local[4])).toEqual([5000, 5000])
    expect(world.flows).toBe(2)
  })

  test("a port that the host has taken gives way to another one", () => {
    for (const errno of [EADDRINUSE, EACCES]) {
      const world = new DatagramWorld()
      world.kernel.failNext("bind", errno)
      world.send(datagram(GUEST4, 123, PEER4, 123, HELLO))
      expect(world.kernel.sent).toHaveLength(1)
      expect(world.kernel.sent[0]!.local[4]).not.toBe(123)
      world.kernel.put(world.kernel.open[0]!, record(PEER4, 123), LOCAL, HELLO)
      world.turn()
      expect(world.received()[0]).toMatchObject({ sourcePort: 123, destinationPort: 123 })
    }
  })

  test("the configured source and device are used, but not towards the host's loopback", () => {
    const translation = { ...emptyTranslation(), mapHostLoopback4: words(GATEWAY4) }
    const world = new DatagramWorld({ outbound4: words(HOST4), outboundDevice4: "eth7", translation })
    world.send(datagram(GUEST4, 5000, PEER4, 1, HELLO), datagram(GUEST4, 5000, GATEWAY4, 1, HELLO))
    expect(world.kernel.open).toMatchObject([
      { device: "eth7", local: record(HOST4, 5000), remote: record(PEER4, 1) },
      { device: "", remote: record("127.0.0.1", 1) },
    ])
    // The configured source stays when its port is taken.
    world.kernel.takenPorts.add(6000)
    world.send(datagram(GUEST4, 6000, PEER4, 1, HELLO))
    expect(world.kernel.sent.at(-1)!.local.slice(0, 4)).toEqual([...words(HOST4)])
  })

  test("a query to the DNS address goes to the host's resolver, of the other family too", () => {
    const translation = {
      ...emptyTranslation(),
      dnsForward4: words("192.0.2.53"),
      dnsHost4: words("2001:db8:53::1"),
    }
    const world = new DatagramWorld({ translation })
    world.send(datagram(GUEST4, 4000, "192.0.2.53", 53, HELLO), datagram(GUEST4, 4000, "192.0.2.53", 54, HELLO))
    expect(world.kernel.sent.map((s) => s.remote)).toEqual([record("2001:db8:53::1", 53), record("192.0.2.53", 54)])
    world.kernel.put(world.kernel.open[0]!, record("2001:db8:53::1", 53), LOCAL, bytesOf("name"))
    world.turn()
    expect(world.received()[0]).toMatchObject({ family: 4, source: "192.0.2.53", sourcePort: 53 })
  })

  test("link-local destinations get the scope of the template interface", () => {
    const world = new DatagramWorld()
    world.send(
      datagram(GUEST6, 4000, "fe80::99", 1, HELLO),
      datagram(GUEST6, 4000, "ff02::fb", 1, HELLO),
      datagram(GUEST6, 4000, "ff0e::1", 1, HELLO),
      datagram(GUEST6, 4000, PEER6, 1, HELLO),
    )
    expect(world.kernel.sent.map((s) => s.remote[5])).toEqual([7, 7, 0, 0])
  })

  test("packets that can't be one end of a flow are counted", () => {
    const world = new DatagramWorld()
    world.send(
      datagram(GUEST4, 0, PEER4, 1, HELLO),
      datagram(GUEST4, 1, PEER4, 0, HELLO),
      datagram("224.0.0.1", 1, PEER4, 1, HELLO),
      datagram("0.0.0.0", 1, PEER4, 1, HELLO),
      datagram(GUEST4, 1, "0.0.0.0", 1, HELLO),
    )
    expect(world.counter("dropAddress")).toBe(5)
    expect(world.flows).toBe(0)
    expect(world.kernel.calls).not.toContain("udpSocket")
  })

  test("a full flow table refuses new flows, keeps old ones, and says so", () => {
    const world = new DatagramWorld({ flowMax: 2 })
    for (let port = 1; port <= 3; port++) world.send(datagram(GUEST4, 1000, PEER4, port, HELLO))
    world.send(datagram(GUEST4, 1000, PEER4, 1, HELLO))
    expect(world.counter("dropNoFlow")).toBe(1)
    expect(world.kernel.sent.map((s) => s.remote[4])).toEqual([1, 2, 1])
    expect(world.log).toMatchObject([{ level: "warning", site: "udp-flow" }])
  })

  test("no descriptor left: counted, logged, nothing leaks", () => {
    for (const call of ["udpSocket", "watch"]) {
      const world = new DatagramWorld()
      world.kernel.failNext(call, EMFILE)
      world.send(datagram(GUEST4, 1000, PEER4, 1, HELLO))
      expect(world.counter("dropNoFlow")).toBe(1)
      expect(world.flows).toBe(0)
      expect(world.kernel.open).toHaveLength(0)
      world.send(datagram(GUEST4, 1000, PEER4, 1, HELLO))
      expect(world.kernel.sent).toHaveLength(1)
    }
  })

  test("a destination without a route is answered with ICMP, from our own address", () => {
    const world = new DatagramWorld()
    world.kernel.always.set("connect", ENETUNREACH)
    const four = datagram(GUEST4, 1000, PEER4, 2000, new Uint8Array(700))
    const six = datagram(GUEST6, 1000, PEER6, 2000, new Uint8Array(1400))
    world.send(four, six)
    const [error4, error6] = world.received()
    expect(error4).toMatchObject({ source: GATEWAY4, destination: GUEST4, type: icmp.UNREACHABLE, code: 0 })
    expect(error4!.data).toEqual(four.slice(14, 14 + 548))
    expect(error6).toMatchObject({ source: GATEWAY6, destination: GUEST6, type: icmp.V6_UNREACHABLE, code: 0 })
    expect(error6!.data).toEqual(six.slice(14, 14 + 1232))
    expect(world.counter("dropDatagram")).toBe(2)
    expect(world.flows).toBe(0)
  })

  test("an error that nobody could act on, or about multicast, is not told", () => {
    const world = new DatagramWorld()
    world.kernel.failNext("connect", EADDRNOTAVAIL, EACCES)
    world.send(datagram(GUEST4, 1000, PEER4, 1, HELLO), datagram(GUEST4, 1000, "255.255.255.255", 1, HELLO))
    expect(world.received()).toEqual([])
    expect(world.counter("dropDatagram")).toBe(2)
  })

  test("an ethernet frame's padding is not payload", () => {
    const world = new DatagramWorld()
    const frame = new Uint8Array(60)
    frame.set(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    world.send(frame)
    expect(textOf(world.kernel.sent[0]!.bytes)).toBe("hello")
  })
})

describe("sending", () => {
  test("a partly accepted batch goes on behind what was accepted", () => {
    const world = new DatagramWorld()
    world.kernel.sendMax = 2
    const frames = Array.from({ length: 7 }, (_, i) => datagram(GUEST4, 1000, PEER4, 2000, Uint8Array.of(i)))
    world.send(...frames)
    expect(world.kernel.sent.map((s) => s.bytes[0])).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(world.counter("dropDatagram")).toBe(0)
  })

  test("a pending error of an earlier datagram costs none", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, Uint8Array.of(0)))
    world.kernel.open[0]!.pendingError = ECONNREFUSED
    world.send(
      datagram(GUEST4, 1000, PEER4, 2000, Uint8Array.of(1)),
      datagram(GUEST4, 1000, PEER4, 2000, Uint8Array.of(2)),
    )
    expect(world.kernel.sent.map((s) => s.bytes[0])).toEqual([0, 1, 2])
  })

  test("a datagram that fails twice is dropped alone", () => {
    const world = new DatagramWorld()
    world.kernel.failNext("sendDatagrams", EMSGSIZE, EMSGSIZE)
    const frames = Array.from({ length: 3 }, (_, i) => datagram(GUEST4, 1000, PEER4, 2000, Uint8Array.of(i)))
    world.send(...frames)
    expect(world.kernel.sent.map((s) => s.bytes[0])).toEqual([1, 2])
    expect(world.counter("dropDatagram")).toBe(1)
    expect(world.counter("bytesFromGuest")).toBe(2)
  })

  test("a full socket drops the rest of the batch without trying each", () => {
    const world = new DatagramWorld()
    world.kernel.always.set("sendDatagrams", EAGAIN)
    world.send(...Array.from({ length: 5 }, () => datagram(GUEST4, 1000, PEER4, 2000, HELLO)))
    expect(world.kernel.calls.filter((c) => c === "sendDatagrams")).toHaveLength(1)
    expect(world.counter("dropDatagram")).toBe(5)
  })

  test("a socket that refuses everything ends the loop", () => {
    const world = new DatagramWorld()
    world.kernel.always.set("sendDatagrams", ECONNREFUSED)
    world.send(...Array.from({ length: 5 }, () => datagram(GUEST4, 1000, PEER4, 2000, HELLO)))
    expect(world.counter("dropDatagram")).toBe(5)
  })
})

describe("to the guest", () => {
  function talking(): DatagramWorld {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    return world
  }
  function arrive(world: DatagramWorld, count: number, from = 0): void {
    for (let i = from; i < from + count; i++) {
      world.kernel.put(world.kernel.open[0]!, record(PEER4, 2000), LOCAL, Uint8Array.of(i >> 8, i & 255))
    }
  }
  const numbers = (world: DatagramWorld): number[] => world.received().map((d) => (d.data[0]! << 8) | d.data[1]!)

  test("many datagrams arrive in order, a share per turn", () => {
    const world = talking()
    arrive(world, 100)
    world.turn(1)
    expect(world.link.sent).toHaveLength(DATAGRAM_BATCH_MAX)
    world.turn(5)
    expect(numbers(world)).toEqual(Array.from({ length: 100 }, (_, i) => i))
  })

  test("a single answer needs one read; reads grow with what they bring and shrink again", () => {
    const world = talking()
    const reads = (): number => world.kernel.calls.splice(0).filter((c) => c === "receiveDatagrams").length
    reads()
    arrive(world, 1)
    world.turn(2)
    expect(reads()).toBe(1)
    arrive(world, 62)
    world.turn(8)
    // 2, 4, 8, 16 and 2 more of a first share, then 30 of 32.
    expect(reads()).toBe(6)
    for (let i = 0; i < 6; i++) {
      arrive(world, 1)
      world.turn(2)
    }
    reads()
    arrive(world, 5)
    world.turn(2)
    expect(reads()).toBe(2)
    expect(world.received()).toHaveLength(74)
  })

  test("what a stalled guest can't take waits in the socket", () => {
    const world = talking()
    world.link.stalled = true
    arrive(world, 300)
    world.turn(10)
    const left = world.kernel.open[0]!.queue.length
    expect(left).toBeGreaterThanOrEqual(300 - DATAGRAM_BATCH_MAX)
    expect(world.link.sent).toHaveLength(0)
    world.link.stalled = false
    world.turn(20)
    expect(numbers(world)).toEqual(Array.from({ length: 300 }, (_, i) => i))
  })

  test("the longest datagram that a frame can carry passes; longer ones are counted, and end nothing", () => {
    const world = talking()
    const socket = world.kernel.open[0]!
    const longest = FRAME_LENGTH_MAX - 42
    for (const length of [longest, longest + 1, 65_507]) {
      world.kernel.put(socket, record(PEER4, 2000), LOCAL, new Uint8Array(length))
      world.turn()
    }
    world.kernel.put(socket, record(PEER4, 2000), LOCAL, HELLO)
    world.turn()
    expect(world.received().map((d) => d.data.length)).toEqual([longest, 5])
    expect(world.counter("dropDatagram")).toBe(2)
  })

  test("an error on the read does not lose what lies behind it", () => {
    const world = talking()
    const socket = world.kernel.open[0]!
    world.kernel.report(socket, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    arrive(world, 3)
    world.kernel.failNext("readError", 0)
    world.turn()
    const got = world.received()
    expect(got.map((d) => d.type)).toEqual([icmp.UNREACHABLE, -1, -1, -1])
    expect(world.engine.ctx.words[(0 << FLOW_SHIFT) + 2]! & READABLE).toBe(0)
  })

  test("a socket that only fails is not read for ever", () => {
    const world = talking()
    world.kernel.always.set("receiveDatagrams", ECONNREFUSED)
    arrive(world, 1)
    world.turn(10)
    expect(world.kernel.calls.filter((c) => c === "receiveDatagrams").length).toBeLessThan(5)
    expect(world.engine.ctx.work.count).toBe(0)
  })
})

describe("strays", () => {
  test("what comes between bind and connect from elsewhere never passes for the peer's", () => {
    const world = new DatagramWorld()
    world.kernel.onConnect = (s) => {
      world.kernel.put(s, record("198.51.100.66", 53), record(HOST4, 4000), bytesOf("forged"))
      world.kernel.put(s, record(PEER4, 54), record(HOST4, 4000), bytesOf("forged"))
      world.kernel.put(s, record(PEER4, 53), record(HOST4, 4000), bytesOf("early"))
    }
    world.send(datagram(GUEST4, 4000, PEER4, 53, HELLO))
    expect(world.received().map((d) => textOf(d.data))).toEqual(["early"])
    expect(world.counter("dropAddress")).toBe(2)
  })

  test("at the socket of a forwarded flow they make a flow of their own", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    let once = true
    world.kernel.onConnect = (s) => {
      if (once) world.kernel.put(s, record("198.51.100.66", 9), record(HOST4, 5000), bytesOf("other"))
      once = false
    }
    world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
    world.turn()
    expect(world.received().map((d) => [d.source, d.sourcePort, textOf(d.data)])).toEqual([
      [PEER4, 4000, "hello"],
      ["198.51.100.66", 9, "other"],
    ])
    expect(world.flows).toBe(2)
  })
})

describe("forwarded ports", () => {
  for (const [peer, host, guest, family] of [
    [PEER4, HOST4, GUEST4, 4],
    [PEER6, "2001:db8:2::9", GUEST6, 6],
  ] as const) {
    test(`a datagram from outside reaches the guest, its answers leave from where it went, IPv${family}`, () => {
      const world = new DatagramWorld({ udpRules: [{ first: 5000, last: 5009, targetFirst: 80, device: "eth7" }] })
      world.kernel.arrive(record(peer, 4000), record(host, 5003), HELLO)
      world.turn()
      expect(world.received()).toMatchObject([
        { family, source: peer, sourcePort: 4000, destination: guest, destinationPort: 83 },
      ])
      const clone = world.kernel.open.find((s) => !s.listening)!
      expect(clone).toMatchObject({
        family,
        local: record(host, 5003),
        remote: record(peer, 4000),
        device: "eth7",
        reuse: true,
      })
      world.send(datagram(guest, 83, peer, 4000, bytesOf("answer")))
      expect(world.kernel.sent).toMatchObject([{ fd: clone.fd, remote: record(peer, 4000), local: record(host, 5003) }])
      // What follows comes by the flow's own socket.
      expect(world.kernel.arrive(record(peer, 4000), record(host, 5003), bytesOf("more"))).toBe(clone)
      world.turn()
      expect(textOf(world.received()[0]!.data)).toBe("more")
      expect(world.counter("udpFlows")).toBe(1)
    })
  }

  test("datagrams that queued up on the listening socket keep their order and share one flow", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    for (let i = 0; i < 5; i++) world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), Uint8Array.of(i))
    world.turn()
    expect(world.received().map((d) => d.data[0])).toEqual([0, 1, 2, 3, 4])
    expect(world.flows).toBe(1)
  })

  test("answers from a loopback peer go through our address on the link", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.kernel.arrive(record("127.0.0.1", 4000), record("127.0.0.1", 5000), HELLO)
    world.kernel.arrive(record("::1", 4000), record("::1", 5000), HELLO)
    world.turn()
    // The guest's link-local address is not known: a datagram from our link-local address could not be answered.
    expect(world.received()).toMatchObject([{ source: GATEWAY4, sourcePort: 4000, destination: GUEST4 }])
    expect(world.counter("dropNoGuest")).toBe(1)
    world.send(datagram(GUEST4, 5000, GATEWAY4, 4000, bytesOf("answer")))
    expect(world.kernel.sent).toMatchObject([{ remote: record("127.0.0.1", 4000) }])
  })

  test("a second peer that would look the same to the guest is refused, never mixed up", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.kernel.arrive(record("127.0.0.1", 4000), record("127.0.0.1", 5000), HELLO)
    world.kernel.arrive(record("127.0.0.2", 4000), record("127.0.0.1", 5000), HELLO)
    world.turn()
    expect(world.received()).toHaveLength(1)
    expect(world.counter("dropNoGuest")).toBe(1)
    expect(world.flows).toBe(1)
  })

  test("a peer that the guest talks to already is one flow, whichever of our addresses it uses", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.send(datagram(GUEST4, 5000, PEER4, 4000, HELLO))
    const [listener] = world.kernel.open
    world.kernel.put(listener!, record(PEER4, 4000), record(HOST4, 5000), bytesOf("in"))
    world.turn()
    expect(world.received()).toMatchObject([{ source: PEER4, sourcePort: 4000, destinationPort: 5000 }])
    expect(world.flows).toBe(1)
  })

  test("a target address of the rule is used, and one of the other family refused", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000, targetAddress: words("192.0.2.77") }] })
    world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
    world.kernel.arrive(record(PEER6, 4000), record("2001:db8:2::9", 5000), HELLO)
    world.turn()
    expect(world.received()).toMatchObject([{ destination: "192.0.2.77" }])
    expect(world.counter("dropNoGuest")).toBe(1)
  })

  test("sources that can't be answered are counted", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.kernel.arrive(record(PEER4, 0), record(HOST4, 5000), HELLO)
    world.kernel.arrive(record("224.0.0.9", 1), record(HOST4, 5000), HELLO)
    world.turn()
    expect(world.counter("dropAddress")).toBe(2)
    expect(world.flows).toBe(0)
  })

  test("no guest address, no flow; the datagram does not stay in the queue", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.guest.address4.fill(0)
    world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
    world.turn()
    expect(world.counter("dropNoGuest")).toBe(1)
    expect(world.kernel.open[0]!.queue).toHaveLength(0)
  })

  test("failures to open the flow's socket are counted and logged, nothing leaks", () => {
    for (const [call, errno] of [
      ["udpSocket", EMFILE],
      ["bind", EACCES],
      ["connect", ENETUNREACH],
      ["watch", EMFILE],
    ] as const) {
      const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
      world.kernel.failNext(call, errno)
      world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
      world.turn()
      expect(world.flows).toBe(0)
      expect(world.kernel.open).toHaveLength(1)
      expect(world.counter("dropNoFlow") + world.counter("dropDatagram")).toBe(1)
      world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
      world.turn()
      expect(world.received()).toHaveLength(1)
    }
  })

  test("a datagram longer than any frame is dropped, the next one passes", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), new Uint8Array(65_507))
    world.kernel.put(world.kernel.open[0]!, record(PEER4, 4000), record(HOST4, 5000), HELLO)
    world.turn()
    expect(world.received().map((d) => d.data.length)).toEqual([5])
    expect(world.counter("dropDatagram")).toBe(1)
  })

  test("without a guest or without room datagrams wait, and nobody spins", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }], flowMax: 1000 })
    world.link.connected = false
    world.kernel.arrive(record(PEER4, 4000), record(HOST4, 5000), HELLO)
    world.turn(10)
    expect(world.kernel.calls).not.toContain("receiveFrom")
    expect(world.kernel.calls.filter((c) => c === "unwatch")).toHaveLength(1)
    world.link.connected = true
    world.pass(2000)
    expect(world.received()).toHaveLength(1)

    world.link.stalled = true
    let queued = 0
    for (let i = 0; i < 400; i++) {
      world.kernel.arrive(record(PEER4, 6000 + i), record(HOST4, 5000), new Uint8Array(60_000))
      const listener = world.kernel.open.find((s) => s.listening)!
      if (listener.ref < 0) break
      world.turn(1)
      queued++
    }
    expect(queued).toBeLessThan(400)
    world.link.stalled = false
    world.pass(5000)
    expect(world.kernel.open.every((s) => s.queue.length === 0)).toBe(true)
  })
})

describe("errors", () => {
  test("port unreachable from the peer, IPv4", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    world.kernel.report(world.kernel.open[0]!, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    world.turn()
    const [error] = world.received()
    expect(error).toMatchObject({
      source: PEER4,
      destination: GUEST4,
      protocol: 1,
      type: icmp.UNREACHABLE,
      code: 3,
      second: 0,
      hopLimit: 255,
    })
    const quote = decodeQuote(4, error!.data)
    expect(quote).toMatchObject({
      source: GUEST4,
      destination: PEER4,
      sourcePort: 1000,
      destinationPort: 2000,
      protocol: 17,
    })
    expect(textOf(quote.data)).toBe("hello")
    expect(world.flows).toBe(1)
  })

  test("port unreachable from the peer, IPv6", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST6, 1000, PEER6, 2000, HELLO))
    world.kernel.report(world.kernel.open[0]!, icmp6Error(icmp.V6_UNREACHABLE, 4, PEER6, HELLO))
    world.turn()
    const [error] = world.received()
    expect(error).toMatchObject({
      source: PEER6,
      destination: GUEST6,
      protocol: 58,
      type: icmp.V6_UNREACHABLE,
      code: 4,
    })
    expect(decodeQuote(6, error!.data)).toMatchObject({ source: GUEST6, destination: PEER6, sourcePort: 1000 })
  })

  test("time exceeded names the router; a router on our own host appears as our address", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 33434, HELLO, { hopLimit: 1 }))
    const [socket] = world.kernel.open
    for (const router of ["198.51.100.1", GUEST4, "127.0.0.1", "0.0.0.0", PEER6]) {
      world.kernel.report(socket!, icmpError(icmp.TIME_EXCEEDED, 0, router, HELLO))
    }
    world.turn()
    expect(world.received().map((e) => e.source)).toEqual(["198.51.100.1", GATEWAY4, GATEWAY4, GATEWAY4, GATEWAY4])
  })

  test("the quote is cut to what an error message may carry", () => {
    const world = new DatagramWorld()
    const long = new Uint8Array(2000).fill(7)
    world.send(datagram(GUEST4, 1000, PEER4, 2000, long), datagram(GUEST6, 1000, PEER6, 2000, long))
    const [four, six] = world.kernel.open
    world.kernel.report(four!, icmpError(icmp.UNREACHABLE, 3, PEER4, long))
    world.kernel.report(six!, icmp6Error(icmp.V6_UNREACHABLE, 4, PEER6, long))
    world.turn()
    expect(world.link.sent.map((f) => f.length)).toEqual([14 + 576, 14 + 1280])
    for (const error of world.received())
      expect(decodeQuote(error.family, error.data).data.every((b) => b === 7)).toBe(true)
  })

  test("fragmentation needed and packet too big carry the MTU", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO), datagram(GUEST6, 1000, PEER6, 2000, HELLO))
    const [four, six] = world.kernel.open
    world.kernel.report(four!, icmpError(icmp.UNREACHABLE, 4, "198.51.100.1", HELLO, { errno: EMSGSIZE, info: 1400 }))
    world.kernel.report(
      six!,
      icmp6Error(icmp.V6_PACKET_TOO_BIG, 0, "2001:db8::1", HELLO, { errno: EMSGSIZE, info: 1300 }),
    )
    world.turn()
    expect(world.received()).toMatchObject([
      { type: icmp.UNREACHABLE, code: 4, second: 1400 },
      { type: icmp.V6_PACKET_TOO_BIG, code: 0, second: 1300 },
    ])
  })

  test("the kernel's own verdict is told as well", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    world.kernel.report(world.kernel.open[0]!, {
      errno: EMSGSIZE,
      origin: 1,
      type: 0,
      code: 0,
      info: 1280,
      offender: [0, 0, 0, 0, 0, 0],
      quote: HELLO,
    })
    world.turn()
    expect(world.received()).toMatchObject([{ source: GATEWAY4, type: icmp.UNREACHABLE, code: 4, second: 1280 }])
  })

  test("nothing is told about multicast, nor what has no meaning for the guest", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, "239.1.1.1", 2000, HELLO), datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    const [group, peer] = world.kernel.open
    world.kernel.report(group!, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    world.kernel.report(peer!, icmpError(5, 1, PEER4, HELLO))
    world.turn()
    expect(world.received()).toEqual([])
    expect(peer!.errors).toHaveLength(0)
    expect(world.engine.ctx.work.count).toBe(0)
  })

  test("a flood of errors is limited per second, and does not last", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    const [socket] = world.kernel.open
    for (let i = 0; i < 200; i++) world.kernel.report(socket!, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    world.turn(1)
    expect(world.received()).toHaveLength(16)
    world.turn(20)
    expect(world.received()).toHaveLength(48)
    expect(socket!.errors).toHaveLength(0)
    world.pass(1000)
    world.kernel.report(socket!, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    world.turn()
    expect(world.received()).toHaveLength(1)
  })

  test("errors of a stalled guest wait in the socket", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 2000, HELLO))
    const [socket] = world.kernel.open
    world.link.stalled = true
    for (let i = 0; i < 40; i++) world.kernel.report(socket!, icmpError(icmp.UNREACHABLE, 3, PEER4, HELLO))
    world.turn(5)
    expect(socket!.errors.length).toBeGreaterThan(0)
    world.link.stalled = false
    world.turn(10)
    expect(world.received()).toHaveLength(40)
  })
})

describe("the end of a flow", () => {
  test("a query ends after the short time, its socket is closed", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO))
    world.kernel.arrive(record(PEER4, 53), record(HOST4, 1000), HELLO)
    world.turn()
    world.pass(29_000)
    expect(world.flows).toBe(1)
    world.pass(2000)
    expect(world.flows).toBe(0)
    expect(world.kernel.open).toHaveLength(0)
    expect(world.find(KIND_UDP, GUEST4, 1000, PEER4, 53)).toBe(-1)
  })

  test("traffic postpones it, in either direction", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO))
    for (let i = 0; i < 5; i++) {
      world.pass(25_000)
      expect(world.flows).toBe(1)
      world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO))
    }
    // One-way traffic is no stream, however much.
    world.pass(31_000)
    expect(world.flows).toBe(0)
  })

  test("a stream lives for the long time", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO), datagram(GUEST4, 1000, PEER4, 53, HELLO))
    world.kernel.arrive(record(PEER4, 53), record(HOST4, 1000), HELLO)
    world.turn()
    world.pass(119_000)
    expect(world.flows).toBe(1)
    world.pass(2000)
    expect(world.flows).toBe(0)
  })

  test("events and frames of a flow that is gone do no harm", () => {
    const world = new DatagramWorld()
    world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO))
    world.pass(31_000)
    world.send(datagram(GUEST4, 1000, PEER4, 53, HELLO))
    expect(world.flows).toBe(1)
    expect(world.kernel.sent).toHaveLength(2)
    world.engine.close()
    expect(world.flows).toBe(0)
    expect(world.kernel.open).toHaveLength(0)
  })
})
