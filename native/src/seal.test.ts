/** The wall, from inside: each attempt in a process of its own, which it ends. */
import { spawnSync } from "node:child_process"
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, describe, expect, it } from "vitest"
import { enterNamespace } from "./test-support/child.ts"

const url = (name: string): string => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)))
const possible = Array.isArray(enterNamespace("true"))
if (!possible) console.log("skipped, tests of the seal: no user namespaces")
/** As the launcher does. */
const GLIBC_TUNABLES = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1073741824:glibc.malloc.arena_max=1"
/** An addon that makes any system call; empty without a compiler. */
const FOLDER = mkdtempSync(join(tmpdir(), "passt-wall-"))
const RAW = compileRaw()
afterAll(() => rmSync(FOLDER, { recursive: true }))

function compileRaw(): string {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const target = join(FOLDER, "raw.node")
  const flags = [
    "-std=c++20",
    "-D_GNU_SOURCE",
    "-fPIC",
    "-shared",
    `-I${join(root, "node_modules/node-api-headers/include")}`,
  ]
  const { status } = spawnSync("g++", [...flags, join(root, "cpp/test/raw-call.cc"), "-o", target])
  if (status !== 0) console.log("skipped, raw calls into the wall: no g++")
  return status === 0 ? target : ""
}

const FLAGS = ["--single-threaded", "--v8-pool-size=0", "--min-semi-space-size=2", "--max-semi-space-size=2"]

/** Seals a process, and has it do something. */
function sealed(
  act: string,
  sink = "stderr",
  fd = 2,
): ReturnType<typeof spawnSync> & { stdout: string; stderr: string } {
  const program = `
    import * as s from ${url("./sandbox.ts")}
    import { reserveMemory, seal } from ${url("./seal.ts")}
    import * as n from ${url("./netlink.ts")}
    import * as fs from "node:fs"
    import { spawnSync } from "node:child_process"
    const say = (text) => fs.writeSync(1, text)
    const witness = { fd: ${fd > 2 ? 3 : fd}, sink: ${JSON.stringify(sink)}, name: "passt", elapsedMs: 2500 }
    void n, spawnSync
    const raw = { exports: {} }
    if (${JSON.stringify(RAW)} !== "") process.dlopen(raw, ${JSON.stringify(RAW)})
    const call = raw.exports.call
    reserveMemory(40 << 20, 64 << 20)
    s.enterSandbox({ identity: null, userNamespace: true, pidNamespace: false, chrootFallback: false })
    s.giveUp(-1, false)
    const result = seal(["passt"], witness)
    if (result !== 0) throw new Error("not sealed: " + result)
    say("sealed ")
    ${act}
    say("alive")
    s.exitProcess(0)`
  const stdio: ("pipe" | number)[] = ["pipe", "pipe", "pipe", ...(fd > 2 ? [fd] : [])]
  const args = [...FLAGS, "--disable-sigusr1", "--input-type=module", "-e", program]
  return spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: 30_000,
    stdio,
    env: { ...process.env, GLIBC_TUNABLES },
  }) as never
}

