// Port forwarding: ranges, translation, exclusions, one address or interface only; TCP and UDP.
import { afterEach, beforeAll, afterAll, describe, expect, test } from "vitest"
import { HOST, PORT, ROUTER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { startServers } from "../tools/world/world.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { createBridgedGuest } from "./lib/bridged-guest.ts"
import type { BridgedGuest } from "./lib/bridged-guest.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"

describe.skipIf(missing(["tun"]).length > 0)(`port forwarding${skipNote("tun")}`, () => {
  let world: World
  let passt: Passt
  let guest: BridgedGuest
  beforeAll(async () => {
    world = await createWorld()
  })
  afterEach(async () => {
    await guest?.close()
    await passt?.stop()
  })
  afterAll(() => world?.close())

  async function begin(...args: string[]): Promise<void> {
    passt = await startPasst(world.host, args)
    guest = await createBridgedGuest(passt.socket)
    await startServers(guest, [HOST.ipv4, HOST.ipv6])
  }
  const tcp = async (address: string, port: number): Promise<string | undefined> => {
    const result = await ask(world.world, "tcp", address, port, "hello")
    return result.error ?? result.text
  }
  const udp = async (address: string, port: number): Promise<string | undefined> => {
    const result = await ask(world.world, "udp", address, port, "hello", 1000)
    return result.error ?? result.text
  }

  test("the same port, in both families", async () => {
    await begin("-t", "9003", "-u", "10009")
    for (const { host } of FAMILIES) {
      // The guest sees who is calling, from the world: nothing is translated that need not be.
      const peer = host.includes(":") ? ROUTER.ipv6 : ROUTER.ipv4
      expect(await tcp(host, PORT.whoami)).toMatch(`${peer} `)
      expect(await udp(host, 10_010)).toBe("ECONNREFUSED")
    }
  })
  test("a translated range, with ports left out", async () => {
    await begin("-t", "19000-19004:9000-9004,~19001", "-u", "10000-10010:0-10,~10000")
    for (const { host } of FAMILIES) {
      expect(await tcp(host, 19_003)).toMatch(/^\S+ \d+\n$/)
      expect(await tcp(host, 19_001)).toBe("ECONNREFUSED")
      expect(await tcp(host, 19_005)).toBe("ECONNREFUSED")
      expect(await udp(host, 10_007)).toBe("hello")
    }
  })
  test("several options add up", async () => {
    await begin("-t", "10007:7", "-t", "10008:7", "--tcp-ports=10009:7", "-u", "10007:7", "--udp-ports", "10008:7")
    for (const port of [10_007, 10_008, 10_009]) expect(await tcp(HOST.ipv4, port)).toBe("hello")
    for (const port of [10_007, 10_008]) expect(await udp(HOST.ipv6, port)).toBe("hello")
  })
  test("one address only", async () => {
    await begin("-t", `${HOST.ipv4}/10007:7`, "-u", `${HOST.ipv6}/10007:7`)
    expect(await tcp(HOST.ipv4, 10_007)).toBe("hello")
    expect(await tcp(HOST.ipv6, 10_007)).toBe("ECONNREFUSED")
    expect(await udp(HOST.ipv6, 10_007)).toBe("hello")
    expect(await udp(HOST.ipv4, 10_007)).toBe("ECONNREFUSED")
  })
  test("one interface only", async () => {
    await begin("-t", "%eth0/10007:7", "-t", "%lo/10008:7")
    expect(await tcp(HOST.ipv4, 10_007)).toBe("hello")
    expect(await tcp(HOST.ipv4, 10_008)).toBe("ECONNREFUSED")
  })
  test("from the host's own loopback", async () => {
    await begin("-t", "10007:7", "-t", "19003:9003")
    for (const loopback of ["127.0.0.1", "::1"]) {
      expect(await ask(world.host, "tcp", loopback, 10_007, "hello")).toMatchObject({ text: "hello" })
    }
    // The host's loopback cannot be an address on the guest's wire: it is seen as the gateway's.
    expect((await ask(world.host, "tcp", "127.0.0.1", 19_003, "")).text).toMatch(`${ROUTER.ipv4} `)
  })
  test("the gateway's address is the host, for the guest", async () => {
    await begin()
    await startServers(world.host, ["127.0.0.1", "::1"])
    for (const gateway of [ROUTER.ipv4, ROUTER.ipv6]) {
      expect(await ask(guest, "tcp", gateway, PORT.echo, "hello")).toMatchObject({ text: "hello" })
    }
  })
})
