// Multicast and broadcast between a guest, its host, and another station on the host's network.
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { HOST, ROUTER } from "../tools/world/addresses.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { stop, until } from "../tools/world/process.ts"
import type { ChildProcess } from "node:child_process"
import { ip } from "../tools/world/world.ts"
import { startAvahi } from "./lib/avahi.ts"
import { missing, skipNote } from "./lib/needs.ts"
import type { NeedName } from "./lib/needs.ts"
import type { Heard } from "./lib/group-program.ts"
import { createPastaStage } from "./lib/pasta.ts"
import { createStage } from "./lib/stage.ts"

const PROGRAM = join(import.meta.dirname, "lib/group-program.ts")
const SSDP = { group: "239.255.255.250", port: 1900 } as const
const MDNS = { group: "224.0.0.251", port: 5353 } as const
const MDNS6 = { group: "ff02::fb", port: 5353 } as const
/** Of nobody in particular. */
const OTHER = { group: "239.7.7.7", port: 7007 } as const

function command(...args: readonly (string | number)[]): string[] {
  return [process.execPath, "--disable-warning=ExperimentalWarning", PROGRAM, ...args.map(String)]
}

function lines(text: string): Heard[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Heard)
}

interface Listener {
  heard(): Heard[]
  /** Waits for a datagram of this text. */
  wait(text: string): Promise<Heard>
  stop(): Promise<void>
}

let running: ChildProcess[] = []

async function listen(where: Namespace, job: "hear" | "answer", group: string, port: number): Promise<Listener> {
  const child = where.start(command(job, group, port), { stdio: ["ignore", "pipe", "inherit"] })
  running.push(child)
  let said = ""
  child.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  await until(`a listener in ${where.name}`, 10_000, () => said.includes("ready\n"))
  return {
    heard: () => lines(said),
    async wait(text) {
      await until(`"${text}" in ${where.name}, which heard ${said}`, 10_000, () =>
        lines(said).some((line) => line.text === text),
      )
      return lines(said).find((line) => line.text === text)!
    },
    stop: () => stop(child),
  }
}

async function ask(where: Namespace, ...args: readonly (string | number)[]): Promise<Heard[]> {
  return lines(await where.must(command("ask", ...args), { timeoutMs: 20_000 }))
}

/** Waits until the host is in a group, or no longer. */
async function membership(host: Namespace, group: string, wanted: boolean): Promise<void> {
  await until(`the host ${wanted ? "in" : "out of"} ${group}`, 15_000, async () => {
    const shown = await host.must(["ip", "maddress", "show", "dev", "eth0"])
    return new RegExp(`inet6?\\s+${group.replaceAll(".", "\\.")}(\\s|$)`, "m").test(shown) === wanted
  })
}

interface Place {
  readonly host: Namespace
  readonly world: Namespace
  readonly guest: Namespace
  close(): Promise<void>
}

/** The world has no default route, which would lead to groups as well. */
async function prepared(place: Place): Promise<Place> {
  await ip(
    place.world,
    ["224.0.0.0/4", "255.255.255.255/32"].map((to) => `route add ${to} dev eth0`),
  )
  return place
}

interface Way {
  readonly name: string
  readonly needs: readonly NeedName[]
  create(): Promise<Place>
}

const WAYS = [
  {
    name: "passt",
    needs: ["root"],
    async create(): Promise<Place> {
      const stage = await createStage(["--udp-ports", "6006"])
      return await prepared({ ...stage.world, guest: stage.guest, close: () => stage.close() })
    },
  },
  {
    name: "pasta",
    needs: ["tun"],
    async create(): Promise<Place> {
      const stage = await createPastaStage(["--config-net", "--udp-ports", "6006"])
      return await prepared({ ...stage.world, guest: stage.guest, close: () => stage.close() })
    },
  },
] satisfies readonly Way[]

