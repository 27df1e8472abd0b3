// Loopback to loopback, past the tap interface: ports that open by themselves and ports of every form, both ways, both
// families, both protocols.
import { readFileSync } from "node:fs"
import { afterEach, describe, expect, test } from "vitest"
import { HOST, PORT, ROUTER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { until } from "../tools/world/process.ts"
import { streamDigest } from "../tools/world/stream.ts"
import { startServers } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"
import type { PastaStage } from "./lib/pasta.ts"

const SIZES = [2048, 10 * 2 ** 20] as const
const LOOPBACK = ["127.0.0.1", "::1"] as const

/** Bytes that a namespace's interface has carried. */
function carried(namespace: Namespace, device: string): number {
  const line = readFileSync(`/proc/${namespace.pid}/net/dev`, "latin1")
    .split("\n")
    .find((text) => text.trim().startsWith(`${device}:`))
  const fields = line?.split(":")[1]?.trim().split(/\s+/).map(Number) ?? []
  return (fields[0] ?? 0) + (fields[8] ?? 0)
}

async function listens(namespace: Namespace, port: number): Promise<boolean> {
  return (await namespace.must(["ss", "-H", "-t", "-l", "-n"])).includes(`:${port} `)
}

describe.skipIf(missing(["tun"]).length > 0)(`splicing${skipNote("tun")}`, () => {
  let stage: PastaStage
  afterEach(() => stage?.close())

  /** Everything from one side's loopback, on `offset` + the usual ports. */
  async function exchange(from: Namespace, addresses: readonly string[], offset = 0): Promise<void> {
    for (const address of addresses) {
      for (const count of SIZES) {
        const digest = streamDigest(count, 1)
        const sent = await ask(from, "upload", address, offset + PORT.digest, count, 1)
        expect(sent).toMatchObject({ text: `${count} ${digest}\n` })
        const got = await ask(from, "download", address, offset + PORT.stream, count, 1)
        expect(got).toMatchObject({ count, digest })
        const after = await ask(from, "downloadAfterEnd", address, offset + PORT.streamAfterEnd, count, 1)
        expect(after).toMatchObject({ count, digest })
      }
      expect(await ask(from, "udp", address, offset + PORT.echo, "datagram", 5000)).toMatchObject({ text: "datagram" })
    }
  }

  test("automatic ports, host to namespace", async () => {
    stage = await createPastaStage(["--config-net"])
    const { host } = stage.world
    expect(await listens(host, PORT.digest)).toBe(false)
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
    const before = carried(stage.guest, "eth0")
    await until("the port on the host", 1500, () => listens(host, PORT.digest))
    await exchange(host, LOOPBACK)
    // Nothing of it went over the interface but what the kernels say to each other.
    expect(carried(stage.guest, "eth0") - before).toBeLessThan(2 ** 20)
  })

  test("automatic ports, namespace to host, and back when they are gone", async () => {
    stage = await createPastaStage(["--config-net"])
    const { host } = stage.world
    const servers = host.start(["socat", "TCP4-LISTEN:18000,bind=127.0.0.1,fork,reuseaddr", "EXEC:cat"])
    await until("the port in the namespace", 1500, () => listens(stage.guest, 18_000))
    expect(await ask(stage.guest, "tcp", "127.0.0.1", 18_000, "hello")).toMatchObject({ text: "hello" })
    servers.kill()
    await until("the port's end in the namespace", 2500, async () => !(await listens(stage.guest, 18_000)))
    await startServers(host, LOOPBACK)
    await until("the servers' ports", 1500, () => listens(stage.guest, PORT.streamAfterEnd))
    await exchange(stage.guest, LOOPBACK)
  })

  test("automatic ports of both sides don't chase each other", async () => {
    stage = await createPastaStage(["--config-net"])
    const { host } = stage.world
    const server = stage.guest.start(["socat", "TCP4-LISTEN:18001,fork,reuseaddr", "EXEC:cat"])
    await until("the port on the host", 1500, () => listens(host, 18_001))
    expect(await ask(host, "tcp", "127.0.0.1", 18_001, "x")).toMatchObject({ text: "x" })
    server.kill()
    // Were our own listener on the host taken for a reason to listen in the namespace, it would stay for ever.
    await until("the port's end on the host", 2500, async () => !(await listens(host, 18_001)))
    expect(await listens(stage.guest, 18_001)).toBe(false)
  })

  test("given ports, both ways", async () => {
    const inward = ["-t", "10007:7,19000-19003:9000-9003", "-u", "10007:7"]
    const outward = ["-T", "10007:7,19000-19003:9000-9003", "-U", "10007:7"]
    stage = await createPastaStage(["--config-net", ...inward, ...outward])
    const { host } = stage.world
    await startServers(host, LOOPBACK)
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
    await exchange(host, LOOPBACK, 10_000)
    await exchange(stage.guest, LOOPBACK, 10_000)
    // From the world it is the interface's way.
    expect(await ask(stage.world.world, "tcp", HOST.ipv4, 10_000 + PORT.echo, "far")).toMatchObject({ text: "far" })
  })

  test("--host-lo-to-ns-lo leads to the namespace's loopback", async () => {
    stage = await createPastaStage(["--config-net", "--host-lo-to-ns-lo", "-t", "10007:7", "-u", "10007:7"])
    await startServers(stage.guest, LOOPBACK)
    for (const address of LOOPBACK) {
      const asked = await ask(stage.world.host, "tcp", address, 10_000 + PORT.echo, "near")
      expect(asked).toMatchObject({ text: "near" })
    }
    expect(await ask(stage.world.host, "udp", "127.0.0.1", 10_000 + PORT.echo, "u", 5000)).toMatchObject({ text: "u" })
  })

  test("--splice-only, without an interface", async () => {
    stage = await createPastaStage(["--splice-only", "-t", "10007:7,19000-19003:9000-9003", "-u", "10007:7"])
    await startServers(stage.guest, LOOPBACK)
    await startServers(stage.world.host, LOOPBACK)
    await exchange(stage.world.host, LOOPBACK, 10_000)
    await until("the servers' ports", 1500, () => listens(stage.guest, PORT.digest)).catch(() => {})
    expect(await stage.guest.must(["ip", "-o", "link"])).toMatch(/^1: lo: .*\n$/)
  })

  test("--no-splice takes the interface", async () => {
    stage = await createPastaStage(["--config-net", "--no-splice", "-t", "10007:7,19003:9003", "-u", "10007:7"])
    await startServers(stage.guest, [HOST.ipv4, HOST.ipv6])
    for (const [address, gateway] of [
      ["127.0.0.1", ROUTER.ipv4],
      ["::1", ROUTER.ipv6],
    ] as const) {
      const asked = await ask(stage.world.host, "tcp", address, 10_000 + PORT.echo, "tap")
      expect(asked).toMatchObject({ text: "tap" })
      // The host's loopback is the gateway to the namespace.
      const { text } = await ask(stage.world.host, "tcp", address, 10_000 + PORT.whoami, "")
      expect(text).toContain(gateway)
    }
  })

  test("a port where nobody listens on the other side is refused or closed", async () => {
    stage = await createPastaStage(["--config-net", "-t", "18002", "-T", "18003"])
    for (const [from, port] of [
      [stage.world.host, 18_002],
      [stage.guest, 18_003],
    ] as const) {
      const { text, error } = await ask(from, "tcp", "127.0.0.1", port, "x")
      expect(text === "" || ["ECONNRESET", "ECONNREFUSED", "EPIPE"].includes(error ?? "")).toBe(true)
    }
  })
})
