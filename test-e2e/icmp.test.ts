// What routers and hosts beyond the next hop say about a guest's packets: to connections, to ping, to traceroute.
//
//   guest ~~ passt or pasta [host] ── 192.0.2.1 [world] 203.0.113.129 ── MTU 1400 ── 203.0.113.130 [far]
//                                 2001:db8:1::1        2001:db8:3::1                2001:db8:3::2
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { NOBODY, PORT, ROUTER } from "../tools/world/addresses.ts"
import { createNamespace } from "../tools/world/namespace.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { must } from "../tools/world/process.ts"
import type { Outcome } from "../tools/world/process.ts"
import { ip } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { createPastaStage } from "./lib/pasta.ts"
import { createStage } from "./lib/stage.ts"

const FAR_MTU = 1400
/** Guest's retransmissions of a SYN where a test waits for them to end, and the host's, which end earlier. */
const GUEST_SYN_RETRIES = 2
const HOST_SYN_RETRIES = 1

const FAMILIES = [
  {
    family: "IPv4",
    flag: "-4",
    bits: 32,
    router: ROUTER.ipv4,
    far: "203.0.113.130",
    nobody: NOBODY.ipv4,
    /** Routes of the world. */
    unreachable: "203.0.113.201",
    prohibited: "203.0.113.202",
    /** Routes of the host. */
    noRoute: "203.0.113.203",
    forbidden: "203.0.113.204",
    /** On the host's link, where nobody has it. */
    absent: "192.0.2.77",
    errors: { unreachable: "EHOSTUNREACH", prohibited: "EHOSTUNREACH", forbidden: "EHOSTUNREACH" },
    says: {
      timeExceeded: "Time to live exceeded",
      unreachable: "Destination Host Unreachable",
      prohibited: "Packet filtered",
      tooBig: `Frag needed and DF set (mtu = ${FAR_MTU})`,
    },
  },
  {
    family: "IPv6",
    flag: "-6",
    bits: 128,
    router: ROUTER.ipv6,
    far: "2001:db8:3::2",
    nobody: NOBODY.ipv6,
    unreachable: "2001:db8:4::1",
    prohibited: "2001:db8:4::2",
    noRoute: "2001:db8:4::3",
    forbidden: "2001:db8:4::4",
    absent: "2001:db8:1::77",
    errors: { unreachable: "ENETUNREACH", prohibited: "EACCES", forbidden: "EACCES" },
    says: {
      timeExceeded: "Time exceeded: Hop limit",
      unreachable: "Destination unreachable: No route",
      prohibited: "Destination unreachable: Administratively prohibited",
      tooBig: `Packet too big: mtu=${FAR_MTU}`,
    },
  },
] as const

/** Gives the world a second link, with a host at its end, and routes that lead nowhere. */
async function addFarHost({ world, host }: World): Promise<Namespace> {
  const far = await createNamespace("far")
  await must(["ip", "link", "add", "to-far", "type", "veth", "peer", "name", "to-world"])
  await must(["ip", "link", "set", "to-far", "netns", String(world.pid)])
  await must(["ip", "link", "set", "to-world", "netns", String(far.pid)])
  const [four, six] = FAMILIES
  await ip(world, [
    `link set to-far mtu ${FAR_MTU} up`,
    "address add 203.0.113.129/30 dev to-far",
    "address add 2001:db8:3::1/64 dev to-far nodad",
    ...FAMILIES.flatMap(({ unreachable, prohibited, bits }) => [
      `route add unreachable ${unreachable}/${bits}`,
      `route add prohibit ${prohibited}/${bits}`,
    ]),
  ])
  await ip(far, [
    `link set to-world mtu ${FAR_MTU} up`,
    `address add ${four.far}/30 dev to-world`,
    `address add ${six.far}/64 dev to-world nodad`,
    "route add default via 203.0.113.129",
    "route add default via 2001:db8:3::1",
  ])
  await ip(
    host,
    FAMILIES.flatMap(({ noRoute, forbidden, bits }) => [
      `route add throw ${noRoute}/${bits}`,
      `route add prohibit ${forbidden}/${bits}`,
    ]),
  )
  // Each test asks for more errors than Linux makes per second for one destination.
  for (const router of [host, world, far]) {
    await router.must([
      "sh",
      "-c",
      "cd /proc/sys/net; echo 0 > ipv4/icmp_ratelimit; echo 0 > ipv4/icmp_ratemask; echo 0 > ipv6/icmp/ratelimit",
    ])
  }
  return far
}

/** Connect, and tell what came of it: "connected", or the error's name. */
async function connect(guest: Namespace, address: string, port: number): Promise<{ what: string; elapsedMs: number }> {
  const script = `
    const began = performance.now()
    const say = (what) => { console.log(JSON.stringify({ what, elapsedMs: performance.now() - began })); process.exit() }
    require("net").connect(${port}, "${address}").on("connect", () => say("connected")).on("error", (e) => say(e.code))`
  const outcome = await guest.must([process.execPath, "-e", script], { timeoutMs: 30_000 })
  return JSON.parse(outcome) as { what: string; elapsedMs: number }
}

/** The hops that traceroute saw, in order. */
function hops({ stdout }: Outcome): string[] {
  return [...stdout.matchAll(/^ *\d+ +([0-9a-f.:*]+)/gm)].map((match) => match[1]!)
}

const STAGES = [
  { program: "passt", create: () => createStage() },
  { program: "pasta", create: () => createPastaStage(["--config-net", "--mtu", "1500"]) },
] as const

