// DPDK's testpmd as the guest: another driver of virtqueues than Linux's, by another front-end than QEMU, without a machine. It sends
// every packet back with both ends exchanged, which makes it an echo server.
import type { ChildProcess } from "node:child_process"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { ask } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { ended, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { FAMILIES } from "./lib/families.ts"
import { missing, skipNote } from "./lib/needs.ts"

const ECHO = 7007
const MAC = "02:00:00:00:00:09"

/** What the driver of virtio-user is told: how it lays out its queues, and by which of its ways it moves frames. */
const SETTINGS = [
  { name: "as it comes", options: "" },
  { name: "one buffer for each frame", options: ",mrg_rxbuf=0" },
  { name: "in any order", options: ",in_order=0,mrg_rxbuf=0" },
  { name: "with vectors of instructions", options: ",mrg_rxbuf=0,vectorized=1" },
  { name: "packed queues", options: ",packed_vq=1" },
  { name: "a queue of 64", options: ",queue_size=64" },
] as const

function testpmd(socket: string, options: string): string[] {
  const queue = options.includes("queue_size") ? "" : ",queue_size=256"
  const device = `net_virtio_user0,path=${socket},queues=1,mac=${MAC}${queue}${options}`
  // Memory is a file of its own without huge pages, which vhost-user needs.
  const environment = "--no-huge -m 64 --no-pci --no-telemetry --file-prefix passt -l 0,1"
  const drivers = "-d librte_net_virtio.so -d librte_mempool_ring.so --vdev"
  const mode = "--total-num-mbufs=4096 --no-lsc-interrupt --forward-mode=5tswap --auto-start --stats-period=30"
  return `dpdk-testpmd ${environment} ${drivers} ${device} -- ${mode}`.split(" ")
}

const needs = ["testpmd"] as const

describe.skipIf(missing(needs).length > 0)(`vhost-user with testpmd${skipNote(...needs)}`, () => {
  let world: World
  let passt: Passt
  let guest: ChildProcess | undefined
  beforeAll(async () => {
    world = await createWorld()
  })
  afterEach(async () => {
    guest?.kill("SIGKILL")
    if (guest !== undefined) await ended(guest, 5000)
    guest = undefined
    await passt?.stop()
  })
  afterAll(() => world?.close())

  async function start(socket: string, options: string): Promise<ChildProcess> {
    const folder = join(scratchDirectory(), "dpdk")
    mkdirSync(folder, { recursive: true, mode: 0o777 })
    const started = world.host.start(["env", `XDG_RUNTIME_DIR=${folder}`, ...testpmd(socket, options)], {
      stdio: ["ignore", "pipe", "pipe"],
    })
    let said = ""
    for (const stream of [started.stdout, started.stderr])
      stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("testpmd", 40_000, () => {
      if (started.exitCode !== null) throw new Error(`testpmd ended: ${said.slice(-2000)}`)
      return said.includes("Port statistics")
    })
    return started
  }

  test.each(SETTINGS)(
    "$name: datagrams of all sizes come back",
    async ({ options }) => {
      passt = await startPasst(world.host, ["--vhost-user", "-m", "1500", "-u", String(ECHO)])
      guest = await start(passt.socket, options)
      for (const { host } of FAMILIES) {
        for (const size of [1, 600, 1400]) {
          const text = "x".repeat(size)
          expect(await ask(world.world, "udp", host, ECHO, text, 5000), `${size} bytes to ${host}`).toMatchObject({
            text,
          })
        }
      }
      // As it ends by itself: queues are stopped one by one.
      guest.kill("SIGINT")
      expect(await ended(guest, 10_000)).toBe(true)
      expect(passt.process.exitCode).toBeNull()
    },
    120_000,
  )

  test("killed and started again, three times", async () => {
    passt = await startPasst(world.host, ["--vhost-user", "-m", "1500", "-u", String(ECHO)])
    for (let round = 0; round < 3; round++) {
      guest = await start(passt.socket, "")
      const { host } = FAMILIES[0]!
      expect(await ask(world.world, "udp", host, ECHO, "again", 5000)).toMatchObject({ text: "again" })
      guest.kill("SIGKILL")
      await ended(guest, 5000)
    }
  }, 120_000)
})
