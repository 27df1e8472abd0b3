// The process runs out of descriptors: new connections are refused, old ones live, and the log does not fill up.
import type { ChildProcess } from "node:child_process"
import { readdirSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT, SERVER } from "../tools/world/addresses.ts"
import { ask, clientCommand } from "../tools/world/ask.ts"
import { must, until } from "../tools/world/process.ts"
import { startServers } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

/** Descriptors that passt may have beyond those that it holds when the limit comes down. */
const SPARE = 20

describe.skipIf(missing(["tun"]).length > 0)(`out of descriptors${skipNote("tun")}`, () => {
  let stage: Stage
  let holding: ChildProcess
  let held = ""
  beforeAll(async () => {
    stage = await createStage(["-t", "10007:7"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
    holding = stage.guest.start(clientCommand("hold", SERVER.ipv4, PORT.silent))
    holding.stdout?.on("data", (chunk: Buffer) => (held += chunk.toString()))
    await until("a connection that stays", 5000, () => held.includes("connected"))
    const { pid } = stage.passt.process
    // Limits count numbers, not descriptors: the highest in use decides.
    const highest = Math.max(...readdirSync(`/proc/${pid}/fd`).map(Number))
    await must(["prlimit", `--pid=${pid}`, `--nofile=${highest + SPARE}:${highest + SPARE}`])
  })
  afterAll(() => stage?.close())

  test("connections of the guest are refused at once", async () => {
    const result = await ask(stage.guest, "many", SERVER.ipv4, PORT.echo, 10 * SPARE)
    expect(result.error).toBe("ECONNREFUSED")
    expect(result.elapsedMs).toBeLessThan(1000)
  })
  test("connections to a forwarded port are reset", async () => {
    const result = await ask(stage.world.world, "many", HOST.ipv4, 10_007, 10 * SPARE)
    expect(result.error).toBe("ECONNRESET")
  })
  test("the old connection lives, and new ones succeed once there is room", async () => {
    expect(holding.exitCode).toBeNull()
    for (let i = 0; i < 3; i++) {
      expect(await ask(stage.guest, "tcp", SERVER.ipv6, PORT.echo, "room")).toMatchObject({ text: "room" })
      expect(await ask(stage.world.world, "tcp", HOST.ipv6, 10_007, "room")).toMatchObject({ text: "room" })
    }
    holding.kill()
  })
  test("the log tells of it, a few times", () => {
    const lines = stage.passt.log().split("\n")
    const count = lines.filter((line) => line.includes("Can't open another socket")).length
    // Five a second and place in the program, at most.
    expect(count).toBeGreaterThan(0)
    expect(count).toBeLessThan(20)
  })
})
