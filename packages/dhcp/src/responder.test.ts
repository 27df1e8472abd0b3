import { GuestState } from "@passt/core"
import fc from "fast-check"
import { beforeEach, describe, expect, it } from "vitest"
import * as options from "./options.ts"
import { DhcpResponder } from "./responder.ts"
import type { Dhcp4Config } from "./responder.ts"
import { hex, toHex, viewOf, words } from "../../core/src/test-support/bytes.ts"
import { GUEST_MAC, OUR_MAC, setUpGuest } from "../../core/src/test-support/guest.ts"
import { datagram4, decodeNames, deliver, isDatagramRight } from "./test-support/frames.ts"
import { MemoryLink } from "../../core/src/test-support/memory-link.ts"

const link = new MemoryLink()
let guest: GuestState
let lines: string[]

const DISCOVER = "35 01 01"
const REQUEST = "35 01 03"
const INFORM = "35 01 08"
/** Where the options begin in a frame. */
const OPTIONS = 42 + 240

beforeEach(() => {
  link.sent = []
  link.full = false
  lines = []
  guest = new GuestState()
  setUpGuest(guest)
})

function make(config: Partial<Dhcp4Config> = {}): DhcpResponder {
  return new DhcpResponder(link, guest, {
    dns: [],
    search: [],
    advertiseDns: true,
    advertiseSearch: true,
    info: (line) => lines.push(line),
    ...config,
  })
}

/** A message of a client; options in hex. */
function message(
  optionsHex: string,
  fields: {
    op?: string
    hardware?: string
    transaction?: string
    flags?: string
    client?: string
    relay?: string
    magic?: string
  } = {},
): Uint8Array {
  return hex(`
    ${fields.op ?? "01"} ${fields.hardware ?? "01 06"} 00   // op, hardware type and length, hops
    ${fields.transaction ?? "deadbeef"}                     // transaction
    0003 ${fields.flags ?? "0000"}                          // seconds, flags
    ${fields.client ?? "00000000"}                          // client address
    00000000 00000000 ${fields.relay ?? "00000000"}         // your, server, relay address
    ${GUEST_MAC} ${"00".repeat(10)}                         // client hardware address
    ${"00".repeat(64)} ${"00".repeat(128)}                  // server name, boot file
    ${fields.magic ?? "63825363"} ${optionsHex}`)
}

function ask(responder: DhcpResponder, ...args: Parameters<typeof message>): Uint8Array | undefined {
  link.sent = []
  deliver(link, responder, datagram4(message(...args)))
  return link.sent[0]
}

/** Data of an option in an answer. */
function optionOf(frame: Uint8Array, code: number): Uint8Array | undefined {
  const d = viewOf(frame)
  const at = options.find(d, OPTIONS, frame.length, code)
  return at < 0 ? undefined : frame.slice(at, at + options.lengthAt(d, at))
}

