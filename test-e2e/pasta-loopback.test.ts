// What passes pasta without a link: connections and datagrams between the loopback addresses of host and namespace, ports that
// open by themselves, and every form of port option.
import { readFileSync, readdirSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { HOST, PORT } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { sleep, until } from "../tools/world/process.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { startServers } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage, isAlive } from "./lib/pasta.ts"
import type { PastaStage } from "./lib/pasta.ts"

const LOOPBACK = [
  { family: "IPv4", loopback: "127.0.0.1", host: HOST.ipv4 },
  { family: "IPv6", loopback: "::1", host: HOST.ipv6 },
] as const
const NONE = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"] as const

/** Descriptors that a process has open. */
function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** Memory that a process has for itself, KiB. */
function privateMemory(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8")
  return [...rollup.matchAll(/^Private_\w+:\s+(\d+)/gm)].reduce((sum, [, kib]) => sum + Number(kib), 0)
}

/** Ports that somebody listens on in a namespace, as ss shows them. */
async function listening(space: Namespace, protocol: "tcp" | "udp"): Promise<number[]> {
  const state = protocol === "tcp" ? "listening" : "unconnected"
  const text = await space.must(["ss", "-Hn", `--${protocol}`, "state", state])
  const ports = text
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Number(line.trim().split(/\s+/)[2]!.split(":").at(-1)))
  return [...new Set(ports)].toSorted((a, b) => a - b)
}

/** A TCP and a UDP echo service that can be stopped. */
function echo(space: Namespace, address: string, port: number): { stop(): void } {
  const body = `
    require("node:net").createServer({ allowHalfOpen: true }, (s) => s.pipe(s)).listen(${port}, "${address}")
    const u = require("node:dgram").createSocket("${address.includes(":") ? "udp6" : "udp4"}")
    u.on("message", (m, p) => u.send(m, p.port, p.address)).bind(${port}, "${address}")`
  const child = space.start([process.execPath, "-e", body], { stdio: "ignore" })
  return { stop: () => void child.kill("SIGKILL") }
}

async function reaches(from: Namespace, address: string, port: number): Promise<boolean> {
  return (await ask(from, "tcp", address, port, "hello")).text === "hello"
}

async function reachesByUdp(from: Namespace, address: string, port: number): Promise<boolean> {
  return (await ask(from, "udp", address, port, "hello", 1000)).text === "hello"
}

const possible = missing(["tun"]).length === 0

describe.runIf(possible)(`spliced, ports given${skipNote("tun")}`, () => {
  let stage: PastaStage
  beforeAll(async () => {
    const inward = ["-t", "10007:7,19000-19004:9000-9004,19999:9999", "-u", "10007:7,19999:9999"]
    const outward = ["-T", "20007:7,29000-29004:9000-9004,29999:9999", "-U", "20007:7,29999:9999"]
    stage = await createPastaStage(["--config-net", ...inward, ...outward])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
    await startServers(stage.world.host, ["127.0.0.1", "::1"])
  })
  afterAll(() => stage?.close())

  describe.each(LOOPBACK)("$family", ({ family, loopback, host }) => {
    describe.each([
      { way: "host to namespace", from: (s: PastaStage) => s.world.host, base: 10_000 },
      { way: "namespace to host", from: (s: PastaStage) => s.guest, base: 20_000 },
    ])("$way", ({ from, base }) => {
      const sizes = [
        { name: "2 KiB", count: 2048 },
        { name: "10 MiB", count: 10 * 2 ** 20 },
        // Both families take the same way: once is enough.
        ...(family === "IPv4" ? [{ name: "1 GiB", count: 2 ** 30 }] : []),
      ]
      test.each(sizes)("$name there", async ({ count }) => {
        const result = await ask(from(stage), "upload", loopback, base + PORT.digest, count, 1)
        expect(result).toMatchObject({ text: `${count} ${streamDigest(count, 1)}\n` })
      })
      test.each(sizes)("$name back", async ({ count }) => {
        const digest = streamDigest(count, 2)
        const result = await ask(from(stage), "download", loopback, base + PORT.stream, count, 2)
        expect(result).toMatchObject({ count, digest })
      })
      test("an answer behind the end of the question", async () => {
        const digest = streamDigest(5 << 20, 3)
        const result = await ask(from(stage), "downloadAfterEnd", loopback, base + PORT.streamAfterEnd, 5 << 20, 3)
        expect(result).toMatchObject({ count: 5 << 20, digest })
      })
      test("datagrams", async () => {
        expect(await reachesByUdp(from(stage), loopback, base + PORT.echo)).toBe(true)
      })
      test("nobody listens: the connection is reset", async () => {
        const result = await ask(from(stage), "tcp", loopback, base + PORT.closed, "x")
        expect(result.error === "ECONNRESET" || result.text === "").toBe(true)
        expect(result.elapsedMs).toBeLessThan(1000)
      })
      test("1000 at once", async () => {
        expect(await ask(from(stage), "many", loopback, base + PORT.echo, 1000)).toMatchObject({ count: 1000 })
      })
    })

    test("the server in the namespace sees the namespace's own address", async () => {
      const { text } = await ask(stage.world.host, "tcp", loopback, 10_000 + PORT.whoami, "")
      expect(text?.split(" ")[0]).toBe(host)
    })
    test("the server on the host sees loopback, whichever it was", async () => {
      const { text } = await ask(stage.guest, "tcp", loopback, 20_000 + PORT.whoami, "")
      expect(text?.split(" ")[0]).toBe(loopback)
    })
  })

  test("nothing else leads from the namespace's loopback ports to the host", async () => {
    const { error, text } = await ask(stage.guest, "tcp", HOST.ipv4, 20_007, "x")
    expect(error === "ECONNRESET" || error === "ECONNREFUSED" || text === "").toBe(true)
  })

  test("2,000 short connections per second for 20 s leave nothing behind", async () => {
    const { pid } = stage.pasta
    const { host } = stage.world
    // What a first run leaves behind stays: pools, compiled code.
    await ask(host, "short", "127.0.0.1", 10_007, 4000, 2000)
    await sleep(500)
    const before = { descriptors: descriptors(pid), memory: privateMemory(pid) }
    const result = await ask(host, "short", "127.0.0.1", 10_007, 40_000, 2000)
    expect(result).toMatchObject({ count: 40_000 })
    await until("the end of the connections", 5000, () => descriptors(pid) <= before.descriptors + 32)
    expect(privateMemory(pid) - before.memory).toBeLessThan(8 << 10)
    expect(isAlive(pid)).toBe(true)
  })
})

