// The control socket of a running program, by passtctl and by hand: flows, rules that come and go, metrics, captures; behind the
// seal, and with traffic that must not notice.
import { mkdtempSync, readFileSync, statSync } from "node:fs"
import { createConnection, type Socket } from "node:net"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { type Family, parseOpenMetrics } from "../packages/control/src/test-support/openmetrics.ts"
import { HOST, NOBODY, PORT, SERVER } from "../tools/world/addresses.ts"
import { ask, clientCommand } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { PASST_BINARY } from "../tools/world/passt.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { run, sleep, stop, until } from "../tools/world/process.ts"
import { startServers } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"
import type { PastaStage } from "./lib/pasta.ts"
import { createStage } from "./lib/stage.ts"
import type { Stage } from "./lib/stage.ts"

const PASSTCTL = join(dirname(PASST_BINARY), "passtctl")
const MANY = 10_000

interface Flow {
  readonly protocol: string
  readonly direction: string
  readonly state: string
  readonly guest: { readonly address: string; readonly port: number }
  readonly peer: { readonly address: string; readonly port: number }
  readonly bytesFromGuest: number
  readonly bytesToGuest: number
}

/** Sends a datagram to each of so many ports, from one socket. */
const SPRAY = `
const [address, count] = process.argv.slice(1)
const socket = require("node:dgram").createSocket("udp4")
socket.on("error", () => {})
let port = 1, rounds = 2
const some = () => {
  for (let i = 0; i < 25 && port <= count; i++) socket.send("x", port++, address, () => {})
  // What a queue on the way has dropped is sent again.
  if (port > count && --rounds > 0) port = 1
  if (port <= count) setTimeout(some, 4)
  else setTimeout(() => socket.close(), 200)
}
socket.bind(0, some)`

/** Asks an echo server again and again until it is told to end; then tells how often, and how long it has waited at most. */
const ASK = `
const [address, port] = process.argv.slice(1)
const socket = require("node:net").connect(port, address)
let count = 0, worst = 0, at = 0
const ask = () => { at = performance.now(); socket.write("x") }
socket.setNoDelay(true)
socket.on("connect", () => { console.log("connected"); ask() })
socket.on("data", () => { worst = Math.max(worst, performance.now() - at); count++; ask() })
process.on("SIGTERM", () => { console.log(JSON.stringify({ count, worst })); process.exit(0) })`

