// Every MTU: announced as asked, and data flows at it in both directions.
import { describe, expect, test } from "vitest"
import { HOST, PORT } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { until } from "../tools/world/process.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { startServers } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"

const COUNT = 5 * 2 ** 20

describe.skipIf(missing(["tun"]).length > 0)(`MTU${skipNote("tun")}`, () => {
  const digest = streamDigest(COUNT, 2)

  test.each([1280, 1500, 9000, 65_520])("%i: announced, and data flows", async (mtu) => {
    const stage = await createStage(["-m", String(mtu), "-t", "19000-19001:9000-9001"], { mtu })
    try {
      await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
      for (const { family, server, host } of FAMILIES) {
        const where = `${family}, MTU ${mtu}`
        const upload = await ask(stage.guest, "upload", server, PORT.digest, COUNT, 2)
        expect(upload, `guest to world, ${where}`).toMatchObject({ text: `${COUNT} ${digest}\n` })
        const download = await ask(stage.guest, "download", server, PORT.stream, COUNT, 2)
        expect(download, `world to guest, ${where}`).toMatchObject({ count: COUNT, digest })
        const inbound = await ask(stage.world.world, "upload", host, 19_000, COUNT, 2)
        expect(inbound, `into the guest, ${where}`).toMatchObject({ text: `${COUNT} ${digest}\n` })
        const outbound = await ask(stage.world.world, "download", host, 19_001, COUNT, 2)
        expect(outbound, `out of the guest, ${where}`).toMatchObject({ count: COUNT, digest })
      }
      // The advertisement's MTU is taken by the kernel, when it is not more than the interface's.
      await stage.guest.must([
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra; ip link set eth0 mtu 65521",
      ])
      await stage.guest.must(["sh", "-c", "ip link set eth0 down; ip link set eth0 up"])
      await until("the advertised MTU", 10_000, async () => {
        return (await stage.guest.must(["cat", "/proc/sys/net/ipv6/conf/eth0/mtu"])).trim() === String(mtu)
      })
    } finally {
      await stage.close()
    }
  })
})