describe.runIf(possible)("spliced, ports found", () => {
  let stage: PastaStage
  beforeAll(async () => {
    stage = await createPastaStage(["--config-net", "-t", "auto,~8099", "-u", "auto", "-T", "auto", "-U", "auto"])
  })
  afterAll(() => stage?.close())

  describe.each(LOOPBACK)("$family", ({ family, loopback }) => {
    const port = family === "IPv4" ? 8004 : 8006
    const any = family === "IPv4" ? "0.0.0.0" : "::"
    test.each([
      { way: "a service in the namespace", place: (s: PastaStage) => [s.guest, s.world.host] as const },
      { way: "a service on the host", place: (s: PastaStage) => [s.world.host, s.guest] as const },
    ])("$way is found within a second or so, and forgotten", async ({ place }) => {
      const [server, client] = place(stage)
      const service = echo(server, any, port)
      await until("the service itself", 5000, async () => (await listening(server, "tcp")).includes(port))
      await until("the port", 1500, async () => (await listening(client, "tcp")).includes(port))
      expect(await reaches(client, loopback, port)).toBe(true)
      await until("the UDP port", 1500, async () => (await listening(client, "udp")).includes(port))
      expect(await reachesByUdp(client, loopback, port)).toBe(true)
      service.stop()
      await until("the end of it", 2500, async () => !(await listening(client, "tcp")).includes(port))
      await until("the end of the UDP port", 2500, async () => !(await listening(client, "udp")).includes(port))
      expect((await ask(client, "tcp", loopback, port, "x")).error).toBe("ECONNREFUSED")
    })
  })

  test("a UDP port is opened for a TCP listener of the same number", async () => {
    const body = 'require("node:net").createServer().listen(8010, "0.0.0.0")'
    const child = stage.guest.start([process.execPath, "-e", body], { stdio: "ignore" })
    await until("the port", 5000, async () => (await listening(stage.world.host, "udp")).includes(8010))
    child.kill("SIGKILL")
  })

  test("an excluded port stays closed", async () => {
    const service = echo(stage.guest, "0.0.0.0", 8099)
    const other = echo(stage.guest, "0.0.0.0", 8098)
    await until("the other port", 5000, async () => (await listening(stage.world.host, "tcp")).includes(8098))
    await sleep(300)
    expect(await listening(stage.world.host, "tcp")).not.toContain(8099)
    service.stop()
    other.stop()
  })

  test("privileged ports, where pasta may have them", async () => {
    const service = echo(stage.guest, "0.0.0.0", 99)
    await until("the port", 5000, async () => (await listening(stage.world.host, "tcp")).includes(99))
    expect(await reaches(stage.world.host, "127.0.0.1", 99)).toBe(true)
    service.stop()
  })

  test("no loops: when all services are gone, all ports close", async () => {
    const services = [8020, 8021, 8022].flatMap((port) => [
      echo(stage.guest, "0.0.0.0", port),
      echo(stage.world.host, "127.0.0.1", port + 10),
    ])
    const both = async (): Promise<string> => {
      const all = [stage.guest, stage.world.host].map((space) => listening(space, "tcp"))
      return (await Promise.all(all))
        .map((ports) => ports.filter((port) => port >= 8020 && port < 8040).join())
        .join(" ")
    }
    await until(
      "all of them",
      5000,
      async () => (await both()) === Array(2).fill("8020,8021,8022,8030,8031,8032").join(" "),
    )
    await sleep(2500)
    for (const service of services) service.stop()
    await until("the end of all of them", 5000, async () => (await both()) === " ")
    await sleep(1500)
    expect(await both()).toBe(" ")
  })
})