describe.skipIf(missing(["tun"]).length > 0)(`the control socket${skipNote("tun")}`, () => {
  let stage: Stage
  let path: string
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(scratchDirectory(), "control-"))
    path = join(folder, "passt.control")
    stage = await createStage(["--control", path, "-t", "10007:7"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
  })
  afterAll(() => stage?.close())

  async function control(...args: string[]): Promise<string> {
    const outcome = await run([PASSTCTL, "--socket", path, ...args], { timeoutMs: 20_000 })
    if (outcome.status !== 0) throw new Error(`passtctl ${args.join(" ")}: ${outcome.stderr}`)
    return outcome.stdout
  }
  const flows = async (...args: string[]): Promise<Flow[]> =>
    (await control("flows", "--json", ...args))
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Flow)
  const metrics = async (): Promise<Map<string, Family>> => parseOpenMetrics(await control("metrics"))

  /** A connection that speaks for itself. */
  async function speak(): Promise<{ socket: Socket; said: () => string; ended: Promise<void> }> {
    const socket = createConnection(path)
    let text = ""
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
    socket.on("error", () => {})
    const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()))
    await new Promise<void>((resolve) => socket.once("connect", resolve))
    return { socket, said: () => text, ended }
  }

  test("is its owner's alone", () => {
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  test("a transfer shows while it runs, with both ends and growing bytes", async () => {
    const command = clientCommand("download", SERVER.ipv4, PORT.stream, 3_000_000_000, 1)
    const download = stage.guest.start(command)
    const find = async (): Promise<Flow | undefined> =>
      (await flows("--protocol", "tcp")).find(({ peer }) => peer.port === PORT.stream)
    const first = await until("the flow", 10_000, async () => {
      const flow = await find()
      return flow && flow.bytesToGuest > 0 ? flow : undefined
    })
    expect(first).toMatchObject({ direction: "out", state: "established", guest: { address: HOST.ipv4 } })
    expect(first.peer.address).toBe(SERVER.ipv4)
    await until("more bytes", 10_000, async () => ((await find())?.bytesToGuest ?? 0) > first.bytesToGuest)
    expect(await control("flows")).toMatch(
      new RegExp(`tcp +link +established +${HOST.ipv4}:\\d+ +-> +${SERVER.ipv4}:9001 `),
    )
    await stop(download)
    await until("its end", 10_000, async () => (await find()) === undefined)
  })

  test("a forward that is added works at once, next to the one that was there, and is gone when it is removed", async () => {
    const hello = async (port: number): Promise<string | undefined> => {
      const result = await ask(stage.world.world, "tcp", HOST.ipv4, port, "hello")
      return result.error ?? result.text
    }
    const held = stage.world.world.start(clientCommand("hold", HOST.ipv4, 10_007))
    await until("the connection", 10_000, async () => (await flows()).some(({ direction }) => direction === "in"))
    expect(await hello(10_017)).toBe("ECONNREFUSED")
    expect(await control("forwards", "add", "tcp", "10017:7")).toMatch("TCP [*]:10017  =>  7")
    expect(await hello(10_017)).toBe("hello")
    expect(await hello(10_007)).toBe("hello")
    await control("forwards", "add", "udp", "10017:7")
    const udp = await ask(stage.world.world, "udp", HOST.ipv6, 10_017, "hello", 3000)
    expect(udp.text).toBe("hello")
    expect(await control("forwards")).toMatch(/host +1 +TCP \[\*\]:10007.*\n.*TCP \[\*\]:10017.*\n.*UDP \[\*\]:10017/)

    await control("forwards", "remove", "tcp", "10017:7")
    await control("forwards", "remove", "udp", "10017:7")
    expect(await hello(10_017)).toBe("ECONNREFUSED")
    expect(await hello(10_007)).toBe("hello")
    expect(held.exitCode).toBeNull()
    await stop(held)
  })

  test("what can't be forwarded is refused with the reason, and status 1", async () => {
    const refuse = async (...args: string[]): Promise<string> => {
      const outcome = await run([PASSTCTL, "-s", path, "forwards", ...args], { timeoutMs: 20_000 })
      expect(outcome.status).toBe(1)
      return outcome.stderr
    }
    expect(await refuse("add", "tcp", "10007")).toMatch("Conflicts with TCP [*]:10007  =>  7")
    expect(await refuse("add", "tcp", "80")).toMatch("Listen failed for TCP *:80: Permission denied")
    expect(await refuse("add", "tcp", "auto")).toMatch("only allowed for pasta")
    expect(await refuse("remove", "999")).toMatch("There is no rule 999")
  })

  test("metrics are OpenMetrics, and count what passes", async () => {
    const bytes = async (direction: string): Promise<number> =>
      (await metrics()).get("passt_payload_bytes")!.samples.get(`protocol="tcp",kind="link",direction="${direction}"`)!
    const [to, from] = [await bytes("to_guest"), await bytes("from_guest")]
    await ask(stage.guest, "download", SERVER.ipv4, PORT.stream, 1_000_000, 5)
    expect(await bytes("to_guest")).toBeGreaterThanOrEqual(to + 1_000_000)
    await ask(stage.guest, "upload", SERVER.ipv6, PORT.digest, 1_000_000, 5)
    expect(await bytes("from_guest")).toBeGreaterThanOrEqual(from + 1_000_000)
    expect((await metrics()).get("passt")!.samples.size).toBe(1)
  })

  test("a capture into a file that passtctl opens", async () => {
    const file = join(folder, "guest.pcap")
    await control("capture", "start", file)
    await ask(stage.guest, "tcp", SERVER.ipv4, PORT.echo, "captured-text")
    await control("capture", "stop")
    const bytes = readFileSync(file)
    expect(bytes.readUInt32LE(0)).toBe(0xa1b2c3d4)
    expect(bytes.includes("captured-text")).toBe(true)
    await ask(stage.guest, "tcp", SERVER.ipv4, PORT.echo, "later")
    expect(readFileSync(file)).toHaveLength(bytes.length)
    // A pipe could make frames wait.
    const pipe = await run(
      [
        "sh",
        "-c",
        `mkfifo "${file}.pipe"; cat "${file}.pipe" >/dev/null & ${PASSTCTL} -s ${path} capture start "${file}.pipe"`,
      ],
      {
        timeoutMs: 10_000,
      },
    )
    expect(pipe.stderr).toMatch("not that of a regular file")
  })

  test("clients that are slow, silent, rude or many don't keep others from being served", async () => {
    const rude = await speak()
    rude.socket.write("x".repeat(100_000))
    await rude.ended
    expect(rude.said()).toMatch('"code":"bad-request"')

    const others = await Promise.all(Array.from({ length: 7 }, speak))
    for (const { socket } of others) socket.write('{"call":')
    expect(await control("version")).toMatch(/^passt /)
    const late = await Promise.all([speak(), speak()])
    await Promise.race(late.map(({ ended }) => ended))
    expect(late.map(({ said }) => said()).join("")).toMatch('"code":"busy"')
    for (const { socket } of late) socket.destroy()

    // They are given ten seconds for the rest of their request.
    await Promise.all(others.map(({ ended }) => ended))
    for (const { said } of others) expect(said()).toMatch('"code":"timeout"')
    expect(await control("version")).toMatch(/^passt /)
  }, 40_000)

  test(`${MANY} flows are listed while questions and answers go on`, async () => {
    await stage.guest.must([process.execPath, "-e", SPRAY, NOBODY.ipv4, String(MANY)], { timeoutMs: 20_000 })
    const asking = stage.guest.start([process.execPath, "-e", ASK, SERVER.ipv4, String(PORT.echo)], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    let said = ""
    asking.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("the first question", 10_000, () => said.includes("connected"))
    const [listed, again] = await Promise.all([flows(), flows("--protocol", "udp")])
    const ports = new Set(listed.filter(({ peer }) => peer.address === NOBODY.ipv4).map(({ peer }) => peer.port))
    expect(ports.size).toBeGreaterThan(MANY * 0.95)
    expect(again.length).toBeGreaterThan(MANY * 0.95)
    expect(listed.some(({ peer, state }) => peer.port === PORT.echo && state === "established")).toBe(true)
    await sleep(200)
    asking.kill("SIGTERM")
    await until("the asker's result", 10_000, () => said.includes("}"))
    const { count, worst } = JSON.parse(said.split("\n")[1]!) as { count: number; worst: number }
    expect(count).toBeGreaterThan(100)
    // A machine that is busy with other things makes them wait as well; a list in one piece would take longer than this.
    expect(worst).toBeLessThan(1000)
    const counted = (await metrics()).get("passt_flows")!.samples.get('protocol="udp",kind="link",state="query"')!
    expect(counted).toBeGreaterThan(MANY * 0.95)
  }, 60_000)
})

describe.skipIf(missing(["tun"]).length > 0)(`the control socket of pasta${skipNote("tun")}`, () => {
  let stage: PastaStage
  let path: string
  beforeAll(async () => {
    path = join(mkdtempSync(join(scratchDirectory(), "control-")), "pasta.control")
    const none = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    stage = await createPastaStage(["--config-net", "--control", path, ...none])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6, "127.0.0.1"])
    await startServers(stage.world.host, ["127.0.0.1"])
  })
  afterAll(() => stage?.close())

  async function forwards(...args: string[]): Promise<string> {
    const outcome = await run([PASSTCTL, "--socket", path, "forwards", ...args], { timeoutMs: 20_000 })
    if (outcome.status !== 0) throw new Error(`passtctl forwards ${args.join(" ")}: ${outcome.stderr}`)
    return outcome.stdout
  }
  const hello = async (from: Namespace, port: number): Promise<string | undefined> => {
    const result = await ask(from, "tcp", "127.0.0.1", port, "hello")
    return result.error ?? result.text
  }

  test("a port of the host that leads into the namespace, a low one too; and what it carries shows as spliced", async () => {
    const { host } = stage.world
    expect(await hello(host, 907)).toBe("ECONNREFUSED")
    await forwards("add", "tcp", "907:7")
    expect(await hello(host, 907)).toBe("hello")
    const held = host.start(clientCommand("hold", "127.0.0.1", 907))
    const shown = await until("the flow", 10_000, async () => {
      const { stdout } = await run([PASSTCTL, "-s", path, "flows"], { timeoutMs: 10_000 })
      return /tcp +splice +established .*/.exec(stdout)?.[0]
    })
    expect(shown).toContain("<-")
    await stop(held)
    await forwards("remove", "tcp", "907:7")
    expect(await hello(host, 907)).toBe("ECONNREFUSED")
  })

  test("a port of the namespace that leads to the host", async () => {
    expect(await hello(stage.guest, 20_007)).toBe("ECONNREFUSED")
    expect(await forwards("add", "tcp", "--namespace", "20007:7")).toMatch("[*]%lo:20007")
    expect(await hello(stage.guest, 20_007)).toBe("hello")
    await forwards("remove", "tcp", "--namespace", "20007:7")
    expect(await hello(stage.guest, 20_007)).toBe("ECONNREFUSED")
  })

  test("ports that open by themselves, from when the rule is added until it is removed", async () => {
    const { host } = stage.world
    // Of the services, one that the host does not have itself.
    const service = stage.guest.start([
      process.execPath,
      "-e",
      `require("node:net").createServer((s) => s.pipe(s)).listen(18181, "0.0.0.0")`,
    ])
    await forwards("add", "tcp", "auto")
    await until("the port", 10_000, async () => (await hello(host, 18_181)) === "hello")
    const [number] = /^\d+(?=.*\[\*\]:1-)/m.exec(await forwards())!
    await forwards("remove", number)
    expect(await hello(host, 18_181)).toBe("ECONNREFUSED")
    await stop(service)
  })
})
