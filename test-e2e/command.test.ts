// The command as its callers know it: background mode, PID file, exit codes, and one clear line for what is wrong.
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync } from "node:fs"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { HOST } from "../tools/world/addresses.ts"
import { ROOT, scratchDirectory } from "../tools/world/enter.ts"
import { freshSocketPath, isListening, PASST_IS_OURS, runPasst } from "../tools/world/passt.ts"
import { run, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"

let world: World
let folder: string
beforeAll(async () => {
  world = await createWorld()
})
beforeEach(() => {
  folder = mkdtempSync(join(scratchDirectory(), "command-"))
})
afterAll(() => world?.close())

/** Command lines of what still runs of passt, as the sandbox sees it. */
function running(): string[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")
      } catch {
        return ""
      }
    })
    .filter((line) => line.includes(folder))
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "latin1"))
  } catch {
    return false
  }
}

describe("in the background", () => {
  test("exit status 0 means ready: socket, PID file and ports are there; SIGTERM ends it with its ports", async () => {
    const socket = join(folder, "socket")
    const pidFile = join(folder, "pid")
    const outcome = await runPasst(world.host, ["--socket", socket, "--pid", pidFile, "-t", "10007:7", "-u", "10007:7"])
    expect(outcome).toMatchObject({ status: 0, timedOut: false })
    expect(isListening(world.host, socket)).toBe(true)
    const text = readFileSync(pidFile, "utf8")
    expect(text).toMatch(/^[1-9]\d*\n$/)
    const pid = Number(text)
    expect(isAlive(pid)).toBe(true)
    expect(await world.host.must(["ss", "-H", "-t", "-l", "-n"])).toContain(":10007")
    // Its own session, and nothing of the caller's kept open.
    const [, , , , , session] = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)?.split(" ") ?? []
    expect(session).toBeDefined()
    process.kill(pid, "SIGTERM")
    await until("the end of passt", 5000, () => !isAlive(pid))
    expect(isListening(world.host, socket)).toBe(false)
    expect(await world.host.must(["ss", "-H", "-t", "-l", "-n"])).not.toContain(":10007")
  })

  test("its caller's pipes reach their end", async () => {
    const socket = join(folder, "socket")
    const pidFile = join(folder, "pid")
    // `run` waits for the end of both pipes: a daemon that held one open would let it run into its time limit.
    const outcome = await runPasst(world.host, ["--socket", socket, "--pid", pidFile])
    expect(outcome.timedOut).toBe(false)
    expect(outcome.elapsedMs).toBeLessThan(10_000)
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM")
  })

  test("--log-file", async () => {
    const log = join(folder, "log")
    const pidFile = join(folder, "pid")
    const outcome = await runPasst(world.host, ["-s", join(folder, "socket"), "-P", pidFile, "-l", log])
    expect(outcome.status).toBe(0)
    expect(readFileSync(log, "utf8").split("\n")[0]).toMatch(/^passt .*\(\d+\)$/)
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM")
  })

  test("--pcap captures what the guest says", async () => {
    const [capture, pidFile, socket] = ["pcap", "pid", "socket"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    expect((await runPasst(world.host, ["-s", socket, "-P", pidFile, "-p", capture])).status).toBe(0)
    const client = connect(socket)
    await new Promise((resolve) => client.once("connect", resolve))
    await until("the first frames", 5000, () => existsSync(capture) && readFileSync(capture).length > 24 + 16 + 42)
    client.destroy()
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM")
    expect(readFileSync(capture).readUInt32LE(0)).toBe(0xa1b2c3d4)
  })
})

test("--help and --version: on standard output, exit status 0", async () => {
  const help = await runPasst(world.host, ["--help"])
  expect(help).toMatchObject({ status: 0, stderr: "" })
  expect(help.stdout).toContain("--tcp-ports")
  const version = await runPasst(world.host, ["--version"])
  expect(version).toMatchObject({ status: 0, stderr: "" })
  expect(version.stdout).toMatch(/^passt /)
})

