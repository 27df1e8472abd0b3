/** Names that a guest asks for over TCP, with real sockets: what is overheard, refused, and given up. */
import { once } from "node:events"
import { readdirSync } from "node:fs"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { type Engine, type FlowHandler, MemoryLink, startEngine } from "./index.ts"
import { type TinyConnection, TinyGuest } from "./test-support/tiny-guest.ts"

const RESOLVER = "192.0.2.53"
const NAME = "www.example.org"

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

function query(name: string, id = 0): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  const message = Buffer.concat([
    Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    ...labels,
    Buffer.from([0, 0, 1, 0, 1]),
  ])
  return framed(message)
}

function framed(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message])
}

/** Answers with one address, and so many bytes behind that. */
function answer(message: Buffer, address: readonly number[], more = 0): Buffer {
  const head = Buffer.from(message)
  head[2] = 0x81
  head[7] = 1
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address])
  return framed(Buffer.concat([head, record, Buffer.alloc(more)]))
}

/** What the messages of a stream are, or were until it broke off: identifier and code. */
function codes(stream: Buffer): string[] {
  const found: string[] = []
  for (let at = 0; at + 2 <= stream.length && at + 2 + stream.readUInt16BE(at) <= stream.length;) {
    found.push(`${stream[at + 3]}:${stream[at + 5]! & 15}`)
    at += 2 + stream.readUInt16BE(at)
  }
  return found
}

/** A resolver of one answer for each query. */
function resolve(socket: Socket, more = 0): void {
  let got = Buffer.alloc(0)
  socket.on("error", () => {})
  socket.on("data", (data: Buffer) => {
    got = Buffer.concat([got, data])
    while (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) {
      const message = got.subarray(2, 2 + got.readUInt16BE(0))
      got = got.subarray(2 + message.length)
      socket.write(answer(message, [198, 51, 100, message[1]!], more))
    }
  })
}

async function serve(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    sockets.add(socket.on("error", () => {}).once("close", () => sockets.delete(socket)))
    onConnection(socket)
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  ends.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

const descriptors = (): number => readdirSync("/proc/self/fd").length

describe("a guest that may go to names", () => {
  let port: number
  let serveWith: (socket: Socket) => void
  let engine: Engine
  let guest: TinyGuest
  const start = async (to: number, more: object = {}): Promise<void> => {
    const link = new MemoryLink()
    engine = await startEngine({
      guest: link,
      ipv6: false,
      address: "192.0.2.15/24",
      gateway: "192.0.2.1",
      followHost: false,
      dns: [RESOLVER],
      policy: {
        dns: { names: "only-allowed", "private-answers": "refuse" },
        rules: [
          { action: "redirect", protocol: "tcp", port: 53, to: `127.0.0.1:${to}` },
          { action: "allow", name: "*.example.org", port: 80 },
        ],
      },
      ...more,
    })
    ends.push(() => engine.stop())
    guest = new TinyGuest(link, "192.0.2.15")
  }
  beforeEach(async () => {
    serveWith = (socket) => resolve(socket)
    port = await serve((socket) => serveWith(socket))
  })

  it("asks over TCP, in pieces and for several at once, and is heard", async () => {
    await start(port)
    await expect(guest.connect("198.51.100.7", 80).opened).rejects.toThrow("reset")
    const connection = guest.connect(RESOLVER, 53)
    await connection.opened
    const asked = Buffer.concat([query(NAME, 7), query("secret.example", 8), query(NAME, 9)])
    for (const byte of asked) connection.write(Buffer.from([byte]))
    await expect.poll(() => codes(connection.received).toSorted()).toEqual(["7:0", "8:5", "9:0"])
    expect(engine.stats()).toMatchObject({ policyStreams: 1, policyNamesRefused: 1 })
    const tcpFlows = engine.stats().tcpFlows
    // Nobody is there, but it may be looked for.
    guest.connect("198.51.100.7", 80).opened.catch(() => {})
    await expect.poll(() => engine.stats().tcpFlows).toBe(tcpFlows + 1)
    connection.end()
    await connection.ended
  })

  it("gets the longest answers", async () => {
    serveWith = (socket) => resolve(socket, 65_535 - 49)
    await start(port)
    const connection = guest.connect(RESOLVER, 53)
    await connection.opened
    for (let id = 0; id < 20; id++) connection.write(query(NAME, id))
    await expect.poll(() => connection.received.length, { timeout: 10_000 }).toBe(20 * 65_537)
    expect(codes(connection.received)).toHaveLength(20)
  })

  it("is refused where its resolver refuses", async () => {
    const nobody = await serve(() => {})
    await ends.pop()!()
    await start(nobody)
    await expect(guest.connect(RESOLVER, 53).opened).rejects.toThrow("reset")
    expect(engine.stats().policyStreams).toBe(0)
  })

  it("gets the whole answers of a resolver that breaks off, and its end", async () => {
    serveWith = (socket) =>
      socket.once("data", (data: Buffer) => {
        const whole = answer(data.subarray(2), [198, 51, 100, 1])
        socket.write(Buffer.concat([whole, whole.subarray(0, 9)]), () => socket.resetAndDestroy())
      })
    await start(port)
    const connection = guest.connect(RESOLVER, 53)
    await connection.opened
    connection.write(query(NAME, 3))
    // A reset may come before what has been sent has been read.
    await connection.ended.catch(() => {})
    expect(["", "3:0"]).toContain(codes(connection.received).join())
    await expect.poll(() => engine.stats().policyStreamsGivenUp).toBe(1)
  })

  it("asks a resolver that is the program's own function", async () => {
    const onFlow: FlowHandler = (flow) =>
      flow.port === 53 ? { action: "redirect", handler: (socket) => resolve(socket) } : "refuse"
    await start(port, {
      policy: {
        dns: {},
        rules: [
          { action: "ask", protocol: "tcp", port: 53 },
          { action: "allow", name: NAME },
        ],
      },
      onFlow,
    })
    const connection = guest.connect(RESOLVER, 53)
    await connection.opened
    connection.write(query(NAME, 5))
    await expect.poll(() => codes(connection.received)).toEqual(["5:0"])
    expect(engine.stats().policyStreams).toBe(1)
  })

  it("may open thousands of connections, most of which are refused; none is left over", async () => {
    await start(port)
    const before = descriptors()
    const all: TinyConnection[] = []
    const opened: PromiseSettledResult<void>[] = []
    // As many as the link has room for: this guest sends nothing twice.
    while (all.length < 2000) {
      const some = Array.from({ length: 50 }, () => guest.connect(RESOLVER, 53))
      opened.push(...(await Promise.allSettled(some.map((connection) => connection.opened))))
      all.push(...some)
    }
    const alive = all.filter((_, i) => opened[i]!.status === "fulfilled")
    expect(alive).toHaveLength(32)
    expect(engine.stats().policyStreamsRefused).toBe(2000 - 32)
    for (const [i, connection] of alive.entries()) {
      if (i % 3 === 0) connection.write(Buffer.alloc(1000, i))
      else connection.write(query(NAME, i))
      if (i % 2 === 0) connection.end()
    }
    await Promise.all(alive.filter((_, i) => i % 2 === 0).map((connection) => connection.ended))
    const more = guest.connect(RESOLVER, 53)
    await more.opened
    await engine.stop()
    await expect.poll(descriptors).toBeLessThanOrEqual(before)
  })
})
