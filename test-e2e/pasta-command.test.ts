// pasta as its callers know it: the command that it runs, namespaces that it joins, when it is ready, when it ends, and one
// clear line for what is wrong.
import type { ChildProcess } from "node:child_process"
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { HOST, PAGE, PORT, ROUTER, SERVER } from "../tools/world/addresses.ts"
import { ask, clientCommand } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { createNamespace } from "../tools/world/namespace.ts"
import type { Namespace } from "../tools/world/namespace.ts"
import { ended, sleep, stop, until } from "../tools/world/process.ts"
import { createWorld, ip, startServers } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { isAlive, PASTA, runPasta, runPastaAsRoot, startPasta } from "./lib/pasta.ts"
import type { Daemon } from "./lib/pasta.ts"

const skip = missing(["tun"]).length > 0
const note = skipNote("tun")
let world: World
let host: Namespace
let folder: string
beforeAll(async () => {
  world = await createWorld()
  ;({ host } = world)
})
beforeEach(() => {
  folder = mkdtempSync(join(scratchDirectory(), "pasta-"))
})
afterAll(() => world?.close())

/** Command lines of what runs in the sandbox and names `folder`, or is pasta. */
function running(): string[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry) && isAlive(Number(entry)))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")
      } catch {
        return ""
      }
    })
    .filter((line) => line.includes(folder) || line.startsWith(PASTA))
}

/** Process ids of a process's children. */
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(/\s+/).filter(Boolean).map(Number)

