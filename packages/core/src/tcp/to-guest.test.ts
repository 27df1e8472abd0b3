/** Data for the guest: segments and windows, losses and timers, silence. */
import { describe, expect, test } from "vitest"

import { EINVAL, ENOBUFS } from "../errno.ts"
import { SEQ_TO_GUEST } from "./state.ts"
import { type DialogueOptions, TcpDialogue } from "../sim/tcp-dialogue.ts"

for (const peekOffset of [true, false]) {
  describe(`${peekOffset ? "with" : "without"} SO_PEEK_OFF`, () => {
    function begin(options: DialogueOptions = {}, mss = 1000): TcpDialogue {
      const d = new TcpDialogue({ peekOffset, ...options })
      d.connect({ mss })
      return d
    }

    test("data is cut at the guest's segment size, and gone from the socket when it is acknowledged", () => {
      const d = begin()
      d.arriveData(2500)
      expect(d.lines()).toEqual(["A seq 1 ack 1 len 1000", "A seq 1001 ack 1 len 1000", "PA seq 2001 ack 1 len 500"])
      expect(d.socket.consumed).toBe(0)
      d.say("A", { ack: 1501 })
      expect(d.socket.consumed).toBe(1500)
      d.say("A", { ack: 2501 })
      expect(d.socket.consumed).toBe(2500)
      d.pass(5000)
      expect(d.heard()).toEqual([])
    })

    test("no more than the guest's window, and no slivers while something is in flight", () => {
      const d = begin()
      d.window = 2500
      d.say("A")
      d.arriveData(10_000)
      expect(d.heard().map((h) => h.length)).toEqual([1000, 1000])
      // RFC 9293 section 3.8.6.2.1: 500 are open, but less than a segment.
      d.say("A", { ack: 1001, window: 1500 })
      expect(d.heard()).toEqual([])
      d.say("A", { ack: 2001, window: 2500 })
      expect(d.heard().map((h) => [h.seq, h.length])).toEqual([
        [2001, 1000],
        [3001, 1000],
      ])
    })

    test("a window that is smaller than a segment is filled when nothing is in flight", () => {
      const d = begin()
      d.window = 300
      d.say("A")
      d.arriveData(1000)
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 300"])
      d.ack = 301
      d.say("A")
      expect(d.lines()).toEqual(["PA seq 301 ack 1 len 300"])
    })

    test("three duplicate acknowledgements: the missing segment, once, and then on", () => {
      const d = begin()
      d.arriveData(8000)
      d.heard()
      d.say("A")
      d.say("A")
      expect(d.heard()).toEqual([])
      d.say("A")
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1000"])
      // Further ones tell nothing new.
      for (let i = 0; i < 4; i++) d.say("A")
      expect(d.heard()).toEqual([])
      d.say("A", { ack: 8001 })
      d.arriveData(500)
      expect(d.lines()).toEqual(["PA seq 8001 ack 1 len 500"])
      expect(d.counter("tcpFastRetransmits")).toBe(1)
    })

    test("a partial acknowledgement tells of the next hole (RFC 6582)", () => {
      const d = begin()
      d.arriveData(8000)
      d.heard()
      for (let i = 0; i < 3; i++) d.put("A")
      d.settle()
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1000"])
      d.say("A", { ack: 3001 })
      expect(d.lines()).toEqual(["PA seq 3001 ack 1 len 1000"])
      d.say("A", { ack: 8001 })
      d.pass(3000)
      expect(d.heard()).toEqual([])
    })

    test("with few segments in flight one duplicate is enough (RFC 5827)", () => {
      const d = begin()
      d.arriveData(3000)
      d.heard()
      d.say("A")
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1000"])
    })

    test("an acknowledgement that moves the window, or brings data, is no duplicate", () => {
      const d = begin()
      d.arriveData(3000)
      d.heard()
      d.say("A", { window: 60_000 })
      d.window = 60_000
      d.say("A", { length: 10 })
      expect(d.heard().filter((h) => h.length > 0)).toEqual([])
    })

    test("a lone FIN is left to the timer", () => {
      const d = begin()
      d.socket.finish()
      d.settle()
      d.heard()
      for (let i = 0; i < 5; i++) d.say("A")
      expect(d.heard()).toEqual([])
      d.pass(1100)
      expect(d.lines()).toEqual(["FA seq 1 ack 1"])
    })

    test("the timer: after 1 s, then twice the time each, seven times; then both sides are reset", () => {
      const d = begin()
      d.arriveData(700)
      d.pass(260_000)
      const data = d.heard().filter((h) => h.length > 0 || h.flags !== "A")
      expect(data.map((h) => [h.at / 1000, h.flags, h.seq])).toEqual([
        ...[0, 1, 3, 7, 15, 31, 63, 127].map((s) => [s, "PA", 1]),
        [247, "RA", 701],
      ])
      expect(d.socket.peerReset).toBe(true)
      expect(d.counter("tcpRetransmits")).toBe(7)
      d.checkEmpty()
    })

    test("the timer goes back to the first byte that is missing, and no further than was sent before", () => {
      const d = begin()
      d.arriveData(3000)
      d.say("A", { ack: 1001 })
      d.heard()
      d.pass(1500)
      expect(d.heard().map((h) => [h.seq, h.length])).toEqual([
        [1001, 1000],
        [2001, 1000],
      ])
    })

    test("progress begins the count of retransmissions anew", () => {
      const d = begin()
      d.arriveData(3000)
      for (let i = 0; i < 12; i++) {
        d.pass(3200)
        d.say("A", { ack: 2 + i })
      }
      expect(d.flows).toBe(1)
      const times = d.heard().filter((h) => h.length > 0)
      expect(times.length).toBeGreaterThan(12)
    })

    test("no timer is due sooner than 3 s after a handshake that took retransmissions (RFC 6298 section 5.7)", () => {
      const d = new TcpDialogue({ peekOffset, peer: { connectDelay: -1 } })
      d.say("S", { mss: 1000, scale: 0 })
      d.pass(1500)
      d.ack = 1
      d.say("A")
      d.heard()
      d.arriveData(100)
      d.pass(4000)
      const [first, second] = d.heard()
      expect(second!.at - first!.at).toBe(3000)
      d.say("A", { ack: 101 })
      d.arriveData(100)
      d.pass(1500)
      const [third, fourth] = d.heard()
      expect(fourth!.at - third!.at).toBe(1000)
    })

    test("the timeout has an upper limit (net.ipv4.tcp_rto_max_ms)", () => {
      const d = begin({ rtoMaxMs: 2000 })
      d.arriveData(100)
      d.pass(20_000)
      const data = d.heard().filter((h) => h.length > 0 || h.flags !== "A")
      expect(data.map((h) => h.at / 1000)).toEqual([0, 1, 3, 5, 7, 9, 11, 13, 15])
    })

    test("a closed window is probed with one byte, as long as the guest answers", () => {
      const d = begin()
      d.window = 0
      d.say("A")
      d.arriveData(100)
      expect(d.heard()).toEqual([])
      let probes = 0
      for (let i = 0; i < 60; i++) {
        d.pass(1000)
        for (const h of d.heard().filter((one) => one.seq > 0)) {
          expect(h).toMatchObject({ seq: 1, length: 1 })
          probes++
          d.say("A")
        }
      }
      // Not ever less often: each answer tells that the guest lives.
      expect(probes).toBeGreaterThan(25)
      d.window = 1000
      d.say("A")
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 100"])
      d.ack = 101
      d.say("A")
      expect(d.socket.consumed).toBe(100)
    })

    test("when the window opens, what a probe carried in vain goes again with the rest, at once", () => {
      const d = begin()
      d.window = 0
      d.say("A")
      d.arriveData(3000)
      d.pass(1500)
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1"])
      // The answer to the probe is lost; this tells that the guest reads again.
      d.window = 1000
      d.say("A")
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1000"])
    })

    test("a guest that does not answer probes is given up like one that loses data", () => {
      const d = begin()
      d.window = 0
      d.say("A")
      d.arriveData(100)
      d.pass(260_000)
      expect(d.heard().filter((h) => h.length === 1)).toHaveLength(7)
      expect(d.socket.peerReset).toBe(true)
      d.checkEmpty()
    })

    test("a closed window with nothing to send into it is no reason to give the guest up", () => {
      const d = begin()
      d.window = 1000
      d.say("A")
      d.arriveData(1000)
      d.window = 0
      d.ack = 1001
      d.say("A")
      d.heard()
      for (let i = 0; i < 20; i++) {
        d.pass(30_000)
        // It answers keepalives, that is all.
        if (d.heard().length > 0) d.say("A")
      }
      expect(d.flows).toBe(1)
      d.arriveData(100)
      d.window = 1000
      d.say("A")
      expect(d.lines().at(-1)).toBe("PA seq 1001 ack 1 len 100")
    })

    test("the end of the stream goes into a closed window too, and is repeated as long as the guest answers", () => {
      const d = begin()
      d.window = 0
      d.say("A")
      d.socket.finish()
      d.settle()
      let fins = 0
      for (let i = 0; i < 300; i++) {
        d.pass(1000)
        const heard = d.heard().filter((h) => h.flags.includes("F"))
        for (const h of heard) expect(h).toMatchObject({ flags: "FA", seq: 1, length: 0 })
        fins += heard.length
        if (heard.length > 0) d.say("A")
      }
      expect(fins).toBeGreaterThan(100)
      expect(d.flows).toBe(1)
      d.ack = 2
      d.say("FA")
      expect(d.open).toBe(false)
      d.checkEmpty()
    })

    test("a window that closes over data in flight means that it was thrown away: it is sent again when it opens", () => {
      const d = begin()
      d.arriveData(3000)
      d.heard()
      d.window = 0
      d.say("A", { ack: 1001 })
      expect(d.heard()).toEqual([])
      d.window = 5000
      d.say("A", { ack: 1001 })
      expect(d.heard().map((h) => [h.seq, h.length])).toEqual([
        [1001, 1000],
        [2001, 1000],
      ])
    })

    test("a guest that does not read its link is not timed", () => {
      const d = begin()
      d.link.stalled = true
      d.arriveData(100)
      d.pass(600_000)
      expect(d.flows).toBe(1)
      d.link.stalled = false
      d.settle()
      expect(d.heard()[0]).toMatchObject({ flags: "PA", seq: 1, length: 100 })
      d.say("A", { ack: 101 })
      expect(d.socket.consumed).toBe(100)
    })

    test("data waits for a link that is gone, and follows when it is there again", () => {
      const d = begin()
      d.arriveData(100)
      d.heard()
      d.link.attach(false)
      d.arriveData(100)
      d.pass(5000)
      d.link.attach(true)
      d.pass(10_000)
      const heard = d.heard()
      expect(heard[0]).toMatchObject({ seq: 1 })
      d.say("A", { ack: 201 })
      expect(d.socket.consumed).toBe(200)
    })

    test("no more is in flight than a kernel without peek offsets can pass over", () => {
      const d = new TcpDialogue({ peekOffset })
      d.connect({ mss: 60_000, scale: 14 })
      d.arriveData(40 << 20)
      for (let i = 0; i < 100; i++) d.turn(1)
      const sent = d.heard().reduce((sum, h) => sum + h.length, 0)
      expect(sent).toBeGreaterThan(15 << 20)
      expect(sent).toBeLessThanOrEqual(16 << 20)
      d.ack = 1 + sent
      d.say("A")
      for (let i = 0; i < 100; i++) d.turn(1)
      expect(d.heard().reduce((sum, h) => sum + h.length, 0)).toBeGreaterThan(15 << 20)
    })

    test("numbers that wrap", () => {
      const d = begin()
      const before = d.word(SEQ_TO_GUEST)
      for (let i = 1; i <= 40; i++) {
        d.arriveData(60_000)
        d.ack = 1 + 60_000 * i
        d.say("A")
      }
      expect((d.word(SEQ_TO_GUEST) - before) | 0).toBe(2_400_000)
      expect(d.socket.consumed).toBe(2_400_000)
    })

    test("urgent data comes in its place, and the rest behind it", () => {
      const d = begin({ peer: { urgentAt: 500 } })
      d.arriveData(900)
      const heard = d.heard()
      expect(heard.map((h) => [h.seq, h.length])).toEqual([
        [1, 500],
        [501, 400],
      ])
      d.ack = 901
      d.say("A")
      expect(d.socket.consumed).toBe(900)
    })

    test("what the kernel can't throw away counts as not acknowledged, and is acknowledged again later", () => {
      const d = begin()
      d.arriveData(2000)
      d.heard()
      d.kernel.failNext("discard", ENOBUFS)
      d.say("A", { ack: 2001 })
      expect(d.socket.consumed).toBe(0)
      d.pass(1200)
      expect(d.heard()[0]).toMatchObject({ seq: 1, length: 1000 })
      d.say("A", { ack: 2001 })
      expect(d.socket.consumed).toBe(2000)
    })
  })
}

