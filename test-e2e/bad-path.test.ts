// Slow and lossy paths, on either side of passt: everything still arrives.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { PORT } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { impairInterface, kernelHasNetem } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

const COUNT = 3 * 2 ** 20
const LOSS = 0.02
const RATE_MBIT = 50
// A delay needs netem; without it the token bucket's queue is what makes the path slow.
const delayMs = (await kernelHasNetem()) ? 20 : 0

describe.skipIf(missing(["tun", "nft", "tc"]).length > 0)(`bad paths${skipNote("tun", "nft", "tc")}`, () => {
  const digest = streamDigest(COUNT, 3)
  let stage: Stage
  beforeAll(async () => {
    stage = await createStage()
  })
  afterAll(() => stage?.close())

  const name = `${RATE_MBIT} Mbit/s, ${LOSS * 100} % lost${delayMs > 0 ? `, ${delayMs} ms` : ""}`

  describe.each(FAMILIES)("$family", ({ server }) => {
    test(`between host and world: ${name}`, async () => {
      await stage.world.impair({ rate: RATE_MBIT, loss: LOSS, delayMs })
      const upload = await ask(stage.guest, "upload", server, PORT.digest, COUNT, 3)
      expect(upload).toMatchObject({ text: `${COUNT} ${digest}\n` })
      const download = await ask(stage.guest, "download", server, PORT.stream, COUNT, 3)
      expect(download).toMatchObject({ count: COUNT, digest })
      await stage.world.impair({})
    })
    test(`what the guest sends: ${name}`, async () => {
      await impairInterface(stage.guest, "eth0", { rate: RATE_MBIT, loss: LOSS, delayMs })
      const upload = await ask(stage.guest, "upload", server, PORT.digest, COUNT, 3)
      expect(upload).toMatchObject({ text: `${COUNT} ${digest}\n` })
      const download = await ask(stage.guest, "download", server, PORT.stream, COUNT, 3)
      expect(download).toMatchObject({ count: COUNT, digest })
      await impairInterface(stage.guest, "eth0", {})
    })
    test(`what the guest receives: ${LOSS * 100} % lost`, async () => {
      const drop = `numgen random mod 10000 < ${LOSS * 10_000} drop`
      const rules = `table inet lossy { chain in { type filter hook prerouting priority -300; iifname "eth0" ${drop}; }; }`
      await stage.guest.must(["nft", "-f", "-"], { input: rules })
      const upload = await ask(stage.guest, "upload", server, PORT.digest, COUNT, 3)
      expect(upload).toMatchObject({ text: `${COUNT} ${digest}\n` })
      const download = await ask(stage.guest, "download", server, PORT.stream, COUNT, 3)
      expect(download).toMatchObject({ count: COUNT, digest })
      await stage.guest.must(["nft", "delete", "table", "inet", "lossy"])
    })
  })
})
