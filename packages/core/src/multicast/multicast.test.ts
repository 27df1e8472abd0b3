import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE, EMFILE, ENETUNREACH, ENOBUFS } from "../errno.ts"
import { emptyTranslation } from "../forward/translate.ts"
import { MEMBERSHIP_MAX } from "../limits.ts"
import { GATEWAY4, GATEWAY6, GUEST4, GUEST6, record } from "../sim/config.ts"
import type { SimSocket } from "../sim/datagram-kernel.ts"
import { bytesOf, datagram, DatagramWorld, textOf, type WorldOptions } from "../sim/datagram-world.ts"
import { type GroupRecord, igmp, igmpFor, mld, mldFor, report } from "../sim/group-messages.ts"
import { BROADCAST_MS, MEMBERSHIP_MS } from "./memberships.ts"

const PEER4 = "198.51.100.7"
const OTHER4 = "198.51.100.8"
const PEER6 = "fe80::7"
const HOST4 = "203.0.113.9"
const HOST6 = "2001:db8:2::9"
const MDNS = "224.0.0.251"
const MDNS6 = "ff02::fb"
const HELLO = bytesOf("hello")
const FAMILIES = [
  { family: 4, guest: GUEST4, group: MDNS, peer: PEER4, host: HOST4, join: igmpFor(0x16, MDNS), scope: 0 },
  { family: 6, guest: GUEST6, group: MDNS6, peer: PEER6, host: HOST6, join: mldFor(131, MDNS6), scope: 7 },
] as const

function worldOf(options: WorldOptions = {}): DatagramWorld {
  const world = new DatagramWorld(options)
  world.guest.prefix4 = 24
  world.turn()
  world.link.questions.length = 0
  return world
}

/** The groups that the host is in, by the sockets that hold them. */
function groups(world: DatagramWorld): string[] {
  const joined = world.kernel.open.filter((s) => s.local[4] === 0).flatMap((s) => s.joined ?? [])
  return joined.toSorted()
}

function texts(world: DatagramWorld): string[] {
  return world.received().map((d) => textOf(d.data))
}

function senders(world: DatagramWorld): SimSocket[] {
  return world.kernel.open.filter((s) => s.joined?.length === 0 && s.local[4] !== 0)
}

