import { GuestState } from "@passt/core"
import fc from "fast-check"
import { beforeEach, describe, expect, it } from "vitest"
import { hex, toHex, viewOf, words } from "../../../core/src/test-support/bytes.ts"
import { GUEST6, GUEST_MAC, OUR_MAC, setUpGuest } from "../../../core/src/test-support/guest.ts"
import { GUEST_LINK_LOCAL, datagram6, decodeNames, deliver, isDatagramRight } from "../test-support/frames.ts"
import { MemoryLink } from "../../../core/src/test-support/memory-link.ts"
import * as options from "./options.ts"
import { Dhcpv6Responder } from "./responder.ts"
import type { Dhcpv6Config } from "./responder.ts"
import * as wire from "./wire.ts"

const link = new MemoryLink()
let guest: GuestState
let lines: string[]

const CLIENT_DUID = `0003 0001 ${GUEST_MAC}`
const SERVER_DUID = `0001 0001 2f000000 ${OUR_MAC}`
const CLIENT = `0001 000a ${CLIENT_DUID}`
const SERVER = `0002 000e ${SERVER_DUID}`
const OTHER_SERVER = `0002 000e 0001 0001 2f000001 ${OUR_MAC}`
const IA = "0003 000c 00000007 00000e10 00001518"
const OURS = "2001 0db8 0001 0002 5054 00ff fe12 3456"
const FOREIGN = "2001 0db8 0001 0002 0000 0000 0000 0099"
/** Where the options begin in a frame. */
const OPTIONS = 62 + 4

beforeEach(() => {
  link.sent = []
  link.full = false
  lines = []
  guest = new GuestState()
  setUpGuest(guest)
})

function iaWith(addressHex: string): string {
  return `0003 0028 00000007 00000e10 00001518 0005 0018 ${addressHex} 00000000 00000000`
}

function iaTaWith(addressHex: string): string {
  return `0004 0020 00000008 0005 0018 ${addressHex} 00000000 00000000`
}

function make(config: Partial<Dhcpv6Config> = {}): Dhcpv6Responder {
  return new Dhcpv6Responder(link, guest, {
    duidTime: 0x2f000000,
    dns: [],
    search: [],
    advertiseDns: true,
    advertiseSearch: true,
    info: (line) => lines.push(line),
    ...config,
  })
}

/** Sends a message: type, transaction abcdef, options in hex. @returns the answer, checked for lengths and checksum. */
function ask(responder: Dhcpv6Responder, type: number, optionsHex: string): Uint8Array | undefined {
  link.sent = []
  deliver(link, responder, datagram6(Uint8Array.of(type, 0xab, 0xcd, 0xef, ...hex(optionsHex))))
  const frame = link.sent[0]
  if (!frame) return undefined
  expect(isDatagramRight(frame)).toBe(true)
  expect(options.check(viewOf(frame), OPTIONS, frame.length)).toBe(true)
  expect(toHex(frame.subarray(63, 66))).toBe("abcdef")
  return frame
}

/** Data of an option in an answer, or within the association at `from`. */
function optionOf(frame: Uint8Array, code: number): Uint8Array | undefined {
  const d = viewOf(frame)
  const at = options.find(d, OPTIONS, frame.length, code)
  return at < 0 ? undefined : frame.slice(at + 4, options.after(d, at))
}

/** Status within an association's data, whose options begin at `inner`. */
function statusWithin(association: Uint8Array, inner: number): number {
  const d = viewOf(association)
  expect(options.codeAt(d, inner)).toBe(options.STATUS)
  return d.getUint16(inner + 4)
}

