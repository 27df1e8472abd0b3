// The host moves to another network while passt runs: its guest goes on, and learns of it.
import { chmodSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, test } from "vitest"
import { HOST, NOBODY, PORT, RESOLVER, ROUTER, SEARCH_DOMAIN, SERVER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { startPasst } from "../tools/world/passt.ts"
import type { Passt } from "../tools/world/passt.ts"
import { until } from "../tools/world/process.ts"
import { createWorld, ip } from "../tools/world/world.ts"
import type { World, WorldOptions } from "../tools/world/world.ts"
import { createBridgedGuest } from "./lib/bridged-guest.ts"
import type { BridgedGuest, BridgedGuestOptions } from "./lib/bridged-guest.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"

/** Where the host goes. */
const THERE = { ipv4: "203.0.113.2", router4: "203.0.113.1", ipv6: "2001:db8:7::2", router6: "2001:db8:7::1" } as const
/** An address that the forwarder has in the guest's eyes. */
const FORWARDER = "192.0.2.53"

/** Asks a resolver for the server's address until it answers right. */
const QUERY = `
const { Resolver } = require("node:dns").promises
const resolver = new Resolver({ timeout: 500, tries: 1 })
resolver.setServers([process.argv[1]])
resolver.resolve4("${SERVER.name}").then((found) => console.log(found.join()), (error) => console.log(error.code))
`

/** Sends a datagram from one and the same socket every 100 ms, and prints what comes back. */
const TALK = `
const socket = require("node:dgram").createSocket("udp4")
socket.on("message", (message) => console.log(String(message)))
socket.on("error", (error) => console.log(error.code))
let count = 0
socket.bind(5555, () => setInterval(() => socket.send(String(count++), Number(process.argv[2]), process.argv[1], () => {}), 100))
`

const lacking = missing(["tun", "udhcpc"])

describe.skipIf(lacking.length > 0)(`following the host${skipNote("tun", "udhcpc")}`, () => {
  let world: World
  let passt: Passt | undefined
  let guest: BridgedGuest | undefined
  const resolvConf = (): string => join(scratchDirectory(), `resolv.conf.${world.host.pid}`)

  afterEach(async () => {
    await guest?.close()
    await passt?.stop()
    await world?.close()
    guest = undefined
    passt = undefined
  })

  async function begin(args: string[] = [], more: BridgedGuestOptions = {}, options: WorldOptions = {}): Promise<void> {
    world = await createWorld(options)
    passt = await startPasst(world.host, args)
    guest = await createBridgedGuest(passt.socket, more)
  }

  /** The same cable leads to another network. */
  async function move(): Promise<void> {
    await ip(world.world, [
      `address add ${THERE.router4}/24 dev eth0`,
      `address add ${THERE.router6}/64 dev eth0 nodad`,
    ])
    await ip(world.host, [
      `address del ${HOST.ipv4}/${HOST.prefix4} dev eth0`,
      `address del ${HOST.ipv6}/${HOST.prefix6} dev eth0`,
      `address add ${THERE.ipv4}/24 dev eth0`,
      `address add ${THERE.ipv6}/64 dev eth0 nodad`,
      `route replace default via ${THERE.router4} dev eth0`,
      `route replace default via ${THERE.router6} dev eth0`,
    ])
  }

  async function said(text: string): Promise<void> {
    try {
      await until(`"${text}" in the log`, 10_000, () => passt!.log().includes(text))
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${passt!.log()}`)
    }
  }
  const inGuest = (script: string, ...args: string[]): string[] => [process.execPath, "-e", script, ...args]
  const resolve = async (resolver: string): Promise<string> =>
    (await guest!.must(inGuest(QUERY, resolver), { timeoutMs: 10_000 })).trim()
  const whoami = async (from: Namespace, server: string): Promise<string> => {
    const result = await ask(from, "tcp", server, PORT.whoami, "")
    return result.text?.split(" ")[0] ?? result.error ?? ""
  }
  /** What udhcpc is told. */
  async function lease(): Promise<string> {
    const script = join(scratchDirectory(), "lease-script")
    writeFileSync(script, `#!/bin/sh\n[ "$1" = bound ] && env > ${script}.env\nexit 0\n`)
    chmodSync(script, 0o755)
    await guest!.must(["udhcpc", "-i", "eth0", "-s", script, "-n", "-q", "-f", "-t", "5", "-T", "1", "-O", "search"])
    return readFileSync(`${script}.env`, "utf8")
  }
  const addresses6 = (): Promise<string> => guest!.must(["ip", "-6", "address", "show", "dev", "eth0"])
  /** Whether the guest has an address that begins so, and may use it: it is not tentative any more (RFC 4862 section 5.4). */
  const canUse = async (prefix: string): Promise<boolean> =>
    (await addresses6()).split("\n").some((line) => line.includes(`inet6 ${prefix}`) && !line.includes("tentative"))

  test("another network: advertisements, leases, flows", async () => {
    await begin([], { configure: "none" })
    await guest!.must(["ip", "link", "set", "eth0", "up"])
    await until("an address", 15_000, () => canUse("2001:db8:1:"))
    const before = await lease()
    expect(before).toContain(`ip=${HOST.ipv4}\n`)
    expect(before).toContain("lease=3600\n")
    await ip(guest!, [`address add ${HOST.ipv4}/24 dev eth0`, `route add default via ${ROUTER.ipv4}`])
    expect(await whoami(guest!, SERVER.ipv4)).toBe(HOST.ipv4)

    await move()
    await said(`IPv4 ${THERE.ipv4}/24`)
    // The guest's own address is the old one still; what it begins comes from the new one.
    expect(await whoami(guest!, SERVER.ipv4)).toBe(THERE.ipv4)
    await until("the new prefix", 15_000, () => canUse("2001:db8:7:"))
    const shown = await addresses6()
    expect(shown).toMatch(/2001:db8:1:\S+ scope global deprecated/)
    expect(shown).toMatch(/2001:db8:7:\S+ scope global (dynamic|tentative)/)
    const after = await lease()
    expect(after).toContain(`ip=${THERE.ipv4}\n`)
    expect(after).toContain(`router=${THERE.router4}\n`)
    expect(await whoami(guest!, SERVER.ipv6)).toBe(THERE.ipv6)
  })

  test("IPv6 that goes away and comes back: the guest prefers IPv4 meanwhile", async () => {
    await begin([], { configure: "none" })
    await guest!.must(["ip", "link", "set", "eth0", "up"])
    const router = (): Promise<string> => guest!.must(["ip", "-6", "route", "show", "default"])
    await until("an address", 15_000, () => canUse("2001:db8:1:"))
    expect(await router()).toContain("via fe80:")
    await ip(world.host, [`address del ${HOST.ipv6}/${HOST.prefix6} dev eth0`])
    await world.host.must(["ip", "-6", "route", "flush", "default"])
    await said("IPv6: the host has no way to the world any more")
    await until("no router", 5000, async () => (await router()) === "")
    expect(await addresses6()).toMatch(/2001:db8:1:\S+ scope global deprecated/)
    await ip(world.host, [
      `address add ${HOST.ipv6}/${HOST.prefix6} dev eth0 nodad`,
      `route add default via ${ROUTER.ipv6}`,
    ])
    await said("IPv6: the host is online again")
    await until("a router", 5000, async () => (await router()).includes("via fe80:"))
    expect(await addresses6()).not.toContain("deprecated")
    expect(await whoami(guest!, SERVER.ipv6)).toBe(HOST.ipv6)
  })

  test("resolvers: written in place, half first", async () => {
    await begin(["--dns-forward", FORWARDER], {}, { resolvConf: `nameserver ${NOBODY.ipv4}\nsearch old.example\n` })
    expect(await resolve(FORWARDER)).toMatch(/TIMEOUT|CANCELLED|REFUSED/)
    writeFileSync(resolvConf(), "# nothing y")
    await new Promise((done) => setTimeout(done, 300))
    writeFileSync(resolvConf(), `nameserver ${RESOLVER.ipv4}\nsearch ${SEARCH_DOMAIN}\n`)
    await said(RESOLVER.ipv4)
    expect(await resolve(FORWARDER)).toBe(SERVER.ipv4)
    // What the guest was told before is answered as well: it need not know.
    expect(await resolve(NOBODY.ipv4)).toBe(SERVER.ipv4)
    const told = await lease()
    expect(told).toContain(`dns=${RESOLVER.ipv4}\n`)
    expect(told).toContain(`search=${SEARCH_DOMAIN}\n`)
    // Empty is what it is between two networks.
    writeFileSync(resolvConf(), "")
    await new Promise((done) => setTimeout(done, 2000))
    expect(await resolve(FORWARDER)).toBe(SERVER.ipv4)
  })

  test("resolvers: a link to a file that is replaced", async () => {
    world = await createWorld()
    const etc = join(scratchDirectory(), `etc.${world.host.pid}`)
    mkdirSync(join(etc, "resolve"), { recursive: true })
    for (const name of ["passwd", "group"]) writeFileSync(join(etc, name), readFileSync(`/etc/${name}`))
    symlinkSync("resolve/late/resolv.conf", join(etc, "resolv.conf"))
    await world.host.must(["umount", "/etc/resolv.conf"])
    await world.host.must(["mount", "--bind", etc, "/etc"])
    passt = await startPasst(world.host, ["--dns-forward", FORWARDER])
    guest = await createBridgedGuest(passt.socket)
    const put = (text: string): void => {
      writeFileSync(join(etc, "resolve/late/new"), text)
      renameSync(join(etc, "resolve/late/new"), join(etc, "resolve/late/resolv.conf"))
    }
    // The directory comes later than the program.
    mkdirSync(join(etc, "resolve/late"))
    put(`nameserver ${NOBODY.ipv4}\n`)
    await said(`DNS queries go to ${NOBODY.ipv4}`)
    put(`nameserver ${RESOLVER.ipv4}\n`)
    await said(`DNS queries go to ${RESOLVER.ipv4}`)
    expect(await resolve(FORWARDER)).toBe(SERVER.ipv4)
  })

  test("another way out: flows of datagrams go on from their port, connections begin there", async () => {
    await begin()
    await ip(world.host, ["link add eth1 type veth peer name to-host"])
    await world.host.must(["ip", "link", "set", "to-host", "netns", String(world.world.pid)])
    await ip(world.world, ["link set to-host up", `address add ${THERE.router4}/24 dev to-host`])
    const talker = guest!.start(inGuest(TALK, SERVER.ipv4, String(PORT.echo)))
    let heard = ""
    talker.stdout?.on("data", (chunk: Buffer) => (heard += chunk.toString()))
    await until("an answer", 10_000, () => heard.includes("3\n"))
    await ip(world.host, [
      `address add ${THERE.ipv4}/24 dev eth1`,
      "link set eth1 up",
      `route replace default via ${THERE.router4} dev eth1`,
      `address del ${HOST.ipv4}/24 dev eth0`,
    ])
    await said(`IPv4 ${THERE.ipv4}/24`)
    const count = heard.split("\n").length
    await until("further answers", 10_000, () => heard.split("\n").length > count + 10)
    expect(heard).not.toMatch(/E[A-Z]+/)
    expect(await whoami(guest!, SERVER.ipv4)).toBe(THERE.ipv4)
  })

  test("no network at the start: the guest is online as soon as there is one", async () => {
    world = await createWorld()
    await ip(world.host, ["address flush dev eth0"])
    await world.host.must(["ip", "-6", "route", "flush", "default"])
    passt = await startPasst(world.host)
    guest = await createBridgedGuest(passt.socket, { configure: "none" })
    await guest.must(["ip", "link", "set", "eth0", "up"])
    await said("IPv4: no external interface as template, use local mode")
    const local = await lease()
    expect(local).toContain("ip=169.254.2.1\n")
    expect(local).toContain("lease=60\n")
    await ip(guest, ["address add 169.254.2.1/16 dev eth0", "route add default via 169.254.2.2"])
    await ip(world.host, [
      `address add ${HOST.ipv4}/24 dev eth0`,
      `address add ${HOST.ipv6}/64 dev eth0 nodad`,
      `route add default via ${ROUTER.ipv4}`,
      `route add default via ${ROUTER.ipv6}`,
    ])
    await said(`IPv4 ${HOST.ipv4}/24`)
    expect(await whoami(guest, SERVER.ipv4)).toBe(HOST.ipv4)
    await until("an address", 15_000, () => canUse("2001:db8:1:"))
    expect(await whoami(guest, SERVER.ipv6)).toBe(HOST.ipv6)
    expect(await lease()).toContain(`ip=${HOST.ipv4}\n`)
  })

  test("what the user gave stays, and nothing is followed with --no-follow-host", async () => {
    await begin(["-a", "10.1.2.3", "-n", "24", "-g", "10.1.2.1", "-D", NOBODY.ipv4, "-S", "fixed.example"])
    await move()
    writeFileSync(resolvConf(), `nameserver ${RESOLVER.ipv4}\nsearch other.example\n`)
    await said("Host network changed")
    const told = await lease()
    for (const line of ["ip=10.1.2.3", "router=10.1.2.1", `dns=${NOBODY.ipv4}`, "search=fixed.example"]) {
      expect(told).toContain(`${line}\n`)
    }
    await guest!.close()
    await passt!.stop()
    passt = await startPasst(world.host, ["--no-follow-host"])
    guest = await createBridgedGuest(passt.socket)
    expect(await lease()).toContain("lease=4294967295\n")
    await ip(world.host, [`address add ${HOST.ipv4}/24 dev eth0`, `address del ${THERE.ipv4}/24 dev eth0`])
    await new Promise((done) => setTimeout(done, 1500))
    expect(await lease()).toContain(`ip=${THERE.ipv4}\n`)
    expect(passt.log()).not.toContain("Host network changed")
  })

  test("pasta: flows, resolvers; what was set up in the namespace stays, and goes on to work", async () => {
    const stage = await createPastaStage(["--config-net", "--dns-forward", FORWARDER, "-t", "none", "-u", "none"], {
      resolvConf: `nameserver ${NOBODY.ipv4}\n`,
    })
    world = stage.world
    try {
      expect(await whoami(stage.guest, SERVER.ipv4)).toBe(HOST.ipv4)
      await move()
      writeFileSync(resolvConf(), `nameserver ${RESOLVER.ipv4}\n`)
      await until("both changes in the log", 10_000, () => {
        const log = stage.pasta.log()
        return log.includes(`IPv4 ${THERE.ipv4}/24`) && log.includes(`DNS queries go to ${RESOLVER.ipv4}`)
      })
      expect(await whoami(stage.guest, SERVER.ipv4)).toBe(THERE.ipv4)
      expect(await whoami(stage.guest, SERVER.ipv6)).toBe(THERE.ipv6)
      expect((await stage.guest.must(inGuest(QUERY, FORWARDER), { timeoutMs: 10_000 })).trim()).toBe(SERVER.ipv4)
      expect(await stage.guest.must(["ip", "-4", "address", "show", "scope", "global"])).toContain(HOST.ipv4)
    } finally {
      await stage.close()
    }
  })

  test("a storm of changes costs little, and the last one counts", async () => {
    await begin()
    const storm = Array.from({ length: 3000 }, (_, i) => {
      const address = `10.9.${i >> 7}.${(i & 127) + 1}/32`
      return [`address add ${address} dev lo`, `address del ${address} dev lo`]
    })
    const ticks = (): number => {
      const fields = readFileSync(`/proc/${passt!.process.pid}/stat`, "latin1").split(") ")[1]!.split(" ")
      return Number(fields[11]) + Number(fields[12])
    }
    const used = ticks()
    await ip(world.host, storm.flat())
    // Of hundredths of a second.
    expect(ticks() - used).toBeLessThan(100)
    await move()
    await said(`IPv4 ${THERE.ipv4}/24`)
    expect(await whoami(guest!, SERVER.ipv4)).toBe(THERE.ipv4)
  })
})
