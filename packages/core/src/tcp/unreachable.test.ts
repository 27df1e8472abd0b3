/** Connections that fail for a reason other than a refusal: what the guest is told; and hop limits. */
import { describe, expect, test } from "vitest"

import {
  EACCES,
  ECONNREFUSED,
  EHOSTDOWN,
  EHOSTUNREACH,
  ENETDOWN,
  ENETUNREACH,
  ENODEV,
  EPERM,
  ETIMEDOUT,
} from "../errno.ts"
import { GATEWAY4, GATEWAY6, GUEST4, GUEST6, record, words } from "../sim/config.ts"
import type { SimError } from "../sim/datagram-kernel.ts"
import { PEER4, TcpDialogue } from "../sim/tcp-dialogue.ts"
import { emptyTranslation } from "../forward/translate.ts"

const PEER6 = "2001:db8:1::7"
const ROUTER4 = "198.51.100.1"
const ROUTER6 = "2001:db8:9::1"
const ORIGIN_ICMP = 2
const ORIGIN_ICMP6 = 3

const FAMILIES = [
  { family: 4, far: PEER4, guest: GUEST4, ours: GATEWAY4, router: ROUTER4, origin: ORIGIN_ICMP },
  { family: 6, far: PEER6, guest: GUEST6, ours: GATEWAY6, router: ROUTER6, origin: ORIGIN_ICMP6 },
] as const

function error(origin: number, type: number, code: number, offender: string, errno = EHOSTUNREACH): SimError {
  return { errno, origin, type, code, info: 0, offender: record(offender, 0), quote: new Uint8Array(20) }
}

function told(d: TcpDialogue): string[] {
  return d.errors.map((e) => `${e.source} > ${e.destination} ${e.type}/${e.code}`)
}

