// The walls around the running programs, looked at from outside.
import { globSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { readAnnotations } from "../native/src/filter/annotations.ts"
import { soak } from "../tools/soak/soak.ts"
import { PASST_IS_OURS, runPasst } from "../tools/world/passt.ts"
import { ROOT, scratchDirectory } from "../tools/world/enter.ts"
import { createNamespace } from "../tools/world/namespace.ts"
import { run, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { missing, skipNote } from "./lib/needs.ts"
import { PASTA, isAlive, startPasta } from "./lib/pasta.ts"

const PASST = process.env.PASST_BINARY ?? join(ROOT, "dist/bin/passt")
const NONE = "0000000000000000"
const SETS = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]

let world: World
let folder: string
beforeAll(async () => {
  world = await createWorld()
})
beforeEach(() => {
  folder = mkdtempSync(join(scratchDirectory(), "seal-"))
})
afterAll(() => world?.close())

/** Status fields by name. */
function status(path: string): Record<string, string> {
  const lines = readFileSync(`${path}/status`, "latin1").trim().split("\n")
  return Object.fromEntries(lines.map((line) => line.split(/:\s*/, 2) as [string, string]))
}
const namespaceOf = (pid: number | "self", kind: string): string => readlinkSync(`/proc/${pid}/ns/${kind}`)
/** Kinds of namespaces that a process does not share with us. */
const ownSpaces = (pid: number): string[] =>
  ["user", "mnt", "ipc", "uts", "pid"].filter((kind) => namespaceOf(pid, kind) !== namespaceOf("self", kind))
const threads = (pid: number): string[] => readdirSync(`/proc/${pid}/task`).map((id) => `/proc/${pid}/task/${id}`)

describe.runIf(PASST_IS_OURS)("passt", () => {
  const start = async (...args: string[]): Promise<number> => {
    const pidFile = join(folder, "pid")
    const outcome = await runPasst(world.host, ["-s", join(folder, "socket"), "-P", pidFile, ...args])
    expect(outcome).toMatchObject({ status: 0 })
    return Number(readFileSync(pidFile, "utf8"))
  }

  test("in the background: an empty root, namespaces of its own, no privileges, a filter", async () => {
    const pid = await start()
    try {
      expect(readdirSync(`/proc/${pid}/root`)).toEqual([])
      expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/")
      expect(ownSpaces(pid)).toEqual(["user", "mnt", "ipc", "uts", "pid"])
      const { Threads, Seccomp, NoNewPrivs, NSpid, ...fields } = status(`/proc/${pid}`)
      expect([Threads, Seccomp, NoNewPrivs, NSpid!.split("\t").at(-1)]).toEqual(["1", "2", "1", "1"])
      expect(SETS.map((set) => fields[set])).toEqual(SETS.map(() => NONE))
      // No way back: no directory, and nothing of the runtime's that a filter of system calls does not see.
      const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
      expect(open.filter((target) => target.startsWith("/") && target !== "/dev/null")).toEqual([])
      expect(open.filter((target) => target.includes("io_uring"))).toEqual([])
      const limits = readFileSync(`/proc/${pid}/limits`, "latin1")
      expect(limits).toMatch(/Max processes +0 +0/)
      expect(limits).toMatch(/Max core file size +0 +0/)
      expect(limits).toMatch(/Max address space +\d+ +\d+/)
    } finally {
      process.kill(pid, "SIGTERM")
      await until("the end of passt", 5000, () => !isAlive(pid))
    }
  })

  test("--no-seal leaves out the filter, and is for debugging: not for root's daemons", async () => {
    const refused = await run(world.host.inside([PASST, "-s", join(folder, "socket"), "--no-seal"]))
    expect(refused).toMatchObject({ status: 1, stderr: "--no-seal needs --foreground when started as root\n" })
    const passt = world.host.start([PASST, "-f", "-s", join(folder, "other"), "--no-seal"])
    try {
      const root = `/proc/${passt.pid}/root`
      await until("passt without a seal", 20_000, () => readdirSync(root).length === 0)
      await until("the end of its privileges", 5000, () => status(`/proc/${passt.pid}`).CapPrm === NONE)
      expect(status(`/proc/${passt.pid}`)).toMatchObject({ Seccomp: "0", NoNewPrivs: "1", Threads: "1" })
    } finally {
      passt.kill("SIGTERM")
    }
  })
})

/** Names of calls that the comments beside them allow a passt without options, on this processor. */
function annotated(folder: string, pattern: string): Set<string> {
  const files = globSync(pattern, { cwd: join(ROOT, "native", folder) })
  const calls = files.flatMap((file) => readAnnotations(readFileSync(join(ROOT, "native", folder, file), "utf8"), file))
  const here = process.arch === "x64" ? "x86-64" : "aarch64"
  const ours = calls.filter(
    ({ conditions, architectures }) =>
      architectures.includes(here) && conditions.every((condition) => condition === "passt"),
  )
  return new Set(ours.map(({ name }) => name))
}

/** Calls by name that each process of a trace (strace -f) makes once it serves: after its first wait that follows `mark`. */
function servingCalls(trace: string, mark: RegExp, wait: RegExp): Map<string, Set<string>> {
  const state = new Map<string, "before" | "marked">()
  const calls = new Map<string, Set<string>>()
  for (const [, pid = "", text = ""] of trace.matchAll(/^(\d+) +(.*)$/gm)) {
    const name = /^(\w+)\(/.exec(text)?.[1]
    if (name === undefined) continue
    if (mark.test(text)) state.set(pid, "marked")
    else if (state.get(pid) === "marked" && wait.test(text)) calls.set(pid, calls.get(pid) ?? new Set())
    calls.get(pid)?.add(name)
  }
  return calls
}

describe.runIf(PASST_IS_OURS)("frames, flows and DHCP exchanges", () => {
  test("leave the sealed process with the memory that it had", { timeout: 180_000 }, async () => {
    const report = await soak(world, { frames: 500_000, flows: 5000, exchanges: 500 })
    expect(report.after.size).toBe(report.idle.size)
    expect(report.after.dirty - report.idle.dirty).toBeLessThan(8 << 10)
    // Hours of such traffic make a few of the whole heap.
    expect(report.collections).toBeLessThan(2)
    expect(report.log).not.toContain("forbidden")
  })

  if (missing(["strace"]).length > 0) console.log(skipNote("strace"))
  test.runIf(missing(["strace"]).length === 0).each([
    ["sealed", [], []],
    // Without the seal the runtime still asks the kernel for memory, and who it is.
    ["without the seal", ["--no-seal"], ["mmap", "munmap", "madvise", "mprotect", "brk", "getpid"]],
  ])("take no other calls than those of the list, %s", { timeout: 180_000 }, async (_how, options, more) => {
    const file = join(folder, "trace")
    const command = ["strace", "-f", "-qq", "-s", "0", "-o", file, PASST, ...options]
    await soak(world, { frames: 3000, flows: 90, exchanges: 20, command })
    const trace = readFileSync(file, "latin1")
    // strace writes as it goes; the watcher of resolv.conf is a process of its own, sealed in any case.
    const program = servingCalls(trace, /^prctl\(PR_SET_DUMPABLE/, /^epoll_p?wait/)
    expect(program.size).toBe(1)
    const allowed = annotated("cpp", "*.{cc,h}")
    expect([...[...program.values()][0]!].filter((name) => !allowed.has(name) && !more.includes(name))).toEqual([])
    const watcher = servingCalls(trace, /^prctl\(PR_SET_SECCOMP/, /^p?poll\(/)
    expect(watcher.size).toBe(1)
    const few = annotated("launcher", "resolver-*.{cc,h}")
    expect([...[...watcher.values()][0]!].filter((name) => !few.has(name))).toEqual([])
  })
})

describe("pasta", () => {
  test("joined: one capability in one thread of two, and all else as passt", async () => {
    const guest = await createNamespace("guest")
    const pasta = await startPasta(world.host, ["--config-net", "--netns", `/proc/${guest.pid}/ns/net`])
    try {
      expect(readdirSync(`/proc/${pasta.pid}/root`)).toEqual([])
      expect(ownSpaces(pasta.pid)).toEqual(["mnt", "ipc", "uts", "pid"])
      const all = threads(pasta.pid).map(status)
      const seen = all.map(({ Name, Seccomp, NoNewPrivs, CapEff, CapPrm, CapBnd }) => [
        Name,
        Seccomp,
        NoNewPrivs,
        CapEff,
        CapPrm,
        CapBnd,
      ])
      expect(seen).toEqual([
        ["pasta", "2", "1", "0000000000000400", "0000000000000400", NONE],
        ["namespace", "2", "1", NONE, NONE, NONE],
      ])
      const open = readdirSync(`/proc/${pasta.pid}/fd`).map((fd) => readlinkSync(`/proc/${pasta.pid}/fd/${fd}`))
      expect(open.filter((target) => target.startsWith("net:"))).toEqual([])
    } finally {
      await pasta.stop()
      await guest.close()
    }
  })

  test("with a command: in the foreground it keeps its PID namespace, and everything else is as ever", async () => {
    const pasta = world.host.startAsUser([PASTA, "--config-net", "--", "sh", "-c", "echo started; sleep 30"])
    try {
      await new Promise((resolve) => pasta.stdout!.once("data", resolve))
      expect(ownSpaces(pasta.pid!)).toEqual(["user", "mnt", "ipc", "uts"])
      expect(readdirSync(`/proc/${pasta.pid}/root`)).toEqual([])
      for (const path of threads(pasta.pid!)) expect([path, status(path).Seccomp]).toEqual([path, "2"])
    } finally {
      pasta.kill("SIGTERM")
    }
  })
})

test("a host that allows no namespaces: what is missing is said, and Landlock closes the file systems", async () => {
  const socket = join(folder, "socket")
  const script = `echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -sys_admin,-sys_chroot "$@"`
  const command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", PASST, "-f", "-s", socket]
  const passt = world.host.start(command)
  let said = ""
  passt.stderr!.on("data", (chunk: Buffer) => (said += chunk.toString()))
  try {
    await until("passt without namespaces", 20_000, () => /No mount, IPC, UTS and PID namespaces/.test(said))
    expect(said).toMatch(/No user namespace of our own: /)
    expect(said).toMatch(/namespaces of our own: .*; (files are out of reach by Landlock alone|and no Landlock)/)
    await until("the seal", 5000, () => status(`/proc/${passt.pid}`).Seccomp === "2")
  } finally {
    passt.kill("SIGTERM")
  }
})