describe.each(FAMILIES)("questions to a group over IPv$family", ({ guest, group, peer, host, scope, join }) => {
  test("leave with source, port and hop limit, and anybody may answer", () => {
    const world = worldOf()
    const { kernel } = world
    world.send(datagram(guest, 5353, group, 5353, HELLO, { hopLimit: 255 }))
    expect(kernel.sent).toMatchObject([{ remote: record(group, 5353, scope), hopLimit: 255 }])
    expect(kernel.sent[0]!.local).toEqual(record(host, 5353))
    expect(kernel.open).toHaveLength(1)
    const [socket] = kernel.open
    for (const [from, port] of [
      [peer, 5353],
      [group === MDNS ? OTHER4 : "fe80::8", 999],
    ] as const) {
      kernel.arrive(record(from, port), record(host, 5353), bytesOf(`from ${port}`))
      world.turn()
      const [answer] = world.received()
      expect(answer).toMatchObject({ source: from, sourcePort: port, destination: guest, destinationPort: 5353 })
    }
    expect(socket!.remote).toBeUndefined()
  })

  test("the guest sees the hop limit of what comes, so that it can tell who is near", () => {
    const world = worldOf()
    world.send(datagram(guest, 5353, group, 5353, HELLO), join)
    const port = world.kernel.open.find((s) => s.joined?.length === 1 && s.local[4] === 5353)!
    for (const hopLimit of [255, 3, 1]) {
      world.kernel.arriveAtGroup(record(peer, 5353), record(group, 5353), HELLO, hopLimit)
      world.turn()
      expect(world.received()).toMatchObject([{ hopLimit, destination: group, source: peer }])
    }
    expect(port.queue).toHaveLength(0)
  })

  test("what can't have come from a single node is no answer", () => {
    const world = worldOf()
    world.send(datagram(guest, 5353, group, 5353, HELLO))
    const [socket] = world.kernel.open
    world.kernel.put(socket!, record(peer, 0), record(host, 5353), HELLO)
    world.kernel.put(socket!, record(group, 5353), record(host, 5353), HELLO)
    world.turn()
    expect(world.received()).toEqual([])
    expect(world.counter("dropAddress")).toBe(2)
  })

  test("answers don't keep the way open: only the guest does", () => {
    const world = worldOf()
    world.send(datagram(guest, 5353, group, 5353, HELLO))
    for (let i = 0; i < 31; i++) {
      world.pass(1000)
      world.kernel.arrive(record(peer, 5353), record(host, 5353), HELLO)
    }
    world.turn()
    expect(world.flows).toBe(0)
    expect(world.kernel.open).toHaveLength(0)
  })

  test("a group is joined on the host, and its datagrams reach the guest, with the group's MAC address", () => {
    const world = worldOf()
    world.send(join)
    expect(groups(world)).toEqual([group])
    const heard = world.kernel.arriveAtGroup(record(peer, 5353), record(group, 5353), bytesOf("news"), 255)
    expect(heard).toHaveLength(1)
    expect(heard[0]).toMatchObject({ reuse: true, local: record(group, 5353, scope), joined: [group] })
    world.turn()
    const [frame] = world.link.sent
    expect([...frame!.subarray(0, 6)]).toEqual(
      group === MDNS ? [0x01, 0, 0x5e, 0, 0, 0xfb] : [0x33, 0x33, 0, 0, 0, 0xfb],
    )
    expect(world.received()).toMatchObject([{ source: peer, destination: group, destinationPort: 5353, hopLimit: 255 }])
    expect(world.counter("memberships")).toBe(1)
  })
})

