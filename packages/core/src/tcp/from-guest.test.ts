/** Data of the guest: order, holes, holding, what a socket does not take; and segments that are not to be believed. */
import { describe, expect, test } from "vitest"

import { EAGAIN, ECONNRESET, EPIPE, ETIMEDOUT } from "../errno.ts"
import { STATE } from "../flow/table.ts"
import { TcpDialogue } from "../sim/tcp-dialogue.ts"
import { HOLD_BLOCKS } from "./hold.ts"
import { EDGE_SENT, ESTABLISHED, SEQ_FROM_GUEST } from "./state.ts"

/** A connection whose peer is so near that everything written is acknowledged. */
function near(options: ConstructorParameters<typeof TcpDialogue>[0] = {}): TcpDialogue {
  const d = new TcpDialogue({ ...options, peer: { rtt: 100, ...options.peer } })
  d.connect()
  return d
}

/** Notes the names of the kernel calls from now on. */
function calls(d: TcpDialogue): string[] {
  const names: string[] = []
  d.kernel.fault = (call) => {
    names.push(call)
    return 0
  }
  return names
}

/** The guest has heard three acknowledgements that repeat the one before them in every respect. */
function expectDuplicates(d: TcpDialogue, ack: number): void {
  const [first, ...more] = d.heard().slice(-4)
  expect(first).toMatchObject({ flags: "A", ack, length: 0 })
  expect(more).toEqual([first, first, first])
}

describe("in order", () => {
  test("a batch is one write and one acknowledgement", () => {
    const d = near()
    const names = calls(d)
    for (let i = 0; i < 20; i++) d.put("A", { length: 100 })
    d.settle()
    expect(d.socket.written).toBe(2000)
    expect(names.filter((n) => n === "sendFrames")).toHaveLength(1)
    expect(d.lines()).toEqual(["A seq 1 ack 2001"])
  })

  test("segments in any order within a batch leave no hole", () => {
    const d = near()
    for (const i of [3, 1, 0, 2]) d.put("A", { seq: 1 + 100 * i, length: 100 })
    d.settle()
    expect(d.socket.written).toBe(400)
    expect(d.lines()).toEqual(["A seq 1 ack 401"])
  })

  test("of data that overlaps only the new part is written", () => {
    const d = near()
    d.say("A", { seq: 1, length: 100 })
    d.say("A", { seq: 51, length: 100 })
    d.put("A", { seq: 101, length: 150 })
    d.put("A", { seq: 201, length: 100 })
    d.settle()
    expect(d.socket.written).toBe(300)
    expect(d.lines()).toEqual(["A seq 1 ack 101", "A seq 1 ack 151", "A seq 1 ack 301"])
  })

  test("old data is answered, so that a guest whose acknowledgement was lost goes on", () => {
    const d = near()
    d.say("A", { seq: 1, length: 100 })
    d.heard()
    d.say("A", { seq: 1, length: 100 })
    d.say("A", { seq: 31, length: 20 })
    expect(d.socket.written).toBe(100)
    expect(d.lines()).toEqual(["A seq 1 ack 101", "A seq 1 ack 101"])
  })

  test("urgent data is data: bytes arrive in order", () => {
    const d = near()
    d.say("PAU", { length: 10 })
    d.say("A", { length: 10 })
    expect(d.socket.written).toBe(20)
    expect(d.lines().at(-1)).toBe("A seq 1 ack 21")
  })

  test("numbers that wrap", () => {
    const d = new TcpDialogue({ iss: -150, peer: { rtt: 100 } })
    d.connect()
    for (let i = 0; i < 4; i++) d.say("A", { length: 100 })
    expect(d.socket.written).toBe(400)
    expect(d.lines().at(-1)).toBe("A seq 1 ack 401")
  })
})

