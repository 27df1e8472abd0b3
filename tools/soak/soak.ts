/**
 * A long life in a short time: a sealed passt gets frames, new flows and DHCP exchanges by the million, from a guest that exists on
 * its socket only, and is watched meanwhile. What it needs of memory it must have had before.
 */
import { spawn, type ChildProcess } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { join } from "node:path"
import { runtimeEnvironment, runtimeFlags } from "../runtime.ts"
import { HOST, NOBODY, PORT, SERVER } from "../world/addresses.ts"
import { ROOT, scratchDirectory } from "../world/enter.ts"
import { isListening } from "../world/passt.ts"
import { until } from "../world/process.ts"
import type { World } from "../world/world.ts"
import * as frames from "./frames.ts"

export interface SoakOptions {
  /** Frames altogether, at least. */
  readonly frames: number
  /** Flows that are new: a third of them connections with an echo, the others refused. */
  readonly flows: number
  /** DHCP exchanges: a discovery and a request. */
  readonly exchanges: number
  /** What runs instead of the built program with its collections watched: a command that options of passt are appended to. */
  readonly command?: readonly string[]
}

/** Kilobytes. */
export interface Memory {
  readonly size: number
  readonly resident: number
  readonly proportional: number
  readonly dirty: number
}

export interface SoakReport {
  readonly frames: number
  readonly flows: number
  readonly exchanges: number
  readonly seconds: number
  readonly idle: Memory
  readonly after: Memory
  /** Of the young generation, since it was idle. */
  readonly scavenges: number
  /** Of the whole heap. */
  readonly collections: number
  /** What collections have left of the heap, in MB: the first and the last one since it was idle; NaN if there was none. */
  readonly heap: readonly [number, number]
  /** What it said. */
  readonly log: string
}

const BATCH = 500
/** Connections that may be in the making. */
const PENDING_MAX = 400
const PATIENCE_MS = 30_000
const GUEST = HOST.ipv4.split(".").map(Number)
const FAR = SERVER.ipv4.split(".").map(Number)
const VOID = NOBODY.ipv4.split(".").map(Number)
/** Nobody listens there. */
const CLOSED_PORT = 1

/** @param world with servers */
export async function soak(world: World, options: SoakOptions): Promise<SoakReport> {
  const folder = mkdtempSync(join(scratchDirectory(), "soak-"))
  const [socket, pidFile] = [join(folder, "socket"), join(folder, "pid")]
  const command = options.command ?? watched()
  const passt = start(world, [...command, "--foreground", "--socket", socket, "--pid", pidFile])
  let said = ""
  for (const stream of [passt.stdout!, passt.stderr!]) stream.on("data", (text: Buffer) => (said += text.toString()))
  try {
    await until("passt", PATIENCE_MS, () => isListening(world.host, socket))
    // A tracer has the program as its child. References of some years write no PID file in the foreground.
    if (command[0] === "strace") await until("the PID file", PATIENCE_MS, () => pidIn(pidFile) > 0)
    const pid = command[0] === "strace" ? pidIn(pidFile) : passt.pid!
    // The reference is sealed as well.
    if (!command.includes("--no-seal")) await until("the seal", PATIENCE_MS, () => isSealed(pid))
    const guest = new Guest(await connected(socket))
    // What is done for the first time is done before.
    await guest.open(20)
    await guest.lease(5)
    const idle = memoryOf(pid)
    const before = said.length
    const started = performance.now()
    const already = guest.sent
    await drive(guest, options, already)
    const after = memoryOf(pid)
    const seconds = (performance.now() - started) / 1000
    const gone = passt.exitCode !== null || passt.signalCode !== null
    if (gone) throw new Error(`passt has ended: ${said.slice(-1000)}`)
    const list = collectionsOf(said.slice(before))
    const whole = list.filter(({ young }) => !young)
    return {
      frames: guest.sent - already,
      flows: options.flows,
      exchanges: options.exchanges,
      seconds,
      idle,
      after,
      scavenges: list.length - whole.length,
      collections: whole.length,
      heap: [list[0]?.left ?? Number.NaN, list.at(-1)?.left ?? Number.NaN],
      log: said,
    }
  } finally {
    passt.kill("SIGTERM")
  }
}

/** Everything in turns, so that each meets the others. */
async function drive(guest: Guest, options: SoakOptions, already: number): Promise<void> {
  const rounds = 100
  for (let round = 1; round <= rounds; round++) {
    await guest.open(Math.ceil(options.flows / rounds))
    await guest.lease(Math.ceil(options.exchanges / rounds))
    while (guest.sent - already < (options.frames * round) / rounds) await guest.bulk()
  }
  await guest.settle()
}

/** Without the launcher, which takes no flags for the runtime; lines at once. */
function watched(): string[] {
  const library = join(ROOT, "dist/lib/passt")
  return ["stdbuf", "-oL", join(library, "node"), ...runtimeFlags(), "--trace-gc", join(library, "passt.mjs")]
}

function start(world: World, inside: readonly string[]): ChildProcess {
  const command = world.host.insideAsUser(inside)
  const env = { ...process.env, ...runtimeEnvironment() }
  return spawn(command[0]!, command.slice(1), { env, stdio: ["ignore", "pipe", "pipe"] })
}

/** It is made before it is written. @returns 0 until then */
const pidIn = (path: string): number => (existsSync(path) ? Number(readFileSync(path, "latin1")) : 0)
const isSealed = (pid: number): boolean => readFileSync(`/proc/${pid}/status`, "latin1").includes("\nSeccomp:\t2")

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket))
    socket.once("error", reject)
  })
}