describe("where questions leave from", () => {
  const ask = (port = 5353): Uint8Array => datagram(GUEST4, port, MDNS, 5353, HELLO)

  test("a port that another program shares is used through the group, and not taken from it", () => {
    const world = worldOf()
    world.kernel.failNext("bind", EADDRINUSE)
    world.send(ask())
    expect(senders(world)).toMatchObject([{ local: record(MDNS, 5353), reuse: true }])
    expect(world.kernel.sent).toHaveLength(1)
  })

  test("else the kernel chooses one, and answers are translated back", () => {
    for (const errnos of [[EADDRINUSE, EADDRINUSE], [EACCES]]) {
      const world = worldOf()
      world.kernel.failNext("bind", ...errnos)
      world.send(ask())
      const [sent] = world.kernel.sent
      expect(sent!.local.slice(0, 4)).toEqual(record(HOST4, 0).slice(0, 4))
      expect(sent!.local[4]).toBeGreaterThan(40_000 - 1)
      world.kernel.arrive(record(PEER4, 5353), sent!.local, HELLO)
      world.turn()
      expect(world.received()).toMatchObject([{ destinationPort: 5353 }])
      expect(world.kernel.open).toHaveLength(1)
    }
  })

  test("a port of the guest's that differs from the group's is never bound to the group", () => {
    const world = worldOf()
    world.kernel.failNext("bind", EADDRINUSE)
    world.send(ask(4000))
    expect(senders(world)[0]!.local.slice(0, 4)).toEqual(record(HOST4, 0).slice(0, 4))
  })

  test("the configured source and device", () => {
    const world = worldOf({
      outbound4: Int32Array.from(record("203.0.113.77", 0).slice(0, 4)),
      outboundDevice4: "eth9",
    })
    world.send(ask())
    expect(senders(world)).toMatchObject([{ local: record("203.0.113.77", 5353), device: "eth9" }])
    expect(world.kernel.calls).not.toContain("connect")
  })

  test("the guest's flows to single nodes share the port", () => {
    const world = worldOf()
    world.send(ask(), datagram(GUEST4, 5353, PEER4, 5353, HELLO))
    expect(world.kernel.sent.map((s) => s.local[4])).toEqual([5353, 5353])
  })

  test.each(["udpSocket", "prepare", "connect", "localAddress", "bind", "watch", "bindToDevice"])(
    "%s fails: counted, nothing leaks, the next one works",
    (call) => {
      const world = worldOf({ outboundDevice4: "eth9" })
      for (const errno of [EMFILE, ENETUNREACH]) {
        world.kernel.failNext(call, errno)
        world.send(ask())
        expect(world.kernel.open).toHaveLength(0)
        expect(world.flows).toBe(0)
      }
      expect(world.counter("dropNoFlow") + world.counter("dropDatagram")).toBe(2)
      world.send(ask())
      expect(world.kernel.sent).toHaveLength(1)
      expect(world.received()).toEqual([])
    },
  )

  test("a second socket that can't be made leaves nothing behind", () => {
    const world = worldOf()
    world.kernel.failNext("bind", EACCES)
    world.kernel.failNext("udpSocket", 0, 0, EMFILE)
    world.send(ask())
    expect(world.kernel.open).toHaveLength(0)
    expect(world.flows).toBe(0)
  })

  test("errors of the socket: a pending one costs nothing, a full queue a batch, an error about a group is not told", () => {
    const world = worldOf()
    world.send(ask())
    const [socket] = world.kernel.open
    const error = { errno: 111, origin: 2, type: 3, code: 3, info: 0, offender: record(PEER4, 0), quote: HELLO }
    world.kernel.report(socket!, error)
    world.send(ask())
    expect(world.kernel.sent).toHaveLength(2)
    world.kernel.failNext("sendTo", ENOBUFS)
    world.send(ask(), ask())
    expect(world.counter("dropDatagram")).toBe(2)
    world.kernel.always.set("sendTo", ENETUNREACH)
    world.send(ask(), ask())
    expect(world.counter("dropDatagram")).toBe(4)
    expect(world.received()).toEqual([])
    expect(socket!.errors).toEqual([])
  })

  test("hop limits change within a batch, and 0 does not leave", () => {
    const world = worldOf()
    world.send(...[4, 4, 0, 1].map((hopLimit) => datagram(GUEST4, 1, MDNS, 2, HELLO, { hopLimit })))
    expect(world.kernel.sent.map((s) => s.hopLimit)).toEqual([4, 4, 1])
    expect(world.counter("dropIp")).toBe(1)
  })

  test("sources that are none", () => {
    const world = worldOf()
    world.send(datagram("0.0.0.0", 1, MDNS, 2, HELLO), datagram(GUEST4, 0, MDNS, 2, HELLO))
    world.send(datagram(GUEST4, 1, MDNS, 0, HELLO))
    expect(world.counter("dropAddress")).toBe(3)
    expect(world.kernel.open).toHaveLength(0)
  })
})

