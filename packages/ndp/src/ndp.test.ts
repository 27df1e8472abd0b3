import { FRAME_NEEDS_CHECKSUM, GuestState } from "@passt/core"
import fc from "fast-check"
import { beforeEach, describe, expect, it } from "vitest"
import { NdpResponder } from "./ndp.ts"
import type { NdpConfig } from "./ndp.ts"
import { NeighbourTable } from "./neighbours.ts"
import * as options from "./options.ts"
import { hex, toHex, words } from "../../core/src/test-support/bytes.ts"
import { GUEST_MAC, OUR_MAC, setUpGuest } from "../../core/src/test-support/guest.ts"
import { deliver, icmpv6, isIcmpv6SumRight } from "./test-support/frames.ts"
import { MemoryLink } from "../../core/src/test-support/memory-link.ts"

const GUEST = "2001:db8:1:2:5054:ff:fe12:3456"
const GUEST_LINK_LOCAL = "fe80::5054:ff:fe12:3456"
const SOLICIT_ROUTER = hex(`85 00 0000 00000000 01 01 ${GUEST_MAC}`)

const link = new MemoryLink()
let guest: GuestState
let table: NeighbourTable
let ndp: NdpResponder

function make(config: Partial<NdpConfig> = {}): NdpResponder {
  return new NdpResponder(link, guest, table, {
    advertise: true,
    managed: true,
    dns: [words("2001:db8::53"), words("192.0.2.53")],
    search: ["example.org"],
    advertiseDns: true,
    advertiseSearch: true,
    random: () => 0,
    ...config,
  })
}

beforeEach(() => {
  link.sent = []
  link.full = false
  link.connected = true
  guest = new GuestState()
  setUpGuest(guest)
  table = new NeighbourTable(guest, 1, 2)
  ndp = make()
})

function solicitation(target: string, option = `01 01 ${GUEST_MAC}`): Uint8Array {
  const message = hex(`87 00 0000 00000000 ${"00".repeat(16)} ${option}`)
  const d = new DataView(message.buffer)
  words(target).forEach((word, i) => d.setInt32(8 + 4 * i, word))
  return message
}

/** Offset of an option's type in a sent router advertisement, or -1. */
function optionAt(frame: Uint8Array, type: number): number {
  return options.find(new DataView(frame.buffer), 54 + 16, frame.length, type)
}