export function memoryOf(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/status`, "latin1") + readFileSync(`/proc/${pid}/smaps_rollup`, "latin1")
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1])
  return { size: field("VmSize"), resident: field("VmRSS"), proportional: field("Pss"), dirty: field("Private_Dirty") }
}

/** Lines of --trace-gc: `[PID:ADDRESS] 123 ms: Scavenge 4.1 (5.2) -> 3.9 (5.2) MB, …`. */
export function collectionsOf(text: string): { readonly young: boolean; readonly left: number }[] {
  const lines = text.matchAll(/ ms: (Scavenge|Mark-Compact|Minor Mark-Sweep)[^\n]*? -> ([\d.]+) \(/g)
  return [...lines].map(([, kind, left]) => ({ young: kind === "Scavenge", left: Number(left) }))
}

class Guest {
  sent = 0
  private readonly link: Socket
  private readonly datagrams: Buffer
  private received: Buffer = Buffer.alloc(0)
  private replies: Buffer[] = []
  private opened = 0
  private finished = 0
  private leases = 0
  private transaction = 0
  private failure: Error | undefined

  constructor(link: Socket) {
    this.link = link
    const payload = Buffer.alloc(100, "x")
    const some = Array.from({ length: BATCH }, (_, i) => frames.udp(GUEST, VOID, 1000 + (i % 16), 9, payload))
    this.datagrams = frames.framed(some)
    link.on("error", (error) => (this.failure = error))
    link.on("data", (bytes: Buffer) => this.take(bytes))
  }

  /** Flows that are new, one after another until so many more are over. */
  async open(count: number): Promise<void> {
    for (let from = 0; from < count; from += 50) {
      const list: Buffer[] = []
      for (let i = from; i < Math.min(from + 50, count); i++, this.opened++) {
        const toPort = this.opened % 3 === 0 ? PORT.echo : CLOSED_PORT
        const segment = {
          fromPort: 2000 + (this.opened % 60_000),
          toPort,
          sequence: 1,
          acknowledged: 0,
          flags: frames.SYN,
        }
        list.push(frames.tcp(GUEST, FAR, segment))
      }
      await this.write(frames.framed(list), list.length)
      await this.wait("connections", () => this.opened - this.finished < PENDING_MAX)
    }
    await this.wait("the last connections", () => this.finished >= this.opened)
  }

  async lease(count: number): Promise<void> {
    const wanted = this.leases + 2 * count
    for (let i = 0; i < count; i++) {
      this.transaction++
      await this.write(frames.framed([frames.dhcp(this.transaction, 1), frames.dhcp(this.transaction, 3)]), 2)
    }
    await this.wait("leases", () => this.leases >= wanted)
  }

  /** Datagrams of flows that are there. */
  bulk(): Promise<void> {
    return this.write(this.datagrams, BATCH)
  }

  settle(): Promise<void> {
    return this.wait("everything to be read", () => this.link.writableLength === 0)
  }

  private async write(bytes: Buffer, count: number): Promise<void> {
    if (this.failure) throw this.failure
    this.sent += count
    if (this.link.write(bytes)) return
    await this.wait("room", () => this.link.writableLength < 1 << 20)
  }

  private async wait(what: string, ready: () => boolean): Promise<void> {
    const start = performance.now()
    while (!ready()) {
      if (this.failure) throw this.failure
      if (performance.now() - start > PATIENCE_MS) throw new Error(`${what}: not within ${PATIENCE_MS} ms`)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  private take(bytes: Buffer): void {
    this.received = this.received.length === 0 ? bytes : Buffer.concat([this.received, bytes])
    let at = 0
    while (this.received.length - at >= 4 && this.received.length - at >= 4 + this.received.readUInt32BE(at)) {
      const end = at + 4 + this.received.readUInt32BE(at)
      this.answer(this.received.subarray(at + 4, end))
      at = end
    }
    this.received = this.received.subarray(at)
    if (this.replies.length === 0) return
    this.sent += this.replies.length
    this.link.write(frames.framed(this.replies))
    this.replies = []
  }

  /** Nothing is remembered of a connection: what comes says all that the answer needs. */
  private answer(frame: Buffer): void {
    if (frame.length < 42 || frame.readUInt16BE(12) !== 0x800) return
    if (frame[23] === 17 && frame.readUInt16BE(34) === 67) this.leases++
    if (frame[23] !== 6 || frame.length < 54) return
    const [toPort, fromPort] = [frame.readUInt16BE(34), frame.readUInt16BE(36)]
    const [acknowledged, sequence] = [frame.readUInt32BE(38), frame.readUInt32BE(42)]
    const flags = frame[47]!
    const payload = frame.readUInt16BE(16) - 20 - (frame[46]! >> 4) * 4
    if (flags & frames.RST) this.finished++
    else if (flags & frames.SYN) {
      const segment = { fromPort, toPort, sequence, acknowledged: acknowledged + 1, flags: frames.ACK }
      // Data in the segment that establishes a connection are lost on the reference, and nothing is sent twice here.
      this.replies.push(frames.tcp(GUEST, FAR, segment), frames.tcp(GUEST, FAR, segment, Buffer.from("hello")))
    } else if (payload > 0) {
      this.finished++
      this.replies.push(frames.tcp(GUEST, FAR, { fromPort, toPort, sequence, acknowledged: 0, flags: frames.RST }))
    }
  }
}