describe("broadcast", () => {
  test.each(["255.255.255.255", "192.0.2.255"])("%s leaves, and is answered by single nodes", (to) => {
    const world = worldOf()
    world.send(datagram(GUEST4, 4000, to, 9999, HELLO))
    expect(world.kernel.sent).toMatchObject([{ remote: record(to, 9999), local: record(HOST4, 4000) }])
    world.kernel.arrive(record(PEER4, 9999), record(HOST4, 4000), bytesOf("here"))
    world.turn()
    expect(world.received()).toMatchObject([{ source: PEER4, destination: GUEST4, destinationPort: 4000 }])
  })

  test("an address of another subnet is no broadcast, nor one of a subnet without", () => {
    const world = worldOf()
    world.send(datagram(GUEST4, 4000, "192.0.3.255", 9999, HELLO))
    expect(world.kernel.open[0]!.remote).toBeDefined()
    world.guest.prefix4 = 31
    world.send(datagram(GUEST4, 4000, "192.0.2.255", 9999, HELLO))
    expect(world.kernel.open[1]!.remote).toBeDefined()
  })

  test("what others broadcast to a port that the guest broadcasts from reaches it, for a while", () => {
    const world = worldOf()
    const all = "255.255.255.255"
    world.send(datagram(GUEST4, 6454, all, 6454, HELLO))
    world.kernel.arriveAtGroup(record(PEER4, 6454), record(all, 6454), bytesOf("poll"))
    world.turn()
    const [frame] = world.link.sent
    expect([...frame!.subarray(0, 6)]).toEqual([255, 255, 255, 255, 255, 255])
    expect(world.received()).toMatchObject([{ source: PEER4, destination: all, destinationPort: 6454 }])
    world.pass(BROADCAST_MS - 10_000)
    world.send(datagram(GUEST4, 6454, all, 6454, HELLO))
    // Its own comes back as well.
    expect(world.counter("groupEchoes")).toBe(1)
    expect(world.received()).toEqual([])
    world.pass(BROADCAST_MS - 10_000)
    expect(world.kernel.open.map((s) => s.local)).toEqual([record(all, 6454)])
    world.pass(11_000)
    expect(world.kernel.open).toHaveLength(0)
  })
})

