// The reference's client, pesto, on the socket of --conf-path: as people call it, and as Podman and rootlesskit do when containers come
// and go; behind the seal, with traffic that must not notice.
import { mkdtempSync, statSync } from "node:fs"
import { createConnection, type Socket } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { HOST } from "../tools/world/addresses.ts"
import { ask, type Job } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { run, stop, until } from "../tools/world/process.ts"
import type { Outcome } from "../tools/world/process.ts"
import { startServers } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage, type PastaStage } from "./lib/pasta.ts"
import { givenPesto } from "./lib/pesto.ts"
import { createStage, type Stage } from "./lib/stage.ts"

const command = givenPesto()
const cannot = command === undefined ? " (skipped: no pesto)" : skipNote("tun")
const skipped = cannot !== "" || missing(["tun"]).length > 0

const pesto = (...args: string[]): Promise<Outcome> => run([...command!, ...args], { timeoutMs: 20_000 })

/** pesto, where anything but success without a word is an error. */
async function change(...args: string[]): Promise<void> {
  expect(await pesto(...args)).toMatchObject({ status: 0, stdout: "", stderr: "" })
}

/** What "hello" is answered with, or why it is not. */
async function hello(from: Namespace, address: string, port: number, job: Job = "tcp"): Promise<string | undefined> {
  const { error, text } = await ask(from, job, address, port, "hello", 3000)
  return error ?? text
}

/** Connects again and again, each time for an answer, until it is told to end; then tells how often, and what went wrong. */
const CONNECT = `
const [address, port] = process.argv.slice(1)
const failures = {}
let count = 0
const next = () => {
  const socket = require("node:net").connect(port, address)
  socket.on("error", ({ code }) => { failures[code] = (failures[code] ?? 0) + 1; setTimeout(next, 1) })
  socket.on("connect", () => socket.write("x"))
  socket.on("data", () => { count++; socket.destroy(); setImmediate(next) })
}
next()
process.on("SIGTERM", () => { console.log(JSON.stringify({ count, failures })); process.exit(0) })`

const RULES: readonly string[] = ["-t", "10007:7", "-U", "~1-30000,~30002-65535"]

