/**
 * What the launcher does for pasta: namespaces, the user, the command that waits. A small program stands in the place of
 * pasta's: it writes down what it found, and lets the command go.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { readLaunch } from "./launcher.ts"

const SOURCE = fileURLToPath(new URL("../../../native/launcher", import.meta.url))
const isRoot = process.getuid?.() === 0
const NOBODY = 65534
/** As root, so that the launcher has a user to change to; what it makes ends with it. */
const possible = isRoot && spawnSync("unshare", ["--user", "--net", "true"]).status === 0
if (!possible) console.log("skipped, the launcher's namespaces: needs root and user namespaces")

const PROGRAM = `
import fs from "node:fs"
const report = { env: process.env, args: process.argv.slice(2), link: {}, status: fs.readFileSync("/proc/self/status", "utf8") }
for (const kind of ["user", "net", "pid"]) report.link[kind] = fs.readlinkSync("/proc/self/ns/" + kind)
try { report.link.target = fs.readlinkSync("/proc/self/fd/5") } catch {}
report.map = fs.readFileSync("/proc/self/uid_map", "utf8").trim()
fs.writeSync(1, JSON.stringify(report) + "\\n")
if (process.env.PROGRAM === "fail") process.exit(3)
if (process.env.PASST_PID_FILE_FD) fs.writeSync(7, "pid")
if (process.env.PASST_LOG_FILE_FD) {
  fs.writeSync(8, "first,")
  fs.writeSync(9, "second")
}
if (process.env.PASST_GO_FD) fs.writeSync(6, "g")
if (process.env.PASST_READY_FD) fs.writeSync(4, "r")
// Stays until the command's end can be seen, as pasta does.
if (process.env.PASST_CHILD_PID) while (true) {
  const stat = fs.readFileSync("/proc/" + process.env.PASST_CHILD_PID + "/stat", "utf8")
  if (stat.slice(stat.lastIndexOf(")") + 2)[0] === "Z") break
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
}
`

interface Report {
  readonly env: Readonly<Record<string, string>>
  readonly args: readonly string[]
  readonly link: Readonly<Record<"user" | "net" | "pid" | "target", string>>
  readonly status: string
  readonly map: string
}

let root: string
let pasta: string
const holders: ChildProcess[] = []

/** @returns the program's report, and everything else that was written to standard output */
function run(args: readonly string[], env: NodeJS.ProcessEnv = {}, user?: number) {
  const result = spawnSync(pasta, args, {
    encoding: "utf8",
    timeout: 20_000,
    env: { PATH: process.env["PATH"], ...env },
    ...(user === undefined ? {} : { uid: user, gid: user }),
  })
  const at = result.stdout.indexOf("{")
  const end = result.stdout.indexOf("\n", at)
  const report = at < 0 ? undefined : (JSON.parse(result.stdout.slice(at, end)) as Report)
  return {
    ...result,
    report,
    output: at < 0 ? result.stdout : result.stdout.slice(0, at) + result.stdout.slice(end + 1),
  }
}

/** A process in namespaces of its own, by unshare's options. */
async function holder(...options: string[]): Promise<number> {
  const child = spawn("unshare", [...options, "sh", "-c", "echo; exec sleep 60"], {
    stdio: ["ignore", "pipe", "inherit"],
  })
  holders.push(child)
  await new Promise((resolve) => child.stdout.once("data", resolve))
  return child.pid!
}

const own = (kind: string): string => readlinkSync(`/proc/self/ns/${kind}`)
const field = (report: Report | undefined, name: string): string =>
  new RegExp(`^${name}:\\s*(.*)$`, "m").exec(report!.status)![1]!.replace(/\s+/g, " ")
const bits = (...numbers: number[]): string =>
  numbers
    .reduce((sum, number) => sum | (1n << BigInt(number)), 0n)
    .toString(16)
    .padStart(16, "0")