describe("memberships", () => {
  const at = (type: number, group: string, more: Partial<GroupRecord> = {}): GroupRecord => ({ type, group, ...more })

  test.each([
    ["IGMPv1", igmpFor(0x12, "239.1.1.1"), ["239.1.1.1"]],
    ["IGMPv2", igmpFor(0x16, "239.1.1.1"), ["239.1.1.1"]],
    ["IGMPv3, exclude", report([at(2, "239.1.1.1"), at(4, "239.1.1.2")]), ["239.1.1.1", "239.1.1.2"]],
    ["IGMPv3, include", report([at(1, "239.1.1.1", { sources: [PEER4] })]), ["239.1.1.1"]],
    ["IGMPv3, allow", report([at(5, "239.1.1.1", { sources: [PEER4, OTHER4] })]), ["239.1.1.1"]],
    ["IGMPv3, to include", report([at(3, "239.1.1.1", { sources: [PEER4] })]), ["239.1.1.1"]],
    ["MLDv1", mldFor(131, "ff05::1234"), ["ff05::1234"]],
    ["MLDv2", report([at(4, "ff05::1234"), at(6, "ff05::1"), at(4, "ff02::fb")]), ["ff02::fb", "ff05::1234"]],
    ["MLDv2, sources", report([at(5, "ff05::1234", { sources: [PEER6] })]), ["ff05::1234"]],
    ["auxiliary data", report([at(4, "239.1.1.1", { auxiliary: 3 }), at(4, "239.1.1.2")]), ["239.1.1.1", "239.1.1.2"]],
    ["unknown records", report([at(9, "239.1.1.1"), at(4, "239.1.1.2")]), ["239.1.1.2"]],
    ["nothing", report([at(1, "239.1.1.1"), at(5, "239.1.1.1"), at(3, "239.1.1.1"), at(6, "239.1.1.1")]), []],
    ["groups of the link itself", report([at(4, "224.0.0.1"), at(4, "224.0.0.2"), at(4, "224.0.0.22")]), []],
    [
      "solicited nodes",
      report(["ff02::1:ff00:15", "ff02::1", "ff02::2", "ff02::16", "ff01::5"].map((g) => at(4, g))),
      [],
    ],
    ["a question", igmpFor(0x11, "0.0.0.0"), []],
    ["while the address is tentative", mld([131, 0, 0, 0, 0, 0, 0, 0, ...bytes16("ff02::fb")], "::"), ["ff02::fb"]],
  ] as const)("%s", (_name, frame, expected) => {
    const world = worldOf()
    world.send(frame)
    expect(groups(world)).toEqual(expected)
    expect(world.counter("dropMembership")).toBe(0)
  })

  const sound = igmpFor(0x16, "239.1.1.1")
  const broken = Uint8Array.from(sound)
  broken[broken.length - 1] ^= 1
  test.each([
    ["a wrong checksum", broken],
    ["too short", igmp([0x16, 0, 0, 0, 239, 1])],
    ["no group", igmpFor(0x16, PEER4)],
    ["a record that is cut off", report([at(4, "239.1.1.1")], 2)],
    ["more records than a packet holds", report([at(4, "239.1.1.1")], 0xffff)],
    ["sources beyond the end", igmp([0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 255, 255, 239, 1, 1, 1])],
    ["auxiliary data beyond the end", igmp([0x22, 0, 0, 0, 0, 0, 0, 1, 4, 255, 0, 0, 239, 1, 1, 1])],
    ["a report without groups of the right family", mldFor(131, "::ffff:224.0.0.251".replace("::ffff:", "::"))],
    ["MLD from beyond the link", mld([131, 0, 0, 0, 0, 0, 0, 0, ...bytes16("ff02::fb")], PEER6, 64)],
    ["MLD cut off", mld([131, 0, 0, 0, 0, 0, 0, 0, 0xff, 2])],
    ["IPv4 in MLD", mld([131, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 224, 0, 0, 251])],
  ])("%s is counted, and nothing is joined", (_name, frame) => {
    const world = worldOf()
    world.send(frame)
    expect(groups(world)).toEqual([])
    expect(world.kernel.open).toEqual([])
    expect(world.counter("dropMembership")).toBe(1)
  })

  test("other types of IGMP are dropped; all of it without UDP, MLD without ICMP", () => {
    const world = worldOf()
    world.send(igmpFor(0x13, MDNS))
    expect(world.counter("dropProtocol")).toBe(1)
    const without = new DatagramWorld({ udp: false })
    without.send(igmpFor(0x16, MDNS), mldFor(131, MDNS6))
    expect(without.counter("dropProtocol")).toBe(2)
    expect(without.link.questions).toEqual([])
    const deaf = new DatagramWorld({ icmp: false })
    deaf.send(mldFor(131, MDNS6))
    expect(deaf.counter("dropProtocol")).toBe(1)
    expect(deaf.link.questions.filter((frame) => frame[12] === 0x86)).toEqual([])
  })

  test("a group that is left is asked about, and gone after two seconds of silence", () => {
    for (const [join, leave, group] of [
      [igmpFor(0x16, MDNS), igmpFor(0x17, MDNS), MDNS],
      [mldFor(131, MDNS6), mldFor(132, MDNS6), MDNS6],
      [report([at(4, MDNS)]), report([at(3, MDNS)]), MDNS],
      [report([at(5, MDNS, { sources: [PEER4] })]), report([at(6, MDNS, { sources: [PEER4] })]), MDNS],
    ] as const) {
      const world = worldOf()
      world.send(join, leave)
      expect(world.link.questions).toHaveLength(1)
      expect(groups(world)).toEqual([group])
      world.pass(1500)
      expect(world.link.questions).toHaveLength(2)
      expect(groups(world)).toEqual([group])
      world.pass(1000)
      expect(world.kernel.open).toEqual([])
      expect(world.flows).toBe(0)
      // What was never joined is not left.
      world.send(leave)
      expect(world.link.questions).toHaveLength(2)
    }
  })

  test("somebody who is still there keeps it", () => {
    const world = worldOf()
    world.send(igmpFor(0x16, MDNS), igmpFor(0x17, MDNS))
    world.pass(1500)
    world.send(report([at(2, MDNS)]))
    world.pass(60_000)
    expect(groups(world)).toEqual([MDNS])
  })

  test("a membership ends without reports, lives with them, and is asked for", () => {
    const world = worldOf()
    world.send(igmpFor(0x16, MDNS))
    world.pass(MEMBERSHIP_MS - 5000)
    // The second one of the start and one after 125 s, for both families.
    expect(world.link.questions).toHaveLength(4)
    world.send(igmpFor(0x16, MDNS))
    world.pass(MEMBERSHIP_MS - 5000)
    expect(groups(world)).toEqual([MDNS])
    world.pass(6000)
    expect(world.kernel.open).toEqual([])
    world.link.questions.length = 0
    world.pass(300_000)
    expect(world.link.questions).toEqual([])
  })

  test("a new guest is asked twice; a guest that goes takes its groups along", () => {
    const world = new DatagramWorld()
    world.turn()
    expect(world.link.questions).toHaveLength(2)
    world.pass(60_000)
    expect(world.link.questions).toHaveLength(4)
    world.send(igmpFor(0x16, MDNS), mldFor(131, MDNS6))
    expect(groups(world)).toEqual([MDNS, MDNS6])
    world.link.connected = false
    world.turn()
    expect(world.kernel.open).toEqual([])
    world.link.connected = true
    world.turn()
    expect(world.link.questions).toHaveLength(6)
  })

  test("questions are what a host takes: lengths, checksums, options, addresses", () => {
    const world = new DatagramWorld()
    world.turn()
    const hex = world.link.questions.map((frame) => Buffer.from(frame).toString("hex"))
    expect(hex[0]).toBe(
      "01005e000001" +
        "9a559a559a55" +
        "0800" +
        "46c0002400004000010264da".replace("64da", hex[0]!.slice(48, 52)) +
        "c0000201e0000001" +
        "94040000" +
        `1164${hex[0]!.slice(80, 84)}` +
        "00000000" +
        "027d0000",
    )
    expect(hex[1]!.slice(0, 28)).toBe("3333000000019a559a559a5586dd")
    expect(hex[1]!.slice(28)).toMatch(
      /^600000000024000[01]fe800000000000000000000000000001ff0200000000000000000000000000013a000502000001008200....271000000{32}027d0000$/,
    )
  })

  test("questions without an address of ours are not asked, nor without room", () => {
    const world = new DatagramWorld()
    world.guest.gateway4.fill(0)
    world.guest.ourLinkLocal6.fill(0)
    world.turn()
    expect(world.link.questions).toEqual([])
  })

  test("thousands of groups: as many as there is room for, the others are counted, one warning", () => {
    const world = worldOf({ flowMax: 100_000 })
    const joins = Array.from({ length: 2000 }, (_, i) => at(4, `239.9.${i >> 8}.${i & 255}`))
    for (let i = 0; i < joins.length; i += 100) world.send(report(joins.slice(i, i + 100)))
    expect(groups(world)).toHaveLength(MEMBERSHIP_MAX)
    expect(world.counter("dropMembership")).toBe(2000 - MEMBERSHIP_MAX)
    // The same again changes nothing.
    world.send(report(joins.slice(0, 100)))
    expect(groups(world)).toHaveLength(MEMBERSHIP_MAX)
    world.send(report(joins.slice(0, 50).map(({ group }) => at(3, group))))
    world.pass(3000)
    expect(groups(world)).toHaveLength(MEMBERSHIP_MAX - 50)
  })

  test.each(["udpSocket", "prepare", "joinGroup", "bindToDevice"])("%s fails: counted, nothing leaks", (call) => {
    const world = worldOf({ outboundDevice4: "eth9" })
    world.kernel.failNext(call, ENOBUFS)
    world.send(igmpFor(0x16, "239.1.1.1"))
    expect(world.kernel.open).toEqual([])
    expect(world.flows).toBe(0)
    expect(world.counter("dropMembership")).toBe(1)
    world.send(igmpFor(0x16, "239.1.1.1"))
    expect(groups(world)).toEqual(["239.1.1.1"])
  })

  test.each(["bind", "watch"])("a port whose %s fails leaves the membership", (call) => {
    const world = worldOf()
    world.kernel.failNext(call, EADDRINUSE)
    world.send(igmpFor(0x16, MDNS))
    expect(world.kernel.open).toHaveLength(1)
    expect(groups(world)).toEqual([MDNS])
  })

  test("a full flow table: nothing is joined", () => {
    const world = worldOf({ flowMax: 1 })
    world.send(datagram(GUEST4, 1, PEER4, 1, HELLO), igmpFor(0x16, MDNS))
    expect(groups(world)).toEqual([])
    expect(world.counter("dropNoFlow")).toBe(1)
  })
})