describe("Dhcpv6Responder", () => {
  it("advertises the address to a SOLICIT", () => {
    const config = {
      dns: [words("2001:db8::53"), words("192.0.2.53")],
      search: ["example.org"],
      fqdn: "vm1.example.org",
    }
    const frame = ask(make(config), wire.SOLICIT, `${CLIENT} ${IA} 0008 0002 0000`)!
    const expected = hex(`
      ${GUEST_MAC} ${OUR_MAC} 86dd
      600bcdef 0093 11 ff                         // flow label: of the transaction; hop limit 255
      fe80 0000 0000 0000 0000 0000 0000 0001     // from our link-local address
      fe80 0000 0000 0000 5054 00ff fe12 3456     // to the client's
      0223 0222 0093 fb9d                         // ports 547 to 546
      02 abcdef                                   // advertise
      0002 000e ${SERVER_DUID}                    // server: DUID-LLT of our MAC address
      0001 000a ${CLIENT_DUID}                    // client, as it was
      0003 0028 00000007 ffffffff ffffffff        // the client's association, T1, T2
        0005 0018 ${OURS} ffffffff ffffffff       // address, lifetimes
      0017 0010 2001 0db8 0000 0000 0000 0000 0000 0053
      0018 000d 07 65 78 61 6d 70 6c 65 03 6f 72 67 00
      0027 0012 00 03 76 6d 31 07 65 78 61 6d 70 6c 65 03 6f 72 67 00
    `)
    expect(toHex(frame)).toBe(toHex(expected))
    expect(lines).toEqual([`DHCPv6: advertise to solicit from ${GUEST_LINK_LOCAL}`])
  })

  // RFC 8200 section 8.1: zero is forbidden over IPv6.
  it("sends a UDP checksum that computes to zero as ones", () => {
    const identifier = (value: number): string => `0003 000c ${value.toString(16).padStart(8, "0")} 00000e10 00001518`
    const frame = ask(make(), wire.SOLICIT, `${CLIENT} ${identifier(0)}`)!
    const sum = viewOf(frame).getUint16(60)
    // The association's identifier is echoed, and enters the sum: this one makes its complement zero.
    const other = ask(make(), wire.SOLICIT, `${CLIENT} ${identifier(sum)}`)!
    expect(toHex(optionOf(other, options.IA_NA)!.subarray(0, 4))).toBe(sum.toString(16).padStart(8, "0"))
    expect(viewOf(other).getUint16(60)).toBe(0xffff)
  })

  it("replies to a SOLICIT with Rapid Commit at once", () => {
    const frame = ask(make(), wire.SOLICIT, `${CLIENT} ${IA} 000e 0000`)!
    expect(frame[62]).toBe(wire.REPLY)
    expect(optionOf(frame, options.RAPID_COMMIT)).toHaveLength(0)
    expect(optionOf(frame, options.IA_NA)).toHaveLength(40)
  })

  it("advertises our address whatever the client hints at", () => {
    const frame = ask(make(), wire.SOLICIT, `${CLIENT} ${iaWith(FOREIGN)}`)!
    expect(toHex(optionOf(frame, options.IA_NA)!.subarray(16, 32))).toBe(toHex(hex(OURS)))
  })

  it.each([
    ["REQUEST", wire.REQUEST],
    ["RENEW", wire.RENEW],
  ])("replies to a %s that names us, for our address or none, and notes that the guest has it", (_, type) => {
    for (const association of [IA, iaWith(OURS)]) {
      guest.seen6.fill(0)
      const frame = ask(make(), type, `${CLIENT} ${SERVER} ${association}`)!
      expect(frame[62]).toBe(wire.REPLY)
      expect(toHex(optionOf(frame, options.IA_NA)!.subarray(16, 32))).toBe(toHex(hex(OURS)))
      expect([...guest.seen6]).toEqual([...words(GUEST6)])
    }
  })

  it("replies to a REBIND that names no server, as RFC 8415 section 18.2.5 has it", () => {
    const frame = ask(make(), wire.REBIND, `${CLIENT} ${iaWith(OURS)}`)!
    expect(frame[62]).toBe(wire.REPLY)
    expect(toHex(optionOf(frame, options.IA_NA)!.subarray(16, 32))).toBe(toHex(hex(OURS)))
  })

  it.each([
    ["REQUEST", wire.REQUEST, SERVER],
    ["RENEW", wire.RENEW, SERVER],
    ["REBIND", wire.REBIND, ""],
  ])("says NotOnLink to a %s for another address", (_, type, server) => {
    const frame = ask(make({ search: ["example.org"] }), type, `${CLIENT} ${server} ${iaWith(FOREIGN)}`)!
    expect(frame[62]).toBe(wire.REPLY)
    const association = optionOf(frame, options.IA_NA)!
    expect(viewOf(association).getInt32(0)).toBe(7)
    expect(statusWithin(association, options.IA_NA_OPTIONS)).toBe(options.STATUS_NOT_ON_LINK)
    expect(optionOf(frame, options.SEARCH)).toBeUndefined()
  })

  it("says NotOnLink for another address among temporary ones, too", () => {
    const frame = ask(make(), wire.REQUEST, `${CLIENT} ${SERVER} ${iaWith(OURS)} ${iaTaWith(FOREIGN)}`)!
    const temporary = optionOf(frame, options.IA_TA)!
    expect(viewOf(temporary).getInt32(0)).toBe(8)
    expect(statusWithin(temporary, options.IA_TA_OPTIONS)).toBe(options.STATUS_NOT_ON_LINK)
  })

  it("confirms our address and denies others", () => {
    const status = (frame: Uint8Array): number => viewOf(optionOf(frame, options.STATUS)!).getUint16(0)
    expect(status(ask(make(), wire.CONFIRM, `${CLIENT} ${iaWith(OURS)}`)!)).toBe(options.STATUS_SUCCESS)
    expect(status(ask(make(), wire.CONFIRM, `${CLIENT} ${iaWith(FOREIGN)}`)!)).toBe(options.STATUS_NOT_ON_LINK)
    expect(status(ask(make(), wire.CONFIRM, `${CLIENT} ${iaTaWith(FOREIGN)}`)!)).toBe(options.STATUS_NOT_ON_LINK)
  })

  it("does not answer a CONFIRM without addresses", () => {
    expect(ask(make(), wire.CONFIRM, `${CLIENT} ${IA}`)).toBeUndefined()
  })

  it.each([
    ["RELEASE", wire.RELEASE],
    ["DECLINE", wire.DECLINE],
  ])("answers %s with Success", (_, type) => {
    const frame = ask(make(), type, `${CLIENT} ${SERVER} ${iaWith(OURS)}`)!
    expect(frame[62]).toBe(wire.REPLY)
    expect(viewOf(optionOf(frame, options.STATUS)!).getUint16(0)).toBe(options.STATUS_SUCCESS)
    expect(optionOf(frame, options.IA_NA)).toBeUndefined()
  })

  it("gives information without association, to anonymous clients as well", () => {
    for (const text of [CLIENT, "", `${CLIENT} ${SERVER}`]) {
      const frame = ask(make({ dns: [words("2001:db8::53")] }), wire.INFORMATION_REQUEST, text)!
      expect(frame[62]).toBe(wire.REPLY)
      expect(optionOf(frame, options.DNS)).toHaveLength(16)
      expect(optionOf(frame, options.IA_NA)).toBeUndefined()
      expect(optionOf(frame, options.CLIENT_ID)?.length).toBe(text === "" ? undefined : 10)
    }
  })

  it("gives one address: to the first association; others are refused", () => {
    const second = "0003 000c 00000009 00000000 00000000"
    const frame = ask(make(), wire.SOLICIT, `${CLIENT} 0004 0004 00000008 ${IA} ${second}`)!
    const d = viewOf(frame)
    const found: string[] = []
    for (let at = OPTIONS; at < frame.length; at = options.after(d, at)) {
      const code = options.codeAt(d, at)
      const inner = options.innerOptions(code)
      if (inner > 0) found.push(`${code} ${d.getInt32(at + 4)} ${options.codeAt(d, at + inner)}`)
    }
    expect(found).toEqual(["4 8 13", "3 7 5", "3 9 13"])
    expect(statusWithin(optionOf(frame, options.IA_TA)!, options.IA_TA_OPTIONS)).toBe(options.STATUS_NO_ADDRESSES)
  })

  it("does not overrun with very many associations", () => {
    const frame = ask(make(), wire.SOLICIT, `${CLIENT} ${Array(60).fill(IA).join(" ")}`)!
    expect(frame.length).toBeLessThanOrEqual(1280 + 14)
  })

  it.each([
    ["a SOLICIT that names a server", wire.SOLICIT, `${CLIENT} ${SERVER} ${IA}`, 1],
    ["a SOLICIT without client identifier", wire.SOLICIT, IA, 1],
    ["an empty client identifier", wire.SOLICIT, `0001 0000 ${IA}`, 1],
    ["a client identifier of 131 bytes", wire.SOLICIT, `0001 0083 ${"00".repeat(131)} ${IA}`, 1],
    ["a REQUEST that names no server", wire.REQUEST, `${CLIENT} ${IA}`, 1],
    ["a REQUEST to another server", wire.REQUEST, `${CLIENT} ${OTHER_SERVER} ${IA}`, 0],
    ["a RENEW to another server", wire.RENEW, `${CLIENT} ${OTHER_SERVER} ${IA}`, 0],
    ["a RELEASE to a server with a shorter name", wire.RELEASE, `${CLIENT} 0002 0002 0001 ${IA}`, 0],
    ["a REBIND that names a server", wire.REBIND, `${CLIENT} ${SERVER} ${IA}`, 1],
    ["a CONFIRM that names a server", wire.CONFIRM, `${CLIENT} ${SERVER} ${iaWith(OURS)}`, 1],
    ["an INFORMATION-REQUEST with association", wire.INFORMATION_REQUEST, `${CLIENT} ${IA}`, 1],
    ["an INFORMATION-REQUEST to another server", wire.INFORMATION_REQUEST, `${CLIENT} ${OTHER_SERVER}`, 0],
    ["an ADVERTISE", wire.ADVERTISE, `${CLIENT} ${SERVER}`, 0],
    ["a REPLY", wire.REPLY, `${CLIENT} ${SERVER}`, 0],
    ["a relayed message", 12, `${CLIENT}`, 0],
    ["options that end too early", wire.SOLICIT, `${CLIENT} 0003 000c 0000`, 1],
  ])("does not answer %s", (_, type, text, invalid) => {
    const responder = make()
    expect(ask(responder, type, text)).toBeUndefined()
    expect(responder.invalid).toBe(invalid)
  })

  it("does not answer a unicast message, nor one without a unicast source", () => {
    const solicit = Uint8Array.of(wire.SOLICIT, 0, 0, 1, ...hex(`${CLIENT} ${IA}`))
    const responder = make()
    deliver(link, responder, datagram6(solicit, GUEST_LINK_LOCAL, "fe80::1"))
    deliver(link, responder, datagram6(solicit, "::"))
    deliver(link, responder, datagram6(solicit, "ff02::1"))
    expect(link.sent).toHaveLength(0)
    expect(responder.invalid).toBe(2)
  })

  it("swallows all when IPv6 is off or there is no global address to give", () => {
    guest.address6.set(words(GUEST_LINK_LOCAL))
    expect(ask(make(), wire.SOLICIT, `${CLIENT} ${IA}`)).toBeUndefined()
    guest.address6.fill(0)
    expect(ask(make(), wire.SOLICIT, `${CLIENT} ${IA}`)).toBeUndefined()
    guest.address6.set(words(GUEST6))
    guest.ipv6 = false
    expect(ask(make(), wire.SOLICIT, `${CLIENT} ${IA}`)).toBeUndefined()
  })

  it("counts an answer for which there is no room", () => {
    const responder = make()
    link.full = true
    ask(responder, wire.SOLICIT, `${CLIENT} ${IA}`)
    expect(responder.noRoom).toBe(1)
  })

  it("tells a client that wanted its name entered that it was not", () => {
    const responder = make({ fqdn: "vm1.example.org" })
    const flags = (text: string): number => optionOf(ask(responder, wire.SOLICIT, `${CLIENT} ${IA} ${text}`)!, 39)![0]!
    expect(flags("0027 0002 01 00")).toBe(2)
    expect(flags("0027 0002 00 00")).toBe(0)
    expect(flags("0027 0000")).toBe(0)
    expect(flags("")).toBe(0)
  })

  it("does not tell resolvers and search list when these are off", () => {
    const config = {
      dns: [words("2001:db8::53")],
      search: ["example.org"],
      advertiseDns: false,
      advertiseSearch: false,
    }
    const frame = ask(make(config), wire.SOLICIT, `${CLIENT} ${IA}`)!
    expect(optionOf(frame, options.DNS)).toBeUndefined()
    expect(optionOf(frame, options.SEARCH)).toBeUndefined()
  })

  it("takes a search entry of several domains, as QEMU passes it, as several domains", () => {
    const frame = ask(make({ search: ["a.example b.example"] }), wire.SOLICIT, `${CLIENT} ${IA}`)!
    expect(decodeNames(optionOf(frame, options.SEARCH)!)).toEqual(["a.example", "b.example"])
  })

  it("stays within 1280 bytes, leaving out the last search domains, then the FQDN", () => {
    const long = (first: string): string => `${first}.${Array(4).fill("x".repeat(58)).join(".")}`
    const search = ["a", "b", "c", "d", "e", "f"].map(long)
    const responder = make({ search, fqdn: long("vm"), dns: Array(3).fill(words("2001:db8::53")) })
    const frame = ask(responder, wire.SOLICIT, `0001 0082 ${"11".repeat(130)} ${IA}`)!
    expect(frame.length).toBeLessThanOrEqual(1280 + 14)
    expect(decodeNames(optionOf(frame, options.SEARCH)!)).toEqual(search.slice(0, 4))
    expect(optionOf(frame, options.DNS)).toHaveLength(48)
    expect(optionOf(frame, options.FQDN)).toBeUndefined()
  })

  it("survives random bytes, also behind a right beginning", () => {
    const random = fc.uint8Array({ maxLength: 200 })
    const type = fc.integer({ min: 0, max: 13 })
    const starts = fc.constantFrom("", CLIENT, `${CLIENT} ${SERVER}`, `${CLIENT} ${IA}`)
    const responder = make({ search: ["example.org"], fqdn: "vm1.example.org" })
    fc.assert(
      fc.property(type, starts, random, fc.boolean(), (first, start, tail, isBare) => {
        const payload = isBare ? tail : Uint8Array.of(first, 1, 2, 3, ...hex(start), ...tail)
        link.sent = []
        deliver(link, responder, datagram6(payload))
        return link.sent.length <= 1 && link.sent.every(isDatagramRight)
      }),
    )
  })

  it("gives a client that renews another address the one that holds now, and ends the former", () => {
    const responder = make({ renewSeconds: 1800 })
    for (const [type, server] of [
      [wire.RENEW, SERVER],
      [wire.REBIND, ""],
    ] as const) {
      const frame = ask(responder, type, `${CLIENT} ${server} ${iaWith(FOREIGN)}`)!
      expect(toHex(optionOf(frame, options.IA_NA)!.subarray(4))).toBe(
        toHex(
          hex(`00000708 00000b40
          0005 0018 ${OURS} ffffffff ffffffff
          0005 0018 ${FOREIGN} 00000000 00000000`),
        ),
      )
    }
    // Whoever wants one for the first time has to take what there is.
    const refused = ask(responder, wire.REQUEST, `${CLIENT} ${SERVER} ${iaWith(FOREIGN)}`)!
    expect(statusWithin(optionOf(refused, options.IA_NA)!, 12)).toBe(options.STATUS_NOT_ON_LINK)
  })

  it("tells what was updated", () => {
    const responder = make({ dns: [words("2001:db8::53")] })
    responder.update({ dns: [words("2001:db8::54")], search: ["example.net"] })
    const frame = ask(responder, wire.SOLICIT, `${CLIENT} ${IA}`)!
    expect(optionOf(frame, options.DNS)!.at(-1)).toBe(0x54)
    expect(decodeNames(optionOf(frame, options.SEARCH)!)).toEqual(["example.net"])
  })
})