describe("a hole", () => {
  test("what comes after it is held, with three duplicate acknowledgements, and written when it is filled", () => {
    const d = near()
    d.say("A", { seq: 101, length: 100 })
    expect(d.socket.written).toBe(0)
    // RFC 5681 section 3.2: three, so that the guest sends again at once.
    expectDuplicates(d, 1)
    expect(d.engine.tcp.hold.used).toBe(1)
    d.say("A", { seq: 1, length: 100 })
    expect(d.socket.written).toBe(200)
    expect(d.lines()).toEqual(["A seq 1 ack 201"])
    expect(d.engine.tcp.hold.used).toBe(0)
  })

  test("duplicates count as such only if nothing else changes: what is new goes before them", () => {
    const d = near()
    d.put("A", { seq: 1, length: 100 })
    d.put("A", { seq: 201, length: 100 })
    d.settle()
    expect(d.heard().map((h) => h.ack)).toEqual([101, 101, 101, 101])
    d.say("A", { seq: 401, length: 100 })
    expect(d.heard().map((h) => h.ack)).toEqual([101, 101, 101])
  })

  test("several holes, filled in any order, with overlaps", () => {
    const d = near()
    d.say("A", { seq: 101, length: 100 })
    d.say("A", { seq: 301, length: 100 })
    d.say("A", { seq: 151, length: 200 })
    d.say("A", { seq: 91, length: 400 })
    expect(d.socket.written).toBe(0)
    d.say("A", { seq: 1, length: 95 })
    expect(d.socket.written).toBe(490)
    expect(d.engine.tcp.hold.used).toBe(0)
    expect(d.lines().at(-1)).toBe("A seq 1 ack 491")
  })

  test("a FIN beyond it is taken when it comes again", () => {
    const d = near()
    d.say("FA", { seq: 101, length: 100 })
    d.say("A", { seq: 1, length: 100 })
    expect([d.socket.written, d.socket.shut]).toEqual([200, false])
    d.say("FA", { seq: 101, length: 100 })
    expect(d.socket.shut).toBe(true)
    expect(d.lines().at(-1)).toBe("A seq 1 ack 202")
  })

  test("with no room in the pool data is dropped and asked for again", () => {
    const d = near()
    d.occupyHold(0)
    d.say("A", { seq: 101, length: 100 })
    expectDuplicates(d, 1)
    expect(d.counter("dropTcpHold")).toBe(1)
    d.say("A", { seq: 1, length: 100 })
    expect(d.lines()).toEqual(["A seq 1 ack 101"])
    d.say("A", { seq: 101, length: 100 })
    expect(d.socket.written).toBe(200)
  })

  test("one flow gets half of the pool at most", () => {
    const d = near()
    for (let i = 0; i < HOLD_BLOCKS; i++) d.put("A", { seq: 3 + 2 * i, length: 1 })
    while (d.link.more) d.settle()
    expect(d.engine.tcp.hold.used).toBe(HOLD_BLOCKS / 2)
    expect(d.counter("dropTcpHold")).toBe(HOLD_BLOCKS / 2)
    d.say("R", { seq: 1 })
    expect(d.engine.tcp.hold.used).toBe(0)
    d.checkEmpty()
  })
})

