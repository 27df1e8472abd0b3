/** Guests behind sockets: they come, go, break off in the middle of a frame, and come again. */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { once } from "node:events"
import { connect, Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, describe, expect, it } from "vitest"
import { type Engine, type EngineEvent, GuestSocket, startEngine } from "./index.ts"

const folder = mkdtempSync(join(tmpdir(), "passt-engine-"))
afterAll(() => rmSync(folder, { recursive: true }))
const NETWORK = { ipv6: false, address: "192.0.2.15/24", gateway: "192.0.2.1", followHost: false }
const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56]

/** "Who has the gateway's address?", behind its length. */
const ARP = [8, 6, 0, 1, 8, 0, 6, 4, 0]
const ADDRESSES = [192, 0, 2, 15, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1]
const QUESTION = Buffer.from([0, 0, 0, 42, 255, 255, 255, 255, 255, 255, ...MAC, ...ARP, 1, ...MAC, ...ADDRESSES])

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

async function running(guest: Parameters<typeof startEngine>[0]["guest"]): Promise<Engine> {
  const engine = await startEngine({ guest, ...NETWORK })
  ends.push(() => engine.stop())
  return engine
}

/** Asks, and waits for the ARP answer. */
async function ask(client: Socket): Promise<void> {
  client.write(QUESTION)
  let got = Buffer.alloc(0)
  while (!got.includes(Buffer.from([...ARP, 2]))) {
    got = Buffer.concat([got, ((await once(client, "data")) as [Buffer])[0]])
  }
}

describe("a guest behind a path", () => {
  it("comes, breaks off in the middle of a frame, and the next one is served", async () => {
    const path = join(folder, "guest.sock")
    const engine = await running({ kind: "unix", path })
    expect(engine.path).toBe(path)
    const events: EngineEvent[] = []
    const reading = (async () => {
      for await (const event of engine.events()) events.push(event)
    })()
    for (const rest of [QUESTION.subarray(0, 2), QUESTION.subarray(0, 20), Buffer.from([0, 1, 0, 0])]) {
      const client = connect(path).on("error", () => {})
      await ask(client)
      const gone = once(engine, "guestDisconnected")
      client.end(rest)
      await gone
    }
    const last = connect(path)
    await ask(last)
    last.destroy()
    await engine.stop()
    await reading
    expect(existsSync(path)).toBe(false)
    expect(events.filter(({ type }) => type === "guestConnected")).toHaveLength(4)
    expect(events[0]).toEqual({ type: "guestConnected", pid: process.pid })
    expect(events.filter(({ type }) => type === "guestDisconnected").length).toBeGreaterThanOrEqual(3)
  })

  it("is one at a time, and so is who listens", async () => {
    const path = join(folder, "taken.sock")
    await running({ kind: "unix", path })
    await expect(startEngine({ guest: { kind: "unix", path }, ...NETWORK })).rejects.toThrow(/in use already/)
    expect(statSync(path).isSocket()).toBe(true)
    const file = join(folder, "file")
    writeFileSync(file, "somebody's")
    await expect(startEngine({ guest: { kind: "unix", path: join(file, "x") }, ...NETWORK })).rejects.toMatchObject({
      code: "ERR_PASST_START",
    })
  })

  it("speaks vhost-user, and nonsense ends the connection in words", async () => {
    const path = join(folder, "vhost.sock")
    const engine = await running({ kind: "vhost-user", path })
    const client = connect(path).on("error", () => {})
    ends.push(() => client.destroy())
    const connected = once(engine, "guestConnected")
    await once(client, "connect")
    await connected
    const gone = once(engine, "guestDisconnected") as Promise<[string]>
    client.write(Buffer.alloc(64, 0xff))
    expect((await gone)[0]).not.toBe("")
  })
})

describe("a socket pair", () => {
  it("is a guest's network, for a child or for anybody with the descriptor", async () => {
    using socket = new GuestSocket()
    const engine = await running(socket)
    const guest = new Socket({ fd: socket.fd })
    await ask(guest)
    const gone = once(engine, "guestDisconnected")
    guest.destroy()
    // The descriptor was the guest's.
    Object.defineProperty(socket, "release", { value: () => {} })
    await gone
    await expect(startEngine({ guest: socket, ...NETWORK })).rejects.toThrow(/in use already/)
    expect(socket.qemuArgs(5, "e1000", "net")).toEqual([
      "-netdev",
      "stream,id=net,addr.type=fd,addr.str=5",
      "-device",
      "e1000,netdev=net",
    ])
  })

  it("leaves nothing behind when nobody uses it", () => {
    const socket = new GuestSocket()
    socket[Symbol.dispose]()
    socket.release()
    expect(() => socket.take()).toThrow(/in use already/)
  })
})
