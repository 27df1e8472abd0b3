/** Decisions about flows, and services that are the program itself; the guest is in memory. */
import { once } from "node:events"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import {
  createEngine,
  type Engine,
  type EngineConfig,
  type FlowHandler,
  type FlowQuestion,
  MemoryLink,
  startEngine,
} from "./index.ts"
import { TinyGuest } from "./test-support/tiny-guest.ts"

const HOST = "192.0.2.2"
const NETWORK = {
  ipv6: false,
  address: "192.0.2.15/24",
  gateway: "192.0.2.1",
  hostLoopback: HOST,
  followHost: false,
}

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

async function running(more: object): Promise<{ engine: Engine; guest: TinyGuest }> {
  const link = new MemoryLink()
  const engine = await startEngine({ guest: link, ...NETWORK, ...more })
  ends.push(() => engine.stop())
  return { engine, guest: new TinyGuest(link, "192.0.2.15") }
}

async function serverOf(text: string): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => {}).end(text))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  ends.push(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Says what it was asked, and repeats the rest. */
function greet(socket: Socket, flow: FlowQuestion): void {
  socket.on("error", () => {})
  socket.write(`hello ${flow.guest.address}, `)
  socket.on("data", (data) => socket.write(data.toString().toUpperCase()))
  socket.on("end", () => socket.end())
}

async function talk(guest: TinyGuest, address: string, port: number, words = "me"): Promise<string> {
  const connection = guest.connect(address, port)
  await connection.opened
  connection.write(words)
  connection.end()
  return connection.ended
}

describe("a service that is the program", () => {
  it("is reached at its address and port, by many at once, and nowhere else", async () => {
    const { engine, guest } = await running({ services: [{ address: "203.0.113.7", port: 80, onConnection: greet }] })
    const texts = await Promise.all(Array.from({ length: 20 }, (_, i) => talk(guest, "203.0.113.7", 80, `no. ${i}`)))
    expect(texts).toEqual(Array.from({ length: 20 }, (_, i) => `hello 192.0.2.15, NO. ${i}`))
    expect(engine.stats().policyRedirected).toBe(20)
    const before = engine.stats().policyRedirected
    guest.connect("203.0.113.7", 81).opened.catch(() => {})
    await expect.poll(() => engine.stats().tcpFlows).toBe(21)
    expect(engine.stats().policyRedirected).toBe(before)
  })

  it("comes and goes at run time, and moves much in both directions", async () => {
    const { engine, guest } = await running({})
    const megabyte = "x".repeat(1 << 20)
    const service = engine.serve({
      address: "192.0.2.99",
      port: 7,
      onConnection: (socket) =>
        void socket
          .on("error", () => {})
          .resume()
          .end(megabyte),
    })
    expect(() => engine.serve({ address: "192.0.2.99", port: 7, onConnection: greet })).toThrow(/already/)
    const got = await talk(guest, "192.0.2.99", 7)
    expect(got.length).toBe(megabyte.length)
    service.close()
    service.close()
    engine.serve({ address: "192.0.2.99", port: 7, onConnection: greet })
    expect(await talk(guest, "192.0.2.99", 7)).toBe("hello 192.0.2.15, ME")
  })

  it("sees its connections end with the engine", async () => {
    const met = Promise.withResolvers<Socket>()
    const onConnection = (socket: Socket): void => met.resolve(socket.on("error", () => {}))
    const { engine, guest } = await running({ services: [{ address: "203.0.113.7", port: 80, onConnection }] })
    await guest.connect("203.0.113.7", 80).opened
    const socket = await met.promise
    const closed = once(socket.resume(), "close")
    await engine.stop()
    await closed
  })
})

describe("rules as data", () => {
  it("decide, and ask the function where they say so", async () => {
    const port = await serverOf("the server")
    const asked: string[] = []
    const { engine, guest } = await running({
      policy: {
        rules: [
          { action: "allow", protocol: "tcp", remote: "127.0.0.0/8", port },
          { action: "ask", remote: ["198.51.100.0/24", "203.0.113.0/24"], label: "strangers" },
        ],
      },
      services: [{ address: "192.0.2.99", port: 80, onConnection: greet }],
      onFlow: ((flow) => {
        asked.push(flow.far!.address)
        return "refuse"
      }) as FlowHandler,
    })
    expect(await talk(guest, HOST, port)).toBe("the server")
    expect(await talk(guest, "192.0.2.99", 80)).toBe("hello 192.0.2.15, ME")
    await expect(guest.connect("203.0.113.1", 80).opened).rejects.toThrow("reset")
    await expect(guest.connect("192.0.2.200", 80).opened).rejects.toThrow("reset")
    expect(asked).toEqual(["203.0.113.1"])
    await engine.setPolicy(`{ "default": "refuse", "existing-flows": "end" }`)
    await expect(guest.connect(HOST, port).opened).rejects.toThrow("reset")
    expect(await talk(guest, "192.0.2.99", 80)).toBe("hello 192.0.2.15, ME")
    await expect(engine.setPolicy({ rules: [{ action: "allow", port: "http" }] })).rejects.toMatchObject({
      field: "policy.rules[0].port",
      code: "ERR_PASST_CONFIG",
    })
    await expect(guest.connect(HOST, port).opened).rejects.toThrow("reset")
  })

  it("with a mistake in them are refused before anything is opened", () => {
    for (const [policy, field] of [
      [{ rules: [{ action: "permit" }] }, "policy.rules[0].action"],
      [{ default: "ask" }, "policy.default"],
      [{ defualt: "allow" }, "policy.defualt"],
      [7, "policy"],
      ["{", "policy"],
    ]) {
      expect(() => createEngine({ guest: new MemoryLink(), policy } as unknown as EngineConfig)).toThrow(
        expect.objectContaining({ field }),
      )
    }
  })
})

describe("a decision about a flow", () => {
  it("may be any, at once or later, and is asked for once", async () => {
    const port = await serverOf("the server")
    const asked: string[] = []
    const onFlow: FlowHandler = async (flow) => {
      asked.push(`${flow.protocol} ${flow.far?.address}:${flow.far?.port}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (flow.far?.address === "198.51.100.1") return { action: "redirect", address: "127.0.0.1", port }
      if (flow.far?.address === "198.51.100.2") return { action: "redirect", handler: greet, label: "greeter" }
      return flow.far?.address === HOST ? "allow" : "refuse"
    }
    const { engine, guest } = await running({ onFlow })
    expect(await talk(guest, HOST, port)).toBe("the server")
    expect(await talk(guest, "198.51.100.1", 80)).toBe("the server")
    expect(await talk(guest, "198.51.100.2", 80)).toBe("hello 192.0.2.15, ME")
    await expect(guest.connect("198.51.100.3", 80).opened).rejects.toThrow("reset")
    expect(asked).toEqual([`tcp ${HOST}:${port}`, "tcp 198.51.100.1:80", "tcp 198.51.100.2:80", "tcp 198.51.100.3:80"])
    expect(engine.stats()).toMatchObject({ policyAllowed: 1, policyRedirected: 2, policyRefused: 1, policyFailures: 0 })
  })

  it("is no where the function throws, rejects, answers nonsense or never; and the engine goes on", async () => {
    const port = await serverOf("still there")
    const never = new Promise<never>(() => {})
    const answers: Record<string, FlowHandler> = {
      "198.51.100.1": () => {
        throw new Error("thrown")
      },
      "198.51.100.2": () => Promise.reject(new Error("rejected")),
      "198.51.100.3": () => "perhaps" as "allow",
      "198.51.100.4": () => never,
      "198.51.100.5": () => ({ action: "redirect", handler: 7 as unknown as () => void }),
    }
    const { engine, guest } = await running({
      onFlow: ((flow) => answers[flow.far!.address]?.(flow) ?? "allow") as FlowHandler,
      onFlowDeadlineMs: 200,
    })
    const lines: string[] = []
    engine.on("log", (_level, message) => lines.push(message))
    const addresses = Object.keys(answers)
    for (const address of addresses) await expect(guest.connect(address, 80).opened).rejects.toThrow("reset")
    expect(engine.stats().policyFailures).toBe(addresses.length)
    expect(lines.some((line) => line.includes("thrown"))).toBe(true)
    expect(await talk(guest, HOST, port)).toBe("still there")
  })

  it("that comes after the engine is gone, or the guest, does no harm", async () => {
    const answer = Promise.withResolvers<"allow">()
    const { engine, guest } = await running({ onFlow: () => answer.promise })
    guest.connect(HOST, 80).opened.catch(() => {})
    guest.sendDatagram(HOST, 53, Buffer.from("held"))
    await expect.poll(() => engine.stats().framesFromGuest).toBe(2)
    await engine.stop()
    answer.resolve("allow")
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(engine.state).toBe("stopped")
  })
})