const DAC_OVERRIDE = 1
const BIND = 10
const NET_ADMIN = 12
const SYS_ADMIN = 21
const SYS_CHROOT = 18
const KEPT = bits(DAC_OVERRIDE, BIND, NET_ADMIN, SYS_ADMIN, SYS_CHROOT)

beforeAll(() => {
  if (!possible) return
  root = mkdtempSync(join(tmpdir(), "pasta-launcher-"))
  chmodSync(root, 0o755)
  const build = join(root, "build")
  execFileSync("cmake", ["-S", SOURCE, "-B", build], { stdio: "pipe" })
  execFileSync("cmake", ["--build", build], { stdio: "pipe" })
  for (const folder of ["bin", "lib/passt"]) mkdirSync(join(root, folder), { recursive: true })
  copyFileSync(join(build, "passt"), join(root, "bin/passt"))
  pasta = join(root, "bin/pasta")
  symlinkSync("passt", pasta)
  symlinkSync(process.execPath, join(root, "lib/passt/node"))
  writeFileSync(join(root, "lib/passt/pasta.mjs"), PROGRAM)
  writeFileSync(join(root, "lib/passt/passt.mjs"), `console.log("passt's")`)
}, 180_000)

afterEach(() => {
  for (const child of holders.splice(0)) child.kill("SIGKILL")
})

afterAll(() => {
  if (root) rmSync(root, { recursive: true, force: true })
})

describe.runIf(possible)("the program", () => {
  it("is chosen by the command's own name", () => {
    expect(spawnSync(join(root, "bin/passt"), ["-f"], { encoding: "utf8" }).stdout).toBe("passt's\n")
    expect(run(["--help"]).report?.args).toEqual(["--help"])
  })

  it("gets nothing made when it only shows a text, or has an error to report", async () => {
    const pid = String(await holder("--net"))
    const cases = [["--version"], ["--nonsense"], ["--netns", "/proc/1/ns/net", "true"], ["-f", "--netns", "x", pid]]
    for (const args of cases) {
      const { report } = run(args)
      expect(readLaunch(report!.env)).toMatchObject({ netnsFd: null, command: null, warnings: [] })
      expect(report!.link.user).toBe(own("user"))
    }
    const { report } = run(["--runas", "no such user", pid])
    expect(readLaunch(report!.env)).toMatchObject({ command: null, warnings: [] })
    expect(field(report, "Uid")).toBe("0 0 0 0")
  })
})