describe("neighbour solicitations", () => {
  it("are answered for any target: router, solicited, override, our link-layer address", () => {
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::1:ff00:99", solicitation("2001:db8:9::99")))
    const expected = hex(`
      ${GUEST_MAC} ${OUR_MAC} 86dd
      60000000 0020 3a ff                         // 32 bytes of ICMPv6, hop limit 255
      fe80 0000 0000 0000 0000 0000 0000 0001     // from our link-local address
      fe80 0000 0000 0000 5054 00ff fe12 3456     // to who asked
      88 00 1788                                  // neighbour advertisement
      e0000000                                    // R, S, O
      2001 0db8 0009 0000 0000 0000 0000 0099     // target
      02 01 ${OUR_MAC}                            // target link-layer address
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
    expect(isIcmpv6SumRight(link.sent[0]!)).toBe(true)
  })

  it("are answered with a neighbour's own MAC address, else the gateway's", () => {
    table.update(words("2001:db8:1:2::77"), 0, hex("02 aa 00 00 00 77"))
    table.update(words("fe80::1"), 0, hex("02 aa 00 00 00 01"))
    deliver(link, ndp, icmpv6(GUEST, "ff02::1:ff00:77", solicitation("2001:db8:1:2::77")))
    deliver(link, ndp, icmpv6(GUEST, "ff02::1:ff00:78", solicitation("2001:db8:1:2::78")))
    expect(link.sent.map((frame) => toHex(frame.subarray(80, 86)))).toEqual(["02aa00000077", "02aa00000001"])
    expect(link.sent.every(isIcmpv6SumRight)).toBe(true)
  })

  it("for duplicates (from ::) are swallowed", () => {
    deliver(link, ndp, icmpv6("::", "ff02::1:ff12:3456", solicitation(GUEST, "")))
    deliver(link, ndp, icmpv6("::", "ff02::1:ff00:1", solicitation("2001:db8::1", "")))
    expect(link.sent).toHaveLength(0)
    expect(ndp.invalid).toBe(0)
  })

  it("for the guest's own address are swallowed", () => {
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::1:ff12:3456", solicitation(GUEST)))
    expect(link.sent).toHaveLength(0)
  })

  it("need no option, and unknown ones do not matter", () => {
    deliver(link, ndp, icmpv6(GUEST, "fe80::1", solicitation("fe80::1", "")))
    deliver(link, ndp, icmpv6(GUEST, "fe80::1", solicitation("fe80::1", `0e 01 010203040506 01 01 ${GUEST_MAC}`)))
    expect(link.sent).toHaveLength(2)
  })

  it("padded by the link are answered", () => {
    const frame = icmpv6(GUEST, "fe80::1", solicitation("fe80::1", ""))
    const padded = new Uint8Array(frame.length + 6).fill(0xee)
    padded.set(frame)
    deliver(link, ndp, padded, 6)
    expect(link.sent).toHaveLength(1)
  })
})

describe("messages that RFC 4861 sections 6.1.1 and 7.1.1 forbid", () => {
  const ns = solicitation("fe80::1")
  const withCode = ns.slice()
  withCode[1] = 1
  it.each([
    ["hop limit below 255", icmpv6(GUEST, "fe80::1", ns, 254)],
    ["a code", icmpv6(GUEST, "fe80::1", withCode)],
    ["a multicast target", icmpv6(GUEST, "fe80::1", solicitation("ff02::5"))],
    ["a solicitation cut in its target", icmpv6(GUEST, "fe80::1", ns.slice(0, 23))],
    ["an option of length 0", icmpv6(GUEST, "fe80::1", solicitation("fe80::1", "01 00 000000000000"))],
    ["an option beyond the end", icmpv6(GUEST, "fe80::1", solicitation("fe80::1", "01 02 000000000000"))],
    ["a byte behind the options", icmpv6(GUEST, "fe80::1", solicitation("fe80::1", "01"))],
    ["a multicast source", icmpv6("ff02::1", "fe80::1", ns)],
    ["a source link-layer address without source", icmpv6("::", "ff02::1:ff00:1", ns)],
    ["a search for duplicates to a unicast address", icmpv6("::", "fe80::1", solicitation("fe80::1", ""))],
    ["a router solicitation from :: with source link-layer address", icmpv6("::", "ff02::2", SOLICIT_ROUTER)],
    ["a router solicitation with hop limit 64", icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER, 64)],
    ["less than an ICMPv6 header", icmpv6(GUEST, "fe80::1", ns.slice(0, 7))],
  ])("are counted and not answered: %s", (_, frame) => {
    deliver(link, ndp, frame)
    expect(link.sent).toHaveLength(0)
    expect(ndp.invalid).toBe(1)
  })

  it("are counted and not answered: a wrong checksum, unless the link said that it is unfinished", () => {
    const frame = icmpv6(GUEST, "fe80::1", ns)
    frame[57]! ^= 1
    deliver(link, ndp, frame)
    expect([link.sent.length, ndp.invalid]).toEqual([0, 1])
    const offset = link.receiveFrame(frame)
    link.frames.flags[0] = FRAME_NEEDS_CHECKSUM
    ndp.respond(0, offset + 14, offset + 54, offset + frame.length)
    expect([link.sent.length, ndp.invalid]).toEqual([1, 1])
  })

  it.each(["86", "88", "89"])("type %s (told, not asked) is ignored", (type) => {
    deliver(link, ndp, icmpv6(GUEST, "ff02::1", hex(`${type} 00 0000 00000000 ${"00".repeat(32)}`)))
    expect([link.sent.length, ndp.invalid]).toEqual([0, 0])
  })

  it("random bytes never throw, and get one answer at most", () => {
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 120 }),
      fc.uint8Array({ maxLength: 60 }).map((tail) => Uint8Array.of(...solicitation("fe80::1", ""), ...tail)),
      fc.uint8Array({ maxLength: 60 }).map((tail) => Uint8Array.of(...SOLICIT_ROUTER, ...tail)),
    )
    fc.assert(
      fc.property(body, (message) => {
        link.sent = []
        deliver(link, ndp, icmpv6(GUEST, "ff02::2", message))
        return link.sent.length <= 1 && link.sent.every(isIcmpv6SumRight)
      }),
    )
  })
})

describe("router advertisements", () => {
  it("answer a solicitation with prefix, MTU, resolvers, search list and link-layer address", () => {
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    const expected = hex(`
      ${GUEST_MAC} ${OUR_MAC} 86dd
      60000000 0070 3a ff
      fe80 0000 0000 0000 0000 0000 0000 0001     // from our link-local address
      fe80 0000 0000 0000 5054 00ff fe12 3456     // to who asked
      86 00 7730                                  // router advertisement
      ff 80 ffff                                  // hop limit 255, managed, 65535 s
      00000000 00000000                           // reachable time, retransmission timer: unspecified
      03 04 40 c0 ffffffff ffffffff 00000000      // prefix: /64, on-link, autonomous, for ever
      2001 0db8 0001 0002 0000 0000 0000 0000
      05 01 0000 000005dc                         // MTU 1500
      19 03 0000 ffffffff                         // resolvers, for ever
      2001 0db8 0000 0000 0000 0000 0000 0053
      1f 03 0000 ffffffff                         // search list, for ever
      07 65 78 61 6d 70 6c 65 03 6f 72 67 00 000000
      01 01 ${OUR_MAC}                            // source link-layer address
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
    expect(isIcmpv6SumRight(link.sent[0]!)).toBe(true)
  })

  it("go to all nodes if the solicitation came from ::", () => {
    deliver(link, ndp, icmpv6("::", "ff02::2", hex("85 00 0000 00000000")))
    expect(toHex(link.sent[0]!.subarray(0, 6))).toBe("333300000001")
    expect(toHex(link.sent[0]!.subarray(38, 54))).toBe(`ff02${"00".repeat(13)}01`)
  })

  it("carry the search list also when there is no IPv6 resolver", () => {
    ndp = make({ dns: [words("192.0.2.53")] })
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    expect(optionAt(link.sent[0]!, options.RDNSS)).toBe(-1)
    expect(optionAt(link.sent[0]!, options.DNSSL)).toBeGreaterThan(0)
  })

  it("carry no resolvers and no search list when these are off", () => {
    ndp = make({ advertiseDns: false, advertiseSearch: false })
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    expect(optionAt(link.sent[0]!, options.RDNSS)).toBe(-1)
    expect(optionAt(link.sent[0]!, options.DNSSL)).toBe(-1)
  })

  it("have the M flag only when DHCPv6 is on and there is an address to give", () => {
    const flags = (): number => link.sent.at(-1)![59]!
    make({ managed: false }).respond(...delivered())
    expect(flags()).toBe(0)
    guest.address6.fill(0)
    make({ managed: true }).respond(...delivered())
    expect(flags()).toBe(0)
  })

  function delivered(): [number, number, number, number] {
    const frame = icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER)
    const offset = link.receiveFrame(frame)
    return [0, offset + 14, offset + 54, offset + frame.length]
  }

  it("have no prefix without a global address, and no MTU option for MTU 0", () => {
    guest.address6.set(words(GUEST_LINK_LOCAL))
    guest.mtu = 0
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    expect(optionAt(link.sent[0]!, options.PREFIX_INFORMATION)).toBe(-1)
    expect(optionAt(link.sent[0]!, options.MTU)).toBe(-1)
    expect(isIcmpv6SumRight(link.sent[0]!)).toBe(true)
  })

  it("advertise three resolvers at most", () => {
    ndp = make({ dns: [1, 2, 3, 4].map((i) => words(`2001:db8::${i}`)) })
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    const frame = link.sent[0]!
    expect(frame[optionAt(frame, options.RDNSS) + 1]).toBe(7)
  })

  it("stay within 1280 bytes of IPv6 packet, whatever the search list", () => {
    const long = Array.from({ length: 6 }, (_, i) => `${i}.${Array(4).fill("x".repeat(60)).join(".")}`)
    ndp = make({ search: long, dns: [1, 2, 3].map((i) => words(`2001:db8::${i}`)) })
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    const frame = link.sent[0]!
    expect(frame.length).toBeLessThanOrEqual(1280 + 14)
    expect(frame.length).toBeGreaterThan(1100)
    expect(options.check(new DataView(frame.buffer), 70, frame.length)).toBe(true)
    expect(optionAt(frame, options.SOURCE_LINK_ADDRESS)).toBe(frame.length - 8)
  })

  it("are not sent when they are off, nor when IPv6 is", () => {
    ndp = make({ advertise: false })
    deliver(link, ndp, icmpv6(GUEST_LINK_LOCAL, "ff02::2", SOLICIT_ROUTER))
    expect(ndp.tick(0)).toBe(-1)
    guest.ipv6 = false
    make().respond(...delivered())
    expect(link.sent).toHaveLength(0)
  })

  it("come unasked after 200 to 600 s, the first one after a whole interval", () => {
    const draws = [0, 400_000, 0xffffffff]
    ndp = make({ random: () => draws.shift() ?? 0 })
    expect(ndp.tick(1_000)).toBe(200_000)
    expect(ndp.tick(200_999)).toBe(1)
    expect(link.sent).toHaveLength(0)
    expect(ndp.tick(201_000)).toBe(600_000)
    expect(link.sent).toHaveLength(1)
    expect(toHex(link.sent[0]!.subarray(38, 54))).toBe(`ff02${"00".repeat(13)}01`)
    const next = ndp.tick(801_005)
    expect(link.sent).toHaveLength(2)
    expect(next).toBeGreaterThanOrEqual(200_000)
    expect(next).toBeLessThanOrEqual(600_000)
  })

  it("come on time when the 31-bit clock wraps", () => {
    const start = 0x7fffffff - 50_000
    expect(ndp.tick(start)).toBe(200_000)
    expect(ndp.tick(0x7fffffff)).toBe(150_000)
    expect(ndp.tick(149_998)).toBe(1)
    expect(link.sent).toHaveLength(0)
    expect(ndp.tick(149_999)).toBe(200_000)
    expect(link.sent).toHaveLength(1)
  })

  it("that find no room are tried again soon; without a guest they are skipped", () => {
    ndp.tick(0)
    link.full = true
    expect(ndp.tick(200_000)).toBe(1_000)
    expect(ndp.noRoom).toBe(1)
    link.full = false
    expect(ndp.tick(201_000)).toBe(200_000)
    expect(link.sent).toHaveLength(1)
    link.connected = false
    expect(ndp.tick(401_000)).toBe(200_000)
    expect(link.sent).toHaveLength(1)
  })
})