describe("ports of a group", () => {
  const group = "239.7.7.7"
  const join = igmpFor(0x16, group)
  const hears = (world: DatagramWorld, port: number): boolean => {
    world.kernel.arriveAtGroup(record(PEER4, 1), record(group, port), HELLO)
    world.turn()
    return world.received().length === 1
  }

  test("those that the guest sends to, before or after it joins", () => {
    for (const early of [true, false]) {
      const world = worldOf()
      const send = datagram(GUEST4, 4000, group, 7007, HELLO)
      world.send(...(early ? [send, join] : [join, send]))
      expect(hears(world, 7007)).toBe(true)
      expect(hears(world, 7008)).toBe(false)
      // Nothing is heard twice, however often the guest sends.
      world.send(send, send)
      expect(hears(world, 7007)).toBe(true)
    }
  })

  test("those of rules, through the rule's own socket, with its port and target", () => {
    const world = worldOf({
      udpRules: [
        { first: 7007, targetFirst: 8007 },
        { first: 7008, targetAddress: Int32Array.from(record("192.0.2.99", 0)) },
      ],
    })
    world.send(join, datagram(GUEST4, 4000, group, 7007, HELLO))
    expect(world.kernel.arriveAtGroup(record(PEER4, 1), record(group, 7007), bytesOf("rule"))).toHaveLength(1)
    world.kernel.arriveAtGroup(record(PEER4, 1), record(group, 7008), bytesOf("target"))
    world.turn()
    expect(world.received()).toMatchObject([
      { destination: group, destinationPort: 8007 },
      { destination: "192.0.2.99", destinationPort: 7008 },
    ])
    // Groups make no flows.
    expect(world.counter("udpFlows")).toBe(0)
  })

  test("a rule for one address hears no groups", () => {
    const world = worldOf({ udpRules: [{ first: 7007, address: Int32Array.from(record(HOST4, 0).slice(0, 4)) }] })
    world.send(join, datagram(GUEST4, 4000, group, 7007, HELLO))
    expect(hears(world, 7007)).toBe(true)
  })

  test("many ports of many groups stay within their limit", () => {
    const world = worldOf({ flowMax: 100_000 })
    world.send(join)
    for (let port = 1; port <= 600; port += 50) {
      world.send(...Array.from({ length: 50 }, (_, i) => datagram(GUEST4, 4000, group, port + i, HELLO)))
    }
    expect(world.kernel.open.filter((s) => s.joined?.length === 1 && s.local[4] !== 0)).toHaveLength(256)
    expect(world.counter("dropMembership")).toBeGreaterThan(0)
  })

  test("what is longer than a frame is dropped, the next one passes; a stalled link leaves it in the socket", () => {
    const world = worldOf()
    world.send(igmpFor(0x16, MDNS))
    world.kernel.arriveAtGroup(record(PEER4, 1), record(MDNS, 5353), new Uint8Array(65_507))
    world.kernel.arriveAtGroup(record(PEER4, 1), record(MDNS, 5353), bytesOf("next"))
    world.turn()
    expect(texts(world)).toEqual(["next"])
    expect(world.counter("dropDatagram")).toBe(1)
    world.link.stalled = true
    for (let i = 0; i < 100; i++) world.kernel.arriveAtGroup(record(PEER4, 1), record(MDNS, 5353), bytesOf(`${i}`))
    world.turn(10)
    world.link.stalled = false
    world.turn(20)
    expect(texts(world)).toEqual(Array.from({ length: 100 }, (_, i) => `${i}`))
  })
})

