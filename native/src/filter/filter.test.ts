/** Annotations, what is made of them, and what the result says of each system call: on this processor and on the other one. */
import { execFileSync, spawnSync } from "node:child_process"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { readAnnotations } from "./annotations.ts"
import { compile } from "./compile.ts"

const CPP = join(import.meta.dirname, "../../cpp")
const GENERATED = join(import.meta.dirname, "../../build/generated")

describe("annotations", () => {
  it("name calls, conditions, architectures and values of arguments", () => {
    const text = `
      // seccomp: read close
      // seccomp[pasta, command]: wait4
      // seccomp: epoll_wait@x86-64 socket(A|B, 15:C, _)
      read(1) // a comment about seccomp`
    const both = ["x86-64", "aarch64"]
    expect(readAnnotations(text, "file")).toEqual([
      { name: "read", conditions: [], architectures: both, arguments: [] },
      { name: "close", conditions: [], architectures: both, arguments: [] },
      { name: "wait4", conditions: ["pasta", "command"], architectures: both, arguments: [] },
      { name: "epoll_wait", conditions: [], architectures: ["x86-64"], arguments: [] },
      {
        name: "socket",
        conditions: [],
        architectures: both,
        arguments: [
          { index: 0, mask: null, values: ["A", "B"] },
          { index: 1, mask: "15", values: ["C"] },
        ],
      },
    ])
  })
  it.each([
    ["// seccomp[never]: read", "file:1: unknown condition never"],
    ["// seccomp: read@vax", "file:1: unknown architecture vax"],
    ["\n// seccomp: read, close", "file:2: not a system call: read, close"],
  ])("%j is refused", (text, message) => expect(() => readAnnotations(text, "file")).toThrow(message))

  it("tell of every socket option, and every command for a descriptor, that the running program uses", () => {
    // Those of the start, before there is a filter, as is everything about netlink sockets.
    const start = /SO_TYPE|SO_DOMAIN|SO_ACCEPTCONN|SO_RCVTIMEO|F_[GS]ETFL|F_SETFD|TUN|SIOC[GS]IF/
    const files = globSync("*.{cc,h}", { cwd: CPP }).filter((file) => file !== "netlink.cc")
    const missing = files.flatMap((file) => {
      const source = readFileSync(join(CPP, file), "utf8")
      const calls = readAnnotations(source, file).flatMap((call) => call.arguments.flatMap(({ values }) => values))
      const code = source
        .split("\n")
        .filter((line) => !/^\s*(\/\/|\*|\/\*\*)/.test(line) && /(?:option|sockopt|ioctl|fcntl)\(/.test(line))
      const used = code.flatMap((line) => line.match(/\b(?:(?:SO|IP|IPV6|TCP|UDP|F)_[A-Z_]+|SIOC[A-Z]+)\b/g) ?? [])
      return used.filter((name) => !start.test(name) && !calls.includes(name)).map((name) => `${file}: ${name}`)
    })
    expect(missing).toEqual([])
  })
})

describe("compile", () => {
  const lines = (text: string): string[][] =>
    compile(readAnnotations(text, "file"), "x86-64").map((block) => [...block.lines])
  it("makes two instructions of a call that is always allowed", () => {
    expect(lines("// seccomp: read")).toEqual([
      ["BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_read, 0, 1)", "BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)"],
    ])
  })
  it("compares each way, and forgets values where any will do", () => {
    expect(lines("// seccomp: ioctl(_, A|B)\n// seccomp: ioctl(_, C)")[0]).toHaveLength(9)
    expect(lines("// seccomp: ioctl(_, A)\n// seccomp: ioctl")[0]).toHaveLength(2)
  })
  it("keeps conditions apart", () => {
    expect(lines("// seccomp[passt]: read\n// seccomp[pasta]: read")).toHaveLength(2)
  })
})

const isThere = (command: string): boolean => spawnSync(command, ["--version"]).status === 0
/** Bits of the conditions. */
const PASST = 1
const PASTA = 2
const VHOST = 128
const POLICY = 256

describe.each([
  ["this processor", "g++", [] as string[], process.arch === "x64" ? "x64" : "arm64"],
  ["aarch64", "aarch64-linux-gnu-g++", ["qemu-aarch64-static"], "arm64"],
])("verdicts on %s", (processor, compiler, emulator, architecture) => {
  const missing = [compiler, ...emulator].filter((command) => !isThere(command))
  if (missing.length > 0) console.log(`skipped, verdicts on ${processor}: no ${missing.join(", ")}`)
  let folder: string
  let program: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "passt-filter-"))
    program = join(folder, "filter-verdicts")
    if (missing.length > 0) return
    const source = join(CPP, "test/filter-verdicts.cc")
    const flags = ["-std=c++20", "-D_GNU_SOURCE", "-static", "-O1", `-I${GENERATED}`]
    execFileSync(compiler, [...flags, source, "-o", program])
  }, 60_000)
  afterAll(() => rmSync(folder, { recursive: true }))
  const run = (...args: (string | number)[]): string => {
    const [command = "", ...rest] = [...emulator, program, ...args.map(String)]
    return execFileSync(command, rest, { encoding: "utf8" }).trim()
  }
  const allowed = (conditions: number): number[] =>
    run(conditions)
      .split("\n")
      .filter((line) => /^\d+$/.test(line))
      .map(Number)
  const number = (x64: number, arm64: number): number => (architecture === "x64" ? x64 : arm64)

  it.skipIf(missing.length > 0)("few calls are allowed, and none that opens, executes or watches others", () => {
    expect(allowed(PASST).length).toBeLessThanOrEqual(26)
    expect(allowed(PASTA).length).toBeLessThanOrEqual(34)
    // What a policy of names adds: pairs of sockets.
    const pair = number(53, 199)
    for (const program of [PASST, PASTA]) {
      const more = allowed(program | POLICY).filter((call) => !allowed(program).includes(call))
      expect(more).toEqual([pair])
    }
    const never = {
      openat: number(257, 56),
      openat2: 437,
      execve: number(59, 221),
      execveat: number(322, 281),
      clone: number(56, 220),
      clone3: 435,
      ptrace: number(101, 117),
      mprotect: number(10, 226),
      mmap: number(9, 222),
      munmap: number(11, 215),
      mremap: number(25, 216),
      madvise: number(28, 233),
      brk: number(12, 214),
      kill: number(62, 129),
      setns: number(308, 268),
      unshare: number(272, 97),
      mount: number(165, 40),
      chdir: number(80, 49),
      setuid: number(105, 146),
      process_vm_readv: number(310, 270),
      memfd_create: number(319, 279),
      io_uring_setup: 425,
      bpf: number(321, 280),
    }
    for (const conditions of [PASST, PASTA]) {
      const list = allowed(conditions)
      for (const [name, call] of Object.entries(never)) expect([name, list.includes(call)]).toEqual([name, false])
    }
  })

  it.skipIf(missing.length > 0)("arguments count", () => {
    const socket = number(41, 198)
    const mmap = number(9, 222)
    const fcntl = number(72, 25)
    const verdicts: readonly [string, readonly (string | number)[]][] = [
      ["allow", [PASST, socket, 2, 0x80801, 6]],
      ["allow", [PASST, socket, 10, 0x80802, 58]],
      // Raw, packet, netlink and UNIX sockets.
      ["forbid", [PASST, socket, 2, 3, 1]],
      ["forbid", [PASST, socket, 17, 0x80802, 0]],
      ["forbid", [PASST, socket, 16, 0x80003, 0]],
      ["forbid", [PASST, socket, 1, 1, 0]],
      // With a policy, pairs of stream sockets; nothing else that is local.
      ["allow", [PASST | POLICY, number(53, 199), 1, 0x80801, 0]],
      ["forbid", [PASST, number(53, 199), 1, 0x80801, 0]],
      ["forbid", [PASST | POLICY, number(53, 199), 1, 1, 0]],
      ["forbid", [PASST | POLICY, number(53, 199), 1, 0x80802, 0]],
      ["forbid", [PASST | POLICY, number(53, 199), 2, 0x80801, 0]],
      ["forbid", [PASST | POLICY, socket, 1, 0x80801, 0]],
      // Memory.
      ["forbid", [PASST, mmap, 0, 4096, 3, 0x22]],
      ["forbid", [PASTA, mmap, 0, 4096, 3, 0x22]],
      // vhost-user: a guest's memory in its place, and nothing in the place again; not elsewhere, not private, not executable.
      ["allow", [PASST | VHOST, mmap, 0, 4096, 3, 0x11]],
      ["allow", [PASST | VHOST, mmap, 0, 4096, 0, 0x4032]],
      ["forbid", [PASST | VHOST, mmap, 0, 4096, 3, 0x22]],
      ["forbid", [PASST | VHOST, mmap, 0, 4096, 3, 0x12]],
      ["forbid", [PASST | VHOST, mmap, 0, 4096, 7, 0x11]],
      ["forbid", [PASST | VHOST, mmap, 0, 4096, 3, 1]],
      // F_SETPIPE_SZ, F_SETFL, F_DUPFD.
      ["allow", [PASTA, fcntl, 5, 1031]],
      ["forbid", [PASTA, fcntl, 5, 4]],
      ["forbid", [PASTA, fcntl, 5, 0]],
      ["forbid", [PASST, fcntl, 5, 1031]],
    ]
    for (const [verdict, args] of verdicts) expect([args, run(...args)]).toEqual([args, verdict])
  })
})