test("a peek offset that can't be set is set again before anything is read, or both sides are reset", () => {
  const d = new TcpDialogue()
  d.connect({ mss: 1000 })
  d.arriveData(2000)
  d.heard()
  d.kernel.failNext("setPeekOffset", EINVAL)
  d.pass(1200)
  expect(d.heard().map((h) => [h.seq, h.length])).toEqual([
    [1, 1000],
    [1001, 1000],
  ])
  d.kernel.failNext("setPeekOffset", EINVAL, EINVAL)
  d.pass(2500)
  expect(d.lines()).toEqual(["RA seq 2001 ack 1"])
  d.checkEmpty()
})

test("an end that was acknowledged with data that can't be thrown away is not over", () => {
  const d = new TcpDialogue()
  d.connect({ mss: 1000 })
  d.arriveData(500)
  d.socket.finish()
  d.settle()
  d.kernel.failNext("discard", ENOBUFS)
  d.say("FA", { ack: 502 })
  expect([d.flows, d.open, d.socket.consumed]).toEqual([1, true, 0])
  d.heard()
  d.pass(1200)
  expect(d.lines()).toEqual(["PA seq 1 ack 2 len 500", "FA seq 501 ack 2"])
  d.say("A", { ack: 502 })
  expect([d.open, d.socket.consumed]).toEqual([false, 500])
  d.checkEmpty()
})