describe.each(FAMILIES)("IPv$family", ({ family, far, guest, ours, router, origin }) => {
  const expected: [string, number, string, string][] = [
    ["no route", ENETUNREACH, "3/0", "1/0"],
    ["the interface is down", ENETDOWN, "3/0", "1/0"],
    ["the interface is gone", ENODEV, "3/0", "1/0"],
    ["nobody there", EHOSTUNREACH, "3/1", "1/3"],
    ["host is down", EHOSTDOWN, "3/1", "1/3"],
    ["a firewall", EPERM, "3/13", "1/1"],
    ["a prohibiting route", EACCES, "3/13", "1/1"],
  ]
  for (const [name, errno, four, six] of expected) {
    const line = `${ours} > ${guest} ${family === 4 ? four : six}`

    test(`${name}, later: an error that quotes the SYN, and nothing is left`, () => {
      const d = new TcpDialogue({ far })
      d.say("S", { mss: 1460, scale: 7, window: 4321 })
      d.socket.fail(errno)
      d.settle()
      expect(d.lines()).toEqual([])
      expect(told(d)).toEqual([line])
      expect(d.errors[0]!.second).toBe(0)
      expect(d.errors[0]!.syn).toMatchObject({
        source: words(guest),
        destination: words(far),
        sourcePort: 40_000,
        destinationPort: 80,
        sequence: d.iss,
        acknowledgement: 0,
        window: 4321,
      })
      expect(d.counter("tcpResets")).toBe(0)
      d.checkEmpty()
    })

    test(`${name}, at once: the same`, () => {
      const d = new TcpDialogue({ far })
      d.kernel.failNext("connect", errno)
      d.say("S")
      expect(d.lines()).toEqual([])
      expect(told(d)).toEqual([line])
      d.checkEmpty()
    })
  }

  test("what the network says is passed on, from whom it comes", () => {
    for (const [type, code] of family === 4
      ? [
          [11, 0],
          [3, 10],
          [3, 2],
          [12, 0],
        ]
      : [
          [3, 0],
          [1, 5],
          [1, 2],
          [4, 1],
        ]) {
      const d = new TcpDialogue({ far })
      d.say("S", { hopLimit: 5 })
      d.socket.failByIcmp(error(origin, type!, code!, router))
      d.settle()
      expect(d.lines()).toEqual([])
      expect(told(d)).toEqual([`${router} > ${guest} ${type}/${code}`])
      d.checkEmpty()
    }
  })

  test("what the peer itself says comes from the address that the guest knows", () => {
    const translation = { ...emptyTranslation(), [`mapHostLoopback${family}`]: words(far) }
    const d = new TcpDialogue({ far, translation })
    d.say("S", { hopLimit: 5 })
    d.socket.failByIcmp(error(origin, family === 4 ? 3 : 1, family === 4 ? 13 : 1, family === 4 ? "127.0.0.1" : "::1"))
    d.settle()
    expect(told(d)).toEqual([`${far} > ${guest} ${family === 4 ? "3/13" : "1/1"}`])
  })

  test("an offender that can't be one does not count", () => {
    for (const odd of family === 4 ? ["0.0.0.0", "255.255.255.255", "224.0.0.1"] : ["::", "ff02::1", PEER4]) {
      const d = new TcpDialogue({ far })
      d.say("S", { hopLimit: 5 })
      d.socket.failByIcmp(error(origin, family === 4 ? 3 : 1, 0, odd, ENETUNREACH))
      d.settle()
      expect(d.errors.every((e) => e.source === ours)).toBe(true)
      expect(d.errors.length + d.lines().length).toBe(1)
      d.checkEmpty()
    }
  })

  test("a port that is unreachable is refused", () => {
    const d = new TcpDialogue({ far })
    d.say("S", { hopLimit: 5 })
    d.socket.failByIcmp(error(origin, family === 4 ? 3 : 1, family === 4 ? 3 : 4, router, ECONNREFUSED))
    d.settle()
    expect(d.lines()).toEqual(["RA seq 0 ack 1"])
    expect(told(d)).toEqual([])
  })

  test("types that are no errors, and sizes, count as the errno that came with them", () => {
    for (const [type, code] of family === 4
      ? [
          [0, 0],
          [8, 0],
          [5, 1],
          [3, 4],
        ]
      : [
          [128, 0],
          [137, 0],
          [2, 0],
        ]) {
      const d = new TcpDialogue({ far })
      d.say("S", { hopLimit: 5 })
      d.socket.failByIcmp(error(origin, type!, code!, router, EHOSTUNREACH))
      d.settle()
      const tooBig = family === 4 ? type === 3 : type === 2
      expect(d.lines()).toEqual(tooBig ? ["RA seq 0 ack 1"] : [])
      expect(told(d)).toEqual(tooBig ? [] : [`${ours} > ${guest} ${family === 4 ? "3/1" : "1/3"}`])
    }
  })

  test("a connection that times out is not answered: the guest's own timer says so, and its next SYN tries again", () => {
    const d = new TcpDialogue({ far })
    d.say("S")
    d.socket.fail(ETIMEDOUT)
    d.settle()
    expect([d.lines(), told(d), d.flows]).toEqual([[], [], 0])
    d.say("S", { seq: 0 })
    expect(d.flows).toBe(1)
    d.socket.establish(d.peer)
    d.settle()
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
  })

  test("nothing in a frame to a group is answered by an error (RFC 1122 section 3.2.2)", () => {
    for (const mac of [
      [255, 255, 255, 255, 255, 255],
      [1, 0, 0x5e, 0, 0, 1],
    ]) {
      const d = new TcpDialogue({ far })
      d.say("S", { mac })
      d.socket.fail(EHOSTUNREACH)
      d.settle()
      expect(told(d)).toEqual([])
      d.checkEmpty()
    }
  })

  test("no room on the link: nothing throws, nothing is left, and the repeated SYN is answered", () => {
    const d = new TcpDialogue({ far })
    d.link.stalled = true
    for (let row = d.link.reserve(60); row >= 0; row = d.link.reserve(60)) {
      d.link.frames.length[row] = 60
      d.link.commit(row)
    }
    d.say("S")
    d.socket.fail(EHOSTUNREACH)
    d.settle()
    expect([d.flows, d.counter("dropNoRoom")]).toEqual([0, 1])
    d.link.attach(true)
    d.link.stalled = false
    d.say("S", { seq: 0 })
    d.socket.fail(EHOSTUNREACH)
    d.settle()
    expect(told(d)).toHaveLength(1)
    d.checkEmpty()
  })

  test("the guest's hop limit is the socket's: of the SYN, and of what follows when it changes", () => {
    const d = new TcpDialogue({ far })
    d.say("S", { hopLimit: 3, mss: 1460, scale: 0 })
    expect(d.socket.hopLimits).toEqual([3])
    expect(d.socket.queuesErrors).toBe(true)
    d.socket.establish(d.peer)
    d.settle()
    expect(d.socket.queuesErrors).toBe(false)
    d.ack = 1
    d.say("A", { hopLimit: 3 })
    d.say("PA", { length: 10, hopLimit: 64 })
    d.say("PA", { length: 10, hopLimit: 64 })
    d.say("PA", { length: 10, hopLimit: 0 })
    d.say("PA", { length: 10, hopLimit: 255 })
    expect(d.socket.hopLimits).toEqual([3, 64, 255])
    expect(d.socket.written).toBe(40)
  })

  test("what systems begin with costs no call, and needs no names of routers", () => {
    for (const [hopLimit, told] of [
      [64, []],
      [128, [128]],
      [255, [255]],
    ] as const) {
      const d = new TcpDialogue({ far })
      d.say("S", { hopLimit })
      expect(d.socket.queuesErrors).toBe(false)
      d.socket.establish(d.peer)
      d.settle()
      d.ack = 1
      d.say("A", { hopLimit })
      expect(d.socket.hopLimits).toEqual(told)
    }
  })

  test("a SYN with no hop left is no packet", () => {
    const d = new TcpDialogue({ far })
    d.say("S", { hopLimit: 0 })
    expect([d.lines(), told(d), d.flows, d.counter("dropIp")]).toEqual([[], [], 0, 1])
  })

  test("an accepted connection takes the guest's hop limit from its answer on", () => {
    const d = new TcpDialogue({ far })
    d.arrive()
    d.ack = 1
    d.say("SA", { mss: 1460, scale: 0, hopLimit: 7 })
    d.say("A", { hopLimit: 7 })
    expect(d.socket.hopLimits).toEqual([7])
  })

  test("hop limits or errors that the kernel refuses do no harm", () => {
    const d = new TcpDialogue({ far })
    d.kernel.failNext("setHopLimit", EPERM, EPERM, EPERM)
    d.kernel.failNext("queueErrors", EPERM, EPERM)
    d.kernel.failNext("readError", EPERM)
    d.say("S", { hopLimit: 9 })
    d.socket.fail(EHOSTUNREACH)
    d.settle()
    expect(told(d)).toHaveLength(1)
    d.checkEmpty()
  })
})

test("nothing that goes to all of the guest's network is answered, neither by an error nor by a reset", () => {
  const outcomes = [24, 25, 31, 0].map((prefix) => {
    const d = new TcpDialogue({ far: "192.0.2.255" })
    d.guest.address4.set(words(GUEST4))
    d.guest.prefix4 = prefix
    d.kernel.failNext("connect", EACCES)
    d.say("S")
    return [d.errors.length, d.lines().length, d.counter("dropAddress")]
  })
  expect(outcomes).toEqual([
    [0, 0, 1],
    [1, 0, 0],
    [1, 0, 0],
    [1, 0, 0],
  ])
})