describe("a socket that does not take all", () => {
  test("the rest is held, the guest hears of what was taken, and of the rest when it is", () => {
    const d = near()
    d.kernel.shortWrite = () => 40
    d.put("A", { length: 100 })
    d.put("A", { length: 100 })
    d.settle()
    expect(d.socket.written).toBe(40)
    expect(d.lines()).toEqual(["A seq 1 ack 41"])
    d.kernel.shortWrite = undefined
    d.pass(5)
    expect(d.socket.written).toBe(200)
    expect(d.lines()).toEqual(["A seq 1 ack 201"])
  })

  test("what comes while it is full waits its turn, and the FIN behind it", () => {
    const d = near()
    d.kernel.failNext("sendFrames", EAGAIN)
    d.put("A", { length: 100 })
    d.settle()
    d.put("A", { length: 100 })
    d.put("FA", { length: 50 })
    d.settle()
    expect([d.socket.written, d.socket.shut]).toEqual([0, false])
    // The end is not acknowledged before it has been passed on.
    expect(d.heard().every((h) => h.ack === 1)).toBe(true)
    d.pass(5)
    expect([d.socket.written, d.socket.shut]).toEqual([250, true])
    expect(d.lines().at(-1)).toBe("A seq 1 ack 252")
  })

  test("what finds no room in the pool is asked for again, and a FIN with it", () => {
    const d = near()
    d.occupyHold(0)
    d.kernel.failNext("sendFrames", EAGAIN)
    d.put("A", { length: 100 })
    d.put("FA", { length: 50 })
    d.settle()
    expect(d.counter("dropTcpHold")).toBe(1)
    expectDuplicates(d, 1)
    d.pass(5)
    d.put("A", { seq: 1, length: 100 })
    d.put("FA", { seq: 101, length: 50 })
    d.settle()
    expect([d.socket.written, d.socket.shut]).toEqual([150, true])
    expect(d.lines().at(-1)).toBe("A seq 1 ack 152")
  })

  test("EPIPE: the guest may send on, it is acknowledged and thrown away, and the peer's data still comes", () => {
    const d = near({ peer: { sendBuffer: 4 << 20, window: 4 << 20 } })
    d.say("A", { length: 100 })
    const edge = d.word(EDGE_SENT)
    d.kernel.failNext("sendFrames", EPIPE)
    d.say("A", { length: 100 })
    // RFC 9293 section 3.8.6: what was offered stays offered.
    expect((d.word(EDGE_SENT) - edge) | 0).toBeGreaterThanOrEqual(0)
    d.say("A", { length: 100 })
    d.say("FA")
    expect(d.lines().at(-1)).toBe("A seq 1 ack 302")
    expect(d.socket.written).toBe(100)
    d.arriveData(50)
    expect(d.lines()).toEqual(["PA seq 1 ack 302 len 50"])
    d.socket.finish()
    d.settle()
    d.ack = 52
    d.say("A")
    expect(d.flows).toBe(0)
    d.checkEmpty()
  })

  for (const errno of [ECONNRESET, ETIMEDOUT]) {
    test(`error ${errno} resets both sides`, () => {
      const d = near()
      d.kernel.failNext("sendFrames", errno)
      d.say("A", { length: 100 })
      expect(d.lines()).toEqual(["RA seq 1 ack 1"])
      expect(d.socket.peerReset).toBe(true)
      d.checkEmpty()
    })

    test(`error ${errno} for held data does so too`, () => {
      const d = near()
      d.say("A", { seq: 101, length: 100 })
      d.heard()
      d.kernel.failNext("sendHeld", errno)
      d.say("A", { seq: 1, length: 100 })
      expect(d.lines()).toEqual(["RA seq 1 ack 1"])
      d.checkEmpty()
    })
  }
})

