/**
 * The launcher with small programs in the place of passt's: what callers see of it, and what it owes the program.
 */
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import fc from "fast-check"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { getopt } from "./getopt.ts"
import { launcherHeader } from "./launcher-options.ts"
import { readLaunch } from "./launcher.ts"
import { GETOPT_TABLE } from "./parse.ts"

const SOURCE = fileURLToPath(new URL("../../../native/launcher", import.meta.url))

/** What the program does is named by --hostname; what it found goes to the file named by --log-file. */
const PROGRAM = `
import fs from "node:fs"
const option = (name) => process.argv[process.argv.indexOf(name) + 1]
const report = {
  pid: process.pid, argv0: process.argv0, execArgv: process.execArgv, args: process.argv.slice(2), env: process.env,
  status: fs.readFileSync("/proc/self/status", "utf8"),
  stat: fs.readFileSync("/proc/self/stat", "utf8"),
  links: Object.fromEntries(fs.readdirSync("/proc/self/fd").map((fd) => {
    try { return [fd, fs.readlinkSync("/proc/self/fd/" + fd)] } catch { return [fd, ""] }
  })),
}
if (process.argv.includes("--log-file")) {
  fs.writeFileSync(option("--log-file") + "~", JSON.stringify(report))
  fs.renameSync(option("--log-file") + "~", option("--log-file"))
}
const ready = Number(process.env.PASST_READY_FD ?? -1)
const behaviour = {
  ready() {
    console.error("a warning before ready")
    for (const fd of [0, 1, 2]) { fs.closeSync(fd); fs.openSync("/dev/null", "r+") }
    fs.writeSync(ready, "1")
    fs.closeSync(ready)
    setTimeout(() => {}, 60_000)
  },
  fail() { console.error("something is wrong"); process.exit(7) },
  killed() { process.kill(process.pid, "SIGKILL") },
  stay() { process.on("SIGTERM", () => process.exit(0)); setTimeout(() => {}, 60_000) },
  socket() { fs.writeSync(3, "hello"); process.exit(0) },
  text() { console.log("text"); process.exit(0) },
}
behaviour[process.argv.includes("--hostname") ? option("--hostname") : "text"]()
`

interface Report {
  readonly pid: number
  readonly argv0: string
  readonly execArgv: readonly string[]
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly status: string
  readonly stat: string
  readonly links: Readonly<Record<string, string>>
}

let root: string
let binary: string
/** An installed tree with the real node and the program above. */
let command: string
let reportPath: string
const strays: number[] = []

/** PREFIX with the launcher, `node` (a path to link to, or a script) and a program. */
function install(prefix: string, node: { link: string } | { script: string }): string {
  mkdirSync(join(prefix, "bin"), { recursive: true })
  mkdirSync(join(prefix, "lib/passt"), { recursive: true })
  copyFileSync(binary, join(prefix, "bin/passt"))
  const runtime = join(prefix, "lib/passt/node")
  if ("link" in node) symlinkSync(node.link, runtime)
  else writeFileSync(runtime, node.script, { mode: 0o755 })
  writeFileSync(join(prefix, "lib/passt/passt.mjs"), PROGRAM)
  return join(prefix, "bin/passt")
}

