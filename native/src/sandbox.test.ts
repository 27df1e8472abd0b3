/** Each in a process of its own: what it does can't be undone. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { enterNamespace } from "./test-support/child.ts"

const MODULE = fileURLToPath(new URL("./sandbox.ts", import.meta.url))
const NONE = "0000000000000000"
const isRoot = process.getuid?.() === 0
const possible = Array.isArray(enterNamespace("true"))
if (!possible) console.log("skipped, tests of the sandbox: no user namespaces")
if (!isRoot) console.log("skipped, tests of leaving root: not root")

const PRELUDE = `
  import { fstatSync, openSync, readFileSync, readSync, readdirSync, readlinkSync, writeSync } from "node:fs"
  const statusFd = openSync("/proc/self/status", "r")
  const room = Buffer.alloc(8192)
  const status = (fd = statusFd) => Object.fromEntries(
    room.toString("latin1", 0, readSync(fd, room, 0, room.length, 0)).trim().split("\\n").map((l) => l.split(/:\\s*/)))
  const say = (value) => writeSync(1, JSON.stringify(value) + "\\n")
  const attempt = (act) => { try { return String(act()) } catch (error) { return error.code ?? String(error) } }
  const none = { identity: null, userNamespace: true, pidNamespace: false, chrootFallback: false }