describe.skipIf(skip)(`a command in new namespaces${note}`, () => {
  /** A command that does nothing, once it runs: before, a shell would handle signals for it. */
  async function sleeping(): Promise<{ pasta: ChildProcess; command: number }> {
    const pasta = host.startAsUser([PASTA, "--", "sleep", "60"])
    const command = await until("the command", 5000, () =>
      childrenOf(pasta.pid!).find((pid) => readFileSync(`/proc/${pid}/comm`, "latin1") === "sleep\n"),
    )
    return { pasta, command }
  }

  test("it is online when it starts, and its exit status is passed on", async () => {
    const script = `
      ip -4 -o address show eth0; ip -6 -o address show eth0; ip route; ip -6 route; ip -o link show eth0
      id -u; hostname; cat /proc/1/comm; ${clientCommand("http", `http://${SERVER.ipv4}/`).join(" ")}
      ${clientCommand("http", `http://[${SERVER.ipv6}]/`).join(" ")}
      exit 7`
    const { status, stdout, stderr } = await runPasta(host, ["--config-net", "--", "sh", "-c", script])
    expect([status, stderr]).toEqual([7, ""])
    expect(stdout).toContain(`inet ${HOST.ipv4}/${HOST.prefix4} `)
    expect(stdout).toContain(`inet6 ${HOST.ipv6}/${HOST.prefix6} `)
    expect(stdout).not.toContain("tentative")
    expect(stdout).toContain(`default via ${ROUTER.ipv4} dev eth0`)
    expect(stdout).toContain(`default via ${ROUTER.ipv6} dev eth0`)
    expect(stdout).toMatch(new RegExp(`mtu 65520 .*\n0\npasta-${hostname()}\nsh\n`))
    expect(stdout.split(JSON.stringify(PAGE).slice(1, -1))).toHaveLength(3)
    expect(running()).toEqual([])
  })

  test.each([
    ["true", 0],
    ["false", 1],
    ["kill -TERM $$; sleep 5", 143],
    ["exit 255", 255],
  ])("%s ends with status %i", async (script, expected) => {
    // Process 1 of a PID namespace is safe from its own signals: one without a namespace is not.
    const { status } = await runPasta(host, ["--no-pidns", "--", "sh", "-c", script])
    expect(status).toBe(expected)
  })

  test("a killed command is told as a shell does", async () => {
    const { pasta, command } = await sleeping()
    process.kill(command, "SIGKILL")
    expect(await ended(pasta, 5000)).toBe(true)
    expect(pasta.exitCode).toBe(137)
  })

  test.each([
    ["SIGTERM", 0],
    ["SIGQUIT", 0],
    ["SIGINT", 130],
  ] as const)("%s to pasta ends it with status %i", async (signal, expected) => {
    const { pasta, command } = await sleeping()
    process.kill(pasta.pid!, signal)
    expect(await ended(pasta, 5000)).toBe(true)
    expect([pasta.exitCode, pasta.signalCode]).toEqual([expected, null])
    // As a terminal's Ctrl-C would have ended it, were it not shielded as process 1.
    if (signal === "SIGINT") await until("the end of the command", 2000, () => !isAlive(command))
    else process.kill(command, "SIGKILL")
  })

  test("a command that handles an interrupt goes on", async () => {
    const script = `trap 'echo trapped; exit 3' INT; echo started; while :; do sleep 0.1; done`
    const pasta = host.startAsUser([PASTA, "--", "sh", "-c", script])
    let said = ""
    pasta.stdout!.on("data", (chunk: Buffer) => (said += chunk.toString()))
    await until("the command", 5000, () => said.includes("started"))
    const [command] = childrenOf(pasta.pid!)
    process.kill(pasta.pid!, "SIGINT")
    process.kill(command!, "SIGINT")
    expect(await ended(pasta, 5000)).toBe(true)
    expect([pasta.exitCode, said]).toEqual([3, "started\ntrapped\n"])
  })

  test("standard input and output are the command's", async () => {
    const { status, stdout } = await runPasta(host, ["--", "sh", "-c", "read line; echo got $line"], {
      input: "this\n",
    })
    expect([status, stdout]).toEqual([0, "got this\n"])
  })

  test("without a command it is the user's shell", async () => {
    const { status, stdout } = await runPasta(host, ["-q"], {
      input: "echo $0; exit 5\n",
      env: { ...process.env, SHELL: "/bin/sh" },
    })
    expect([status, stdout]).toEqual([5, "-sh\n"])
  })

  test("without --config-net there is an interface, and it is down", async () => {
    const { stdout } = await runPasta(host, [
      "-I",
      "tap7",
      "--ns-mac-addr",
      "02:00:00:00:00:07",
      "--",
      "ip",
      "-o",
      "link",
    ])
    expect(stdout).toMatch(/tap7: <BROADCAST,MULTICAST> .*02:00:00:00:00:07/)
    expect(stdout).toMatch(/lo: <LOOPBACK,UP/)
  })

  test("--splice-only leaves the loopback interface alone", async () => {
    const { status, stdout } = await runPasta(host, ["--splice-only", "--config-net", "--", "ip", "-o", "link"])
    expect(status).toBe(0)
    expect(stdout).toMatch(/^1: lo: <LOOPBACK,UP.*\n$/)
  })

  test("addresses, netmask and gateway of the user's choice", async () => {
    const args = "--config-net -a 10.0.2.100 -n 24 -g 10.0.2.2 --ipv4-only -I tap0 -m 1400".split(" ")
    const script = `ip -4 -o address show tap0; ip route; cat /proc/net/if_inet6 | grep -c tap0; ip -o link show tap0;
      ${clientCommand("tcp", SERVER.ipv4, PORT.echo, "hello").join(" ")}`
    const { status, stdout } = await runPasta(host, [...args, "--", "sh", "-c", script])
    expect(status).toBe(0)
    expect(stdout).toContain("inet 10.0.2.100/24 ")
    expect(stdout).toContain("default via 10.0.2.2 dev tap0")
    expect(stdout).toContain("mtu 1400")
    expect(stdout).toContain('"text":"hello"')
  })

  test("routes by the thousand are all there", async () => {
    const count = 5000
    const routes = Array.from({ length: count }, (_, i) => `route add 10.${i >> 8}.${i & 255}.0/24 via ${ROUTER.ipv4}`)
    await ip(host, routes)
    try {
      const { stdout, status } = await runPasta(host, ["--config-net", "--", "sh", "-c", "ip route | grep -c ^10."])
      expect([status, stdout]).toEqual([0, `${count}\n`])
    } finally {
      await host.must(["ip", "route", "flush", "root", "10.0.0.0/8"])
    }
  })

  test("as root of a user namespace too, in the user namespace where it is", async () => {
    const link = `readlink /proc/self/ns/user`
    const own = await host.must(["sh", "-c", link])
    const { stdout, status } = await runPastaAsRoot(host, [
      "--config-net",
      "--netns-only",
      "--",
      "sh",
      "-c",
      `${link}; ip route`,
    ])
    expect(status).toBe(0)
    expect(stdout.startsWith(own)).toBe(true)
    expect(stdout).toContain(`default via ${ROUTER.ipv4}`)
  })

  test("it leaves nothing open: its caller's pipes reach their end", async () => {
    const { status, timedOut, elapsedMs } = await runPasta(host, ["--config-net", "--", "true"])
    expect([status, timedOut]).toEqual([0, false])
    expect(elapsedMs).toBeLessThan(5000)
  })
})

describe.skipIf(skip)(`a namespace to join${note}`, () => {
  const open: (Namespace | Daemon)[] = []
  afterEach(async () => {
    for (const thing of open.splice(0)) await ("stop" in thing ? thing.stop() : thing.close())
  })
  async function target(): Promise<Namespace> {
    const made = await createNamespace("target")
    open.push(made)
    return made
  }
  async function daemon(...args: string[]): Promise<Daemon> {
    const made = await startPasta(host, args)
    open.push(made)
    return made
  }

  test("that of a process: ready when the parent exits, and over when the process is", async () => {
    const guest = await target()
    const pasta = await daemon("--config-net", "-t", "10007:7", String(guest.pid))
    // All of it is there: addresses, ports, a session of its own.
    expect(await guest.must(["ip", "-4", "route"])).toContain(`default via ${ROUTER.ipv4}`)
    expect(await host.must(["ss", "-H", "-t", "-l", "-n"])).toContain(":10007")
    const stat = readFileSync(`/proc/${pasta.pid}/stat`, "latin1")
    expect(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]).toBe(String(pasta.pid))
    expect(pasta.log()).toContain("Namespace interface: eth0")
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "hello")).toMatchObject({ text: "hello" })
    await guest.close()
    expect(await pasta.ended(5000)).toBe(true)
    expect(pasta.log()).toContain(`Namespace /proc/${guest.pid}/ns/net is gone, exiting`)
  })

  test("that of an ordinary user's process, by the same user", async () => {
    const hold = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 60"]
    const holder = host.start([
      "unshare",
      "--user",
      "--map-user=1000",
      "--map-group=1000",
      "sh",
      "-c",
      `${hold.slice(0, -1).join(" ")} '${hold.at(-1)}' & read x <&0; wait`,
    ])
    await new Promise((resolve) => holder.stdout!.once("data", resolve))
    const [pid] = childrenOf(holder.pid!)
    // The same user in the same user namespace: that of the holder's parent.
    const enter = [
      "nsenter",
      `--user=/proc/${holder.pid}/ns/user`,
      "--preserve-credentials",
      ...host.inside([]).slice(1, 3),
      "--",
    ]
    const args = ["-f", "--config-net", "-q", String(pid)]
    const pasta = host.start([...enter, PASTA, ...args])
    let said = ""
    pasta.stderr!.on("data", (chunk: Buffer) => (said += chunk.toString()))
    try {
      await until(`the interface (${said})`, 10_000, () =>
        readFileSync(`/proc/${pid}/net/route`, "latin1").includes("eth0"),
      )
    } finally {
      await stop(pasta)
      await stop(holder)
    }
    expect(said).toBe("")
  })

  test("that of a file: over when the file is deleted, in the midst of a transfer", async () => {
    const guest = await target()
    const file = join(folder, "netns")
    writeFileSync(file, "")
    // The holder's mount namespace is the guest's own: bind in the host's, where pasta looks.
    await host.must(["mount", "--bind", `/proc/${guest.pid}/ns/net`, file])
    const pasta = await daemon("--config-net", "--netns", file)
    guest.start(clientCommand("download", SERVER.ipv4, PORT.stream, 2 ** 32, 1), { stdio: "ignore" })
    const received = (): number =>
      Number(/eth0: *(\d+)/.exec(readFileSync(`/proc/${guest.pid}/net/dev`, "latin1"))?.[1])
    await until("data", 10_000, () => received() > 2 ** 20)
    await host.must(["sh", "-c", `umount ${file} && rm ${file}`])
    expect(await pasta.ended(5000)).toBe(true)
    expect(pasta.log()).toContain(`Namespace ${file} is gone, exiting`)
  })

  test("that of a file, but --no-netns-quit", async () => {
    const guest = await target()
    const file = join(folder, "netns")
    writeFileSync(file, "")
    await host.must(["mount", "--bind", `/proc/${guest.pid}/ns/net`, file])
    const pasta = await daemon("--config-net", "--no-netns-quit", "--netns", file)
    await host.must(["sh", "-c", `umount ${file} && rm ${file}`])
    await sleep(1500)
    expect(pasta.alive()).toBe(true)
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "still")).toMatchObject({ text: "still" })
    process.kill(pasta.pid, "SIGTERM")
    expect(await pasta.ended(2000)).toBe(true)
  })

  test("that of a file in procfs, where nothing is told", async () => {
    const guest = await target()
    const pasta = await daemon("--config-net", "--netns", `/proc/${guest.pid}/task/${guest.pid}/ns/net`)
    await sleep(1200)
    expect(pasta.alive()).toBe(true)
    await guest.close()
    expect(await pasta.ended(5000)).toBe(true)
  })

  test("as Podman calls it", async () => {
    const guest = await target()
    const netns = `/proc/${guest.pid}/ns/net`
    const [before, after] = [
      "--config-net -t 127.0.0.1/18080-18080:80-80 --dns-forward 169.254.1.1 -u none -T none -U none --no-map-gw --quiet",
      "--map-guest-addr 169.254.1.2",
    ].map((words) => words.split(" "))
    const pasta = await daemon(...before!, "--netns", netns, ...after!)
    // Podman looks at the addresses as soon as the parent has exited.
    expect(await guest.must(["ip", "-o", "address", "show", "scope", "global"])).toContain(HOST.ipv4)
    await startServers(guest, [HOST.ipv4])
    expect(await ask(host, "http", "http://127.0.0.1:18080/")).toMatchObject({ text: PAGE })
    // The host by the address that both have, its loopback not at all.
    await startServers(host, [HOST.ipv4])
    expect(await ask(guest, "tcp", "169.254.1.2", PORT.echo, "up")).toMatchObject({ text: "up" })
    expect(await ask(guest, "tcp", ROUTER.ipv4, PORT.closed, "x")).toMatchObject({ error: "ECONNREFUSED" })
    // What it may still do: listen on low ports, as root that Podman's namespace has.
    const status = readFileSync(`/proc/${pasta.pid}/status`, "utf8")
    const sets = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(
      (name) => new RegExp(`^Cap${name}:\\s*0*(\\S+)$`, "m").exec(status)?.[1],
    )
    expect(sets).toEqual(["0", "400", "400", "0", "0"])
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m)
  })

  test("as rootlesskit calls it", async () => {
    const guest = await target()
    const words = `--foreground --stderr --ns-ifname=tap0 --mtu=65520 --no-dhcp --no-ra --address=10.0.2.100 --netmask=24
      --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto`
    const pasta = host.start([PASTA, ...words.split(/\s+/), String(guest.pid)])
    await until("the interface", 10_000, () => readFileSync(`/proc/${guest.pid}/net/dev`, "latin1").includes("tap0"))
    // It sets the interface up itself.
    await ip(guest, ["link set tap0 up", "address add 10.0.2.100/24 dev tap0", "route add default via 10.0.2.2"])
    expect(await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "hello")).toMatchObject({ text: "hello" })
    await guest.close()
    expect(await ended(pasta, 5000)).toBe(true)
    expect(pasta.exitCode).toBe(0)
  })

  test("a name is one of ip-netns", async () => {
    // The system's own folder stays out of it.
    await host.must(["mount", "-t", "tmpfs", "tmpfs", "/run"])
    await host.must(["ip", "netns", "add", "blue"])
    const pasta = await daemon("--config-net", "--netns", "blue")
    expect(await host.must(["ip", "-netns", "blue", "route"])).toContain(`default via ${ROUTER.ipv4}`)
    await host.must(["ip", "netns", "delete", "blue"])
    expect(await pasta.ended(5000)).toBe(true)
    const named = await runPastaAsRoot(host, ["--netns", "no-such-name"])
    expect(named).toMatchObject({
      status: 1,
      stderr: "Couldn't open network namespace /run/netns/no-such-name: No such file or directory\n",
    })
  })

  test("its interfaces keep their names to themselves", async () => {
    const guest = await target()
    await daemon("--config-net", "--netns", `/proc/${guest.pid}/ns/net`)
    const again = await runPastaAsRoot(host, ["--config-net", "--netns", `/proc/${guest.pid}/ns/net`])
    expect(again).toMatchObject({ status: 1, stderr: "Interface eth0 is in use in the namespace already\n" })
  })
})

describe.skipIf(skip)(`a host without a network${note}`, () => {
  test("local mode: the namespace still reaches the host", async () => {
    const alone = await createNamespace("alone")
    await startServers(alone, ["127.0.0.1", "::1"])
    const script = `ip -4 -o address show tap0; ip route; ip -6 route
      ${clientCommand("tcp", "169.254.2.2", PORT.echo, "four").join(" ")}`
    const { status, stdout, stderr } = await runPasta(alone, ["--config-net", "--", "sh", "-c", script])
    expect([status, stderr]).toEqual([0, ""])
    expect(stdout).toContain("inet 169.254.2.1/16 ")
    expect(stdout).toContain("default via 169.254.2.2 dev tap0")
    expect(stdout).toContain("default via fe80::1 dev tap0")
    expect(stdout).toContain('"text":"four"')
    await alone.close()
  })
})

describe("bad input: one line on standard error, status 1, nothing left behind", () => {
  test.each<[string, string[], RegExp]>([
    ["an option of passt", ["--one-off", "true"], /^--one-off is for passt mode only$/],
    [
      "a namespace and a command",
      ["--netns", "/proc/self/ns/net", "true"],
      /^--netns can't be combined with a PID or a command: true$/,
    ],
    [
      "a process that is not there",
      ["4194300"],
      /^Couldn't open (user|network) namespace \/proc\/4194300\/ns\/(user|net): No such file or directory$/,
    ],
    ["a file that is no namespace", ["--netns", "/dev/null"], /^\/dev\/null is no network namespace$/],
    [
      "contradicting options",
      ["--no-splice", "--splice-only", "true"],
      /^--no-splice and --splice-only can't be used together$/,
    ],
    [
      "an address to listen on in the namespace",
      ["-T", "127.0.0.1/22", "true"],
      /^Listening address not allowed for -T 127.0.0.1\/22$/,
    ],
    [
      "a user that is not there",
      ["--runas", "nobody-of-that-name", "true"],
      /^Invalid --runas option: nobody-of-that-name$/,
    ],
    [
      "a namespace of somebody else's",
      ["--netns", "/proc/self/ns/net"],
      /^Couldn't enter network namespace: Operation not permitted$/,
    ],
    ["an MTU that is too large", ["-m", "70000", "true"], /^MTU 70000 too large \(max 65521\)$/],
    [
      "a PID file in a folder that is not there",
      ["-P", "/nowhere/pid", "true"],
      /^Couldn't open PID file \/nowhere\/pid: No such file or directory$/,
    ],
    [
      "a log file in a folder that is not there",
      ["-l", "/nowhere/log", "true"],
      /^Couldn't open log file \/nowhere\/log: No such file or directory$/,
    ],
    [
      "a command that is not there",
      ["--", "no-such-command"],
      /^.*pasta: Couldn't start command no-such-command: No such file or directory$/,
    ],
  ])("%s", async (_what, args, message) => {
    const { status, stdout, stderr } = await runPasta(host, args)
    expect(stderr.trimEnd()).toMatch(message)
    expect([status, stdout]).toEqual([1, ""])
    await until("nothing left running", 2000, () => running().length === 0)
  })

  test("help and version make nothing and need nothing", async () => {
    for (const args of [["--help"], ["--version"], ["--host-lo-to-ns-lo", "--version"]]) {
      const { status, stdout, stderr } = await runPasta(host, args)
      expect([status, stderr]).toEqual([0, ""])
      expect(stdout).toMatch(args.includes("--help") ? /^Usage: .*pasta \[OPTION\]/ : /^pasta \d/)
    }
  })
})