describe("loops", () => {
  const own = (text: string): Uint8Array => datagram(GUEST4, 5353, MDNS, 5353, bytesOf(text))

  test("what the guest sent does not come back, what others of the host send from the same port does", () => {
    for (const options of [{}, { udpRules: [{ first: 5353 }] }]) {
      const world = worldOf(options)
      if (options.udpRules) world.kernel.failNext("bind", EADDRINUSE)
      world.send(igmpFor(0x16, MDNS), own("one"), own("two"), own("two"))
      world.turn()
      expect(texts(world)).toEqual([])
      expect(world.counter("groupEchoes")).toBe(3)
      // The host's own responder: the guest's address and port.
      world.kernel.arriveAtGroup(record(HOST4, 5353), record(MDNS, 5353), bytesOf("host"))
      world.kernel.arriveAtGroup(record(HOST4, 5353), record(MDNS, 5353), bytesOf("two"))
      world.turn()
      expect(texts(world)).toEqual(["host", "two"])
    }
  })

  test("the guest's own address, when the host uses it, is seen as the gateway's", () => {
    const world = worldOf()
    world.send(igmpFor(0x16, MDNS))
    world.kernel.arriveAtGroup(record(GUEST4, 5353), record(MDNS, 5353), HELLO)
    world.turn()
    expect(world.received()).toMatchObject([{ source: GATEWAY4 }])
    expect(GATEWAY6).toBe("fe80::1")
  })

  test("a flood to a group that the guest is in does not come back either", () => {
    const world = worldOf()
    world.send(igmpFor(0x16, MDNS))
    for (let round = 0; round < 8; round++) {
      world.link.stalled = round < 6
      for (let i = 0; i < 256; i++) world.link.push(own(`${round} ${i}`))
      world.turn(2)
    }
    world.turn(100)
    expect(texts(world)).toEqual([])
    expect(world.counter("groupEchoes")).toBe(8 * 256)
    // Afterwards the host's responder is heard again.
    world.pass(3000)
    world.kernel.arriveAtGroup(record(HOST4, 5353), record(MDNS, 5353), bytesOf("host"))
    world.turn()
    expect(texts(world)).toEqual(["host"])
  })
})

