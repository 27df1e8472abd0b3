// Many connections at once, and connections that fail: the guest learns of it as quickly as the host does.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { ip, startServers } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

const MANY = 1000
/** Where the world says that it has no route to (ICMP host unreachable, ICMPv6 no route). */
const UNREACHABLE = { IPv4: "203.0.113.66", IPv6: "2001:db8:bad::1" } as const

describe.skipIf(missing(["tun"]).length > 0)(`connections${skipNote("tun")}`, () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await createStage(["-t", "10007:7,19999:9999", "-u", "10007:7,19999:9999"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
  })
  afterAll(() => stage?.close())

  describe.each(FAMILIES)("$family", ({ family, server, host }) => {
    test(`${MANY} at once from the guest`, async () => {
      expect(await ask(stage.guest, "many", server, PORT.echo, MANY)).toMatchObject({ count: MANY })
    })
    test(`${MANY} at once into the guest`, async () => {
      expect(await ask(stage.world.world, "many", host, 10_007, MANY)).toMatchObject({ count: MANY })
    })
    test("a closed TCP port of the world is refused within 50 ms", async () => {
      const result = await ask(stage.guest, "tcp", server, PORT.closed, "x")
      expect(result.error).toBe("ECONNREFUSED")
      expect(result.elapsedMs).toBeLessThan(50)
    })
    test("a closed UDP port of the world is answered by port unreachable", async () => {
      const result = await ask(stage.guest, "udp", server, PORT.closed, "x", 3000)
      expect(result.error).toBe("ECONNREFUSED")
    })
    test("a TCP port that is forwarded to nobody ends the connection at once", async () => {
      const result = await ask(stage.world.world, "tcp", host, 19_999, "x")
      // passt has accepted before it can know: the connection is reset, or closed without a byte.
      expect([result.error, result.text]).toSatisfy(([error, text]) => error === "ECONNRESET" || text === "")
      expect(result.elapsedMs).toBeLessThan(1000)
    })
    test("a host that is unreachable is reported as soon as the host's kernel knows", async () => {
      const nowhere = UNREACHABLE[family]
      await ip(stage.world.world, [`route replace unreachable ${nowhere}`])
      const result = await ask(stage.guest, "tcp", nowhere, 80, "x")
      expect(result.error).toBe(family === "IPv4" ? "EHOSTUNREACH" : "ENETUNREACH")
      expect(result.elapsedMs).toBeLessThan(1500)
    })
    test("UDP there and back, from both sides", async () => {
      expect(await ask(stage.guest, "udp", server, PORT.echo, "out", 3000)).toMatchObject({ text: "out" })
      expect(await ask(stage.world.world, "udp", host, 10_007, "in", 3000)).toMatchObject({ text: "in" })
    })
    test("the server sees the host's address", async () => {
      expect((await ask(stage.guest, "tcp", server, PORT.whoami, "")).text).toMatch(`${host} `)
    })
  })
})
