/**
 * The cache of compiled code that an installed program starts with. Only what has run is in it, so the program runs: once, when the
 * tree is made, as an ordinary process in the foreground, with a guest that asks for a little of everything at this end of its
 * socket. What the guest wants from others goes to the loopback interface.
 */
import { spawn } from "node:child_process"
import { existsSync, rmSync } from "node:fs"
import { createServer, type Server } from "node:net"
import type { Duplex } from "node:stream"
import { join } from "node:path"
import { runtimeEnvironment, runtimeFlags } from "../runtime.ts"
import * as frames from "../soak/frames.ts"

const SCRIPT = join(import.meta.dirname, "rehearse.mjs")
/** The guest, and what stands for the host's loopback interface. */
const GUEST4 = [192, 0, 2, 2]
const HOST4 = [192, 0, 2, 100]
const GUEST6 = frames.ipv6(0xfe80, 0, 0, 0, 0, 0, 0, 0x99)
const QUIET_MS = 1000
const LONGEST_MS = 20_000

/** Writes `PROGRAM.cache`; says so, and leaves none, if the program can't run here. @param folder of the scripts */
export async function rehearse(program: "passt" | "pasta", folder: string): Promise<void> {
  const path = join(folder, program)
  rmSync(`${path}.cache`, { force: true })
  const server = createServer((socket) => socket.on("error", () => socket.destroy()).pipe(socket))
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    const said = program === "passt" ? await runPasst(path, folder, server) : await runPasta(path, folder)
    if (!existsSync(`${path}.cache`)) process.stderr.write(`No compiled code for ${program}: ${said.trim()}\n`)
  } finally {
    server.close()
  }
}

function command(path: string, folder: string, ...args: string[]): string[] {
  return [join(folder, "node"), ...runtimeFlags(), SCRIPT, path, ...args]
}

async function runPasst(path: string, folder: string, server: Server): Promise<string> {
  const args = ["-f", "--fd", "3", "--no-map-gw", "--map-host-loopback", HOST4.join(".")]
  const [file, ...rest] = command(path, folder, ...args, "-a", GUEST4.join("."), "-n", "24", "-g", "192.0.2.1")
  // A pipe of Node's is a socket pair, and so what a guest speaks through.
  const env = { ...process.env, ...runtimeEnvironment(), PASST_SOCKET_FD: "3" }
  const child = spawn(file!, rest, { env, stdio: ["ignore", "ignore", "pipe", "pipe"], timeout: LONGEST_MS })
  let said = ""
  child.stderr!.on("data", (text: Buffer) => (said += text.toString()))
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const guest = new Guest(child.stdio[3] as Duplex, (server.address() as { port: number }).port)
  guest.begin()
  await ended
  return said
}

/** pasta serves a namespace of its own, which it needs a user namespace for. It is over when it has nothing more to say. */
async function runPasta(path: string, folder: string): Promise<string> {
  const inside = command(path, folder, "-f", "--config-net", "--netns", "/proc/self/ns/net")
  // One process throughout, so that a signal reaches the program.
  const args = [
    "--user",
    "--map-root-user",
    "--net",
    "sh",
    "-c",
    'exec 5</proc/self/ns/net; exec "$@"',
    "sh",
    ...inside,
  ]
  const env = { ...process.env, ...runtimeEnvironment(), PASST_NETNS_FD: "5" }
  const child = spawn("unshare", args, { env, stdio: ["ignore", "ignore", "pipe"], timeout: LONGEST_MS })
  let said = ""
  let quiet: NodeJS.Timeout | undefined
  child.stderr.on("data", (text: Buffer) => {
    said += text.toString()
    clearTimeout(quiet)
    quiet = setTimeout(() => child.kill("SIGTERM"), QUIET_MS)
  })
  await new Promise<void>((resolve) => child.once("close", () => resolve()).once("error", () => resolve()))
  clearTimeout(quiet)
  return said
}

/** Says everything once; when no more answers come, it goes, and with it the program. */
class Guest {
  private readonly link: Duplex
  private readonly port: number
  private received = Buffer.alloc(0)
  private timer: NodeJS.Timeout | undefined

  constructor(link: Duplex, port: number) {
    this.link = link
    this.port = port
    link.on("error", () => {})
    link.on("data", (bytes: Buffer) => this.take(bytes))
  }

  begin(): void {
    const text = Buffer.from("hello")
    this.send([
      frames.solicit(GUEST4, HOST4),
      frames.routerSolicitation(GUEST6),
      frames.solicit(GUEST6, frames.ipv6(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
      frames.dhcp(1, 1),
      frames.dhcp(1, 3),
      frames.dhcpv6(GUEST6, 1),
      frames.echo(GUEST4, HOST4, 1, 1),
      // Nobody listens there, which is an answer as well.
      frames.udp(GUEST4, HOST4, 5000, 9, text),
      frames.udp(GUEST4, HOST4, 5000, 9, text),
      frames.tcp(GUEST4, HOST4, this.segment(4999, 9, 1, 0, frames.SYN)),
      frames.tcp(GUEST4, HOST4, this.segment(5001, this.port, 1000, 0, frames.SYN)),
      Buffer.alloc(20),
    ])
  }

  private segment(
    fromPort: number,
    toPort: number,
    sequence: number,
    acknowledged: number,
    flags: number,
  ): frames.Segment {
    return { fromPort, toPort, sequence, acknowledged, flags }
  }

  private send(list: readonly Buffer[]): void {
    this.link.write(frames.framed(list))
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.link.destroy(), QUIET_MS)
  }

  private take(bytes: Buffer): void {
    this.received = Buffer.concat([this.received, bytes])
    while (this.received.length >= 4 && this.received.length >= 4 + this.received.readUInt32BE(0)) {
      const end = 4 + this.received.readUInt32BE(0)
      this.answer(this.received.subarray(4, end))
      this.received = this.received.subarray(end)
    }
  }

  /** Opens a connection, sends, acknowledges the echo, and closes. */
  private answer(frame: Buffer): void {
    if (frame.length < 54 || frame.readUInt16BE(12) !== 0x800 || frame[23] !== 6 || frame.readUInt16BE(36) !== 5001)
      return
    const flags = frame[47]!
    const theirs = frame.readUInt32BE(38)
    const payload = 14 + frame.readUInt16BE(16) - 34 - (frame[46]! >> 4) * 4
    const reply = (sequence: number, acknowledged: number, bits: number, data?: Buffer): Buffer =>
      frames.tcp(GUEST4, HOST4, this.segment(5001, this.port, sequence, acknowledged, bits), data)
    if (flags & frames.SYN) {
      const data = Buffer.alloc(1000, "x")
      this.send([reply(1001, theirs + 1, frames.ACK), reply(1001, theirs + 1, frames.ACK, data)])
    } else if (payload > 0) {
      this.send([reply(2001, theirs + payload, frames.ACK), reply(2001, theirs + payload, frames.ACK | frames.FIN)])
    } else if (flags & frames.FIN) {
      this.send([reply(2002, theirs + 1, frames.ACK)])
    }
  }
}