test("a FIN that the guest acknowledges before it is sent again is not sent again", () => {
  const d = new TcpDialogue()
  d.connect({ mss: 1000 })
  d.arriveData(1000)
  d.socket.finish()
  d.settle()
  // The link is busy with the answer to a stray SYN when a duplicate asks for the segment again.
  d.link.stalled = true
  d.say("S", { seq: 0 })
  expect(d.link.blocked).toBe(true)
  d.say("A")
  d.heard()
  d.put("A", { ack: 1002 })
  d.link.stalled = false
  d.settle()
  expect(d.lines()).toEqual(["A seq 1002 ack 1"])
  d.pass(5000)
  expect(d.heard()).toEqual([])
})

describe("silence of the guest", () => {
  test("it is asked every 30 s whether it still knows the connection; a reset says no", () => {
    const d = new TcpDialogue()
    d.connect()
    d.pass(200_000)
    const heard = d.heard()
    // An old number without data: whoever knows the connection acknowledges (RFC 9293 section 3.8.4).
    for (const h of heard) expect(h).toMatchObject({ flags: "A", seq: 0, ack: 1, length: 0 })
    const times = heard.map((h) => h.at)
    expect(times[0]).toBeGreaterThanOrEqual(30_000)
    expect(times[0]).toBeLessThanOrEqual(60_000)
    expect(times.slice(1).map((at, i) => at - times[i]!)).toEqual(times.slice(1).map(() => 30_000))
    expect(times.length).toBeGreaterThanOrEqual(5)
    d.say("R", { seq: 1 })
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("the number is an old one also while data is in flight", () => {
    const d = new TcpDialogue()
    d.connect({ mss: 1000 })
    d.arriveData(500)
    d.pass(70_000)
    const asked = d.heard().filter((h) => h.length === 0)
    expect(asked.length).toBeGreaterThanOrEqual(1)
    for (const h of asked) expect(h).toMatchObject({ flags: "A", seq: 0 })
  })

  test("a guest that answers is asked no sooner than 30 s later", () => {
    const d = new TcpDialogue()
    d.connect()
    for (let i = 0; i < 8; i++) {
      d.pass(20_000)
      d.say("A")
    }
    expect(d.heard()).toEqual([])
  })

  test("two hours without any traffic: both sides are reset", () => {
    const d = new TcpDialogue()
    d.connect()
    d.pass(7_190_000)
    expect(d.flows).toBe(1)
    d.heard()
    d.pass(40_000)
    expect(d.lines()).toContain("RA seq 1 ack 1")
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("a connection on which something happens lives on", () => {
    const d = new TcpDialogue()
    d.connect()
    for (let i = 0; i < 3; i++) {
      d.pass(7_000_000)
      d.say("A", { length: 1 })
    }
    expect(d.flows).toBe(1)
  })
})

test("a flow that is alone goes on in the same turn, for a mebibyte or a share more", () => {
  const d = new TcpDialogue({ peer: { sendBuffer: 8 << 20 } })
  d.connect({ mss: 1460, scale: 10 })
  d.window = 0x2000
  d.say("A")
  d.heard()
  d.socket.arrive(4 << 20)
  d.turn(0)
  const first = d.heard().reduce((bytes, h) => bytes + h.length, 0)
  expect(first).toBeGreaterThan((1 << 20) - (64 << 10))
  expect(first).toBeLessThanOrEqual(3 << 19)
  d.settle()
  expect(first + d.heard().reduce((bytes, h) => bytes + h.length, 0)).toBe(4 << 20)
})