describe.runIf(possible)("a sealed process", () => {
  it("works, and collects its garbage", () => {
    const { stdout, stderr, status } = sealed(`
      let kept
      for (let i = 0; i < 200_000; i++) kept = new Array(100).fill(i)
      say(String(kept[99]) + " ")`)
    expect([stdout, stderr, status]).toEqual(["sealed 199999 alive", "", 0])
  })

  it.each([
    ["opening a file", `fs.openSync("/etc/passwd")`],
    ["looking at one", `fs.statSync("/")`],
    ["another process's files", `fs.readFileSync("/proc/1/status")`],
    ["a new process", `spawnSync("/bin/true")`],
    ["another program in this process", `process.execve("/bin/true", ["true"], {})`],
    ["a signal to another process", `process.kill(1, 0)`],
    ["another user", `process.setuid(0)`],
    ["a socket that is neither TCP nor UDP nor ping", `n.netlinkOpen(0, true)`],
    [
      "memory to execute",
      `new WebAssembly.Module(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])); new WebAssembly.Memory({ initial: 1 })`,
    ],
    ["another directory", `process.chdir("/tmp")`],
    [
      "a new namespace",
      `s.enterSandbox({ identity: null, userNamespace: true, pidNamespace: false, chrootFallback: false })`,
    ],
    ["a thread", `new (await import("node:worker_threads")).Worker("0", { eval: true })`],
  ])("ends at %s, with one line", (_what, act) => {
    const { stdout, stderr, signal, status } = sealed(act)
    expect(stderr).toMatch(/^System call \d+ is forbidden once sealed: ending\n$/)
    expect([stdout, signal, status]).toEqual(["sealed ", "SIGSYS", null])
  })

  it.runIf(RAW !== "").each([
    ["memory", `call("mmap", 0, 4096, 3, 0x22, -1, 0)`],
    ["memory to execute", `call("mmap", 0, 4096, 7, 0x22, -1, 0)`],
    ["a larger heap", `call("brk", 0)`],
    ["memory that becomes executable", `call("mprotect", 0, 4096, 7)`],
    ["the same by a key", `call("pkey_mprotect", 0, 4096, 7, 0)`],
    ["memory that is given back", `call("munmap", 0, 4096)`],
    ["memory that moves", `call("mremap", 0, 4096, 8192, 1)`],
    ["a file without a name", `call("memfd_create", 0, 0)`],
    ["faults to handle", `call("userfaultfd", 0)`],
    ["a fork", `call("clone", 17, 0, 0, 0, 0)`],
    ["a program by its descriptor", `call("execveat", 1, 0, 0, 0, 0x1000)`],
    ["being traced", `call("ptrace", 0, 0, 0, 0)`],
    ["another process's memory", `call("process_vm_readv", 1, 0, 0, 0, 0, 0)`],
    ["killing", `call("kill", 1, 9)`],
    ["a path", `call("openat", -100, 0, 0)`],
    ["a raw socket", `call("socket", 2, 3, 1)`],
    ["a packet socket", `call("socket", 17, 3, 768)`],
    ["a UNIX socket", `call("socket", 1, 1, 0)`],
    ["a namespace", `call("setns", 1, 0)`],
    ["its own attributes", `call("prctl", 4, 1, 0, 0, 0)`],
    ["a program in the kernel", `call("bpf", 0, 0, 0)`],
    ["a ring of calls that no filter sees", `call("io_uring_setup", 8, 0)`],
  ])("ends at a raw call for %s", (_what, act) => {
    const { stdout, stderr, signal } = sealed(act)
    expect(stderr).toMatch(/^System call \d+ is forbidden once sealed: ending\n$/)
    expect([stdout, signal]).toEqual(["sealed ", "SIGSYS"])
  })

  it("does not survive by ignoring the signal", () => {
    const { signal } = sealed(`process.on("SIGSYS", () => {}); fs.openSync("/etc/passwd")`)
    expect(signal).toBe("SIGSYS")
  })

  it("has no more memory than it was left", () => {
    const { stdout, signal, status } = sealed(`
      const blocks = []
      for (let i = 0; i < 4000; i++) blocks.push(new Array(8000).fill(i))
      say("has " + blocks.length)`)
    expect(stdout).toBe("sealed ")
    expect(status === 0 && signal === null).toBe(false)
  })

  it.each([
    ["file", /^2\.\d{4}: error: System call \d+ is forbidden once sealed: ending\n$/],
    ["syslog", /^<27>passt: System call \d+ is forbidden once sealed: ending\n$/],
  ])("tells the log: %s", (sink, form) => {
    const folder = mkdtempSync(join(tmpdir(), "passt-seal-"))
    try {
      const path = join(folder, "log")
      const fd = openSync(path, "a")
      const { signal } = sealed(`fs.openSync("/etc/passwd")`, sink, fd)
      closeSync(fd)
      expect([signal, readFileSync(path, "latin1")]).toEqual(["SIGSYS", expect.stringMatching(form)])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