describe.runIf(possible)("a command to spawn", () => {
  const show = "for n in user net pid ipc uts mnt; do readlink /proc/self/ns/$n; done; id -u; hostname; echo $$"

  it("runs in namespaces of its own, as their root, with the program in the host's network", () => {
    const { report, output, stderr } = run(["sh", "-c", show], { HELLO: "x" })
    const [user, net, pid, ipc, uts, mnt, uid, host, self] = output.trim().split("\n")
    expect(stderr).toBe("")
    for (const [kind, link] of Object.entries({ user, net, pid, ipc, uts, mnt })) expect(link).not.toBe(own(kind))
    expect([uid, host, self]).toEqual(["0", `pasta-${hostname()}`, "1"])
    expect(report!.link).toEqual({ user, net: own("net"), pid: own("pid"), target: net })
    expect(report!.map).toMatch(new RegExp(`^0 +${NOBODY} +1$`))
    expect(readLaunch(report!.env).warnings).toEqual(["Started as root, will change to nobody."])
    expect(field(report, "CapEff")).toBe(KEPT)
    expect(field(report, "CapAmb")).toBe(KEPT)
    expect(field(report, "NoNewPrivs")).toBe("1")
  })

  it("keeps all capabilities, the environment and the standard streams, and nothing else", () => {
    const { output } = run(
      [
        "sh",
        "-c",
        "grep -E 'Cap(Eff|Bnd)|NoNew' /proc/self/status; echo $HELLO; ls /proc/self/fd; env | grep -c PASST",
      ],
      {
        HELLO: "there",
      },
    )
    const lines = output.trim().split("\n")
    expect(lines[0]).toMatch(/CapEff:\s+0*1f+$/)
    expect(lines[1]).toMatch(/CapBnd:\s+0*1f+$/)
    expect(lines[2]).toMatch(/NoNewPrivs:\s+0$/)
    // 3 is the folder that ls reads.
    expect(lines.slice(3)).toEqual(["there", "0", "1", "2", "3", "0"])
  })

  it("sees its own processes, and may ping", () => {
    const { output } = run(["sh", "-c", "echo /proc/[0-9]*; cat /proc/sys/net/ipv4/ping_group_range"])
    expect(output.trim().split("\n")).toEqual(["/proc/1", "0\t0"])
  })

  it("does not start without the program's word", () => {
    const result = run(["sh", "-c", "echo never"], { PROGRAM: "fail" })
    expect([result.status, result.output, result.stderr]).toEqual([3, "", ""])
    const pid = readLaunch(result.report!.env).command!.pid
    for (let i = 0; i < 200 && existsSync(`/proc/${pid}`); i++) spawnSync("sleep", ["0.01"])
    expect(existsSync(`/proc/${pid}`)).toBe(false)
  })

  it("may be the user's shell, as a login shell", () => {
    const result = spawnSync(pasta, [], {
      encoding: "utf8",
      input: "echo $0; exit 4",
      env: { PATH: process.env["PATH"] },
    })
    expect(result.stdout.split("\n").slice(1)).toEqual(["-sh", ""])
  })

  it("is said when it can't be executed", () => {
    expect(run(["/nowhere/at/all"]).stderr).toBe(
      `${pasta}: Couldn't start command /nowhere/at/all: No such file or directory\n`,
    )
  })

  it("takes a host name, and can stay in the caller's PID namespace", () => {
    const { output } = run(["--hostname", "box", "--no-pidns", "sh", "-c", "hostname; readlink /proc/self/ns/pid"])
    expect(output.trim().split("\n")).toEqual(["box", own("pid")])
  })

  it("stays in the user namespace when asked to", () => {
    const { report, output, stderr } = run([
      "--netns-only",
      "--runas",
      "0",
      "sh",
      "-c",
      "readlink /proc/self/ns/user; id -u",
    ])
    expect([stderr, ...output.trim().split("\n")]).toEqual(["", own("user"), "0"])
    expect(report!.link.user).toBe(own("user"))
    // Its /proc stays its own.
    expect(existsSync(`/proc/${process.pid}`)).toBe(true)
  })

  it("writes files where only its caller may", () => {
    const folder = join(root, "private")
    mkdirSync(folder, { mode: 0o700 })
    const [pid, log] = [join(folder, "pid"), join(folder, "log")]
    writeFileSync(log, "what was there before")
    const { report, stderr } = run(["--pid", pid, "--log-file", log, "true"])
    expect(stderr).toBe("")
    expect(readLaunch(report!.env)).toMatchObject({ pidFileFd: 7, logFileFds: { edit: 8, append: 9 } })
    expect([pid, log].map((path) => readFileSync(path, "utf8"))).toEqual(["pid", "first,second"])
    expect(statSync(pid).mode & 0o777).toBe(0o600)
    // One that can't be opened is the program's to report, and so is every file where the user stays.
    const none = { pidFileFd: null, logFileFds: null }
    for (const args of [
      ["-P", "/nowhere/pid"],
      ["--runas", "0", "-P", pid, "-l", log],
    ]) {
      expect(readLaunch(run([...args, "true"]).report!.env)).toMatchObject(none)
    }
  })

  it("runs as another user", () => {
    const { report } = run(["--runas", "1234:4321", "true"])
    expect(report!.map).toMatch(/^0 +1234 +1$/)
    expect(readLaunch(report!.env).warnings).toEqual([])
  })

  it("needs no root", () => {
    const { report, output, stderr } = run(["sh", "-c", "id -u; readlink /proc/self/ns/net"], {}, 12_345)
    expect(stderr).toBe("")
    expect(output.trim().split("\n")).toEqual(["0", report!.link.target])
    expect(report!.map).toMatch(/^0 +12345 +1$/)
    expect(field(report, "CapEff")).toBe(KEPT)
    expect(readLaunch(report!.env).warnings).toEqual([])
  })
})