interface Outcome {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Until the process has ended and its output has. */
async function outcome(child: ChildProcess): Promise<Outcome> {
  let stdout = ""
  let stderr = ""
  child.stdout?.on("data", (chunk) => (stdout += chunk))
  child.stderr?.on("data", (chunk) => (stderr += chunk))
  return new Promise((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
}

function launch(
  args: string[],
  options: { env?: NodeJS.ProcessEnv; stdio?: StdioOptions; path?: string; uid?: number } = {},
) {
  const { path = command, env = {}, stdio = "pipe", uid } = options
  return spawn(path, args, { env, stdio, argv0: "passt", ...(uid === undefined ? {} : { uid, gid: uid }) })
}

function report(): Report {
  const found = JSON.parse(readFileSync(reportPath, "utf8")) as Report
  strays.push(found.pid)
  return found
}

/** The program's report, once it has written it. */
async function reportSoon(): Promise<Report> {
  for (let i = 0; i < 500 && !existsSync(reportPath); i++) await sleep(20)
  return report()
}

const scenario = (name: string, ...more: string[]): string[] => ["--hostname", name, "--log-file", reportPath, ...more]
const field = (status: string, name: string): string => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)![1]!
const capabilities = (status: string, name: string): bigint => BigInt(`0x${field(status, name)}`)

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "passt-launcher-"))
  chmodSync(root, 0o777)
  const build = join(root, "build")
  for (const args of [
    ["-S", SOURCE, "-B", build],
    ["--build", build],
  ]) {
    const made = spawnSync("cmake", args, { encoding: "utf8" })
    if (made.status !== 0) throw new Error(`cmake ${args.join(" ")}: ${made.stdout}${made.stderr}`)
  }
  binary = join(build, "passt")
  command = install(join(root, "tree"), { link: process.execPath })
  reportPath = join(root, "report.json")
}, 180_000)

afterEach(() => {
  for (const pid of strays.splice(0)) if (alive(pid)) process.kill(pid, "SIGKILL")
  rmSync(reportPath, { force: true })
})

afterAll(() => {
  rmSync(root, { recursive: true, force: true })
})