describe("first contact and announcements", () => {
  it("asks for the guest's address at its solicited-node group", () => {
    ndp.attached(0)
    const expected = hex(`
      33 33 ff 12 34 56 ${OUR_MAC} 86dd
      60000000 0020 3a ff
      fe80 0000 0000 0000 0000 0000 0000 0001
      ff02 0000 0000 0000 0000 0001 ff12 3456
      87 00 c63b 00000000                         // neighbour solicitation
      2001 0db8 0001 0002 5054 00ff fe12 3456     // target
      01 01 ${OUR_MAC}                            // source link-layer address
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
    expect(isIcmpv6SumRight(link.sent[0]!)).toBe(true)
  })

  it("asks for nothing without an assigned address", () => {
    guest.address6.fill(0)
    ndp.attached(0)
    expect(link.sent).toHaveLength(0)
  })

  it("an unsolicited advertisement has no S flag, and goes to all nodes", () => {
    const row = table.update(words("2001:db8:1:2::77"), 0, hex("02 aa 00 00 00 77"))
    expect(ndp.announce(row)).toBe(true)
    const frame = link.sent[0]!
    expect(toHex(frame.subarray(0, 6))).toBe("333300000001")
    expect(toHex(frame.subarray(58, 62))).toBe("a0000000")
    expect(toHex(frame.subarray(78, 86))).toBe("020102aa00000077")
    expect(isIcmpv6SumRight(frame)).toBe(true)
  })

  it("never announces the guest's own addresses as someone else's", () => {
    guest.seenLinkLocal6.set(words(GUEST_LINK_LOCAL))
    for (const own of [GUEST, GUEST_LINK_LOCAL]) {
      expect(ndp.announce(table.update(words(own), 0, hex("02 aa 00 00 00 77")))).toBe(false)
    }
    expect(link.sent).toHaveLength(0)
  })

  describe("after a change of what they say", () => {
    const NEW = words("2001:db8:7::9")
    /** Prefix information options: prefix, valid and preferred lifetime. */
    function prefixes(frame: Uint8Array): string[] {
      const d = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
      const found: string[] = []
      for (let at = 70; at < frame.length; at += frame[at + 1]! << 3) {
        if (frame[at] !== options.PREFIX_INFORMATION) continue
        found.push(`${toHex(frame.subarray(at + 16, at + 24))} ${d.getUint32(at + 4)} ${d.getUint32(at + 8)}`)
      }
      return found
    }
    const FOREVER = `${0xffffffff} ${0xffffffff}`
    const move = (to: Int32Array, dns: string[], search: string[], nowMs: number, online = true): void => {
      guest.address6.set(to)
      ndp.update({ dns: dns.map(words), search, online }, nowMs)
    }

    it("are sent three times, unsolicited, and end what was said before", () => {
      ndp.tick(0)
      move(NEW, ["2001:db8:7::53"], ["example.net"], 5_000)
      expect(link.sent).toHaveLength(1)
      const [frame] = link.sent
      expect(toHex(frame!.subarray(0, 6))).toBe("333300000001")
      expect(isIcmpv6SumRight(frame!)).toBe(true)
      expect(prefixes(frame!)).toEqual([`20010db800070000 ${FOREVER}`, "20010db800010002 0 0"])
      const text = toHex(frame!)
      expect(text).toContain(`19030000ffffffff20010db8000700000000000000000053`)
      expect(text).toContain(`190300000000000020010db8000000000000000000000053`)
      expect(text).toContain("1f030000ffffffff076578616d706c65036e6574")
      expect(text).toContain("1f03000000000000076578616d706c65036f7267")
      expect([ndp.tick(6_000), ndp.tick(9_000), ndp.tick(13_000)]).toEqual([3_000, 4_000, 200_000])
      expect(link.sent).toHaveLength(3)
      expect(link.sent[2]).toEqual(frame)
    })

    it("remember a few places, and forget that one ended which is back", () => {
      const home = guest.address6.slice()
      for (let i = 1; i <= 6; i++)
        move(words(`2001:db8:${100 + i}::1`), [`2001:db8:${100 + i}::53`], [`d${i}.example`], i)
      expect(prefixes(link.sent.at(-1)!)).toHaveLength(5)
      move(home, [], [], 9)
      const last = link.sent.at(-1)!
      expect(prefixes(last)[0]).toBe(`20010db800010002 ${FOREVER}`)
      expect(
        prefixes(last)
          .slice(1)
          .map((text) => text.slice(8, 12)),
      ).toEqual(["0106", "0105", "0104", "0103"])
    })

    it("stay within what every link carries, whatever is told", () => {
      const domains = (name: string): string[] =>
        Array.from({ length: 40 }, (_, i) => `${name}${i}.${"label-of-some-length.".repeat(3)}example`)
      for (let i = 0; i < 8; i++) {
        const dns = [1, 2, 3].map((n) => `2001:db8:${100 + i}::${n}`)
        move(words(`2001:db8:${100 + i}::1`), dns, domains(String.fromCharCode(97 + i)), i)
        expect(link.sent.at(-1)!.length).toBeLessThanOrEqual(14 + 1280)
        expect(options.check(new DataView(link.sent.at(-1)!.buffer), 70, link.sent.at(-1)!.length)).toBe(true)
      }
    })

    it("tell that there is no way to the world any more: neither router nor preferred prefix, until it is back", () => {
      const home = guest.address6.slice()
      move(home, [], [], 0, false)
      expect(toHex(link.sent.at(-1)!.subarray(60, 62))).toBe("0000")
      expect(prefixes(link.sent.at(-1)!)).toEqual([`20010db800010002 ${0xffffffff} 0`])
      move(home, [], [], 9, true)
      expect(toHex(link.sent.at(-1)!.subarray(60, 62))).toBe("ffff")
      expect(prefixes(link.sent.at(-1)!)).toEqual([`20010db800010002 ${FOREVER}`])
    })

    it("are not sent where there are none", () => {
      ndp = make({ advertise: false })
      move(NEW, [], [], 0)
      expect(link.sent).toHaveLength(0)
    })
  })
})
