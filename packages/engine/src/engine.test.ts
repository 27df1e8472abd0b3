/** An engine whose guest is in memory: what a program sees of it from start to stop. */
import { createSocket, type Socket as DatagramSocket } from "node:dgram"
import { once } from "node:events"
import { readdirSync } from "node:fs"
import { connect, createServer, type Server } from "node:net"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { type AddressInfo } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import {
  CHANNELS,
  createEngine,
  type Engine,
  type EngineEvent,
  type Flow,
  type Forward,
  MemoryLink,
  startEngine,
} from "./index.ts"
import { TinyGuest } from "./test-support/tiny-guest.ts"

const GUEST = "192.0.2.15"
/** Where the guest reaches the host's loopback. */
const HOST = "192.0.2.2"
const NETWORK = { ipv6: false, address: `${GUEST}/24`, gateway: "192.0.2.1", hostLoopback: HOST, followHost: false }

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

async function running(more: object = {}): Promise<{ engine: Engine; link: MemoryLink; guest: TinyGuest }> {
  const link = new MemoryLink()
  const engine = await startEngine({ guest: link, ...NETWORK, ...more })
  ends.push(() => engine.stop())
  return { engine, link, guest: new TinyGuest(link, GUEST) }
}

/** A server on a port of the loopback's that sends back what it gets. */
async function echoServer(): Promise<number> {
  const server: Server = createServer((socket) => socket.pipe(socket).on("error", () => {}))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  ends.push(() => server.close())
  return (server.address() as AddressInfo).port
}

async function echoDatagrams(): Promise<number> {
  const socket: DatagramSocket = createSocket("udp4")
  socket.on("message", (message, from) => socket.send(message, from.port, from.address))
  socket.bind(0, "127.0.0.1")
  await once(socket, "listening")
  ends.push(() => socket.close())
  return socket.address().port
}

const descriptors = (): number => readdirSync("/proc/self/fd").length

describe("a guest in memory", () => {
  it("reaches a server of the host's by TCP", async () => {
    const port = await echoServer()
    const { guest } = await running()
    const connection = guest.connect(HOST, port)
    await connection.opened
    connection.write("hello")
    connection.end()
    expect(await connection.ended).toBe("hello")
  })

  it("and by UDP", async () => {
    const port = await echoDatagrams()
    const { guest } = await running()
    const answer = new Promise<string>((resolve) => {
      guest.onDatagram = (payload, from) => resolve(`${Buffer.from(payload).toString()} from ${from}`)
    })
    guest.sendDatagram(HOST, port, Buffer.from("ping"))
    expect(await answer).toBe(`ping from ${HOST}`)
  })

  it("is told no by default where it wants the host's loopback", async () => {
    const port = await echoServer()
    const { guest, engine } = await running({ hostLoopback: undefined, gateway: "192.0.2.1" })
    guest.connect("127.0.0.1", port)
    await expect.poll(() => engine.stats().dropLoopback).toBe(1)
  })

  it("speaks through streams as well", async () => {
    const port = await echoDatagrams()
    const link = new MemoryLink()
    const out = link.readable()
    const into = link.writable().getWriter()
    const engine = await startEngine({ guest: link, ...NETWORK })
    ends.push(() => engine.stop())
    const { udpFrame } = await import("./test-support/tiny-guest.ts")
    await into.write(udpFrame(GUEST, 5000, HOST, port, Buffer.from("by stream")))
    for await (const frame of out) {
      if (Buffer.from(frame).includes("by stream")) break
    }
  })
})