describe.each(WAYS.filter(({ needs }) => missing(needs).length === 0))(
  "multicast through $name",
  ({ name, create }) => {
    let at: Place
    beforeAll(async () => {
      at = await create()
    })
    afterEach(async () => {
      await Promise.all(running.map((child) => stop(child)))
      running = []
    })
    afterAll(() => at?.close())

    test.each([
      ["the limited broadcast", "255.255.255.255", 9999],
      ["the subnet's broadcast", "192.0.2.255", 9999],
      ["SSDP", SSDP.group, SSDP.port],
      ["mDNS", MDNS.group, MDNS.port],
      ["mDNS over IPv6", MDNS6.group, MDNS6.port],
    ])("a question to %s is answered by single nodes", async (_what, group, port) => {
      await listen(at.world, "answer", group, port)
      const answers = await ask(at.guest, group, port, "who is there?", 40_001, 1500)
      expect(answers.map((answer) => answer.text)).toEqual(["answer to who is there?"])
      expect(answers[0]!.from).toMatch(group.includes(":") ? /^fe80:/ : new RegExp(`^${ROUTER.ipv4}$`))
    })

    test.skipIf(missing(["nft"]).length > 0)(`source, port and hop limit are right${skipNote("nft")}`, async () => {
      const four = `ip saddr ${HOST.ipv4} ip daddr ${SSDP.group} ip ttl 3 udp sport 40002 udp dport 1900 counter`
      const six = "ip6 daddr ff05::c ip6 hoplimit 5 udp sport 40003 udp dport 1900 counter"
      const chain = `chain seen { type filter hook prerouting priority 0; ${four}; ${six}; }`
      await at.world.must(["nft", "-f", "-"], { input: `table inet groups { ${chain}; }` })
      await ask(at.guest, SSDP.group, SSDP.port, "one", 40_002, 100, 3)
      await ask(at.guest, "ff05::c", SSDP.port, "two", 40_003, 100, 5)
      await until("both datagrams", 10_000, async () => {
        const shown = await at.world.must(["nft", "list", "table", "inet", "groups"])
        return shown.match(/packets 1 /g)?.length === 2
      })
      await at.world.must(["nft", "delete", "table", "inet", "groups"])
    })

    test.each([
      ["SSDP", SSDP.group, SSDP.port],
      ["mDNS", MDNS.group, MDNS.port],
      ["mDNS over IPv6", MDNS6.group, MDNS6.port],
    ])("what is sent to %s reaches a guest that has joined, until it leaves", async (_what, group, port) => {
      const guest = await listen(at.guest, "hear", group, port)
      await membership(at.host, group, true)
      await ask(at.world, group, port, "news", 40_004, 200)
      const news = await guest.wait("news")
      expect(news.port).toBe(40_004)
      expect(news.from).toMatch(group.includes(":") ? /^fe80:/ : new RegExp(`^${ROUTER.ipv4}$`))
      await guest.stop()
      await membership(at.host, group, false)
    })

    test("a group of no known port: where the guest sends, and where a rule leads", async () => {
      const guest = await listen(at.guest, "hear", OTHER.group, OTHER.port)
      const forwarded = await listen(at.guest, "hear", OTHER.group, 6006)
      await membership(at.host, OTHER.group, true)
      await ask(at.world, OTHER.group, 6006, "by a rule", 40_005, 200)
      await forwarded.wait("by a rule")
      expect(forwarded.heard()).toHaveLength(1)
      // In a namespace of its own host pasta sees who listens.
      if (name === "passt") await ask(at.guest, OTHER.group, OTHER.port, "here I am", OTHER.port, 200)
      await until("news", 10_000, async () => {
        await ask(at.world, OTHER.group, OTHER.port, "news", 40_006, 200)
        return guest.heard().some((line) => line.text === "news")
      })
    })

    test("nobody hears anything twice, and the host's programs take part", async () => {
      const world = await listen(at.world, "hear", MDNS.group, MDNS.port)
      const host = await listen(at.host, "hear", MDNS.group, MDNS.port)
      const guest = await listen(at.guest, "hear", MDNS.group, MDNS.port)
      await membership(at.host, MDNS.group, true)
      await ask(at.guest, MDNS.group, MDNS.port, "from the guest", MDNS.port, 300)
      await world.wait("from the guest")
      expect((await host.wait("from the guest")).port).toBe(MDNS.port)
      await ask(at.host, MDNS.group, MDNS.port, "from the host", MDNS.port, 300)
      // The guest has the host's address: what the host says comes from the gateway.
      expect(await guest.wait("from the host")).toMatchObject({ from: ROUTER.ipv4, port: MDNS.port })
      await ask(at.world, MDNS.group, MDNS.port, "from the world", MDNS.port, 300)
      await guest.wait("from the world")
      const counts = (listener: Listener): string[] => listener.heard().map((line) => line.text)
      // Its own kernel lets a program hear what another one there says.
      const all = ["from the guest", "from the host", "from the world"]
      expect(counts(guest)).toEqual(all)
      expect(counts(world)).toEqual(all)
      expect(counts(host)).toEqual(all)
    })

    test("broadcasts of others reach a port that the guest broadcasts from", async () => {
      const port = 6454
      const guest = await listen(at.guest, "hear", "255.255.255.255", port)
      await ask(at.guest, "255.255.255.255", port, "poll", port, 200)
      await ask(at.world, "192.0.2.255", port, "elsewhere", 40_007, 200)
      await ask(at.world, "255.255.255.255", port, "reply", 40_008, 200)
      await guest.wait("reply")
      expect(guest.heard().filter((line) => line.text === "poll").length).toBeLessThan(2)
    })

    test("a port that another program of the host has alone is not taken from it", async () => {
      const host = await listen(at.host, "answer", MDNS.group, MDNS.port)
      await listen(at.world, "answer", MDNS.group, MDNS.port)
      await ask(at.guest, MDNS.group, MDNS.port, "shared", MDNS.port, 500)
      expect((await host.wait("shared")).port).toBe(MDNS.port)
      // The answer to port 5353 is for whoever had that port first.
      await host.wait("answer to shared")
    })

    test.skipIf(missing(["avahi"]).length > 0)(
      `Avahi: guest and world find each other by name${skipNote("avahi")}`,
      async () => {
        const world = await startAvahi(at.world, "station")
        const guest = await startAvahi(at.guest, "behind")
        expect(await guest.resolve("station.local")).toBe(ROUTER.ipv4)
        // The guest has the host's address.
        expect(await world.resolve("behind.local")).toBe(HOST.ipv4)
      },
    )
  },
)