describe.runIf(possible)("a namespace to join", () => {
  it("is that of a process, with its user namespace", async () => {
    const pid = await holder("--user", "--map-root-user", "--net")
    const { report, status } = run([String(pid)])
    expect(status).toBe(0)
    const link = (kind: string): string => readlinkSync(`/proc/${pid}/ns/${kind}`)
    expect(report!.link).toMatchObject({ user: link("user"), target: link("net"), net: own("net") })
    expect(readLaunch(report!.env)).toMatchObject({ netnsFd: 5, readyFd: 4, command: null })
    expect(field(report, "CapEff")).toBe(KEPT)
  })

  it("can be in the user namespace where we are", async () => {
    const pid = await holder("--net")
    for (const args of [[String(pid)], ["--netns", `/proc/${pid}/ns/net`], ["--netns-only", String(pid)]]) {
      const { report } = run(args)
      expect(report!.link).toMatchObject({ user: own("user"), target: readlinkSync(`/proc/${pid}/ns/net`) })
      expect(field(report, "Uid")).toBe(Array(4).fill(NOBODY).join(" "))
      expect(field(report, "CapEff")).toBe(KEPT)
    }
  })

  it("is named by files, of a network and of a user namespace", async () => {
    const pid = await holder("--user", "--map-root-user", "--net")
    const args = ["-f", "--netns", `/proc/${pid}/ns/net`, `--userns=/proc/${pid}/ns/user`]
    const { report } = run(args)
    expect(report!.link).toMatchObject({
      user: readlinkSync(`/proc/${pid}/ns/user`),
      target: readlinkSync(`/proc/${pid}/ns/net`),
    })
    // The program can look where only the launcher has been.
    expect(readLaunch(report!.env).netnsDirectoryFd).toBe(10)
  })

  it("may belong to an ordinary user", async () => {
    const child = spawn("unshare", ["--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 60"], {
      stdio: ["ignore", "pipe", "inherit"],
      uid: 12_345,
      gid: 12_345,
    })
    holders.push(child)
    await new Promise((resolve) => child.stdout.once("data", resolve))
    const { report } = run([String(child.pid)], {}, 12_345)
    expect(report!.link.target).toBe(readlinkSync(`/proc/${child.pid}/ns/net`))
    expect(field(report, "CapEff")).toBe(KEPT)
  })

  it("is missed in one line", async () => {
    const gone = await holder("--net")
    const child = holders.pop()!
    const ended = new Promise((resolve) => child.once("exit", resolve))
    child.kill("SIGKILL")
    await ended
    const failures: [string[], string][] = [
      [["--netns", "/nowhere"], "Couldn't open network namespace /nowhere: No such file or directory\n"],
      [["--netns", "nobodys"], "Couldn't open network namespace /run/netns/nobodys: No such file or directory\n"],
      [["--netns", "/dev/null"], "/dev/null is no network namespace\n"],
      [["--netns", "/proc/self/ns/user"], "/proc/self/ns/user is no network namespace\n"],
      [["--userns", "/dev/null", "true"], "/dev/null is no user namespace\n"],
      [[String(gone)], `Couldn't open user namespace /proc/${gone}/ns/user: No such file or directory\n`],
    ]
    for (const [args, message] of failures) {
      const { status, stdout, stderr } = run(args)
      expect([status, stdout, stderr]).toEqual([1, "", message])
    }
  })
})
