// Bytes between a namespace behind pasta and the world: over the tap interface, both families, both directions, both
// protocols.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT, ROUTER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { startServers } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"
import type { PastaStage } from "./lib/pasta.ts"

const SIZES = [
  { name: "2 KiB", count: 2048 },
  { name: "10 MiB", count: 10 * 2 ** 20 },
] as const
const MTUS = [65_520, 1500] as const

describe.skipIf(missing(["tun"]).length > 0).each(MTUS)(`through pasta, MTU %i${skipNote("tun")}`, (mtu) => {
  let stage: PastaStage
  beforeAll(async () => {
    const ports = ["-t", "10007:7,19000-19003:9000-9003", "-u", "10007:7"]
    stage = await createPastaStage(["--config-net", "--mtu", String(mtu), ...ports])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
  })
  afterAll(() => stage?.close())

  describe.each(FAMILIES)("$family", ({ family, server, host }) => {
    describe.each(SIZES)("$name", ({ count }) => {
      const digest = streamDigest(count, 1)

      test("namespace to world", async () => {
        const result = await ask(stage.guest, "upload", server, PORT.digest, count, 1)
        expect(result).toMatchObject({ text: `${count} ${digest}\n` })
      })
      test("world to namespace", async () => {
        const result = await ask(stage.guest, "download", server, PORT.stream, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
      test("world to namespace, the namespace's side closed first", async () => {
        const result = await ask(stage.guest, "downloadAfterEnd", server, PORT.streamAfterEnd, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
      test("world to namespace by a forwarded port", async () => {
        const result = await ask(stage.world.world, "upload", host, 10_000 + PORT.digest, count, 1)
        expect(result).toMatchObject({ text: `${count} ${digest}\n` })
      })
      test("namespace to world by a forwarded port", async () => {
        const result = await ask(stage.world.world, "download", host, 10_000 + PORT.stream, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
    })

    test("datagrams, both ways", async () => {
      expect(await ask(stage.guest, "udp", server, PORT.echo, "out", 5000)).toMatchObject({ text: "out" })
      expect(await ask(stage.world.world, "udp", host, 10_000 + PORT.echo, "in", 5000)).toMatchObject({ text: "in" })
    })

    test("ping", async () => {
      const { status, stdout } = await stage.guest.run(["busybox", "ping", "-c", "2", "-W", "2", server])
      expect(stdout).toContain(" 0% packet loss")
      expect(status).toBe(0)
    })

    test("a port where nobody listens is refused", async () => {
      expect(await ask(stage.guest, "tcp", server, PORT.closed, "x")).toMatchObject({ error: "ECONNREFUSED" })
    })

    test("the gateway's address leads to the host's loopback", async () => {
      const gateway = family === "IPv4" ? ROUTER.ipv4 : ROUTER.ipv6
      const loopback = family === "IPv4" ? "127.0.0.1" : "::1"
      await startServers(stage.world.host, [loopback])
      expect(await ask(stage.guest, "tcp", gateway, PORT.echo, "hello")).toMatchObject({ text: "hello" })
    })
  })

  test("many connections at once", async () => {
    const result = await ask(stage.guest, "many", FAMILIES[0].server, PORT.echo, 500)
    expect(result).toMatchObject({ count: 500 })
  })
})
