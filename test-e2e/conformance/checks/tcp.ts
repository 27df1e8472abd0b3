// Section 1.8, TCP: connections of the guest, and to the guest.
import { deepEqual, equal, ok } from "node:assert/strict"
import { createHash } from "node:crypto"
import { HOST, PORT, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import type { GuestTcp } from "../guest-tcp.ts"
import type { Connection, SocketError } from "../peer.ts"
import type { Stage } from "../stage.ts"
import type { Tcp } from "../wire/build.ts"
import { parseIp } from "../wire/parse.ts"
import type { Packet } from "../wire/parse.ts"
import { both } from "./families.ts"

const PORT_OF_OURS = 20_002

/** A connection of the guest to a server in the world that does nothing by itself. */
async function connected(
  t: Stage,
  server: string = SERVER.ipv4,
  syn: Partial<Tcp> = {},
): Promise<{ readonly guest: GuestTcp; readonly peer: Connection }> {
  const listener = await t.worldPeer.listen(server, PORT_OF_OURS)
  const guest = (await t.guest()).tcpTo(server, PORT_OF_OURS)
  await guest.open(syn)
  return { guest, peer: await listener.accept() }
}

const text = (bytes: Buffer): string => bytes.toString()
/** MSS of `bytes` and no window scale. */
const mss = (bytes: number): Buffer => Buffer.from([2, 4, bytes >> 8, bytes & 255])

const checks: readonly Check[] = [
  ...both(({ server }) => ({
    id: "1.8.tcp-data",
    title: "a connection of the guest carries data both ways, and ends in order",
    async run(t) {
      const connection = await (await t.guest()).connectTcp(server)
      await connection.write("hello, world")
      equal(text(await connection.read(12)), "hello, world")
      connection.end()
      await connection.ended()
    },
  })),
  ...both(({ server, host }) => ({
    id: "1.8.tcp-source",
    title: "the server sees the host's address",
    async run(t) {
      const { peer } = await connected(t, server)
      deepEqual([peer.remoteAddress, peer.localAddress, peer.localPort], [host, server, PORT_OF_OURS])
    },
  })),
  ...both(({ server }) => ({
    id: "1.8.tcp-refused",
    title: "a refused connection is reset, with the SYN acknowledged",
    reference: "differs",
    because: "the version of 2023 doesn't set ACK, so that guests must ignore it (RFC 9293 section 3.10.7.3)",
    async run(t) {
      const connection = (await t.guest()).tcpTo(server, PORT.closed)
      connection.sendSyn()
      const reset = await connection.reset()
      deepEqual([reset.flags.includes("A"), reset.ack], [true, (connection.seq + 1) >>> 0])
    },
  })),
  ...both(({ name, nobody }) => ({
    id: "1.8.tcp-unreachable",
    title: "a connection to where no route leads is answered by an ICMP error that quotes the SYN",
    reference: "differs",
    because: "it resets the connection, which says that somebody was there and refused, or says nothing",
    async run(t) {
      const address = nobody.replace(/9$/, "77")
      const route = (verb: string): string => `route ${verb} unreachable ${address}`
      await t.ip(t.host, [route("add")], [route("del")])
      const connection = (await t.guest()).tcpTo(address, 80)
      connection.sendSyn()
      const { guest, localPort } = connection
      const isIt = (p: Packet): boolean => p.icmp?.type === (name === "IPv4" ? 3 : 1)
      const { icmp } = await guest.find("host unreachable", (p) => isIt(p) && p)
      ok(icmp!.checksumIsRight)
      const quoted = parseIp(icmp!.body.subarray(4))!
      deepEqual([quoted.source, quoted.destination], [guest.own(address), address])
      deepEqual([quoted.payload.readUInt16BE(0), quoted.payload.readUInt16BE(2)], [localPort, 80])
    },
  })),
  ...both(({ nobody }) => ({
    id: "1.8.tcp-no-answer",
    title: "as long as the server doesn't answer the guest gets no answer, and repeated SYNs change nothing",
    async run(t) {
      const connection = (await t.guest()).tcpTo(nobody, 80)
      for (let round = 0; round < 3; round++) connection.sendSyn()
      const all = await connection.guest.fence()
      deepEqual(all.filter((packet) => packet.tcp?.destinationPort === connection.localPort).length, 0)
    },
  })),
  {
    id: "1.8.tcp-options",
    title: "SYN,ACK offers a segment size that fits the MTU and a window scale, and nothing else",
    async run(t) {
      const { options, window, checksumIsRight } = await (await t.guest()).tcpTo(SERVER.ipv4, PORT.echo).open()
      const size = options.get(2)!.readUInt16BE(0)
      ok(size >= 1460 && size <= 65_480, `segment size ${size}`)
      ok(options.has(3), "window scale")
      // SACK permitted, timestamps.
      deepEqual([options.has(4), options.has(8)], [false, false])
      ok(window > 0 && checksumIsRight)
    },
  },
  ...both(({ name, server }) => ({
    id: "1.8.tcp-mtu",
    title: "--mtu limits the segment size that is offered to the guest",
    async run(t) {
      const { options } = await (await t.guest(["--mtu", "1400"])).tcpTo(server, PORT.echo).open()
      equal(options.get(2)!.readUInt16BE(0), 1400 - (name === "IPv4" ? 40 : 60))
    },
  })),
  {
    id: "1.8.tcp-no-options",
    title: "a guest that offers no window scale gets none, and no segments beyond 536 bytes",
    async run(t) {
      const { guest, peer } = await connected(t, SERVER.ipv4, { tcpOptions: Buffer.alloc(0) })
      guest.window = 5000
      await peer.write("x".repeat(3000))
      const first = await guest.next("data", (segment) => segment.payload.length > 0)
      ok(first.payload.length <= 536, `${first.payload.length} bytes`)
    },
  },
  {
    id: "1.8.tcp-segment-size",
    title: "segments to the guest are no larger than it says",
    async run(t) {
      const { guest, peer } = await connected(t, SERVER.ipv4, {
        tcpOptions: Buffer.concat([mss(1000), Buffer.from([1, 3, 3, 7])]),
      })
      await peer.write("x".repeat(20_000))
      let most = 0
      for (let have = 0; have < 20_000;) {
        const { payload } = await guest.next(
          "data",
          (segment) => segment.seq === guest.ack && segment.payload.length > 0,
        )
        most = Math.max(most, payload.length)
        have += payload.length
        guest.ack = (guest.ack + payload.length) >>> 0
        guest.emit("A")
      }
      ok(most <= 1000, `a segment of ${most} bytes`)
    },
  },
  {
    id: "1.8.tcp-window",
    title: "no more data is in flight than the guest's window allows",
    async run(t) {
      const { guest, peer } = await connected(t)
      // 7 times 128, by the scale of the SYN.
      guest.window = 7
      guest.emit("A")
      await guest.guest.fence()
      await peer.write("x".repeat(5000))
      const first = await guest.next("data", (segment) => segment.payload.length > 0)
      await new Promise((resolve) => setTimeout(resolve, 100))
      const rest = (await guest.guest.fence()).flatMap(({ tcp }) =>
        tcp?.destinationPort === guest.localPort ? [tcp] : [],
      )
      const ends = [first, ...rest].map((segment) => (segment.seq + segment.payload.length - guest.ack) >>> 0)
      ok(Math.max(...ends) <= 896, `${Math.max(...ends)} bytes in flight`)
    },
  },
  {
    id: "1.8.tcp-zero-window",
    title: "a window that was closed is asked for, and data go on when it opens",
    async run(t) {
      const { guest, peer } = await connected(t)
      guest.window = 0
      guest.emit("A")
      await guest.guest.fence()
      await peer.write("after the window opened")
      await new Promise((resolve) => setTimeout(resolve, 100))
      guest.window = 512
      guest.emit("A")
      equal(text(await guest.read(23)), "after the window opened")
    },
  },
  {
    id: "1.8.tcp-retransmission",
    title: "data that the guest doesn't acknowledge are sent again",
    async run(t) {
      const { guest, peer } = await connected(t)
      await peer.write("once more")
      const first = await guest.next("data", (segment) => segment.payload.length > 0)
      const second = await guest.next("the same data again", (segment) => segment.payload.length > 0)
      deepEqual([second.seq, text(second.payload)], [first.seq, "once more"])
    },
  },
  {
    id: "1.8.tcp-hole",
    title: "data that overtake others are kept: when the hole is filled all of it is acknowledged",
    reference: "differs",
    because: "the reference drops them, and the guest has to send all again",
    async run(t) {
      const { guest, peer } = await connected(t)
      guest.emit("PA", "world", { seq: (guest.seq + 6) >>> 0 })
      await guest.guest.fence()
      guest.emit("PA", "hello ")
      await guest.next("the acknowledgement of all", (segment) => segment.ack === (guest.seq + 11) >>> 0)
      equal(text(await peer.read(11)), "hello world")
    },
  },
  {
    id: "1.8.tcp-duplicate",
    title: "data that come twice, or overlap, are delivered once",
    async run(t) {
      const { guest, peer } = await connected(t)
      const start = guest.seq
      await guest.write("abcdef")
      guest.emit("PA", "abcdef", { seq: start })
      guest.emit("PA", "defghi", { seq: (start + 3) >>> 0 })
      guest.seq = (start + 9) >>> 0
      await guest.write("!")
      equal(text(await peer.read(10)), "abcdefghi!")
    },
  },
  {
    id: "1.8.tcp-keepalive",
    title: "a keep-alive probe of the guest is acknowledged",
    reference: "differs",
    because: "the version of 2023 doesn't answer",
    async run(t) {
      const { guest } = await connected(t)
      await guest.write("x")
      await guest.guest.fence()
      guest.emit("A", "", { seq: (guest.seq - 1) >>> 0 })
      await guest.next("an acknowledgement", (segment) => segment.ack === guest.seq)
    },
  },
  {
    id: "1.8.tcp-syn-data",
    title: "data in a SYN may be sent again: they are not acknowledged with it",
    async run(t) {
      const listener = await t.worldPeer.listen(SERVER.ipv4, PORT_OF_OURS)
      const guest = (await t.guest()).tcpTo(SERVER.ipv4, PORT_OF_OURS)
      guest.emit("S", "early")
      const answer = await guest.next("an answer", (segment) => segment.flags.includes("S"))
      equal(answer.ack, (guest.seq + 1) >>> 0)
      guest.seq = (guest.seq + 1) >>> 0
      guest.ack = (answer.seq + 1) >>> 0
      guest.emit("A")
      await guest.write("early")
      equal(text(await (await listener.accept()).read(5)), "early")
    },
  },
  {
    id: "1.8.tcp-urgent",
    title: "urgent data arrive in their place in the stream",
    async run(t) {
      const { guest, peer } = await connected(t)
      await guest.write("one")
      guest.emit("PAU", "two")
      guest.seq = (guest.seq + 3) >>> 0
      await guest.write("three")
      equal(text(await peer.read(11)), "onetwothree")
    },
  },
  ...both(({ server }) => ({
    id: "1.8.tcp-half-close",
    title: "the guest may close its side first, and still gets all that comes",
    reference: "differs",
    because: "the version of 2023 doesn't tell the guest that the server has ended, too",
    async run(t) {
      const { guest, peer } = await connected(t, server)
      await guest.write("question")
      guest.end()
      equal(await peer.finish(), "ended")
      await peer.write("answer")
      equal(text(await guest.read(6)), "answer")
      await peer.end()
      await guest.ended()
    },
  })),
  {
    id: "1.8.tcp-server-closes",
    title: "the server may close its side first, and still gets all that comes",
    async run(t) {
      const { guest, peer } = await connected(t)
      await peer.write("bye")
      await peer.end()
      equal(text(await guest.read(3)), "bye")
      await guest.ended()
      await guest.write("still here")
      equal(text(await peer.read(10)), "still here")
      guest.end()
      equal(await peer.finish(), "ended")
    },
  },
  {
    id: "1.8.tcp-server-reset",
    title: "a reset of the server reaches the guest",
    async run(t) {
      const { guest, peer } = await connected(t)
      await peer.reset()
      await guest.reset()
    },
  },
  {
    id: "1.8.tcp-guest-reset",
    title: "a reset of the guest reaches the server",
    reference: "differs",
    because: "older versions make an orderly end of it",
    async run(t) {
      const { guest, peer } = await connected(t)
      guest.emit("RA")
      equal(await peer.finish(), "ECONNRESET")
    },
  },
  {
    id: "1.8.tcp-blind-reset",
    title: "a reset with a number that can't be right is not believed (RFC 5961)",
    reference: "differs",
    because: "the reference believes any",
    async run(t) {
      const { guest, peer } = await connected(t)
      guest.emit("R", "", { seq: (guest.seq + 0x1000_0000) >>> 0 })
      await guest.guest.fence()
      await guest.write("alive")
      equal(text(await peer.read(5)), "alive")
    },
  },
  {
    id: "1.8.tcp-stray",
    title: "a segment of no connection is reset, a reset of no connection isn't",
    reference: "differs",
    because: "the version of 2023 drops both",
    async run(t) {
      const stray = (await t.guest()).tcpTo(SERVER.ipv4, PORT.echo)
      stray.emit("R")
      const none = (await stray.guest.fence()).filter((packet) => packet.tcp?.destinationPort === stray.localPort)
      equal(none.length, 0)
      stray.emit("A", "", { ack: 12_345 })
      equal((await stray.reset()).seq, 12_345)
    },
  },
  {
    id: "1.8.tcp-bulk",
    title: "a hundred kilobytes each way arrive as they were sent",
    async run(t) {
      const { guest, peer } = await connected(t)
      const data = Buffer.alloc(100_000, Buffer.from(Array.from({ length: 251 }, (_, index) => index)))
      const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex")
      for (let at = 0; at < data.length; at += 1400) await guest.write(data.subarray(at, at + 1400))
      equal(digest(await peer.read(data.length)), digest(data))
      await peer.write(data)
      equal(digest(await guest.read(data.length)), digest(data))
    },
  },
  {
    id: "1.8.tcp-many",
    title: "a hundred connections at once keep apart",
    async run(t) {
      const guest = await t.guest()
      const all = await Promise.all(Array.from({ length: 100 }, () => guest.connectTcp(SERVER.ipv4)))
      await Promise.all(all.map((connection, index) => connection.write(`number ${index}`)))
      for (const [index, connection] of all.entries()) {
        const wanted = `number ${index}`
        equal(text(await connection.read(wanted.length)), wanted)
      }
    },
  },
  {
    id: "1.8.no-tcp",
    title: "--no-tcp: connections get no answer",
    async run(t) {
      const guest = await t.guest(["--no-tcp"])
      guest.tcpTo(SERVER.ipv4, PORT.echo).sendSyn()
      const { udp } = await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")
      equal(udp!.payload.toString(), "hello")
      deepEqual((await guest.fence()).filter((packet) => packet.tcp !== undefined).length, 0)
    },
  },
  ...both(({ host, router }) => ({
    id: "1.8.tcp-inbound",
    title: "a connection to a forwarded port reaches the guest, from the client's address, and carries data both ways",
    async run(t) {
      const guest = await t.guest(["-t", "20003"])
      const accepting = guest.acceptTcp(20_003)
      const client = await t.worldPeer.connect(host, 20_003)
      const connection = await accepting
      deepEqual([connection.remote, connection.remotePort, connection.local], [router, client.localPort, host])
      await client.write("hello")
      equal(text(await connection.read(5)), "hello")
      await connection.write("world")
      equal(text(await client.read(5)), "world")
      await client.end()
      await connection.ended()
      connection.end()
      equal(await client.finish(), "ended")
    },
  })),
  {
    id: "1.8.tcp-inbound-refused",
    title: "a connection to a forwarded port that the guest refuses is reset",
    reference: "differs",
    because: "older versions make an orderly end of it",
    async run(t) {
      const guest = await t.guest(["-t", "20003"])
      const refusing = guest.refuseTcp(20_003)
      // The reset may come before the client has noticed that it is connected.
      const outcome = t.worldPeer.connect(HOST.ipv4, 20_003).then(
        (client) => client.finish(),
        (error: SocketError) => error.code,
      )
      await refusing
      equal(await outcome, "ECONNRESET")
    },
  },
  {
    id: "1.8.tcp-inbound-retry",
    title: "a SYN that the guest doesn't answer is repeated",
    reference: "differs",
    because: "the reference repeats it with another number, or, in older versions, not within 20 seconds",
    async run(t) {
      const guest = await t.guest(["-t", "20003"])
      await t.worldPeer.connect(HOST.ipv4, 20_003)
      const syn = (): Promise<number> =>
        guest.find("a SYN", (p) => p.tcp?.destinationPort === 20_003 && p.tcp.flags === "S" && p.tcp.seq)
      const first = await syn()
      equal(await syn(), first)
    },
  },
]

export const tcpArea: Area = { title: "TCP", checks }
