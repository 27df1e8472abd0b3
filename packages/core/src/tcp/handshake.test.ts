/** How connections begin, from the guest and from the host. */
import { describe, expect, test } from "vitest"

import { EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, EMFILE, EMSGSIZE, ENFILE, ENOMEM } from "../errno.ts"
import { FD, STATE } from "../flow/table.ts"
import { TcpDialogue } from "../sim/tcp-dialogue.ts"
import { CONNECTED, CONNECTING, ESTABLISHED, MSS } from "./state.ts"

describe("from the guest", () => {
  test("its SYN is answered when the host is connected, and not before", () => {
    const d = new TcpDialogue()
    d.say("S", { mss: 1460, scale: 7 })
    d.pass(20_000)
    expect(d.heard()).toEqual([])
    expect(d.word(STATE) & CONNECTING).toBeTruthy()
    d.socket.establish(d.peer)
    d.settle()
    expect(d.heard()).toMatchObject([{ flags: "SA", seq: 0, ack: 1, window: 65_535, length: 0 }])
    expect(d.word(STATE) & CONNECTED).toBeTruthy()
    d.ack = 1
    d.say("A")
    expect(d.word(STATE) & ESTABLISHED).toBeTruthy()
  })

  test("a connection that is made at once is answered at once", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S")
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
  })

  for (const [name, errno] of [
    ["refused", ECONNREFUSED],
    ["no port left", EADDRNOTAVAIL],
    ["of no kind that ICMP knows", ECONNRESET],
    ["too big, which no SYN is", EMSGSIZE],
  ] as const) {
    test(`${name}: a reset that acknowledges the SYN, at once, and nothing is left`, () => {
      const d = new TcpDialogue()
      d.say("S")
      d.socket.fail(errno)
      d.settle()
      expect(d.lines()).toEqual(["RA seq 0 ack 1"])
      d.checkEmpty()
    })
  }

  for (const [call, errno] of [
    ["tcpSocket", EMFILE],
    ["connect", EADDRNOTAVAIL],
    ["watch", ENOMEM],
  ] as const) {
    test(`${call} fails with ${errno}: the same`, () => {
      const d = new TcpDialogue()
      d.kernel.failNext(call, errno)
      d.say("S")
      expect(d.lines()).toEqual(["RA seq 0 ack 1"])
      d.checkEmpty()
    })
  }

  test("repeated SYNs make one connection, before it is made and after", () => {
    const d = new TcpDialogue()
    d.say("S")
    d.say("S", { seq: 0 })
    expect(d.flows).toBe(1)
    expect(d.lines()).toEqual([])
    d.socket.establish(d.peer)
    d.settle()
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
    // Our answer was lost: defects D1 and D2 of the reference, a plain SYN with another number.
    d.say("S", { seq: 0 })
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
    expect(d.flows).toBe(1)
  })

  test("the SYN,ACK is repeated with its own number, some times a second apart, then after twice the time each", () => {
    const d = new TcpDialogue({ synRetries: 6, synLinear: 4 })
    d.say("S")
    d.socket.establish(d.peer)
    d.pass(60_000)
    const heard = d.heard()
    expect(heard.map((h) => [h.at, h.flags, h.seq, h.ack])).toEqual([
      ...[0, 1, 2, 3, 4, 5, 7].map((s) => [1000 * s, "SA", 0, 1]),
      [11_000, "RA", 1, 1],
    ])
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("a SYN with data or FIN is a SYN: what it carries comes again", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("SF", { length: 5 })
    d.seq = 1
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
    d.ack = 1
    d.say("PA", { length: 10 })
    expect(d.socket.written).toBe(10)
    expect(d.lines().at(-1)).toMatch("ack 11")
  })

  test("the acknowledgement of our SYN may bring data, and the same batch more", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1, rtt: 20 } })
    d.say("S", { mss: 1460 })
    d.ack = 1
    d.put("PA", { length: 100 })
    d.put("PA", { length: 50 })
    d.settle()
    expect(d.socket.written).toBe(150)
    expect(d.lines()).toEqual(["SA seq 0 ack 1", "A seq 1 ack 151"])
  })

  test("data that arrived before the handshake was done is sent at once after it", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S", { mss: 1460, scale: 0 })
    d.arriveData(200)
    expect(d.lines()).toEqual(["SA seq 0 ack 1"])
    d.ack = 1
    d.say("A")
    expect(d.lines()).toEqual(["PA seq 1 ack 1 len 200"])
  })

  test("an acknowledgement of something else than our SYN is answered with a reset (RFC 9293 section 3.10.7.3)", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S")
    d.heard()
    d.say("A", { ack: 77 })
    expect(d.lines()).toEqual(["R seq 77 ack 0"])
    expect(d.word(STATE) & CONNECTED).toBeTruthy()
  })

  test("a segment far outside the window does not complete the handshake", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S")
    d.ack = 1
    d.say("A", { seq: 1_000_000 })
    expect(d.word(STATE) & ESTABLISHED).toBe(0)
    expect(d.counter("dropTcpSequence")).toBe(1)
  })

  test("a guest that gives up while the host connects takes the connection with it", () => {
    const d = new TcpDialogue()
    d.say("S")
    const { socket } = d
    d.say("R", { seq: 77 })
    expect(d.flows).toBe(1)
    expect(d.counter("dropTcpSequence")).toBe(1)
    d.say("R", { seq: 1 })
    expect(d.kernel.sockets.has(socket.fd)).toBe(false)
    expect(d.lines()).toEqual([])
    d.checkEmpty()
  })

  test("a guest that resets what it was answered resets the peer", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S")
    d.ack = 1
    d.say("RA", { seq: 1 })
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("a peer that is gone before the guest has answered: a reset", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S")
    d.socket.peerResets()
    d.settle()
    expect(d.lines()).toEqual(["SA seq 0 ack 1", "RA seq 1 ack 1"])
    d.checkEmpty()
  })

  test("a full flow table: a reset, and the next one is served when there is room again", () => {
    const d = new TcpDialogue({ flowMax: 0 })
    d.say("S")
    expect(d.lines()).toEqual(["RA seq 0 ack 1"])
    expect(d.counter("dropNoFlow")).toBe(1)
    d.checkEmpty()
  })
})