describe("bad input: one line on standard error, status 1, nothing left behind", () => {
  const bad: readonly (readonly [string, readonly string[]])[] = [
    ["an unknown address", ["-a", "300.1.2.3"]],
    ["a loopback address for the guest", ["-a", "127.0.0.1"]],
    ["a multicast address for the guest", ["-a", "224.0.0.1"]],
    ["a prefix that is too long", ["-a", "192.0.2.5/33"]],
    ["a netmask with holes", ["-n", "255.0.255.0"]],
    ["a gateway that is none", ["-g", "0.0.0.0"]],
    ["a MAC address that is too short", ["-M", "02:00:00:00:00"]],
    ["an MTU that is too large", ["-m", "70000"]],
    ["an MTU that is no number", ["-m", "large"]],
    ["a DNS server that is no address", ["-D", "resolver"]],
    ["an interface that is not there", ["-i", "nowhere0"]],
    ["an outbound interface that is not there", ["--outbound-if4", "nowhere0"]],
    ["a port of 65536", ["-t", "65536"]],
    ["port 0", ["-t", "0"]],
    ["a range that runs backwards", ["-t", "20-10"]],
    ["ranges of different lengths", ["-t", "10-20:10-21"]],
    ["nonsense for ports", ["-u", "ssh"]],
    ["auto, which is pasta's", ["-t", "auto"]],
    ["none after ports", ["-t", "10007", "-t", "none"]],
    ["the same port twice", ["-t", "10007:7", "-t", "10000-10010"]],
    ["an address that the host does not have", ["-t", "192.0.2.77/10007"]],
    ["a port below 1024, as an ordinary user", ["-t", "22"]],
    ["a host name that is too long", ["-H", "x".repeat(254)]],
    ["a log size that is too small", ["--log-file", "/tmp/log", "--log-size", "1"]],
    ["a log file in a folder that is not there", ["--log-file", "/nowhere/log"]],
    ["a PID file in a folder that is not there", ["--pid", "/nowhere/pid"]],
    ["a descriptor that is not open", ["--fd", "77"]],
    ["a descriptor that is no number", ["--fd", "three"]],
    ["an argument that is no option", ["guest"]],
  ]
  test.each(bad)("%s", async (_, args) => {
    const socket = join(folder, "socket")
    // In the foreground it could not end by itself; both ways have to fail.
    for (const mode of [[], ["--foreground"]]) {
      const outcome = await runPasst(world.host, [...mode, "--socket", socket, ...args])
      expect(outcome, args.join(" ")).toMatchObject({ status: 1, stdout: "", timedOut: false })
      const lines = outcome.stderr.split("\n").filter((line) => line !== "")
      expect(lines, outcome.stderr).toHaveLength(1)
      expect(lines[0]).not.toMatch(/^\s+at |Error:|node:/)
    }
    expect(existsSync(socket)).toBe(false)
    expect(readdirSync(folder)).toEqual([])
    expect(running()).toEqual([])
  })

  test("an unknown option: says so, and how to get help", async () => {
    const outcome = await runPasst(world.host, ["--no-such-option"])
    expect(outcome).toMatchObject({ status: 1, stdout: "" })
    expect(outcome.stderr.split("\n")[0]).toContain("--no-such-option")
  })

  test("a socket in use", async () => {
    const socket = join(folder, "socket")
    const other = createServer().listen(socket)
    await new Promise((resolve) => other.once("listening", resolve))
    const outcome = await runPasst(world.host, ["--socket", socket])
    expect(outcome).toMatchObject({ status: 1, stdout: "" })
    expect(outcome.stderr.trim().split("\n")).toHaveLength(1)
    expect(existsSync(socket)).toBe(true)
    other.close()
  })

  test("a port in use", async () => {
    const listen = `require("node:net").createServer().listen(10007)`
    const other = world.host.start([process.execPath, "-e", listen], { stdio: "ignore" })
    await until("the other listener", 5000, async () => (await world.host.must(["ss", "-Htln"])).includes(":10007"))
    const outcome = await runPasst(world.host, ["--socket", join(folder, "socket"), "-t", "10007"])
    expect(outcome).toMatchObject({ status: 1, stdout: "" })
    expect(outcome.stderr.trim().split("\n")).toHaveLength(1)
    expect(outcome.stderr).toContain("10007")
    expect(existsSync(join(folder, "socket"))).toBe(false)
    other.kill()
  })

  test("a stale socket is taken over", async () => {
    const socket = join(folder, "socket")
    // A listener that ended without removing its path.
    const leave = `import("node:net").then(({ createServer }) => createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, "SIGKILL")))`
    spawnSync(process.execPath, ["-e", leave])
    expect(existsSync(socket)).toBe(true)
    const pidFile = join(folder, "pid")
    expect((await runPasst(world.host, ["--socket", socket, "--pid", pidFile])).status).toBe(0)
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM")
  })
})

describe.skipIf(!PASST_IS_OURS)("the installed tree (skipped where another program stands in)", () => {
  test("works when copied elsewhere, with an empty environment", async () => {
    const copy = join(folder, "elsewhere")
    cpSync(join(ROOT, "dist"), copy, { recursive: true, verbatimSymlinks: true })
    const binary = join(copy, "bin/passt")
    const socket = freshSocketPath()
    const pidFile = join(folder, "pid")
    const clean = ["/usr/bin/env", "-i", binary]
    const version = await run(world.host.insideAsUser([...clean, "--version"]))
    expect(version).toMatchObject({ status: 0, stderr: "" })
    const outcome = await run(
      world.host.insideAsUser([...clean, "--socket", socket, "--pid", pidFile, "-a", HOST.ipv4]),
    )
    expect(outcome.status, outcome.stderr).toBe(0)
    const pid = Number(readFileSync(pidFile, "utf8"))
    // All that it has mapped comes from its own tree or the system's libraries, nothing from where it was built.
    expect(readFileSync(`/proc/${pid}/maps`, "latin1")).not.toContain(ROOT)
    process.kill(pid, "SIGTERM")
    await until("the end of passt", 5000, () => !isAlive(pid))
  })

  test("the manual page names every option of --help", async () => {
    const page = readFileSync(join(ROOT, "dist/share/man/man1/passt.1"), "utf8").replaceAll("\\-", "-")
    const help = (await runPasst(world.host, ["--help"])).stdout
    // mdoc writes "--name" as the macro Fl with the argument "Fl name".
    for (const [, name] of help.matchAll(/--([a-z][a-z0-9-]+)/g)) expect(page).toMatch(new RegExp(`Fl Fl ${name}\\b`))
  })
})