describe("what is not believed", () => {
  test("data beyond the window is dropped and answered (RFC 9293 section 3.10.7.4)", () => {
    const d = near()
    const edge = (d.word(EDGE_SENT) - d.word(SEQ_FROM_GUEST)) | 0
    d.say("A", { seq: 1 + edge, length: 10 })
    d.say("A", { seq: 1 + edge + 1_000_000, length: 10 })
    expect(d.lines()).toEqual(["A seq 1 ack 1", "A seq 1 ack 1"])
    expect(d.counter("dropTcpSequence")).toBe(2)
    expect(d.engine.tcp.hold.used).toBe(0)
  })

  test("an acknowledgement of what was never sent is answered, and does not count", () => {
    const d = near()
    d.arriveData(100)
    d.heard()
    d.say("A", { ack: 102 })
    expect(d.lines()).toEqual(["A seq 101 ack 1"])
    expect(d.socket.consumed).toBe(0)
    d.say("A", { ack: 101 })
    expect(d.socket.consumed).toBe(100)
  })

  test("a segment without ACK, SYN or RST is dropped", () => {
    const d = near()
    d.say("P", { seq: 1, length: 10 })
    d.say("F", { seq: 1 })
    expect(d.lines()).toEqual([])
    expect([d.socket.written, d.socket.shut, d.counter("dropTransport")]).toEqual([0, false, 2])
  })

  test("data after the FIN is acknowledged as what was there before it", () => {
    const d = near()
    d.say("FA", { length: 10 })
    d.heard()
    d.say("A", { seq: 12, length: 10 })
    expect(d.socket.written).toBe(10)
    expect(d.lines()).toEqual(["A seq 1 ack 12"])
  })

  test("a SYN on an established connection is answered with an acknowledgement (RFC 5961 section 4)", () => {
    const d = near()
    d.say("S", { seq: 0, mss: 1460 })
    d.say("S", { seq: 500_000_000, mss: 1460 })
    expect(d.lines()).toEqual(["A seq 1 ack 1", "A seq 1 ack 1"])
    expect(d.word(STATE) & ESTABLISHED).toBeTruthy()
    // A guest that started anew finds the number strange, and resets with the one that was acknowledged.
    d.say("R", { seq: 1 })
    expect(d.flows).toBe(0)
    expect(d.socket.peerReset).toBe(true)
  })

  test("a reset counts only with the number that is expected (RFC 5961 section 3, D9)", () => {
    const d = near()
    d.say("R", { seq: 5000 })
    expect(d.lines()).toEqual(["A seq 1 ack 1"])
    d.say("R", { seq: 0 })
    d.say("RA", { seq: 1_000_000_000 })
    expect(d.lines()).toEqual([])
    expect(d.counter("dropTcpSequence")).toBe(2)
    expect(d.flows).toBe(1)
    d.say("RA", { seq: 1 })
    expect(d.lines()).toEqual([])
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("a reset with the number that was last acknowledged counts as well, when more has arrived since", () => {
    const d = new TcpDialogue({ peer: { rate: 1000 } })
    d.connect()
    d.say("A", { length: 100 })
    expect(d.heard().every((h) => h.ack === 1)).toBe(true)
    d.say("R", { seq: 1 })
    expect(d.socket.peerReset).toBe(true)
  })

  test("what came before a reset in the same batch goes to the peer's kernel first", () => {
    const d = near()
    const { socket } = d
    d.put("A", { length: 100 })
    d.put("R", { seq: 101 })
    d.settle()
    expect([socket.written, socket.peerReset]).toEqual([100, true])
  })
})

describe("keepalives of the guest", () => {
  for (const length of [0, 1]) {
    test(`with ${length} bytes: answered at once, and the socket keeps the peer alive likewise`, () => {
      const d = near()
      d.say("A", { length: 100 })
      d.heard()
      expect(d.socket.keepalive).toBe(false)
      d.say("A", { seq: 100, length })
      expect(d.lines()).toEqual(["A seq 1 ack 101"])
      expect(d.socket.keepalive).toBe(true)
      expect(d.socket.written).toBe(100)
      const names = calls(d)
      d.say("A", { seq: 100, length })
      expect(names).not.toContain("setKeepalive")
    })
  }
})

describe("segments of no connection (RFC 9293 section 3.10.7.1)", () => {
  for (const far of ["198.51.100.7", "2001:db8:1::7"]) {
    test(`from and to ${far}`, () => {
      const d = new TcpDialogue({ far })
      d.say("A", { seq: 5, ack: 77 })
      d.say("SA", { seq: 5, ack: 78 })
      d.say("FPA", { seq: 5, ack: 79, length: 10 })
      expect(d.lines()).toEqual(["R seq 77 ack 0", "R seq 78 ack 0", "R seq 79 ack 0"])
      d.say("P", { seq: 5, length: 10 })
      // A FIN takes a number: the reference forgets it.
      d.say("F", { seq: 5, length: 10 })
      d.say("", { seq: 5 })
      expect(d.lines()).toEqual(["RA seq 0 ack 15", "RA seq 0 ack 16", "RA seq 0 ack 5"])
      d.say("R", { seq: 5 })
      d.say("RA", { seq: 5, ack: 1 })
      expect(d.lines()).toEqual([])
      expect(d.counter("tcpResets")).toBe(6)
      d.checkEmpty()
    })
  }
})