describe("options", () => {
  function options(said: object, mtu: number): unknown[] {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.guest.mtu = mtu
    d.say("S", said)
    const [syn] = d.heard()
    return [syn!.mss, syn!.scale, d.word(MSS)]
  }

  test("the segment size that we announce follows the MTU, in whole pages", () => {
    expect(options({ mss: 1460, scale: 7 }, 1500)).toEqual([1460, 8, 1460])
    expect(options({ mss: 1460, scale: 7 }, 9000)).toEqual([8192, 8, 1460])
    expect(options({ mss: 1460, scale: 7 }, 65_520)).toEqual([61_440, 8, 1460])
    // No MTU: what the kernel sends towards the peer.
    expect(options({ mss: 1460, scale: 7 }, 0)).toEqual([1448, 8, 1460])
  })

  test("absent and absurd ones of the guest", () => {
    // RFC 9293 section 3.7.1.
    expect(options({ scale: 7 }, 1500)[2]).toBe(536)
    // No byte-wise segments, as in Linux.
    expect(options({ mss: 0 }, 1500)[2]).toBe(48)
    expect(options({ mss: 1 }, 1500)[2]).toBe(48)
    // No larger than what the link cuts.
    expect(options({ mss: 65_535 }, 1500)[2]).toBe(65_000)
    // A window scale only for a guest that offers one (RFC 7323 section 2.2).
    expect(options({ mss: 1460 }, 1500)).toEqual([1460, -1, 1460])
  })

  test("a window scale above 14 counts as 14 (RFC 7323 section 2.3)", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.window = 1
    d.connect({ scale: 200 })
    d.arriveData(50_000)
    expect(d.heard().reduce((sum, h) => sum + h.length, 0)).toBe(11 * 1460)
  })

  test("the window of a SYN is not scaled, that of the next segment is", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1 } })
    d.say("S", { mss: 1000, scale: 4, window: 2000 })
    d.heard()
    d.ack = 1
    d.arriveData(50_000)
    d.say("A", { window: 1000 })
    expect(d.heard().reduce((sum, h) => sum + h.length, 0)).toBe(16_000)
  })

  test("without a scale the window is never wider than its field", () => {
    const d = new TcpDialogue({ peer: { connectDelay: -1, rtt: 20, sendBuffer: 4 << 20, window: 4 << 20 } })
    d.say("S", { mss: 1460 })
    d.ack = 1
    for (let i = 0; i < 60; i++) d.say("PA", { length: 1460 })
    const heard = d.heard()
    expect(heard.at(-1)).toMatchObject({ ack: 60 * 1460 + 1, window: 65_535 })
  })
})

