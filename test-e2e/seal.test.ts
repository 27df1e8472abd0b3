// The walls around the running programs, looked at from outside.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { PASST_IS_OURS, runPasst } from "../tools/world/passt.ts"
import { ROOT, scratchDirectory } from "../tools/world/enter.ts"
import { createNamespace } from "../tools/world/namespace.ts"
import { run, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
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

/** Frames that a guest sends, without checksums where zero means none (UDP over IPv4). */
function udpFrame(sourcePort: number, port: number, payload: Buffer, destination = [192, 0, 2, 1]): Buffer {
  const frame = Buffer.alloc(42 + payload.length)
  frame.set([0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0, 0x45])
  frame.writeUInt16BE(28 + payload.length, 16)
  frame.set([0x40, 0, 64, 17], 20)
  frame.set([192, 0, 2, 2, ...destination], 26)
  frame.writeUInt16BE(sourcePort, 34)
  frame.writeUInt16BE(port, 36)
  frame.writeUInt16BE(8 + payload.length, 38)
  payload.copy(frame, 42)
  return frame
}

/** A DHCPDISCOVER (RFC 2131). */
function discover(transaction: number): Buffer {
  const message = Buffer.alloc(244)
  message.set([1, 1, 6, 0])
  message.writeUInt32BE(transaction, 4)
  message.set([0x52, 0x54, 0, 0x12, 0x34, 0x56], 28)
  message.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 236)
  return udpFrame(68, 67, message, [255, 255, 255, 255])
}

const ARP = Buffer.from("ffffffffffff525400123456080600010800060400015254001234560a0000020000000000000a000001", "hex")

function framed(frames: readonly Buffer[]): Buffer {
  return Buffer.concat(frames.flatMap((frame) => [Buffer.from(Uint32Array.of(frame.length).buffer).swap32(), frame]))
}

test.runIf(PASST_IS_OURS)(
  "a flood of frames, flows, DHCP exchanges and nonsense leaves the sealed process as it was",
  async () => {
    const socket = join(folder, "socket")
    const pidFile = join(folder, "pid")
    expect(await runPasst(world.host, ["-s", socket, "-P", pidFile, "-l", join(folder, "log")])).toMatchObject({
      status: 0,
    })
    const pid = Number(readFileSync(pidFile, "utf8"))
    const kilobytes = (name: string): number => Number(/\d+/.exec(status(`/proc/${pid}`)[name]!)![0])
    const before = kilobytes("VmSize")
    const client = connect(socket)
    let answered = 0
    client.on("data", (chunk: Buffer) => (answered += chunk.length))
    await new Promise((resolve) => client.once("connect", resolve))
    const payload = Buffer.alloc(100, "x")
    let frames = 0
    try {
      for (let round = 0; round < 1000; round++) {
        const batch: Buffer[] = [discover(round), ARP, Buffer.alloc(20)]
        // Twenty flows per round that are new, and frames of those that are not.
        for (let i = 0; i < 97; i++) batch.push(udpFrame(1024 + ((round * 20 + (i % 20)) % 60_000), 9, payload))
        frames += batch.length
        if (!client.write(framed(batch))) await new Promise((resolve) => client.once("drain", resolve))
      }
      await until("the last answer", 20_000, () => client.writableLength === 0 && answered > 300_000)
      expect(frames).toBe(100_000)
      expect(status(`/proc/${pid}`)).toMatchObject({ Seccomp: "2", Threads: "1" })
      // The old generation has taken pages, and not all that it may.
      expect(kilobytes("VmSize") - before).toBeLessThan(32 << 10)
      expect(readFileSync(join(folder, "log"), "latin1")).not.toContain("forbidden")
    } finally {
      client.destroy()
      process.kill(pid, "SIGTERM")
    }
  },
)

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