const NEEDS = ["tun", "ping", "traceroute"] as const

describe.skipIf(missing(NEEDS).length > 0).each(STAGES)(`ICMP through $program${skipNote(...NEEDS)}`, ({ create }) => {
  let stage: { readonly world: World; readonly guest: Namespace; close(): Promise<void> }
  let far: Namespace
  beforeAll(async () => {
    stage = await create()
    far = await addFarHost(stage.world)
  })
  afterAll(async () => {
    await far?.close()
    await stage?.close()
  })

  /** Makes host and guest forget what they have learned of paths: a host that knows cuts datagrams by itself. */
  async function forgetSizes(): Promise<void> {
    for (const namespace of [stage.world.host, stage.guest]) {
      for (const flag of ["-4", "-6"]) await namespace.must(["ip", flag, "route", "flush", "cache"])
    }
  }

  describe.each(FAMILIES)("$family", (f) => {
    test("a connection that fails fails for the guest with the same reason", async () => {
      const { guest } = stage
      const failures: [string, string, string][] = [
        ["a router has no route", f.unreachable, f.errors.unreachable],
        ["a router forbids it", f.prohibited, f.errors.prohibited],
        ["the host has no route", f.noRoute, "ENETUNREACH"],
        ["the host forbids it", f.forbidden, f.errors.forbidden],
        ["nobody listens", f.far, "ECONNREFUSED"],
      ]
      for (const [why, address, error] of failures) {
        const { what, elapsedMs } = await connect(guest, address, PORT.closed)
        expect(what, why).toBe(error)
        // An error that comes while the host's socket is still in connect(), as it can over a veth pair, counts only when the
        // SYN is repeated.
        expect(elapsedMs, why).toBeLessThan(2000)
      }
    })

    test("nobody has the address on the host's link", async () => {
      expect(await connect(stage.guest, f.absent, PORT.http)).toMatchObject({ what: "EHOSTUNREACH" })
    })

    test("a connection that times out for the host does so for the guest, by its own timer", async () => {
      const { guest, world } = stage
      const retries = (count: number): string[] => ["sh", "-c", `echo ${count} > /proc/sys/net/ipv4/tcp_syn_retries`]
      await guest.must(retries(GUEST_SYN_RETRIES))
      await world.host.must(retries(HOST_SYN_RETRIES))
      const { what, elapsedMs } = await connect(guest, f.nobody, PORT.http)
      await guest.must(retries(6))
      await world.host.must(retries(6))
      expect(what).toBe("ETIMEDOUT")
      expect(elapsedMs).toBeGreaterThan(1000 * (GUEST_SYN_RETRIES + 1) - 100)
    })

    test.each([
      ["echo requests", ["-I"]],
      ["UDP", []],
      ["TCP", ["-T", "-p", String(PORT.closed)]],
    ])("traceroute shows the way, by %s", async (_, method) => {
      const outcome = await stage.guest.run(
        ["traceroute", f.flag, "-n", "-q", "1", "-w", "2", "-m", "4", ...method, f.far],
        { timeoutMs: 20_000 },
      )
      expect(hops(outcome), outcome.stdout + outcome.stderr).toEqual([f.router, f.far])
    })

    test("ping with one hop is told where it ended, with two it arrives", async () => {
      const { guest } = stage
      const near = await guest.run(["ping", f.flag, "-n", "-c", "1", "-W", "2", "-t", "1", f.far])
      expect(near.stdout).toMatch(new RegExp(`From ${f.router}.* icmp_seq=1 ${f.says.timeExceeded}`))
      await guest.must(["ping", f.flag, "-n", "-c", "1", "-W", "2", "-t", "2", f.far])
    })

    test("answers have the hop limit that they arrived with", async () => {
      const { stdout } = await stage.guest.run(["ping", f.flag, "-n", "-c", "1", "-W", "2", f.far])
      // Linux begins with 64, and there is a router on the way.
      expect(stdout).toMatch(/\bttl=63\b/)
    })

    test("ping is told why it can't arrive", async () => {
      const { guest } = stage
      for (const why of ["unreachable", "prohibited"] as const) {
        const outcome = await guest.run(["ping", f.flag, "-n", "-c", "1", "-W", "2", f[why]])
        expect(outcome.stdout).toMatch(new RegExp(`From ${f.router}.* icmp_seq=1 ${f.says[why]}`))
      }
    })

    test("ping is told the size that the way takes", async () => {
      const { guest } = stage
      await forgetSizes()
      const size = FAR_MTU - (f.family === "IPv4" ? 28 : 48)
      const ping = ["ping", f.flag, "-n", "-c", "1", "-W", "2", "-M", "do", "-s"]
      const outcome = await guest.run([...ping, String(size + 1), f.far])
      expect(outcome.stdout).toContain(`From ${f.router}`)
      expect(outcome.stdout).toContain(f.says.tooBig)
      await guest.must([...ping, String(size), f.far])
    })

    test("UDP is told the size that the way takes", async () => {
      const { guest } = stage
      await forgetSizes()
      const command = ["traceroute", f.flag, "-n", "-w", "2", "-m", "4", "--mtu", f.far]
      const outcome = await guest.run(command, { timeoutMs: 20_000 })
      expect(outcome.stdout).toContain(`F=${FAR_MTU}`)
      expect(outcome.stdout).toContain(` ${f.far} `)
    })
  })
})