describe("DhcpResponder", () => {
  it("offers the address to a DISCOVER", () => {
    const frame = ask(make({ dns: [words("192.0.2.53"), words("2001:db8::53")] }), `${DISCOVER} 37 02 01 03 ff`)!
    const expected = hex(`
      ${GUEST_MAC} ${OUR_MAC} 0800
      45 00 0148 0000 4000 ff 11 f693             // 328 bytes, don't fragment, TTL 255, UDP
      c0000201 c000020f                           // from the gateway to the address given
      0043 0044 0134 6ec5                         // ports 67 to 68, 308 bytes
      02 01 06 00 deadbeef 0000 0000              // reply, Ethernet, transaction
      00000000 c000020f 00000000 00000000         // client, your, server, relay address
      ${GUEST_MAC} ${"00".repeat(10)}
      ${"00".repeat(64)} ${"00".repeat(128)}
      63825363
      35 01 02                                    // offer
      36 04 c0000201                              // server
      33 04 ffffffff                              // lease: for ever
      01 04 ffffff00                              // mask
      03 04 c0000201                              // router
      1a 02 05dc                                  // MTU
      06 04 c0000235                              // resolver
      ff ${"00".repeat(22)}                       // padding to 60 bytes
    `)
    expect(toHex(frame)).toBe(toHex(expected))
    expect(isDatagramRight(frame)).toBe(true)
    expect(lines).toEqual(["DHCP: offer to discover from 52:54:00:12:34:56"])
  })

  it("acknowledges a REQUEST, of whatever address, with the configured one", () => {
    const frame = ask(make(), `${REQUEST} 32 04 0a000001 36 04 c0000201 ff`)!
    expect([...optionOf(frame, options.MESSAGE_TYPE)!]).toEqual([5])
    expect(toHex(frame.subarray(58, 62))).toBe("c000020f")
    expect(lines).toEqual(["DHCP: ack to request from 52:54:00:12:34:56"])
  })

  it("acknowledges a REQUEST without server identifier (renewing, rebooting)", () => {
    const frame = ask(make(), `${REQUEST} ff`, { client: "c000020f" })!
    expect(toHex(frame.subarray(54, 58))).toBe("c000020f")
    expect([...optionOf(frame, options.MESSAGE_TYPE)!]).toEqual([5])
  })

  it("leaves a REQUEST for another server unanswered", () => {
    expect(ask(make(), `${REQUEST} 36 04 c0000202 ff`)).toBeUndefined()
    expect(ask(make(), `${REQUEST} 36 02 c000 ff`)).toBeUndefined()
  })

  it("acknowledges a DISCOVER with Rapid Commit at once, and echoes that option", () => {
    const frame = ask(make(), `${DISCOVER} 50 00 ff`)!
    expect([...optionOf(frame, options.MESSAGE_TYPE)!]).toEqual([5])
    expect(optionOf(frame, options.RAPID_COMMIT)).toHaveLength(0)
    expect(lines).toEqual(["DHCP: ack to discover from 52:54:00:12:34:56"])
    expect(optionOf(ask(make(), `${REQUEST} 50 00 ff`)!, options.RAPID_COMMIT)).toBeUndefined()
  })

  it("answers BOOTP (no message type) with an ACK", () => {
    const frame = ask(make(), `ff ${"00".repeat(59)}`)!
    expect([...optionOf(frame, options.MESSAGE_TYPE)!]).toEqual([5])
    expect(toHex(frame.subarray(58, 62))).toBe("c000020f")
    expect(lines).toEqual(["BOOTP: reply to request from 52:54:00:12:34:56"])
  })

  it("answers INFORM with options, to the client's own address, without address and lease", () => {
    const frame = ask(make({ dns: [words("192.0.2.53")] }), `${INFORM} ff`, { client: "c0000263" })!
    expect([...optionOf(frame, options.MESSAGE_TYPE)!]).toEqual([5])
    expect(toHex(frame.subarray(30, 34))).toBe("c0000263")
    expect(toHex(frame.subarray(58, 62))).toBe("00000000")
    expect(optionOf(frame, options.LEASE_TIME)).toBeUndefined()
    expect(toHex(optionOf(frame, options.DNS)!)).toBe("c0000235")
  })

  it.each(["7f000001", "7fffffff", "e0000001", "ffffffff"])(
    "counts and does not answer an INFORM from %s, which is no host's address",
    (client) => {
      const responder = make()
      expect(ask(responder, `${INFORM} ff`, { client })).toBeUndefined()
      expect(responder.invalid).toBe(1)
    },
  )

  it.each([
    ["OFFER", "02"],
    ["DECLINE", "04"],
    ["ACK", "05"],
    ["NAK", "06"],
    ["RELEASE", "07"],
    ["an unknown type", "63"],
  ])("ignores %s", (_, type) => {
    expect(ask(make(), `35 01 ${type} ff`)).toBeUndefined()
  })

  it("broadcasts to a client that asks for it", () => {
    const frame = ask(make(), `${DISCOVER} ff`, { flags: "8000" })!
    expect(toHex(frame.subarray(0, 6))).toBe("ffffffffffff")
    expect(toHex(frame.subarray(30, 34))).toBe("ffffffff")
    expect(toHex(frame.subarray(52, 54))).toBe("8000")
    expect(isDatagramRight(frame)).toBe(true)
  })

  // RFC 768: zero on the wire says that there is no checksum.
  it("sends a UDP checksum that computes to zero as ones", () => {
    const frame = ask(make(), `${DISCOVER} ff`, { transaction: "00000000" })!
    const sum = viewOf(frame).getUint16(40)
    // The transaction is echoed, and enters the sum: this one makes its complement zero.
    const transaction = sum.toString(16).padStart(8, "0")
    const other = ask(make(), `${DISCOVER} ff`, { transaction })!
    expect(toHex(other.subarray(46, 50))).toBe(transaction)
    expect(viewOf(other).getUint16(40)).toBe(0xffff)
    expect(isDatagramRight(other)).toBe(true)
  })

  it("echoes relay address, flags and hardware type", () => {
    const frame = ask(make(), `${DISCOVER} ff`, { relay: "0a090807", flags: "0001", hardware: "20 08" })!
    expect(toHex(frame.subarray(66, 70))).toBe("0a090807")
    expect(toHex(frame.subarray(52, 54))).toBe("0001")
    expect(toHex(frame.subarray(43, 45))).toBe("2008")
  })

  it.each([
    ["a reply", message(`${DISCOVER} ff`, { op: "02" })],
    ["a wrong magic cookie", message(`${DISCOVER} ff`, { magic: "63825364" })],
    ["a hardware address longer than its field", message(`${DISCOVER} ff`, { hardware: "01 11" })],
    ["an option beyond the end", message("35 09 01")],
    ["a message type of two bytes", message("35 02 01 01 ff")],
    ["a cut message", message("").subarray(0, 239)],
  ])("counts and does not answer %s", (_, payload) => {
    const responder = make()
    deliver(link, responder, datagram4(payload))
    expect(link.sent).toHaveLength(0)
    expect(responder.invalid).toBe(1)
  })

  it("counts and does not answer a UDP length beyond the packet", () => {
    const responder = make()
    const payload = message(`${DISCOVER} ff`)
    deliver(link, responder, datagram4(payload, payload.length + 1))
    expect([link.sent.length, responder.invalid]).toEqual([0, 1])
  })

  it("reads no options behind the UDP length", () => {
    const payload = message(`${DISCOVER} ff`)
    deliver(link, make(), datagram4(payload, 240))
    expect([...optionOf(link.sent[0]!, options.MESSAGE_TYPE)!]).toEqual([5]) // BOOTP
  })

  it("swallows all when IPv4 is off, or there is no address or no gateway", () => {
    guest.ipv4 = false
    expect(ask(make(), `${DISCOVER} ff`)).toBeUndefined()
    guest.ipv4 = true
    guest.gateway4.set(words("0.0.0.0"))
    expect(ask(make(), `${DISCOVER} ff`)).toBeUndefined()
    guest.gateway4.set(words("192.0.2.1"))
    guest.address4.fill(0)
    expect(ask(make(), `${DISCOVER} ff`)).toBeUndefined()
  })

  it("counts an answer for which there is no room", () => {
    const responder = make()
    link.full = true
    ask(responder, `${DISCOVER} ff`)
    expect(responder.noRoom).toBe(1)
  })

  it("gives a route to a gateway outside of the subnet, and the default route through it", () => {
    guest.gateway4.set(words("198.51.100.1"))
    const routes = optionOf(ask(make(), `${DISCOVER} ff`)!, options.CLASSLESS_ROUTE)!
    expect(toHex(routes)).toBe(toHex(hex("20 c6336401 00000000  00 c6336401")))
    guest.prefix4 = 0
    const frame = ask(make(), `${DISCOVER} ff`)!
    expect(optionOf(frame, options.CLASSLESS_ROUTE)).toBeUndefined()
    expect(toHex(optionOf(frame, options.SUBNET_MASK)!)).toBe("00000000")
    guest.prefix4 = 32
    expect(toHex(optionOf(ask(make(), `${DISCOVER} ff`)!, options.SUBNET_MASK)!)).toBe("ffffffff")
  })

  it("gives no MTU for MTU 0", () => {
    guest.mtu = 0
    expect(optionOf(ask(make(), `${DISCOVER} ff`)!, options.MTU)).toBeUndefined()
  })

  it("gives three IPv4 resolvers at most, none if they are not to be told", () => {
    const dns = ["192.0.2.1", "fe80::1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(words)
    expect(toHex(optionOf(ask(make({ dns }), `${DISCOVER} ff`)!, options.DNS)!)).toBe("c0000201c0000202c0000203")
    expect(optionOf(ask(make({ dns, advertiseDns: false }), `${DISCOVER} ff`)!, options.DNS)).toBeUndefined()
  })

  it("gives host name, FQDN and search list", () => {
    const config = { hostname: "vm1", fqdn: "vm1.example.org", search: ["example.org", "sub.example.org"] }
    const frame = ask(make(config), `${DISCOVER} ff`)!
    expect(String.fromCharCode(...optionOf(frame, options.HOSTNAME)!)).toBe("vm1")
    const fqdn = optionOf(frame, options.FQDN)!
    expect([...fqdn.subarray(0, 3)]).toEqual([4, 255, 255])
    expect(decodeNames(fqdn.subarray(3))).toEqual(["vm1.example.org"])
    const search = optionOf(frame, options.SEARCH)!
    expect(decodeNames(search)).toEqual(["example.org", "sub.example.org"])
    expect(search).toHaveLength(19) // 13, then 4 + 2 for the pointer
    expect(
      optionOf(ask(make({ ...config, advertiseSearch: false }), `${DISCOVER} ff`)!, options.SEARCH),
    ).toBeUndefined()
  })

  it("takes a search entry of several domains, as QEMU passes it, as several domains", () => {
    const frame = ask(make({ search: ["a.example b.example"] }), `${DISCOVER} ff`)!
    expect(decodeNames(optionOf(frame, options.SEARCH)!)).toEqual(["a.example", "b.example"])
  })

  it("splits a long search list over several options for a client that takes long messages", () => {
    const search = Array.from({ length: 40 }, (_, i) => `${"x".repeat(i % 20)}n${i}.svc${i % 7}.cluster.example`)
    const all = (frame: Uint8Array): number[] => {
      const d = viewOf(frame)
      const data: number[] = []
      let at = options.find(d, OPTIONS, frame.length, options.SEARCH)
      while (at >= 0) {
        const length = options.lengthAt(d, at)
        data.push(...frame.slice(at, at + length))
        at = options.find(d, at + length, frame.length, options.SEARCH)
      }
      return data
    }
    const long = ask(make({ search }), `${DISCOVER} 39 02 05dc ff`)!
    expect(options.lengthAt(viewOf(long), options.find(viewOf(long), OPTIONS, long.length, options.SEARCH))).toBe(255)
    expect(decodeNames(Uint8Array.from(all(long)))).toEqual(search)
    expect(options.check(viewOf(long), OPTIONS, long.length)).toBe(true)
    // What the link doesn't carry in one packet, and what is no size, gets the least.
    guest.mtu = 500
    const least = [
      `${DISCOVER} 39 02 05dc ff`,
      `${DISCOVER} 39 02 0001 ff`,
      `${DISCOVER} 39 01 05 ff`,
      `${DISCOVER} ff`,
    ]
    for (const request of least) {
      const frame = ask(make({ search }), request)!
      const names = decodeNames(Uint8Array.from(all(frame)))
      expect(names).toEqual(search.slice(0, names.length))
      expect(names.length).toBeGreaterThan(5)
      expect(frame.length - 42).toBeLessThanOrEqual(548)
    }
    guest.mtu = 700
    expect(ask(make({ search }), `${DISCOVER} 39 02 05dc ff`)!.length).toBeLessThanOrEqual(14 + 700)
  })

  it("leaves out the last search domains and the FQDN before anything else when there is no room", () => {
    guest.gateway4.set(words("198.51.100.1"))
    const long = (first: string): string => `${first}.${Array(3).fill("x".repeat(40)).join(".")}`
    const frame = ask(
      make({
        dns: ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(words),
        hostname: "h".repeat(60),
        search: [long("a"), "b.example", "c".repeat(50)],
        fqdn: long("vm"),
      }),
      `${DISCOVER} 50 00 ff`,
    )!
    expect(decodeNames(optionOf(frame, options.SEARCH)!)).toEqual([long("a"), "b.example"])
    expect(optionOf(frame, options.FQDN)).toBeUndefined()
    expect(optionOf(frame, options.HOSTNAME)).toHaveLength(60)
    expect(frame.length - 42).toBeLessThanOrEqual(548)
  })

  it("never passes the option area, and always gives address, lease and routes", () => {
    const name = fc
      .array(fc.stringMatching(/^[a-z]{1,63}$/), { minLength: 1, maxLength: 4 })
      .map((all) => all.join("."))
    const configs = fc.record({
      hostname: fc.string({ maxLength: 300 }),
      fqdn: fc.oneof(name, fc.string()),
      search: fc.array(name, { maxLength: 8 }),
      isFar: fc.boolean(),
      mtu: fc.nat(65_535),
    })
    fc.assert(
      fc.property(configs, ({ isFar, mtu, ...config }) => {
        guest.mtu = mtu
        guest.gateway4.set(words(isFar ? "198.51.100.1" : "192.0.2.1"))
        const frame = ask(make({ ...config, dns: Array(3).fill(words("192.0.2.53")) }), `${DISCOVER} 50 00 ff`)!
        expect(options.check(viewOf(frame), OPTIONS, frame.length)).toBe(true)
        expect(frame.length - OPTIONS).toBeLessThanOrEqual(308)
        expect(frame.length - 42).toBeGreaterThanOrEqual(300)
        expect(isDatagramRight(frame)).toBe(true)
        expect(optionOf(frame, options.LEASE_TIME)).toHaveLength(4)
        expect(optionOf(frame, options.CLASSLESS_ROUTE)?.length).toBe(isFar ? 14 : undefined)
      }),
    )
  })

  it("survives random bytes, also behind a right header", () => {
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 400 }),
      fc.uint8Array({ maxLength: 100 }).map((tail) => Uint8Array.of(...message(""), ...tail)),
    )
    const responder = make({ hostname: "vm1", search: ["example.org"] })
    fc.assert(
      fc.property(payload, fc.integer({ min: -8, max: 600 }), (bytes, claimed) => {
        link.sent = []
        deliver(link, responder, datagram4(bytes, claimed))
        return link.sent.length <= 1 && link.sent.every(isDatagramRight)
      }),
    )
  })

  it("tells what was updated, with a lease that makes clients ask again", () => {
    const responder = make({ dns: [words("192.0.2.53")], search: ["example.org"] })
    const lease = (): string => toHex(optionOf(ask(responder, `${DISCOVER} ff`)!, options.LEASE_TIME)!)
    expect(lease()).toBe("ffffffff")
    responder.update({ dns: [words("198.51.100.53")], search: [], renewSeconds: 1800 })
    expect(lease()).toBe("00000e10")
    const frame = ask(responder, `${DISCOVER} ff`)!
    expect(toHex(optionOf(frame, options.DNS)!)).toBe("c6336435")
    expect(optionOf(frame, options.SEARCH)).toBeUndefined()
  })
})
