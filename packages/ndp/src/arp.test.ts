import { GuestState } from "@passt/core"
import fc from "fast-check"
import { beforeEach, describe, expect, it } from "vitest"
import { ArpResponder, isRequest, write } from "./arp.ts"
import { NeighbourTable } from "./neighbours.ts"
import { hex, toHex, words } from "../../core/src/test-support/bytes.ts"
import { GUEST_MAC, OUR_MAC, setUpGuest } from "../../core/src/test-support/guest.ts"
import { deliver } from "./test-support/frames.ts"
import { MemoryLink } from "../../core/src/test-support/memory-link.ts"

const link = new MemoryLink()
let guest: GuestState
let table: NeighbourTable
let arp: ArpResponder

beforeEach(() => {
  link.sent = []
  link.full = false
  link.connected = true
  guest = new GuestState()
  setUpGuest(guest)
  table = new NeighbourTable(guest, 1, 2)
  arp = new ArpResponder(link, guest, table)
})

function request(fields: {
  operation?: string
  sender?: string
  target?: string
  types?: string
  mac?: string
}): Uint8Array {
  return hex(`
    ff ff ff ff ff ff ${GUEST_MAC} 0806
    ${fields.types ?? "0001 0800 06 04"} ${fields.operation ?? "0001"}
    ${fields.mac ?? GUEST_MAC} ${fields.sender ?? "c0 00 02 0f"}
    00 00 00 00 00 00 ${fields.target ?? "c0 00 02 01"}`)
}

describe("ArpResponder", () => {
  it("answers a request with our MAC address, padding ignored", () => {
    const padded = new Uint8Array(60).fill(0xee)
    padded.set(request({}))
    deliver(link, arp, padded)
    const expected = hex(`
      ${GUEST_MAC} ${OUR_MAC} 0806   // Ethernet
      0001 0800 06 04                // Ethernet, IPv4, lengths
      0002                           // reply
      ${OUR_MAC} c0 00 02 01         // sender: the address asked for
      ${GUEST_MAC} c0 00 02 0f       // target: who asked
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
  })

  it("answers for any address, also one that nobody has", () => {
    deliver(link, arp, request({ target: "08 08 08 08" }))
    expect(toHex(link.sent[0]!.subarray(28, 32))).toBe("08080808")
  })

  it("answers a probe (sender 0.0.0.0)", () => {
    deliver(link, arp, request({ sender: "00 00 00 00", target: "c0 00 02 63" }))
    expect(link.sent).toHaveLength(1)
  })

  it("answers with the hardware address of the requester, which may differ from the frame's source", () => {
    deliver(link, arp, request({ mac: "02 00 00 00 00 07" }))
    expect(toHex(link.sent[0]!.subarray(32, 38))).toBe("020000000007")
  })

  it.each([
    ["an announcement", { sender: "c0 00 02 0f", target: "c0 00 02 0f" }],
    ["a request for the guest's own address", { sender: "00 00 00 00", target: "c0 00 02 0f" }],
    ["a reply", { operation: "0002" }],
    ["another hardware type", { types: "0006 0800 06 04" }],
    ["another protocol type", { types: "0001 86dd 06 04" }],
    ["another hardware length", { types: "0001 0800 08 04" }],
    ["another protocol length", { types: "0001 0800 06 10" }],
  ])("does not answer %s", (_, fields) => {
    deliver(link, arp, request(fields))
    expect(link.sent).toHaveLength(0)
    expect(arp.ignored).toBe(1)
  })

  it("does not answer a truncated request", () => {
    deliver(link, arp, request({}).subarray(0, 41))
    expect(link.sent).toHaveLength(0)
  })

  it("does not answer when IPv4 is off", () => {
    guest.ipv4 = false
    deliver(link, arp, request({}))
    arp.attached(0)
    expect(link.sent).toHaveLength(0)
  })

  it("counts an answer for which there is no room", () => {
    link.full = true
    deliver(link, arp, request({}))
    expect(arp.noRoom).toBe(1)
  })

  it("gives a neighbour's own MAC address, and the gateway's for others; the Ethernet source stays ours", () => {
    table.update(words("192.0.2.77"), 0, hex("02 aa 00 00 00 77"))
    table.update(words("192.0.2.1"), 0, hex("02 aa 00 00 00 01"))
    deliver(link, arp, request({ target: "c0 00 02 4d" }))
    deliver(link, arp, request({ target: "c0 00 02 4e" }))
    expect(link.sent.map((frame) => toHex(frame.subarray(22, 28)))).toEqual(["02aa00000077", "02aa00000001"])
    expect(link.sent.map((frame) => toHex(frame.subarray(6, 12)))).toEqual(Array(2).fill(toHex(guest.ourMac)))
  })

  it("asks for the guest's address when a guest is attached", () => {
    guest.mac.fill(255)
    arp.attached(0)
    const expected = hex(`
      ff ff ff ff ff ff ${OUR_MAC} 0806
      0001 0800 06 04 0001
      ${OUR_MAC} c0 00 02 01
      00 00 00 00 00 00 c0 00 02 0f
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
  })

  it("asks for nothing when no address is assigned", () => {
    guest.address4.fill(0)
    arp.attached(0)
    expect(link.sent).toHaveLength(0)
  })

  it("announces a neighbour: a request from and for its address", () => {
    const row = table.update(words("192.0.2.77"), 0, hex("02 aa 00 00 00 77"))
    expect(arp.announce(row)).toBe(true)
    const expected = hex(`
      ff ff ff ff ff ff ${OUR_MAC} 0806
      0001 0800 06 04 0001
      02 aa 00 00 00 77 c0 00 02 4d
      00 00 00 00 00 00 c0 00 02 4d
    `)
    expect(link.sent.map(toHex)).toEqual([toHex(expected)])
  })

  it("never announces the guest's own address as someone else's, nor to nobody", () => {
    const own = table.update(words("192.0.2.15"), 0, hex("02 aa 00 00 00 0f"))
    expect(arp.announce(own)).toBe(false)
    link.connected = false
    const other = table.update(words("192.0.2.77"), 0, hex("02 aa 00 00 00 77"))
    expect(arp.announce(other)).toBe(false)
    expect(link.sent).toHaveLength(0)
  })

  it("survives random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (body) => {
        const frame = new Uint8Array(14 + body.length)
        frame.set(hex(`${OUR_MAC} ${GUEST_MAC} 0806`))
        frame.set(body, 14)
        link.sent = []
        deliver(link, arp, frame)
        return link.sent.length <= 1
      }),
    )
  })

  it("reads back as a request what it wrote as one, but not with less bytes", () => {
    const mac = fc.uint8Array({ minLength: 6, maxLength: 6 })
    fc.assert(
      fc.property(mac, fc.integer(), mac, fc.integer(), fc.nat(27), (sender, from, target, to, short) => {
        const d = new DataView(new ArrayBuffer(28))
        write(d, 0, 1, sender, 0, from, target, 0, to)
        expect(isRequest(d, 0, 28)).toBe(true)
        expect(isRequest(new DataView(d.buffer, 0, short), 0, short)).toBe(false)
        expect([d.getInt32(14), d.getInt32(24)]).toEqual([from, to])
      }),
    )
  })
})
