// Podman with our pasta as its helper: rootless, with user-defined networks, in builds, and as root.
import { readdirSync, readFileSync } from "node:fs"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { IMAGE, startPodmanMachine } from "../../tools/debian/podman.ts"
import type { PodmanMachine } from "../../tools/debian/podman.ts"
import { givenTree } from "../../tools/debian/tree.ts"
import { HOST, PAGE, PORT, ROUTER, SERVER } from "../../tools/world/addresses.ts"
import { ask } from "../../tools/world/ask.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { run, start, until } from "../../tools/world/process.ts"
import { createWorld, startServers } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { inUrl } from "../lib/families.ts"
import { isAlive } from "../lib/pasta.ts"

/** Where the container reaches the host by the address that both have, as Podman sets it up. */
const HOST_IN_CONTAINER = "169.254.1.2"
const CONTAINER_PAGE = "from a container\n"

let world: World
let host: Namespace
let machine: PodmanMachine
beforeAll(async () => {
  world = await createWorld()
  ;({ host } = world)
  machine = await startPodmanMachine(givenTree("trixie"), host)
  await startServers(host, [HOST.ipv4, HOST.ipv6, "127.0.0.1", "::1"])
})
afterEach(async () => {
  await machine.podman(["rm", "--all", "--force", "--time=0"])
  await until("the end of all pasta", 5000, () => pastas().length === 0)
})
afterAll(async () => {
  await machine?.end()
  await world?.close()
})

/** Process ids of every pasta in the sandbox. */
function pastas(): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && isAlive(Number(entry)))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").startsWith("/opt/passt/bin/pasta\0")
      } catch {
        return false
      }
    })
}

/** A container's network, for programs that its image lacks. */
async function networkOf(container: string): Promise<Pick<Namespace, "name" | "run" | "start">> {
  const pid = await machine.mustPodman("inspect", "--format", "{{.State.Pid}}", container)
  const inside = (command: readonly string[]): string[] => ["nsenter", `--net=/proc/${pid}/ns/net`, "--", ...command]
  return {
    name: container,
    run: (command, options) => run(inside(command), options),
    start: (command, options) => start(inside(command), options),
  }
}

const inContainer = (options: readonly string[], script: string): Promise<string> =>
  machine.mustPodman("run", "--rm", ...options, IMAGE, "sh", "-c", script)

/** A container that sleeps, or runs a command. */
const startContainer = (name: string, options: readonly string[], ...command: string[]): Promise<string> =>
  machine.mustPodman(
    "run",
    "--detach",
    `--name=${name}`,
    ...options,
    IMAGE,
    ...(command[0] ? command : ["sleep", "60"]),
  )

const HTTPD = ["httpd", "-f", "-p", "80", "-h", "/www"]