describe("a change of the host's network", () => {
  test("questions leave from the new source, and groups are joined on the new interface", () => {
    const world = worldOf()
    const translation = emptyTranslation()
    const former = { resolvers: [], loopback: [] }
    world.send(igmpFor(0x16, MDNS), mldFor(131, MDNS6), datagram(GUEST6, 5353, MDNS6, 5353, HELLO))
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record(MDNS6, 5353, 7))
    world.engine.reconfigure({ linkLocalScope: 3, translation, former })
    world.turn()
    expect(groups(world)).toEqual([MDNS, MDNS6])
    expect(senders(world)).toEqual([])
    expect(world.counter("movedFlows")).toBe(1)
    world.send(datagram(GUEST6, 5353, MDNS6, 5353, HELLO))
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record(MDNS6, 5353, 3))
    // Ports that were known are still.
    expect(world.kernel.arriveAtGroup(record(PEER4, 5353), record(MDNS, 5353), HELLO)).toHaveLength(1)
    world.engine.close()
    expect(world.kernel.open).toEqual([])
  })
})

function bytes16(group: string): number[] {
  const d = new DataView(new ArrayBuffer(16))
  record(group, 0)
    .slice(0, 4)
    .forEach((word, i) => d.setInt32(4 * i, word))
  return [...new Uint8Array(d.buffer)]
}