`

/** Runs code with the module as `s`. @returns what it said, line by line */
function run(code: string, before: readonly string[] = []): { lines: any[]; status: number | null; stderr: string } {
  const program = `import * as s from ${JSON.stringify(MODULE)}\n${PRELUDE}\n${code}`
  const [command = "", ...args] = [
    ...before,
    process.execPath,
    "--input-type=module",
    "--disable-sigusr1",
    "-e",
    program,
  ]
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: "utf8", timeout: 30_000 })
  const lines = stdout.split("\n").filter((line) => line !== "")
  return { lines: lines.map((line) => JSON.parse(line)), status, stderr }
}

describe.runIf(possible)("a sandbox", () => {
  it("has one thread, namespaces of its own and nothing in its root", () => {
    const kinds = ["user", "mnt", "ipc", "uts", "net"]
    const { lines, status, stderr } = run(`
      const spaces = () => ${JSON.stringify(kinds)}.map((kind) => readlinkSync("/proc/self/ns/" + kind))
      const before = spaces()
      // Opened now, it shows where they lead later.
      const threads = status().Threads
      const report = s.enterSandbox({ ...none, userNamespace: true })
      say(report)
      say([Number(threads) > 1, status().Threads, attempt(() => readdirSync("/")), attempt(() => readFileSync("/proc/self/status"))])
      say([attempt(() => openSync("/file", "w")), attempt(() => openSync("/../etc/passwd"))])
      s.exitProcess(7)
    `)
    expect({ lines, status, stderr }).toEqual({
      lines: [
        { threads: 0, identity: 0, userNamespace: 0, idMap: 0, namespaces: 0, root: 0, chrooted: false },
        [true, "1", "", "ENOENT"],
        ["EROFS", "ENOENT"],
      ],
      status: 7,
      stderr: "",
    })
  })

  it("leaves its caller's mounts alone", () => {
    const { lines } = run(`say(s.enterSandbox(none).root); s.exitProcess(0)`)
    expect([lines, existsSync(MODULE)]).toEqual([[0], true])
  })

  it("keeps its user's number, and is nobody else", () => {
    const { lines } = run(`
      const uid = process.getuid()
      s.enterSandbox(none)
      say([process.getuid() === uid, attempt(() => process.setuid(uid + 1))])
      s.exitProcess(0)
    `)
    expect(lines).toEqual([[true, "EINVAL"]])
  })

  it.runIf(isRoot)("leaves root for good", () => {
    const { lines } = run(`
      const report = s.enterSandbox({ ...none, identity: { uid: 65534, gid: 65533 } })
      const { Uid, Gid, Groups } = status()
      say([report.identity, report.idMap, report.root, Uid, Gid, Groups, attempt(() => process.setuid(0))])
      s.exitProcess(0)
    `)
    const four = (id: string): string => Array(4).fill(id).join("\t")
    expect(lines).toEqual([[0, 0, 0, four("65534"), four("65533"), "", "EINVAL"]])
  })

  it("gives up every set of capabilities, new privileges, processes and dumps", () => {
    const { lines } = run(`
      // Root of the machine has no limits.
      s.enterSandbox({ ...none, identity: ${isRoot ? "{ uid: 65534, gid: 65534 }" : "null"} })
      const before = status()
      const given = s.giveUp(-1, false)
      const after = status()
      say([given.result, before.CapBnd !== after.CapBnd, after.NoNewPrivs, attempt(() => s.forkDaemon(99, -1).told)])
      say(["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"].map((set) => after[set]))
      s.exitProcess(0)
    `)
    expect(lines).toEqual([[0, true, "1", "-11"], Array(5).fill(NONE)])
  })

  it("keeps one capability usable, without handing it on", () => {
    const { lines } = run(`
      s.enterSandbox(none)
      s.giveUp(s.CAPABILITY_BIND_SERVICE, false)
      const after = status()
      say(["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"].map((set) => after[set]))
      s.exitProcess(0)
    `)
    expect(lines).toEqual([["0000000000000400", "0000000000000400", NONE, NONE, NONE]])
  })
})

describe("without namespaces", () => {
  it("Landlock closes the file systems all the same, for what opens later", () => {
    const { lines } = run(`
      const open = openSync("/proc/self/stat", "r")
      const { result, landlock } = s.giveUp(-1, false)
      const closed = [attempt(() => readdirSync("/")), attempt(() => openSync("/etc/passwd")), attempt(() => openSync("/tmp/x-never", "w"))]
      say([result, landlock, closed, readSync(open, room, 0, 1, 0)])
      s.exitProcess(0)
    `)
    const [result, landlock, closed, read] = lines[0]
    expect([result, read]).toEqual([0, 1])
    if (landlock === 0) expect(closed).toEqual(["EACCES", "EACCES", "EACCES"])
    else console.log(`skipped, Landlock: errno ${landlock}`)
  })

  it.runIf(possible)("every step that fails is told, and the rest goes on", () => {
    // No more namespaces may be made: what a container's seccomp profile forbids looks alike.
    const { lines } = run(
      `const { threads, userNamespace, namespaces, root } = s.enterSandbox(none)
       say([threads, userNamespace > 0, namespaces > 0, root, readdirSync("/").length > 0]); s.exitProcess(0)`,
      [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -sys_admin "$@"',
        "sh",
      ],
    )
    expect(lines).toEqual([[0, true, true, 0, true]])
  })
})

describe("forkDaemon", () => {
  const fork = (child: string): ReturnType<typeof run> & { pidFile: string; ready: string } => {
    const folder = mkdtempSync(join(tmpdir(), "passt-daemon-"))
    try {
      const outcome = run(`
        const pidFd = openSync(${JSON.stringify(join(folder, "pid"))}, "w")
        const readyFd = openSync(${JSON.stringify(join(folder, "ready"))}, "w")
        const threads = s.enterSandbox({ ...none, userNamespace: ${isRoot ? "false" : "true"} }).threads
        const { told, pid } = s.forkDaemon(readyFd, pidFd)
        ${child}
      `)
      const read = (name: string): string => readFileSync(join(folder, name), "latin1")
      return { ...outcome, pidFile: read("pid"), ready: read("ready") }
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  it.runIf(possible)("goes on in a child, whose PID and readiness the parent tells when it is ready", () => {
    const { lines, status, pidFile, ready } = fork(`
      say([pid > 1, threads])
      const own = status().Pid
      say([s.reportReady(told), own === status().Pid])
      s.exitProcess(0)
    `)
    expect(lines).toEqual([
      [true, 0],
      [0, true],
    ])
    expect([status, ready]).toEqual([0, "1"])
    expect(pidFile).toMatch(/^[1-9]\d*\n$/)
  })

  it.runIf(possible)("passes on the status of a child that ends before, and reports nothing", () => {
    const { status, pidFile, ready } = fork("s.exitProcess(3)")
    expect([status, pidFile, ready]).toEqual([3, "", ""])
  })

  it.runIf(possible)("says which signal has ended it", () => {
    const { status, stderr } = fork("process.abort()")
    expect(status).not.toBe(0)
    expect(stderr).toContain("signal 6")
  })
})