describe("in the background", () => {
  it("returns when the program is ready, with all output ended and the program alive", async () => {
    const result = await outcome(launch(scenario("ready")))
    expect(result).toEqual({ status: 0, signal: null, stdout: "", stderr: "a warning before ready\n" })
    const { pid, stat } = report()
    expect(alive(pid)).toBe(true)
    // Fields after the name: state, parent, process group, session.
    const [, , group, session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    expect([Number(group), Number(session)]).toEqual([pid, pid])
  })

  it("leaves the program with the standard streams and the readiness pipe only", async () => {
    const leak = openSync(join(root, "leaked"), "w")
    await outcome(launch(scenario("ready"), { stdio: ["ignore", "pipe", "pipe", leak, leak, leak] }))
    const { links, env } = report()
    expect(Object.values(links).filter((link) => link.endsWith("/leaked"))).toEqual([])
    expect(links["4"]).toMatch(/^pipe:/)
    // The other end of that pipe is nowhere in the program.
    expect(Object.values(links).filter((link) => link === links["4"]).length).toBe(1)
    expect(readLaunch(env)).toMatchObject({ socketFd: null, readyFd: 4 })
  })

  it("takes over status and message of a program that fails", async () => {
    const result = await outcome(launch(scenario("fail")))
    expect(result).toEqual({ status: 7, signal: null, stdout: "", stderr: "something is wrong\n" })
  })

  it("exits with 1 when a signal ends the program", async () => {
    const result = await outcome(launch(scenario("killed")))
    expect(result).toEqual({ status: 1, signal: null, stdout: "", stderr: "passt: ended by signal 9 (Killed)\n" })
  })

  it("ends the program when it is itself asked to end before that is ready", async () => {
    const child = launch(scenario("stay"))
    const { pid } = await reportSoon()
    expect(pid).not.toBe(child.pid)
    child.kill("SIGTERM")
    expect(await outcome(child)).toMatchObject({ status: null, signal: "SIGTERM" })
    expect(alive(pid)).toBe(false)
  })

  it("returns in spite of closed standard streams", async () => {
    const line = `exec "$0" "$@" <&- >&- 2>&-`
    const result = await outcome(spawn("/bin/sh", ["-c", line, command, ...scenario("ready")], { env: {} }))
    expect(result.status).toBe(0)
    const { links } = report()
    expect([links["0"], links["1"], links["2"]]).toEqual(["/dev/null", "/dev/null", "/dev/null"])
  })
})

describe("in the foreground", () => {
  it.each([["-f"], ["--fore"], ["-qf"]])("executes the program in its own process for %s", async (flag) => {
    const child = launch(scenario("stay", flag))
    const { pid, env } = await reportSoon()
    expect(pid).toBe(child.pid)
    expect(readLaunch(env)).toMatchObject({ socketFd: null, readyFd: null })
    child.kill("SIGTERM")
    expect(await outcome(child)).toMatchObject({ status: 0, signal: null })
  })

  it.each([["--help"], ["-qh"], ["--vers"], ["--nonsense"], ["-x"]])(
    "stays there for the text that %s asks for",
    async (flag) => {
      const child = launch(["--log-file", reportPath, flag])
      expect(await outcome(child)).toMatchObject({ status: 0, stdout: "text\n" })
      expect(report().pid).toBe(child.pid)
    },
  )
})

describe("the guest's socket", () => {
  it("is moved to descriptor 3", async () => {
    const stdio: StdioOptions = ["ignore", "pipe", "pipe", "ignore", "ignore", "ignore", "ignore", "pipe"]
    const child = launch(scenario("socket", "--fd", "7", "-f"), { stdio })
    const socket = (child.stdio as readonly unknown[])[7] as NodeJS.ReadableStream
    let seen = ""
    socket.on("data", (chunk: Buffer) => (seen += chunk.toString()))
    expect((await outcome(child)).status).toBe(0)
    expect(seen).toBe("hello")
    expect(readLaunch(report().env)).toMatchObject({ socketFd: 3, readyFd: null })
  })

  it("goes to the background with the program, and its end shows at once", async () => {
    const child = launch(scenario("socket", "-F3"), { stdio: ["ignore", "pipe", "pipe", "pipe"] })
    const socket = child.stdio[3] as NodeJS.ReadableStream
    let seen = ""
    socket.on("data", (chunk: Buffer) => (seen += chunk.toString()))
    await new Promise((resolve) => socket.on("end", resolve))
    expect(seen).toBe("hello")
    expect(readLaunch((await reportSoon()).env)).toMatchObject({ socketFd: 3, readyFd: 4 })
  })

  it("must be open", async () => {
    const result = await outcome(launch(scenario("ready", "--fd", "99")))
    const stderr = "Could not move --fd descriptor: Bad file descriptor\n"
    expect(result).toEqual({ status: 1, signal: null, stdout: "", stderr })
    expect(existsSync(reportPath)).toBe(false)
  })

  it("is not looked for when there is only a text to show", async () => {
    expect(await outcome(launch(["--fd", "99", "--help"]))).toMatchObject({ status: 0, stdout: "text\n", stderr: "" })
  })
})

describe("the program's world", () => {
  it("has the caller's environment without what reaches into the runtime", async () => {
    const env = {
      NODE_OPTIONS: "--no-such-option",
      NODE_DEBUG: "fs",
      UV_THREADPOOL_SIZE: "64",
      OPENSSL_CONF: "/nonexistent",
      GLIBC_TUNABLES: "glibc.malloc.perturb=1",
      PASST_READY_FD: "1",
      LANG: "C",
    }
    expect((await outcome(launch(scenario("text", "-f"), { env }))).status).toBe(0)
    const GLIBC_TUNABLES = expect.stringMatching(/^(glibc\.malloc\.\w+=\d+:?)+$/)
    expect(report().env).toEqual({ LANG: "C", PASST_RESOLVERS_FD: "11", UV_USE_IO_URING: "0", GLIBC_TUNABLES })
    expect(report().env["GLIBC_TUNABLES"]).not.toContain("perturb")
  })

  it("keeps argv[0] and the arguments as they are", async () => {
    await outcome(launch(scenario("text", "-f", "--search", "a b", "--", "-x")))
    const { argv0, args, execArgv } = report()
    expect(argv0).toBe("passt")
    expect(args).toEqual(scenario("text", "-f", "--search", "a b", "--", "-x"))
    expect(execArgv).toContain("--single-threaded")
    expect(execArgv).toContain("--disable-sigusr1")
  })

  it("is found from a copied tree and through symbolic links", async () => {
    const copy = join(root, "elsewhere")
    cpSync(join(root, "tree"), copy, { recursive: true })
    const link = join(root, "link")
    symlinkSync(join(copy, "bin/passt"), link)
    for (const path of [join(copy, "bin/passt"), link]) {
      expect(await outcome(launch(["-f"], { path }))).toMatchObject({ status: 0, stdout: "text\n" })
    }
  })

  it("is missed with one line", async () => {
    const lonely = join(root, "lonely/bin")
    mkdirSync(lonely, { recursive: true })
    copyFileSync(binary, join(lonely, "passt"))
    const runtime = join(root, "lonely/lib/passt/node")
    for (const args of [["-f"], []]) {
      const result = await outcome(launch(args, { path: join(lonely, "passt") }))
      const stderr = `passt: can't execute ${runtime}: No such file or directory\n`
      expect(result).toEqual({ status: 1, signal: null, stdout: "", stderr })
    }
  })

  it("has no privileges but those that start-up needs", async () => {
    const own = readFileSync("/proc/self/status", "utf8")
    await outcome(launch(scenario("text", "-f")))
    const { status } = report()
    // DAC_OVERRIDE 1, SETGID 6, SETUID 7, NET_BIND_SERVICE 10, as far as we have them.
    const kept = capabilities(own, "CapPrm") & 0x2404c2n
    for (const set of ["CapEff", "CapPrm", "CapInh"]) expect([set, capabilities(status, set)]).toEqual([set, kept])
    expect(field(status, "NoNewPrivs")).toBe("1")
    // SETPCAP 8: without it the bounding set can't be changed.
    if (capabilities(own, "CapPrm") & 0x100n) expect(capabilities(status, "CapBnd")).toBe(0n)
  })

  it.runIf(process.getuid!() === 0)("has no privileges at all as an ordinary user", async () => {
    // A script for node: the real one may lie in a directory that is closed to others.
    const path = install(join(root, "ordinary"), { script: "#!/bin/sh\nexec cat /proc/self/status\n" })
    const { stdout: status, stderr } = await outcome(launch(["-f"], { path, uid: 65534 }))
    expect(stderr).toBe("")
    for (const set of ["CapEff", "CapPrm", "CapInh", "CapAmb"]) expect(capabilities(status, set)).toBe(0n)
    expect(field(status, "NoNewPrivs")).toBe("1")
  })
})

describe("options.h", () => {
  it("is what the option table makes it", () => {
    expect(readFileSync(join(SOURCE, "options.h"), "utf8")).toBe(launcherHeader())
  })

  it("makes the launcher read a command line as the program does", () => {
    const script = '#!/bin/sh\necho "${PASST_READY_FD:-foreground} ${PASST_SOCKET_FD:-none}"\n'
    const probe = install(join(root, "probe"), { script })
    const words =
      `-f --foreground --fore -qf -q --fo -m -mf --mtu --mtu=1 -h --he -1F0 --version --ver --no --no-m --sock
      -s --socket- /tmp/f -- - -F --fd=0 --fd=x 0 --print -x --f -T --netns --vhost-user --quiet=1 -46f`.split(/\s+/)
    words.push("")
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words), { maxLength: 5 }), (args) => {
        const seen = spawnSync(probe, args, { env: {}, encoding: "utf8" }).stdout.trim()
        expect(seen).toBe(expectedDecision(args))
      }),
      { numRuns: 200 },
    )
  }, 90_000)
})

/** What the launcher should tell the program for a command line, by the program's own reading of it. */
function expectedDecision(args: string[]): string {
  let foreground = false
  let socket = "none"
  try {
    for (const { id, value } of getopt(args, GETOPT_TABLE)) {
      if (id === "help" || id === "version" || id === "print-capabilities") return "foreground none"
      if (id === "foreground") foreground = true
      if (id === "fd") socket = value === "0" ? "3" : "none"
    }
  } catch {
    return "foreground none"
  }
  return `${foreground ? "foreground" : "4"} ${socket}`
}
