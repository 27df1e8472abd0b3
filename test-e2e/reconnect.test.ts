// The guest's machine goes and comes, says nonsense, or shares the socket with others.
import { connect } from "node:net"
import type { Socket } from "node:net"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT, SERVER } from "../tools/world/addresses.ts"
import { ask, clientCommand } from "../tools/world/ask.ts"
import { LINK, startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { ended, until } from "../tools/world/process.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { createBridgedGuest } from "./lib/bridged-guest.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"

/** A client that is none of the machines passt knows: bytes to a socket. Resolves when the other side has closed. */
function say(path: string, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.write(bytes))
    socket.on("error", () => {})
    socket.on("close", () => resolve())
    socket.resume()
  })
}

function opened(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket))
    socket.once("error", reject)
  })
}

describe.skipIf(missing(["tun"]).length > 0)(`guests that come and go${skipNote("tun")}`, () => {
  let world: World
  let passt: Passt
  beforeAll(async () => {
    world = await createWorld()
  })
  afterEach(() => passt?.stop())
  afterAll(() => world?.close())

  async function expectOnline(): Promise<void> {
    const guest = await createBridgedGuest(passt.socket)
    try {
      for (const { server } of FAMILIES) {
        expect(await ask(guest, "tcp", server, PORT.echo, "hello")).toMatchObject({ text: "hello" })
      }
    } finally {
      await guest.close()
    }
  }

  test("killed in the middle of transfers both ways, and started again", async () => {
    passt = await startPasst(world.host, ["-t", "10007:7"])
    const guest = await createBridgedGuest(passt.socket)
    for (let round = 0; round < 3; round++) {
      const count = 2 ** 31
      const transfers = [
        guest.start(clientCommand("upload", SERVER.ipv4, PORT.digest, count, 1)),
        guest.start(clientCommand("download", SERVER.ipv6, PORT.stream, count, 1)),
      ]
      await new Promise((resolve) => setTimeout(resolve, 700))
      await guest.unplug()
      for (const transfer of transfers) transfer.kill("SIGKILL")
      expect(passt.process.exitCode).toBeNull()
      await guest.plug(passt.socket)
      const size = 2 ** 20
      const result = await ask(guest, "download", SERVER.ipv4, PORT.stream, size, round)
      expect(result).toMatchObject({ count: size, digest: streamDigest(size, round) })
    }
    await guest.close()
  })

  test("a connection survives when the machine's socket reconnects", async () => {
    passt = await startPasst(world.host)
    const guest = await createBridgedGuest(passt.socket)
    const holding = guest.start(clientCommand("hold", SERVER.ipv4, PORT.silent))
    await new Promise((resolve) => holding.stdout?.once("data", resolve))
    const established = ["ss", "--no-header", "--tcp", "state", "established", "dport", `= :${PORT.silent}`]
    await until("the host's socket", 5000, async () => (await world.host.must(established)).includes(SERVER.ipv4))
    await guest.unplug()
    await guest.plug(passt.socket)
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "again")).toMatchObject({ text: "again" })
    expect(await world.host.must(established)).toContain(SERVER.ipv4)
    await guest.close()
  })

  // Bytes of the stream socket's framing; test-e2e/vhost-user.test.ts has nonsense of the other kind.
  test.skipIf(LINK === "vhost-user")("garbage: the client is dropped, the next one is served", async () => {
    passt = await startPasst(world.host)
    const frames: Buffer[] = [
      Buffer.alloc(100_000, 0xff),
      Buffer.from([0, 0, 0, 0]),
      Buffer.from([0, 0, 0, 13, 1, 2, 3]),
      Buffer.from([0x7f, 0xff, 0xff, 0xff]),
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
    ]
    for (const bytes of frames) await say(passt.socket, bytes)
    expect(passt.process.exitCode).toBeNull()
    await expectOnline()
  })

  test.skipIf(LINK === "vhost-user")(
    "frames of random bytes, in good framing: dropped, and the guest goes on",
    async () => {
      passt = await startPasst(world.host)
      const socket = await opened(passt.socket)
      let state = 12_345
      const random = (): number => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
        return state >>> 8
      }
      for (let index = 0; index < 20_000; index++) {
        const frame = Buffer.alloc(4 + 14 + (random() % 200))
        for (let at = 18; at < frame.length; at++) frame[at] = random()
        frame.writeUInt32BE(frame.length - 4, 0)
        // Mostly protocols that passt reads further into: IPv4, IPv6, ARP; a plausible first byte for each.
        const kind = random() % 4
        frame.writeUInt16BE([0x0800, 0x86dd, 0x0806, random() & 0xffff][kind] ?? 0, 16)
        if (kind === 0 && frame.length > 40) {
          frame[18] = 0x45
          frame.writeUInt16BE(frame.length - 18, 20)
          frame[27] = [1, 6, 17, 2][random() % 4] ?? 0
        } else if (kind === 1 && frame.length > 60) {
          frame[18] = 0x60
          frame.writeUInt16BE(frame.length - 58, 22)
          frame[24] = [58, 6, 17, 0, 44][random() % 5] ?? 0
        }
        if (!socket.write(frame)) await new Promise((resolve) => socket.once("drain", resolve))
        if (socket.destroyed) break
      }
      expect(socket.destroyed).toBe(false)
      socket.destroy()
      expect(passt.process.exitCode).toBeNull()
      await expectOnline()
    },
  )

  test("half a frame of a lost client never reaches the next one", async () => {
    passt = await startPasst(world.host)
    const socket = await opened(passt.socket)
    await new Promise((resolve) => socket.write(Buffer.from([0, 0, 5, 0, 1, 2, 3]), resolve))
    socket.destroy()
    await expectOnline()
  })

  test("one client at a time: a second one is closed, the first goes on", async () => {
    passt = await startPasst(world.host)
    const guest = await createBridgedGuest(passt.socket)
    await say(passt.socket, Buffer.alloc(0))
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "still here")).toMatchObject({ text: "still here" })
    await guest.close()
  })

  test("--one-off ends with status 0 when the client leaves", async () => {
    passt = await startPasst(world.host, ["--one-off"])
    const guest = await createBridgedGuest(passt.socket)
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "once")).toMatchObject({ text: "once" })
    await guest.close()
    expect(await ended(passt.process, 5000)).toBe(true)
    expect(passt.process.exitCode).toBe(0)
  })

  test("passt's end is the end of its sockets", async () => {
    passt = await startPasst(world.host, ["-t", "10007:7"])
    const listeners = ["ss", "--no-header", "--tcp", "--listening", "--numeric"]
    expect(await world.host.must(listeners)).toContain(":10007")
    await passt.stop()
    expect(passt.process.exitCode).toBe(0)
    expect(await world.host.must(listeners)).not.toContain(":10007")
    expect((await ask(world.world, "tcp", HOST.ipv4, 10_007, "x")).error).toBe("ECONNREFUSED")
  })
})