describe("flows", () => {
  it("are told of when they begin and end, with totals, in four ways", async () => {
    const port = await echoServer()
    const { engine, guest } = await running()
    const seen: string[] = []
    engine.on("flowOpen", (flow) =>
      seen.push(`open ${flow.id} ${flow.protocol} ${flow.far?.address}:${flow.far?.port}`),
    )
    const closed = once(engine, "flowClose") as Promise<[Flow]>
    const published: unknown[] = []
    const listener = (message: unknown): void => void published.push((message as { engine: Engine }).engine)
    subscribe(CHANNELS.flowClose, listener)
    ends.push(() => unsubscribe(CHANNELS.flowClose, listener))
    const events = engine.events()
    const connection = guest.connect(HOST, port)
    await connection.opened
    const [flow] = engine.flows()
    expect(flow).toMatchObject({ id: 1, protocol: "tcp", direction: "out", peer: { address: "127.0.0.1", port } })
    const again: Flow[] = []
    for await (const one of engine.flows()) again.push(one)
    expect(again).toHaveLength(1)
    connection.write("hello")
    connection.end()
    await connection.ended
    const [end] = await closed
    expect(end).toMatchObject({ id: 1, bytesFromGuest: 5, bytesToGuest: 5, guest: { address: GUEST } })
    expect(seen).toEqual([`open 1 tcp ${HOST}:${port}`])
    expect(published).toEqual([engine])
    const types: EngineEvent["type"][] = []
    await engine.stop()
    for await (const event of events) types.push(event.type)
    expect(types).toEqual(["flowOpen", "flowClose"])
    expect([...engine.flows()]).toEqual([])
  })

  it("that nobody reads of are counted as lost, not kept", async () => {
    const { engine } = await running()
    const { EventQueue } = await import("./events.ts")
    const queue = new EventQueue(() => {})
    for (let i = 0; i < 25_000; i++) queue.push({ type: "guestConnected", pid: i })
    expect((await queue.next()).value).toEqual({ type: "lost", count: 15_000 })
    expect((await queue.next()).value).toEqual({ type: "guestConnected", pid: 15_000 })
    await queue.return()
    expect(await queue.next()).toEqual({ value: undefined, done: true })
    const controller = new AbortController()
    const events = engine.events({ signal: controller.signal })
    const next = events.next()
    controller.abort(new Error("enough"))
    await expect(next).rejects.toThrow("enough")
  })
})

describe("forwards", () => {
  const forwarded = { protocol: "tcp", ports: "" } as const

  it("come and go one by one, each with its result", async () => {
    const free = await echoServer()
    const { engine } = await running()
    const [taken] = await engine.addForward({ ...forwarded, ports: `127.0.0.1/${free}` })
    expect(taken).toMatchObject({ number: 0, open: 0 })
    expect(taken!.error).toContain("in use")
    await ends.splice(0, 1)[0]!()
    await expect
      .poll(async () => (await engine.addForward({ ...forwarded, ports: `127.0.0.1/${free}:80` }))[0]!.error)
      .toBe("")
    const [rule] = engine.forwards()
    expect(rule).toMatchObject({ first: free, open: 1, rule: `TCP [127.0.0.1]:${free}  =>  80` })
    const twice = await engine.addForward({ ...forwarded, ports: `127.0.0.1/${free}` })
    expect(twice[0]!.error).toContain("Conflicts with")
    expect(await engine.removeForward(rule!.number)).toBe(true)
    expect(await engine.removeForward(rule!.number)).toBe(false)
    expect(engine.forwards()).toEqual([])
    await expect(engine.addForward({ ...forwarded, ports: "80:x" })).rejects.toThrow(/^forward.ports: /)
  })

  it("get a free port for port 0, of each protocol and address", async () => {
    const { engine } = await running()
    for (const protocol of ["tcp", "udp"] as const) {
      for (const address of ["", "127.0.0.1/", "%lo/"]) {
        const results = await engine.addForward({ protocol, ports: `${address}0:80` })
        expect(results).toEqual([expect.objectContaining({ error: "", open: 1 })])
        expect(results[0]!.first).toBeGreaterThan(1023)
        expect(results[0]!.rule).toMatch(/=> {2}80$/)
      }
    }
    expect(new Set(engine.forwards().map(({ first }) => first)).size).toBeGreaterThan(1)
    const impossible = { protocol: "tcp", ports: "198.51.100.99/0:80" } as const
    await expect(engine.addForward(impossible)).rejects.toThrow(/^forward.ports: no free port: .*EADDRNOTAVAIL/)
    for (const ports of ["0", "0-5:80-85", "0:0", "127.0.0.1/0"]) {
      await expect(engine.addForward({ protocol: "tcp", ports })).rejects.toThrow(/^forward.ports: /)
    }
  })

  it("of thousands of ports leave the loop to others", async () => {
    const { engine } = await running()
    let rounds = 0
    const tick = (): void => void (rounds++ < 1e6 && setImmediate(tick))
    tick()
    const [result] = await engine.addForward({ ...forwarded, ports: "127.9.9.9/20000-21999" })
    rounds = 1e6
    expect(result).toMatchObject({ open: 2000, error: "" })
  })

  it("bring connections to the guest", async () => {
    const { engine, link } = await running()
    const [{ first }] = (await engine.addForward({ protocol: "tcp", ports: "127.0.0.1/0:7" })) as [Forward]
    const syn = new Promise<number>((resolve) => {
      link.onFrame = (frame) => {
        if (frame[23] === 6 && frame[47] === 2) resolve((frame[36]! << 8) | frame[37]!)
      }
    })
    const client = connect(first, "127.0.0.1").on("error", () => {})
    ends.push(() => client.destroy())
    expect(await syn).toBe(7)
  })
})