describe.runIf(possible)("port options", () => {
  async function withPasta(args: readonly string[], check: (stage: PastaStage) => Promise<void>): Promise<void> {
    const given = (option: string): boolean => args.includes(option)
    const rest = ["-t", "-u", "-T", "-U"].flatMap((option) => (given(option) ? [] : [option, "none"]))
    const stage = await createPastaStage(["--config-net", ...rest, ...args])
    try {
      await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
      await check(stage)
    } finally {
      await stage.close()
    }
  }

  test("an address binds to it alone", async () => {
    await withPasta(["-t", "127.0.0.1/10007:7", "-t", `${HOST.ipv4}/11007:7`], async ({ world }) => {
      expect(await reaches(world.host, "127.0.0.1", 10_007)).toBe(true)
      expect(await reaches(world.host, HOST.ipv4, 10_007)).toBe(false)
      expect(await reaches(world.world, HOST.ipv4, 11_007)).toBe(true)
      expect(await reaches(world.host, "127.0.0.1", 11_007)).toBe(false)
    })
  })

  test("all ports but the excluded and the ephemeral ones", async () => {
    await withPasta(["-t", "all,~80,~9000-9002,~9100-65535", "-u", "~1-6,~8-65535"], async ({ world }) => {
      expect(await reaches(world.host, "127.0.0.1", PORT.echo)).toBe(true)
      for (const port of [80, 9000, 9002]) expect(await listening(world.host, "tcp")).not.toContain(port)
      expect((await ask(world.host, "tcp", "127.0.0.1", PORT.whoami, "")).text).toContain(HOST.ipv4)
      expect(await listening(world.host, "udp")).toEqual([7])
    })
  })

  test("without splicing, loopback goes over the link", async () => {
    await withPasta(["--no-splice", "-t", "10007:7,19003:9003"], async ({ world }) => {
      expect(await reaches(world.host, "127.0.0.1", 10_007)).toBe(true)
      expect((await ask(world.host, "tcp", "127.0.0.1", 19_003, "")).text).not.toContain(HOST.ipv4)
    })
  })

  test("--host-lo-to-ns-lo reaches what listens on loopback alone", async () => {
    await withPasta(["--host-lo-to-ns-lo", "-t", "19003:9003"], async ({ guest, world }) => {
      await startServers(guest, ["127.0.0.1"])
      expect((await ask(world.host, "tcp", "127.0.0.1", 19_003, "")).text).toMatch(/^127\.0\.0\.1 /)
    })
  })

  test("--splice-only needs no link", async () => {
    const stage = await createPastaStage([
      "--splice-only",
      "-t",
      "10007:7",
      "-u",
      "10007:7",
      "-T",
      "20007:7",
      "-U",
      "none",
    ])
    try {
      await startServers(stage.guest, ["127.0.0.1", "::1"])
      await startServers(stage.world.host, ["127.0.0.1"])
      expect(await reaches(stage.world.host, "127.0.0.1", 10_007)).toBe(true)
      expect(await reaches(stage.world.host, "::1", 10_007)).toBe(true)
      expect(await reachesByUdp(stage.world.host, "127.0.0.1", 10_007)).toBe(true)
      expect(await reaches(stage.guest, "127.0.0.1", 20_007)).toBe(true)
      const result = await ask(stage.world.world, "tcp", HOST.ipv4, 10_007, "x")
      expect(result.error === "ECONNRESET" || result.text === "").toBe(true)
      expect(result.elapsedMs).toBeLessThan(1000)
    } finally {
      await stage.close()
    }
  })

  test("none is none", async () => {
    const stage = await createPastaStage(["--config-net", ...NONE])
    try {
      await startServers(stage.guest, [HOST.ipv4])
      await sleep(1500)
      expect(await listening(stage.world.host, "tcp")).toEqual([])
    } finally {
      await stage.close()
    }
  })
})
