/** What the guest is told to have arrived, and how much it may send: both mirror the host's connection. */
import { describe, expect, test } from "vitest"

import { EINVAL } from "../errno.ts"
import { emptyTranslation } from "../forward/translate.ts"
import { words } from "../sim/config.ts"
import { type DialogueOptions, TcpDialogue } from "../sim/tcp-dialogue.ts"

const MSS = 1460

/** A connection to a peer that is 20 ms away. @param rate bytes per second that it delivers, as far as the kernel knows */
function far(rate: number, options: DialogueOptions = {}): TcpDialogue {
  const d = new TcpDialogue({
    ...options,
    peer: { rtt: 20_000, rate, sendBuffer: 1 << 20, window: 1 << 20, ...options.peer },
  })
  d.connect({ mss: MSS, scale: 7 })
  return d
}

/** The right edge of the window that the guest heard of last. */
function edge(d: TcpDialogue): number {
  const last = d.heard().at(-1)!
  return last.ack + last.window
}

describe("acknowledgements", () => {
  test("a peer that is not local acknowledges itself: the guest hears what it has, and no more", () => {
    const d = far(1000)
    d.say("A", { length: 1000 })
    expect(d.socket.written).toBe(1000)
    expect(d.heard().every((h) => h.ack === 1)).toBe(true)
    d.socket.acknowledge(600)
    d.pass(50)
    expect(d.heard().at(-1)!.ack).toBe(601)
    d.socket.acknowledge()
    d.pass(50)
    expect(d.heard().at(-1)!.ack).toBe(1001)
  })

  test("so does one whose connection was accepted: the kernel counts no SYN there", () => {
    const d = new TcpDialogue({ peer: { rate: 1000 } })
    d.accept({ mss: MSS, scale: 7 })
    d.say("A", { length: 1000 })
    d.socket.acknowledge(600)
    d.pass(50)
    expect(d.heard().at(-1)!.ack).toBe(601)
  })

  test("while it does not, the guest gets none, however long that takes", () => {
    const d = far(1000)
    d.say("A", { length: 1000 })
    d.pass(60_000)
    expect(d.heard().filter((h) => h.ack !== 1)).toEqual([])
    d.socket.acknowledge()
    d.pass(1100)
    expect(d.heard().at(-1)!.ack).toBe(1001)
  })

  for (const [name, options] of [
    ["a bulk transfer", { peer: { rate: 100_000_000 } }],
    ["a kernel that does not tell the rate", { peer: { rate: -1 } }],
    ["a peer that is near", { peer: { rate: 1000, rtt: 400 } }],
  ] as const) {
    test(`${name}: what the socket took is acknowledged at once`, () => {
      const d = far(0, options)
      d.say("A", { length: 1000 })
      expect(d.heard().map((h) => h.ack)).toEqual([1001])
    })
  }

  test("a peer on the host itself as well, whatever its round-trip time", () => {
    const translation = { ...emptyTranslation(), mapHostLoopback4: words("192.0.2.1") }
    const d = far(1000, { translation, far: "192.0.2.1" })
    d.say("A", { length: 1000 })
    expect(d.heard().map((h) => h.ack)).toEqual([1001])
  })

  test("a kernel that tells nothing: what the socket took", () => {
    const d = far(1000)
    d.kernel.fault = (call) => (call === "tcpInfo" ? EINVAL : 0)
    d.say("A", { length: 1000 })
    expect(d.heard().map((h) => h.ack)).toEqual([1001])
  })

  test("what was acknowledged stays so when the transfer is no longer a bulk one", () => {
    const d = far(100_000_000)
    d.say("A", { length: 1000 })
    expect(d.heard().map((h) => h.ack)).toEqual([1001])
    d.socket.rate = 1000
    d.say("A", { length: 1000 })
    d.pass(100)
    for (const h of d.heard()) expect(h.ack).toBe(1001)
    d.socket.acknowledge()
    d.pass(100)
    expect(d.heard().at(-1)!.ack).toBe(2001)
  })

  test("the end is acknowledged with all before it, once it was passed on", () => {
    const d = far(1000)
    d.say("A", { length: 1000 })
    d.heard()
    d.say("FA")
    expect(d.heard().map((h) => h.ack)).toEqual([1002])
  })

  test("one for each batch, though two are read in one go", () => {
    const d = far(-1)
    for (let i = 0; i < 300; i++) d.put("A", { length: 100 })
    d.settle()
    expect(d.heard().map((h) => h.ack)).toEqual([25_601, 30_001])
  })
})