describe("the life of an engine", () => {
  it("leaves no descriptor behind", async () => {
    const port = await echoServer()
    const one = async (): Promise<void> => {
      await using engine = await startEngine({ guest: new MemoryLink(), ...NETWORK, followHost: true })
      expect(engine.state).toBe("running")
      const [result] = await engine.addForward({ protocol: "udp", ports: "127.0.0.1/24001" })
      expect(result!.error).toBe("")
    }
    await one()
    const before = descriptors()
    for (let i = 0; i < 5; i++) await one()
    expect(descriptors()).toBe(before)
    expect(port).toBeGreaterThan(0)
  })

  it("may be stopped at any time, any number of times", async () => {
    const never = createEngine({ guest: new MemoryLink(), ...NETWORK })
    await never.stop()
    await never[Symbol.asyncDispose]()
    expect(never.state).toBe("stopped")
    await expect(never.start()).rejects.toMatchObject({ code: "ERR_PASST_STATE" })

    const engine = createEngine({
      guest: new MemoryLink(),
      ...NETWORK,
      forwards: [{ protocol: "tcp", ports: "127.8.8.8/25000-29999" }],
    })
    const starting = engine.start()
    const stopping = engine.stop()
    expect(engine.stop()).toBe(stopping)
    await expect(starting).rejects.toMatchObject({ code: "ERR_PASST_STATE" })
    await stopping
    expect(engine.state).toBe("stopped")
    expect(() => engine.addForward({ protocol: "tcp", ports: "80" })).toThrow(/stopped, not running/)
  })

  it("ends by its signal, before, during and after the start", async () => {
    const config = { guest: new MemoryLink(), ...NETWORK }
    await expect(startEngine({ ...config, signal: AbortSignal.abort(new Error("no")) })).rejects.toThrow("no")
    const during = new AbortController()
    const starting = startEngine({ ...config, signal: during.signal })
    during.abort(new Error("not now"))
    await expect(starting).rejects.toThrow("not now")
    const after = new AbortController()
    const engine = await startEngine({ ...config, signal: after.signal })
    const closed = once(engine, "close")
    after.abort()
    await closed
    expect(engine.state).toBe("stopped")
  })

  it("is over when a callback of a turn stops it", async () => {
    const port = await echoDatagrams()
    const { engine, link, guest } = await running()
    const closed = once(engine, "close")
    link.onFrame = () => void engine.stop()
    guest.sendDatagram(HOST, port, Buffer.from("x"))
    await closed
    expect(guest.sendDatagram(HOST, port, Buffer.from("x"))).toBe(false)
  })

  it("does not touch another engine's", async () => {
    const port = await echoServer()
    const first = await running()
    const second = await running()
    await first.engine.stop()
    const connection = second.guest.connect(HOST, port)
    await connection.opened
    expect(second.engine.state).toBe("running")
    await expect(startEngine({ guest: second.link, ...NETWORK })).rejects.toMatchObject({ code: "ERR_PASST_STATE" })
    expect(second.engine.state).toBe("running")
  })
})
