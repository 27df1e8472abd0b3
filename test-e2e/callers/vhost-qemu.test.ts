// QEMU of a newer release as the front-end of vhost-user: a guest with one and with several pairs of queues, and one that is migrated
// together with what passt has seen of it (DEVICE_STATE, which QEMU knows since version 10).
import type { ChildProcess } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { PROGRAMS, startMachine } from "../../tools/debian/machine.ts"
import type { Machine } from "../../tools/debian/machine.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import { bootGuest } from "../../tools/guest/qemu.ts"
import type { Guest } from "../../tools/guest/qemu.ts"
import { openQmp } from "../../tools/guest/qmp.ts"
import { HOST, PAGE, PORT, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import { scratchDirectory } from "../../tools/world/enter.ts"
import { freshSocketPath, isListening } from "../../tools/world/passt.ts"
import { start, stop, until } from "../../tools/world/process.ts"
import { streamDigest } from "../../tools/world/stream.ts"
import { createWorld } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"

const GUEST_PAGE = "the guest's page\n"
/** For tests that boot guests. */
const BOOT_MS = 300_000

interface Passt {
  readonly socket: string
  readonly process: ChildProcess
  log(): string
}

describe.each(["testing"] as const)("QEMU of %s, vhost-user", (release) => {
  let world: World
  let machine: Machine
  const made: (() => unknown)[] = []
  beforeAll(async () => {
    world = await createWorld()
    machine = await startMachine(givenTree(release), world.host)
  })
  afterEach(async () => {
    for (const close of made.splice(0).toReversed()) await close()
  })
  afterAll(async () => {
    machine?.close()
    await world?.close()
  })
  const startThere = (command: readonly string[], options = {}): ChildProcess => start(machine.asUser(command), options)

  async function startPasst(port: number): Promise<Passt> {
    const socket = freshSocketPath()
    const options = ["--foreground", "--vhost-user", "--socket", socket, "-t", `${port}:80`]
    const passt = startThere([`${PROGRAMS}/passt`, ...options], { stdio: ["ignore", "pipe", "pipe"] })
    made.push(() => stop(passt))
    let said = ""
    passt.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("passt's socket", 10_000, () => isListening(world.host, socket))
    return { socket, process: passt, log: () => said }
  }

  async function boot(passt: Passt, card: string, queues: number, more: readonly string[], incoming?: string) {
    const chardev = `socket,id=front-end,path=${passt.socket},reconnect-ms=300`
    const guest = bootGuest({
      netdev: `vhost-user,id=net,chardev=front-end,queues=${queues}`,
      sharedMemory: true,
      card,
      accel: "tcg",
      processors: queues,
      more: ["-chardev", chardev, ...more],
      bootTimeoutMs: BOOT_MS,
      start: startThere,
      ...(incoming === undefined ? {} : { incoming }),
    })
    made.push(async () => (await guest.catch(() => undefined))?.kill())
    return await guest
  }
  async function serve(guest: Guest): Promise<void> {
    await guest.online(60_000)
    await guest.must(`mkdir -p /www && echo "the guest's page" >/www/index.html && httpd -p 80 -h /www`)
  }

  test.each([
    { name: "one pair of queues", card: "mq=off", queues: 1 },
    { name: "one pair of packed queues", card: "packed=on", queues: 1 },
    { name: "four pairs of queues", card: "mq=on", queues: 4 },
  ])(
    "$name: TCP and UDP, both ways",
    async ({ card, queues }) => {
      const passt = await startPasst(8080)
      const guest = await boot(passt, card, queues, [])
      await serve(guest)
      expect(await guest.must("wget -q -O - http://www/")).toBe(PAGE)
      expect(await ask(world.world, "http", `http://${HOST.ipv4}:8080/`)).toMatchObject({ text: GUEST_PAGE })
      const count = 5 * 2 ** 20
      const down = `echo ${count} 4 | socat -t 60 - TCP4:${SERVER.ipv4}:${PORT.stream} | sha256sum`
      expect(await guest.must(down, 60_000)).toContain(streamDigest(count, 4))
      for (let processor = 0; processor < queues; processor++) {
        const echo = `socat -t 0.5 - UDP4:${SERVER.ipv4}:${PORT.echo}`
        expect(await guest.must(`echo ${processor} | taskset ${1 << processor} ${echo}`)).toBe(`${processor}\n`)
      }
      if (queues > 1) {
        expect(await guest.must("ethtool -l eth0")).toMatch(new RegExp(`Current[^]*Combined:\\s+${queues}`))
      }
    },
    BOOT_MS,
  )

  test.each([
    { name: "one pair of queues", card: "mq=off", queues: 1 },
    { name: "four pairs of packed queues", card: "mq=on,packed=on", queues: 4 },
  ])(
    "a guest with $name is migrated, and is known where it arrives",
    async ({ card, queues }) => {
      const monitor = join(scratchDirectory(), `qmp-newer-${queues}`)
      const path = join(scratchDirectory(), `incoming-newer-${queues}`)
      const [from, to] = [await startPasst(8080), await startPasst(8081)]
      const source = await boot(from, card, queues, ["-qmp", `unix:${monitor},server=on,wait=off`])
      await serve(source)
      await source.must(`(sleep 600 | socat -t 20 - TCP4:${SERVER.ipv4}:${PORT.echo}) >/dev/null 2>&1 &`)
      const blob = await source.must("head -c 20000000 /dev/urandom >/run/blob; sha256sum </run/blob", 60_000)
      const arriving = boot(to, card, queues, [], `unix:${path}`)
      arriving.catch(() => {})
      await until("the machine that waits", 30_000, () => existsSync(path))
      const qmp = await openQmp(monitor)
      made.push(() => qmp.close())
      await qmp.command("migrate", { uri: `unix:${path}` })
      await until("the end of the migration", BOOT_MS, async () => {
        const { status } = (await qmp.command("query-migrate")) as { status: string }
        if (status === "failed") throw new Error(`it failed\n${source.log()}\n${from.log()}\n${to.log()}`)
        return status === "completed"
      })
      expect(from.log()).toContain("the guest goes on elsewhere")
      // For the source it is over when all is sent.
      await until("the device's state", 10_000, () => to.log().includes("the guest comes from elsewhere"))
      // The guest has said nothing yet: its addresses have come with it.
      await until("the guest's page", 15_000, async () => {
        return (await ask(world.world, "http", `http://${HOST.ipv4}:8081/`)).text === GUEST_PAGE
      })
      const guest = await arriving
      await source.kill()
      expect(await guest.must("sha256sum </run/blob", 60_000)).toBe(blob)
      expect(await guest.must("wget -q -O - http://www/", 60_000)).toBe(PAGE)

      const connected = async (): Promise<boolean> => / [0-9A-F]{8}:0007 /.test(await guest.must("cat /proc/net/tcp"))
      expect(await connected()).toBe(true)
      await guest.must("killall sleep")
      await until("the reset", 15_000, async () => !(await connected()))
      for (const passt of [from, to]) expect(passt.process.exitCode).toBeNull()
    },
    BOOT_MS,
  )
})