describe("rootless", () => {
  test("Podman tells our version", async () => {
    const format = "{{.Host.Pasta.Executable}} {{.Host.RootlessNetworkCmd}} {{.Host.Pasta.Version}}"
    expect(await machine.mustPodman("info", "--format", format)).toMatch(
      /^\/opt\/passt\/bin\/pasta pasta pasta \d+\.\d+/,
    )
  })

  test("a container is online, with the host's addresses, names and routes", async () => {
    const fetches = [SERVER.name, SERVER.ipv4, inUrl(SERVER.ipv6)].map((name) => `wget -qO- http://${name}/`)
    const said = await inContainer(
      [],
      ["ip -o address; ip route; cat /etc/resolv.conf /etc/hosts", ...fetches].join("\n"),
    )
    expect(said).toContain(`inet ${HOST.ipv4}/${HOST.prefix4} `)
    expect(said).toContain(`inet6 ${HOST.ipv6}/${HOST.prefix6} `)
    expect(said).not.toContain("tentative")
    expect(said).toContain(`default via ${ROUTER.ipv4} dev eth0`)
    expect(said).toContain("nameserver 169.254.1.1\n")
    expect(said).toMatch(/^169\.254\.1\.2\thost\.containers\.internal/m)
    expect(`${said}\n`.split(PAGE)).toHaveLength(4)
  })

  test("Podman returns at once, and pasta leaves with its container", async () => {
    for (const end of [["stop", "--time=0"], ["kill"], ["rm", "--force", "--time=0"]]) {
      const began = performance.now()
      // It reads all output to its end: pasta must have let go of it.
      await startContainer("brief", [])
      expect(performance.now() - began).toBeLessThan(5000)
      expect(pastas()).toHaveLength(1)
      await machine.mustPodman(...end, "brief")
      await until("the end of pasta", 5000, () => pastas().length === 0)
      await machine.podman(["rm", "brief"])
    }
  })

  test("a container that ends by itself, and one that starts again with the same port", async () => {
    await inContainer([], "true")
    await until("the end of pasta", 5000, () => pastas().length === 0)
    await startContainer("again", ["--publish=18080:80"], ...HTTPD)
    await machine.mustPodman("restart", "--time=0", "again")
    await until("the page", 5000, async () => {
      const { text } = await ask(host, "http", "http://127.0.0.1:18080/")
      return text === CONTAINER_PAGE
    })
  })

  test("containers beside each other have a pasta each", async () => {
    await startContainer("one", ["--publish=18081:80"], ...HTTPD)
    await startContainer("two", ["--publish=18082:80"], ...HTTPD)
    expect(pastas()).toHaveLength(2)
    await machine.mustPodman("stop", "--time=0", "one")
    await until("the end of one", 5000, () => pastas().length === 1)
    expect(await ask(host, "http", "http://127.0.0.1:18082/")).toMatchObject({ text: CONTAINER_PAGE })
    expect(await ask(host, "http", "http://127.0.0.1:18081/")).toMatchObject({ error: "ECONNREFUSED" })
  })
})

describe("published ports", () => {
  const published = [
    "18080:80",
    "19000-19003:9000-9003",
    "127.0.0.1:20007:7",
    `${HOST.ipv4}:21007:7`,
    "[::1]:22007:7",
    "20007:7/udp",
    "23006-23008:6-8/udp",
  ]
  let container: Pick<Namespace, "name" | "run" | "start">
  // For each test anew: everything goes after each.
  async function publish(): Promise<void> {
    await startContainer(
      "server",
      published.map((port) => `--publish=${port}`),
    )
    container = await networkOf("server")
    // All addresses, both families: what the host asks by the address that both have comes to a link-local one.
    await startServers(container, ["::"])
  }

  test("TCP: one, a range, translated, of one address, from the host and from the world", async () => {
    await publish()
    for (const address of ["127.0.0.1", "::1", HOST.ipv4, HOST.ipv6]) {
      expect(await ask(host, "http", `http://${inUrl(address)}:18080/`), address).toMatchObject({ text: PAGE })
    }
    for (const address of [HOST.ipv4, HOST.ipv6]) {
      expect(await ask(world.world, "http", `http://${inUrl(address)}:18080/`)).toMatchObject({ text: PAGE })
      // 2 MiB with digests, each way.
      const up = await ask(world.world, "upload", address, 19_000, 2 ** 21, 7)
      const down = await ask(world.world, "download", address, 19_001, 2 ** 21, 7)
      expect(down.count).toBe(2 ** 21)
      expect(up.text).toBe(`${2 ** 21} ${down.digest}\n`)
      // Who asks is seen.
      const peer = address === HOST.ipv4 ? ROUTER.ipv4 : ROUTER.ipv6
      expect((await ask(world.world, "tcp", address, 19_003, "")).text).toMatch(
        new RegExp(`^(::ffff:)?${peer} \\d+\n$`),
      )
    }
    const echoes: [string, number, boolean][] = [
      ["127.0.0.1", 20_007, true],
      [HOST.ipv4, 20_007, false],
      [HOST.ipv4, 21_007, true],
      ["127.0.0.1", 21_007, false],
      ["::1", 22_007, true],
      [HOST.ipv6, 22_007, false],
    ]
    for (const [address, port, open] of echoes) {
      const expected = open ? { text: "hello" } : { error: "ECONNREFUSED" }
      expect(await ask(host, "tcp", address, port, "hello"), `${address} ${port}`).toMatchObject(expected)
    }
  })

  test("UDP: one, a range, empty datagrams, from the host and from the world", async () => {
    await publish()
    for (const port of [20_007, 23_007]) {
      for (const address of ["127.0.0.1", "::1", HOST.ipv4, HOST.ipv6]) {
        expect(await ask(host, "udp", address, port, "hello", 3000), `${address} ${port}`).toMatchObject({
          text: "hello",
        })
      }
      for (const address of [HOST.ipv4, HOST.ipv6]) {
        for (const text of ["hello", ""]) {
          expect(await ask(world.world, "udp", address, port, text, 3000), address).toMatchObject({ text })
        }
      }
    }
  })

  test("what cannot be published is an error in Podman's words and ours", async () => {
    const sctp = await machine.podman(["run", "--publish=90:80/sctp", IMAGE, "true"])
    expect([sctp.status, sctp.stderr]).toEqual([126, "Error: can't forward protocol: sctp\n"])
    const busy = await machine.podman(["run", `--publish=127.0.0.1:${PORT.digest}:80`, IMAGE, "true"])
    expect(busy.status).toBe(126)
    expect(busy.stderr).toMatch(
      /^Error: pasta failed with exit code 1:\nListen failed for TCP 127\.0\.0\.1:9000: .*in use/,
    )
  })
})