describe("windows", () => {
  test("begin with what fits the field, then follow the free part of the send buffer", () => {
    const d = far(-1, { peer: { sendBuffer: 200_000 } })
    for (let i = 0; i < 40; i++) d.put("A", { length: 1000 })
    d.settle()
    // 40,000 bytes take 45,000 of memory; an eighth of the rest is overhead.
    const free = 200_000 - 45_000
    const exact = 40_001 + free - (free >> 3)
    const found = edge(d)
    expect(found).toBeGreaterThanOrEqual(exact)
    // Rounded up to the unit of the scale.
    expect(found).toBeLessThan(exact + 256)
    expect(d.socket.memory).toBe(45_000)
  })

  test("a send buffer that fills up closes them, and they open as it drains", () => {
    const d = far(-1, { peer: { sendBuffer: 50_000 } })
    let sent = 0
    for (let i = 0; i < 100 && d.engine.tcp.hold.used === 0; i++) {
      d.say("A", { length: 1000 })
      sent += 1000
      const last = d.heard().at(-1)
      if (last !== undefined && last.window < 1000) break
    }
    expect(sent).toBeGreaterThan(40_000)
    d.pass(500)
    d.heard()
    d.socket.acknowledge()
    d.pass(1100)
    const last = d.heard().at(-1)!
    expect(last.ack).toBe(sent + 1)
    expect(last.window).toBeGreaterThan(40_000)
  })

  test("a peer that does not read closes them; a look a second at least finds out when it reads again", () => {
    const d = far(-1)
    d.say("A", { length: 1000 })
    d.heard()
    d.socket.window = 0
    let seq = 1001
    // The guest uses up what it was offered.
    while (seq < 70_000) {
      d.say("A", { length: 1000 })
      seq += 1000
    }
    d.heard()
    d.pass(600_000)
    const shut = d.heard().filter((h) => h.seq === 1 && h.flags === "A")
    for (const h of shut) expect(h.window).toBe(shut[0]!.window)
    d.socket.window = 1 << 20
    d.socket.acknowledge()
    d.pass(1100)
    expect(d.heard().at(-1)!.window).toBeGreaterThan(500_000)
  })

  test("never move back, though the peer's does", () => {
    const d = far(-1)
    d.say("A", { length: 1000 })
    const before = edge(d)
    d.socket.window = 3000
    for (let i = 0; i < 30; i++) {
      d.say("A", { length: 1000 })
      for (const h of d.heard()) expect(h.ack + h.window).toBeGreaterThanOrEqual(before)
    }
  })

  test("small steps are not told (RFC 9293 section 3.8.6.2.2)", () => {
    const d = far(-1, { peer: { window: 300_000, sendBuffer: 4 << 20 } })
    d.say("A", { length: 1000 })
    const before = edge(d)
    d.socket.window += 100
    d.say("A", { seq: 0, length: 1 })
    expect(edge(d)).toBe(before)
    d.socket.window += 20_000
    d.say("A", { seq: 0, length: 1 })
    d.pass(50)
    d.say("A", { length: 100_000 % 1400 })
    expect(edge(d)).toBeGreaterThan(before + 10_000)
  })

  test("hold 500 segments at most, and what the link bears", () => {
    const wide = { peer: { window: 16 << 20, sendBuffer: 64 << 20 } }
    const d = far(-1, wide)
    d.say("A", { length: 1000 })
    d.say("A", { length: 1000 })
    expect(d.heard().at(-1)!.window).toBeLessThanOrEqual(500 * MSS + 256)
    const narrow = far(-1, { ...wide, windowMax: 100_000 })
    narrow.say("A", { length: 1000 })
    narrow.say("A", { length: 1000 })
    expect(narrow.heard().at(-1)!.window).toBeLessThanOrEqual(100_000 + 256)
  })
})
