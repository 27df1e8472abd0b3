/** The ends of connections: half-closes, both orders, lost FINs, failures, and the engine's own end. */
import { describe, expect, test } from "vitest"

import { ECONNRESET, ENOTCONN } from "../errno.ts"
import { TcpDialogue } from "../sim/tcp-dialogue.ts"

for (const peekOffset of [true, false]) {
  describe(`${peekOffset ? "with" : "without"} SO_PEEK_OFF`, () => {
    function begin(): TcpDialogue {
      const d = new TcpDialogue({ peekOffset, peer: { rtt: 100 } })
      d.connect()
      return d
    }

    test("the guest closes first: passed on and acknowledged; the peer sends on, then closes", () => {
      const d = begin()
      d.say("FA", { length: 10 })
      expect([d.socket.written, d.socket.shut]).toEqual([10, true])
      expect(d.lines()).toEqual(["A seq 1 ack 12"])
      d.arriveData(100)
      expect(d.lines()).toEqual(["PA seq 1 ack 12 len 100"])
      d.ack = 101
      d.say("A")
      d.socket.finish()
      d.settle()
      expect(d.lines()).toEqual(["FA seq 101 ack 12"])
      expect(d.flows).toBe(1)
      d.ack = 102
      d.say("A")
      expect(d.open).toBe(false)
      expect(d.socket.peerReset).toBe(false)
      d.checkEmpty()
    })

    test("the peer closes first: its FIN follows its data at once; the guest sends on, then closes", () => {
      const d = begin()
      d.socket.arrived += 100
      d.socket.finish()
      d.settle()
      // Without peek offsets the end is seen only when the queue is empty.
      const fin = peekOffset ? ["FA seq 101 ack 1"] : []
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 100", ...fin])
      d.ack = 101
      d.say("A")
      if (!peekOffset) expect(d.lines()).toEqual(["FA seq 101 ack 1"])
      d.ack = 102
      d.say("A", { length: 50 })
      expect(d.socket.written).toBe(50)
      expect(d.lines().at(-1)).toBe("A seq 102 ack 51")
      d.say("FA")
      expect(d.lines()).toEqual(["A seq 102 ack 52"])
      expect(d.open).toBe(false)
      expect([d.socket.shut, d.socket.peerReset]).toEqual([true, false])
      d.checkEmpty()
    })

    test("both at once", () => {
      const d = begin()
      d.put("FA")
      d.socket.finish()
      d.settle()
      expect(d.lines()).toEqual(["FA seq 1 ack 2"])
      d.say("A", { ack: 2 })
      expect(d.open).toBe(false)
      d.checkEmpty()
    })

    test("a lost FIN is sent again by the timer, with what is missing before it", () => {
      const d = begin()
      d.arriveData(100)
      d.socket.finish()
      d.settle()
      d.heard()
      d.pass(1500)
      expect(d.lines()[0]).toBe("PA seq 1 ack 1 len 100")
      d.say("A", { ack: 101 })
      d.settle()
      d.heard()
      d.pass(2000)
      expect(d.lines()).toContain("FA seq 101 ack 1")
      d.say("FA", { ack: 102 })
      expect(d.open).toBe(false)
      d.checkEmpty()
    })

    test("a FIN that came with the last data of the peer, in the guest's full window", () => {
      const d = new TcpDialogue({ peekOffset, peer: { rtt: 100 } })
      d.window = 1000
      d.connect({ window: 1000 })
      d.socket.arrived += 1500
      d.socket.finish()
      d.settle()
      expect(d.lines()).toEqual(["PA seq 1 ack 1 len 1000"])
      d.ack = 1001
      d.say("A")
      d.ack = 1501
      d.say("A")
      expect(d.lines().at(-1)).toBe("FA seq 1501 ack 1")
      d.ack = 1502
      d.say("FA")
      expect(d.open).toBe(false)
      d.checkEmpty()
    })

    test("a repeated acknowledgement of the FIN sends no second one", () => {
      const d = begin()
      d.arriveData(100)
      d.socket.finish()
      d.settle()
      d.ack = 101
      d.say("A")
      d.ack = 102
      d.say("A")
      d.heard()
      for (let i = 0; i < 5; i++) d.say("A")
      d.pass(5000)
      expect(d.heard().filter((h) => h.flags.includes("F"))).toEqual([])
    })
  })
}

test("a FIN of the guest that comes again is acknowledged again; after the end it finds no connection", () => {
  const d = new TcpDialogue({ peer: { rtt: 100 } })
  d.connect()
  d.say("FA")
  d.say("FA", { seq: 1 })
  expect(d.lines()).toEqual(["A seq 1 ack 2", "A seq 1 ack 2"])
  d.socket.finish()
  d.settle()
  d.say("A", { ack: 2 })
  d.heard()
  d.say("FA", { seq: 1, ack: 2 })
  expect(d.lines()).toEqual(["R seq 2 ack 0"])
})

test("a FIN that can't be passed on is not acknowledged: both sides are reset", () => {
  const d = new TcpDialogue()
  d.connect()
  d.kernel.failNext("shutdownWrite", ENOTCONN)
  d.say("FA")
  expect(d.lines()).toEqual(["RA seq 1 ack 1"])
  d.checkEmpty()
})

test("the peer resets: the guest is reset with the number that it expects", () => {
  const d = new TcpDialogue()
  d.connect()
  d.arriveData(100)
  d.heard()
  d.socket.peerResets()
  d.settle()
  expect(d.lines()).toEqual(["RA seq 101 ack 1"])
  d.checkEmpty()
})

test("a read that fails does the same", () => {
  const d = new TcpDialogue()
  d.connect()
  d.kernel.failNext("peekIntoFrames", ECONNRESET)
  d.arriveData(100)
  expect(d.lines()).toEqual(["RA seq 1 ack 1"])
  expect(d.socket.peerReset).toBe(true)
  d.checkEmpty()
})

test("into a closed window a reset goes with the number that the guest expects", () => {
  const d = new TcpDialogue()
  d.connect()
  d.arriveData(100)
  d.say("A", { ack: 51, window: 0 })
  d.heard()
  d.socket.peerResets()
  d.settle()
  expect(d.lines()).toEqual(["RA seq 51 ack 1"])
})

test("the engine's end resets the peers of all connections, whatever their state", () => {
  const d = new TcpDialogue()
  d.connect()
  const first = d.socket
  d.say("A", { seq: 101, length: 100 })
  d.arrive()
  const second = d.socket
  d.engine.close()
  expect([first.peerReset, second.peerReset]).toEqual([true, true])
  d.checkEmpty()
})