describe.skipIf(skipped)(`pesto and pasta${cannot}`, () => {
  let stage: PastaStage
  let path: string
  beforeAll(async () => {
    path = join(mkdtempSync(join(scratchDirectory(), "pesto-")), "pasta.pesto")
    stage = await createPastaStage(["--config-net", "-c", path, ...RULES, "-u", "none", "-T", "none"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6, "127.0.0.1"])
    await startServers(stage.world.host, ["127.0.0.1"])
  })
  afterAll(() => stage?.close())
  // Also at a second attempt.
  beforeEach(() => change(...RULES, path))
  const host = (): Namespace => stage.world.host
  const tables = async (): Promise<string> => (await pesto(path)).stdout

  test("shows the rules as it does those of the reference", async () => {
    expect(await pesto(path)).toMatchObject({
      status: 0,
      stdout: [
        `passt/pasta configuration (${path})`,
        "  HOST",
        "    TCP [*]:10007  =>  7 ",
        "  SPLICE",
        "    UDP [*]%lo:30001  =>  30001  (best effort)",
        "",
      ].join("\n"),
    })
    // The umask of the sandbox, as everywhere.
    expect(statSync(path).mode & 0o777).toBe(0o777 & ~process.umask())
  })

  test("a container's ports come and go, in both families, TCP and UDP, and nobody else's do", async () => {
    const ports = ["-t", "0.0.0.0/20007:7", "-t", "[::]/20007:7", "-u", "0.0.0.0/20007:7", "-u", "[::]/20007:7"]
    const other = ["-t", "127.0.0.1/20008:7"]
    await change("--add", ...ports, path)
    await change("--add", ...other, path)
    await until("the port", 5000, async () => (await hello(host(), "127.0.0.1", 20_008)) === "hello")
    const ends = [
      ["::1", "tcp"],
      ["127.0.0.1", "udp"],
      ["::1", "udp"],
      [HOST.ipv4, "tcp"],
    ] as const
    const said = await Promise.all(ends.map(([address, job]) => hello(host(), address, 20_007, job)))
    expect(said).toEqual(ends.map(() => "hello"))
    await change("--delete", ...ports, path)
    // One client after the other: what the next one is told is in use.
    expect(await tables()).toContain("HOST\n    TCP [*]:10007  =>  7 \n    TCP [127.0.0.1]:20008  =>  7 \n  SPLICE")
    expect(await hello(host(), "127.0.0.1", 20_007)).toBe("ECONNREFUSED")
    expect(await hello(host(), "127.0.0.1", 20_008)).toBe("hello")
    await change("--delete", ...other, path)
  })

  test("ports of the namespace lead to the host, and go with their table", async () => {
    await change("--add", "-T", "20009:7", path)
    expect(await tables()).toContain(
      "SPLICE\n    UDP [*]%lo:30001  =>  30001  (best effort)\n    TCP [*]%lo:20009  =>  7 ",
    )
    expect(await hello(stage.guest, "127.0.0.1", 20_009)).toBe("hello")
    await change("--clear", "SPLICE", path)
    expect(await tables()).toMatch(/SPLICE\n$/)
    expect(await hello(stage.guest, "127.0.0.1", 20_009)).toBe("ECONNREFUSED")
  })

  test("automatic ports, from when they are asked for until they are not", async () => {
    const script = `require("node:net").createServer((s) => s.pipe(s)).listen(18181, "0.0.0.0")`
    const service = stage.guest.start([process.execPath, "-e", script])
    await change("--add", "-t", "127.0.0.1/18000-18999,auto", path)
    await until("the port", 10_000, async () => (await hello(host(), "127.0.0.1", 18_181)) === "hello")
    await change("--delete", "-t", "127.0.0.1/18000-18999,auto", path)
    await tables()
    expect(await hello(host(), "127.0.0.1", 18_181)).toBe("ECONNREFUSED")
    await stop(service)
  })

  test("what can't be added or deleted is told, and changes nothing", async () => {
    const before = await tables()
    const refused = async (text: string, ...args: string[]): Promise<void> => {
      const { status, stderr } = await pesto(...args)
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining(text) })
    }
    await refused("Forwarding configuration conflict: TCP [*]:10007", "--add", "-t", "10007:7", path)
    await refused("Couldn't find forwarding rule to delete", "--delete", "-t", "10008:7", path)
    await refused("doesn't match it, can't delete", "--delete", "-t", "10007", path)
    await refused("Failed to connect", "--add", "-t", "1", `${path}.other`)
    expect(await tables()).toBe(before)
  })

  test("where a port is taken the rules stay as they are, and the log tells why", async () => {
    const before = await tables()
    const script = `require("node:net").createServer().listen(20011, "127.0.0.1", () => console.log("there"))`
    const rival = host().start([process.execPath, "-e", script])
    await new Promise((resolve) => rival.stdout!.once("data", resolve))
    await change("-t", "20010:7", "-t", "20011:7", path)
    expect(await tables()).toBe(before)
    expect(await hello(host(), "127.0.0.1", 10_007)).toBe("hello")
    expect(stage.pasta.log()).toMatch(/Listen failed for TCP \*:20011: Address already in use; .* as before/)
    await stop(rival)
  })

  test("a port that old and new rules share is never closed", async () => {
    const connecting = host().start([process.execPath, "-e", CONNECT, "127.0.0.1", "10007"])
    let said = ""
    connecting.stdout!.on("data", (chunk: Buffer) => (said += chunk.toString()))
    for (let i = 1; i <= 6; i++) {
      // Other rules, a longer one, a shorter one, and a target that is written otherwise.
      await change("--add", "-t", `${21_000 + i}:7`, path)
      await change("-t", `10007-${10_007 + i}:7-${7 + i}`, "-t", "22000", path)
      await change("-t", "10007:7", path)
    }
    await tables()
    await stop(connecting)
    const { count, failures } = JSON.parse(said) as { count: number; failures: object }
    expect(failures).toEqual({})
    expect(count).toBeGreaterThan(20)
  }, 60_000)

  test("callers that come at once don't undo each other's changes", async () => {
    const ports = Array.from({ length: 10 }, (_, i) => 23_000 + i)
    await Promise.all(ports.map((port) => change("--add", "-t", `127.0.0.1/${port}:7`, path)))
    const shown = await tables()
    for (const port of ports) expect(shown).toContain(`TCP [127.0.0.1]:${port}  =>  7 `)
    await Promise.all(ports.map((port) => change("--delete", "-t", `127.0.0.1/${port}:7`, path)))
    expect(await tables()).not.toContain(":2300")
  })

  test("clients that are silent, rude or many stall nobody's traffic, and leave the rules alone", async () => {
    const before = await tables()
    const sockets: Socket[] = []
    const speak = (bytes: Buffer): Socket => {
      const socket = createConnection(path)
      socket.on("error", () => {}).resume()
      socket.write(bytes)
      sockets.push(socket)
      return socket
    }
    const silent = speak(Buffer.alloc(0))
    for (const bytes of ["01ffffffff", "0100000001", "09", "ff".repeat(100_000), "0100000000".repeat(1000)]) {
      speak(Buffer.from(bytes, "hex"))
    }
    for (let i = 0; i < 4; i++) expect(await hello(host(), "127.0.0.1", 10_007)).toBe("hello")
    const waiting = tables()
    silent.destroy()
    for (const socket of sockets) socket.end()
    expect(await waiting).toContain("passt/pasta configuration")
    for (const socket of sockets) socket.destroy()
    expect(stage.pasta.alive()).toBe(true)
    expect(await tables()).toBe(before)
  })
})

describe.skipIf(skipped)(`pesto and passt${cannot}`, () => {
  let stage: Stage
  let path: string
  beforeAll(async () => {
    path = join(mkdtempSync(join(scratchDirectory(), "pesto-")), "passt.pesto")
    stage = await createStage(["-c", path, "-t", "10007:7"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
  })
  afterAll(() => stage?.close())
  beforeEach(() => change("-t", "10007:7", path))

  test("has one table, and ports of the machine come and go", async () => {
    const { world } = stage.world
    const empty = `passt/pasta configuration (${path})\n  HOST\n    TCP [*]:10007  =>  7 \n`
    expect(await pesto(path)).toMatchObject({ status: 0, stdout: empty })
    expect(await pesto("--add", "-T", "20007", path)).toMatchObject({
      status: 1,
      stderr: "Can't use -T, no outbound interface\n",
    })
    await change("--add", "--tcp-ports=0.0.0.0/20007:7", "--udp-ports=[::]/20007:7", path)
    await until("the port", 5000, async () => (await hello(world, HOST.ipv4, 20_007)) === "hello")
    expect(await hello(world, HOST.ipv6, 20_007, "udp")).toBe("hello")
    await change("--delete", "--tcp-ports=0.0.0.0/20007:7", "--udp-ports=[::]/20007:7", path)
    expect(await pesto(path)).toMatchObject({ status: 0, stdout: empty })
    expect(await hello(world, HOST.ipv4, 20_007)).toBe("ECONNREFUSED")
    expect(await hello(world, HOST.ipv4, 10_007)).toBe("hello")
  })
})