describe("from the host", () => {
  test("the peer is accepted, then the guest gets a SYN; its answer is acknowledged", () => {
    const d = new TcpDialogue()
    d.arrive()
    expect(d.heard()).toMatchObject([{ flags: "S", seq: 0, window: 65_535, mss: 61_440, scale: 8 }])
    d.ack = 1
    d.say("SA", { mss: 1460, scale: 7 })
    expect(d.lines()).toEqual(["A seq 1 ack 1"])
    expect(d.word(STATE) & ESTABLISHED).toBeTruthy()
    expect(d.word(MSS)).toBe(1460)
  })

  test("what the peer sent in the meantime follows the acknowledgement", () => {
    const d = new TcpDialogue()
    d.arrive()
    d.arriveData(300)
    d.heard()
    d.ack = 1
    d.say("SA", { mss: 1460, scale: 7 })
    expect(d.lines()).toEqual(["PA seq 1 ack 1 len 300"])
  })

  test("the SYN is repeated with its own number (D1), and the peer is reset when the guest does not answer", () => {
    const d = new TcpDialogue({ synRetries: 3, synLinear: 1 })
    d.arrive()
    d.pass(30_000)
    expect(d.heard().map((h) => [h.at, h.flags, h.seq])).toEqual([
      [0, "S", 0],
      [1000, "S", 0],
      [2000, "S", 0],
      [4000, "S", 0],
      [8000, "R", 1],
    ])
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("the guest refuses: the peer is reset", () => {
    const d = new TcpDialogue()
    d.arrive()
    // Neither of these acknowledges our SYN.
    d.say("RA", { seq: 0, ack: 0 })
    d.say("R", { seq: -d.iss })
    expect(d.open).toBe(true)
    d.say("RA", { seq: 0, ack: 1 })
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })

  test("a lost acknowledgement: the guest repeats SYN,ACK and gets it again", () => {
    const d = new TcpDialogue()
    d.accept()
    d.say("SA", { seq: 0, mss: 1460, scale: 0 })
    expect(d.lines()).toEqual(["A seq 1 ack 1"])
  })

  test("a reset of the peer before the guest has answered reaches it with the number that it expects", () => {
    const d = new TcpDialogue()
    d.arrive()
    d.socket.peerResets()
    d.settle()
    expect(d.lines()).toEqual(["S seq 0 ack 0", "R seq 1 ack 0"])
    d.checkEmpty()
  })

  test("a full flow table: the peer is reset", () => {
    const d = new TcpDialogue({ flowMax: 0 })
    d.arrive()
    expect(d.socket.peerReset).toBe(true)
    expect(d.counter("dropNoFlow")).toBe(1)
    d.checkEmpty()
  })

  for (const errno of [EMFILE, ENFILE, ENOMEM]) {
    test(`accept fails with ${errno}: the reserve is given up to refuse the peer, and taken again`, () => {
      const d = new TcpDialogue()
      const before = [...d.kernel.sockets.keys()]
      d.kernel.failNext("accept", errno)
      d.arrive()
      expect(d.socket.peerReset).toBe(true)
      expect(d.counter("dropNoFlow")).toBe(1)
      expect(d.kernel.sockets.size).toBe(1)
      expect([...d.kernel.sockets.keys()]).not.toEqual(before)
      d.checkEmpty()
    })
  }

  test("no descriptor is left at all: refused, and served as soon as there is one", () => {
    // The listening socket and the reserve.
    const d = new TcpDialogue({ descriptorMax: 2 })
    d.arrive()
    expect(d.socket.peerReset).toBe(true)
    d.kernel.descriptorMax = 3
    d.arrive()
    expect(d.lines()).toEqual(["S seq 0 ack 0"])
    expect(d.word(FD)).toBe(d.socket.fd)
  })

  test("a second connection with the same ends is refused while the first lives", () => {
    const d = new TcpDialogue()
    d.accept()
    const first = d.socket
    d.arrive()
    expect(d.socket.peerReset).toBe(true)
    expect(d.kernel.sockets.has(first.fd)).toBe(true)
    expect(d.counter("dropAddress")).toBe(1)
  })

  test("no guest is known: the peer is reset", () => {
    const d = new TcpDialogue()
    d.guest.address4.fill(0)
    d.arrive()
    expect(d.socket.peerReset).toBe(true)
    expect(d.counter("dropNoGuest")).toBe(1)
    d.checkEmpty()
  })
})

describe("the link", () => {
  test("a SYN waits for a blocked link, and goes once", () => {
    const d = new TcpDialogue()
    d.connect()
    d.link.stalled = true
    d.arriveData(10)
    expect(d.link.blocked).toBe(true)
    d.arrive()
    d.pass(500)
    expect(d.heard()).toEqual([])
    d.link.stalled = false
    d.settle()
    expect(d.heard().map((h) => h.flags)).toEqual(["PA", "S"])
  })

  test("a handshake whose SYN can't go ends after two minutes", () => {
    const d = new TcpDialogue()
    d.link.attach(false)
    d.arrive()
    d.pass(120_000)
    expect(d.flows).toBe(1)
    d.pass(40_000)
    expect(d.socket.peerReset).toBe(true)
    d.checkEmpty()
  })
})