describe("from the container", () => {
  test("the host, by the address that both have; its loopback not at all", async () => {
    await startContainer("client", [])
    const container = await networkOf("client")
    for (const [job, rest] of [
      ["tcp", []],
      ["udp", [3000]],
    ] as const) {
      expect(await ask(container, job, HOST_IN_CONTAINER, PORT.echo, "up", ...rest)).toMatchObject({ text: "up" })
    }
    expect(await ask(container, "tcp", ROUTER.ipv4, PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
    expect(await ask(container, "tcp", "127.0.0.1", PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
    expect(await inContainer([], "wget -qO- http://host.containers.internal/")).toBe(PAGE.trimEnd())
  })

  test("the host's loopback, by the gateway's address and by ports of its own, if that is asked for", async () => {
    await startContainer("client", ["--network=pasta:--map-gw,-T,9000-9003"])
    const container = await networkOf("client")
    expect((await ask(container, "tcp", ROUTER.ipv4, PORT.whoami, "")).text).toMatch(/^127\.0\.0\.1 /)
    expect((await ask(container, "tcp", "127.0.0.1", PORT.whoami, "")).text).toMatch(/^127\.0\.0\.1 /)
    expect(await ask(container, "tcp", "127.0.0.1", PORT.echo, "x")).toMatchObject({ error: "ECONNREFUSED" })
  })

  test("the world: digests of 10 MiB, and what nobody answers", async () => {
    await startContainer("client", [])
    const container = await networkOf("client")
    for (const server of [SERVER.ipv4, SERVER.ipv6]) {
      const up = await ask(container, "upload", server, PORT.digest, 10 * 2 ** 20, 3)
      const down = await ask(container, "download", server, PORT.stream, 10 * 2 ** 20, 3)
      expect(up.text).toBe(`${10 * 2 ** 20} ${down.digest}\n`)
      expect(await ask(container, "udp", server, PORT.echo, "", 3000)).toMatchObject({ text: "" })
      expect(await ask(container, "tcp", server, PORT.closed, "x")).toMatchObject({ error: "ECONNREFUSED" })
    }
  })
})

describe("--network=pasta:OPTIONS", () => {
  test.each<[string, RegExp]>([
    ["--mtu,1400", /eth0: <.*> mtu 1400 /],
    ["--ns-ifname,net7", /net7 +inet 192\.0\.2\.2\/24 /],
    ["-a,10.1.2.3,-n,24,-g,10.1.2.1", /eth0 +inet 10\.1\.2\.3\/24 [^]*default via 10\.1\.2\.1 dev eth0/],
    ["--ns-mac-addr,9a:12:34:56:78:9a", /link\/ether 9a:12:34:56:78:9a /],
    ["--ipv4-only", /^(?![^]*2001:db8)[^]*inet 192\.0\.2\.2/],
    ["--ipv6-only", /^(?![^]*192\.0\.2\.2)[^]*2001:db8:1::2/],
    ["-i,eth0", /default via 192\.0\.2\.1 dev eth0/],
    ["--dns-forward,198.51.100.1", /^nameserver 198\.51\.100\.1$/m],
  ])("%s", async (options, expected) => {
    const script = `ip -o link; ip -o address; ip route; cat /etc/resolv.conf; wget -qO- http://${SERVER.name}/`
    const said = await inContainer([`--network=pasta:${options}`], script)
    expect(said).toMatch(expected)
    expect(`${said}\n`).toContain(PAGE)
  })

  test("-t auto: ports open as the container listens", async () => {
    await startContainer("server", ["--network=pasta:-t,auto"], "httpd", "-f", "-p", "18090", "-h", "/www")
    await until("the page", 5000, async () => {
      const { text } = await ask(host, "http", "http://127.0.0.1:18090/")
      return text === CONTAINER_PAGE
    })
  })

  test.each<[string, string]>([
    ["--nonsense", "/opt/passt/bin/pasta: unrecognized option '--nonsense'"],
    ["-t,99999", "Invalid port specifier '99999'"],
    ["--mtu,99999999", "MTU 99999999 too large (max 65521)"],
    ["-a,1.2.3", "Invalid address: 1.2.3"],
  ])("%s is refused", async (options, message) => {
    const { status, stderr } = await machine.podman(["run", "--rm", `--network=pasta:${options}`, IMAGE, "true"])
    expect(status).toBe(126)
    expect(stderr).toContain(`Error: pasta failed with exit code 1:\n${message}\n`)
  })
})

describe("a network of several containers", () => {
  test("they find each other and the world, and publish ports, all behind one pasta", async () => {
    await machine.mustPodman("network", "create", "several")
    try {
      await startContainer("web", ["--network=several", "--publish=18080:80"], ...HTTPD)
      const pidFile = "/run/user/1000/containers/networks/rootless-netns/rootless-netns-conn.pid"
      const [pasta, ...others] = pastas()
      expect(others).toEqual([])
      const { stdout } = await run(machine.asUser(["cat", pidFile]))
      expect(Number(stdout)).toBe(pasta)
      expect(await ask(host, "http", "http://127.0.0.1:18080/")).toMatchObject({ text: CONTAINER_PAGE })
      const said = await inContainer(
        ["--network=several"],
        `wget -qO- http://web/; wget -qO- http://${SERVER.name}/; wget -qO- http://host.containers.internal/`,
      )
      expect(said).toBe(`${CONTAINER_PAGE}${PAGE}${PAGE}`.trimEnd())
      expect(pastas()).toEqual([pasta])
      await machine.mustPodman("rm", "--force", "--time=0", "web")
      await until("the end of pasta", 5000, () => pastas().length === 0)
    } finally {
      await machine.podman(["network", "rm", "--force", "several"])
    }
  })
})

describe("builds", () => {
  test("their steps are online, and leave no pasta", async () => {
    const file = `FROM localhost/${IMAGE}\nRUN ip -o link; wget -qO- http://${SERVER.name}/\nRUN cat /etc/resolv.conf\n`
    const options = { input: file }
    const { status, stdout } = await machine.podman(["build", "--network=pasta:--mtu,2000", "--file=-"], options)
    expect(status).toBe(0)
    expect(stdout).toMatch(/eth0: <.*> mtu 2000 /)
    expect(stdout).toContain(PAGE)
    expect(stdout).toContain("nameserver 169.254.1.1\n")
    await until("the end of pasta", 5000, () => pastas().length === 0)
  })
})

describe("as root of a user namespace", () => {
  test("--network=pasta, with a published port below 1024", async () => {
    const options = ["--detach", "--name=server", "--cgroups=disabled", "--network=pasta", "--publish=81:80"]
    const started = await machine.rootPodman(["run", ...options, IMAGE, ...HTTPD])
    try {
      expect([started.status, started.stderr]).toEqual([0, ""])
      await until("the page", 5000, async () => {
        const { text } = await ask(host, "http", "http://127.0.0.1:81/")
        return text === CONTAINER_PAGE
      })
    } finally {
      await machine.rootPodman(["rm", "--force", "--time=0", "server"])
    }
    await until("the end of pasta", 5000, () => pastas().length === 0)
  })
})
