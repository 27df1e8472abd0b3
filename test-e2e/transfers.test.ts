// Bytes arrive complete and in order: small and large, both directions, both families, and with one side closed.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { startServers } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

const SIZES = [
  { name: "2 KiB", count: 2048 },
  { name: "100 MiB", count: 100 * 2 ** 20 },
] as const

describe.skipIf(missing(["tun"]).length > 0)(`transfers${skipNote("tun")}`, () => {
  let stage: Stage
  beforeAll(async () => {
    // The guest's services, each under the port of the same number plus 10,000 on the host.
    stage = await createStage(["-t", "10007:7,19000-19003:9000-9003"], { mtu: 65_520 })
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
  })
  afterAll(() => stage?.close())

  describe.each(FAMILIES)("$family", ({ server, host }) => {
    describe.each(SIZES)("$name", ({ count }) => {
      const digest = streamDigest(count, 1)

      test("guest to world, our side closed before the answer", async () => {
        const result = await ask(stage.guest, "upload", server, PORT.digest, count, 1)
        expect(result).toMatchObject({ text: `${count} ${digest}\n` })
      })
      test("world to guest", async () => {
        const result = await ask(stage.guest, "download", server, PORT.stream, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
      test("world to guest, the guest's side closed first", async () => {
        const result = await ask(stage.guest, "downloadAfterEnd", server, PORT.streamAfterEnd, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
      test("world to guest by a forwarded port, the world's side closed before the answer", async () => {
        const result = await ask(stage.world.world, "upload", host, 10_000 + PORT.digest, count, 1)
        expect(result).toMatchObject({ text: `${count} ${digest}\n` })
      })
      test("guest to world by a forwarded port", async () => {
        const result = await ask(stage.world.world, "download", host, 10_000 + PORT.stream, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
      test("guest to world by a forwarded port, the world's side closed first", async () => {
        const result = await ask(stage.world.world, "downloadAfterEnd", host, 10_000 + PORT.streamAfterEnd, count, 1)
        expect(result).toMatchObject({ count, digest })
      })
    })
  })
})
