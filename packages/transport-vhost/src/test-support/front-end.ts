/**
 * A link with tools/vhost-frontend as its front-end: a process of its own, which speaks through pipes; here they are read and written
 * directly, so that a test decides what is in them at each moment.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readlinkSync, readSync, rmSync, truncateSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

import { FrameTable } from "@passt/core"
import { NativeKernel } from "@passt/native"

import { VhostLink } from "../vhost-link.ts"

export const LINK_REF = 0x4000_0000
const SOURCES = join(import.meta.dirname, "../../../../tools/vhost-frontend")
const DEADLINE_MS = 20_000

/** What is said by tools/vhost-frontend beside frames, whose first byte is their pair of queues. */
const MESSAGE = 254
const COMMAND = 255

interface Said {
  readonly what: number
  readonly bytes: Buffer
}

function order(what: number, bytes: Uint8Array): Buffer {
  const prefix = Buffer.alloc(4)
  prefix.writeUInt32BE(what * 2 ** 24 + bytes.length)
  return Buffer.concat([prefix, bytes])
}

const again = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "EAGAIN"
const fdOf = (stream: unknown): number => (stream as { _handle: { fd: number } })._handle.fd

/** Builds the front-end. @returns its path */
export function buildFrontEnd(folder: string): string {
  const program = join(folder, "vhost-frontend")
  const sources = readdirSync(SOURCES).filter((name) => name.endsWith(".cc"))
  const flags = ["-std=c++20", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
  execFileSync("g++", [...flags, ...sources.map((name) => join(SOURCES, name)), "-o", program])
  return program
}

export class FrontEnd {
  readonly kernel = new NativeKernel()
  readonly frames = new FrameTable()
  readonly link: VhostLink
  readonly told: string[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), "passt-vhost-"))
  readonly #child: ChildProcess
  readonly #headerBytes: number
  #buffered = Buffer.alloc(0)
  /** The pairs of queues on which the frames of the last exchange came, one for each. */
  pairs: number[] = []

  /** @param pairs of queues */
  constructor(program: string, features: bigint, pairs = 1) {
    this.kernel.attach(this.frames)
    this.link = new VhostLink(this.kernel, this.frames, {
      connected: () => this.told.push("connected"),
      disconnected: (errno, reason) => this.told.push(`disconnected ${errno} ${reason}`.trim()),
      queueBroken: () => this.told.push("queue broken"),
    })
    const path = join(this.#folder, "socket")
    if (this.link.listen(path) < 0) throw new Error("can't listen")
    this.link.watch(LINK_REF)
    this.#headerBytes = (features & ((1n << 32n) | (1n << 15n))) === 0n ? 10 : 12
    this.#child = spawn(program, [path, features.toString(16), String(pairs)], { stdio: ["pipe", "pipe", "inherit"] })
    this.#until(() => this.#take() !== undefined, true)
    while (this.kernel.wait(0) > 0) this.link.handleEvent(0, 1)
    this.link.receive()
  }

  /** Waits until something is the case. @param attend whether to attend to the link's messages meanwhile */
  #until(done: () => boolean, attend = false): void {
    const deadline = performance.now() + DEADLINE_MS
    while (!done()) {
      if (performance.now() > deadline) throw new Error("the front-end does not answer")
      if (attend && this.kernel.wait(1) > 0) this.link.handleEvent(0, 1)
    }
  }

  /** Takes what the front-end has written, if it is whole. */
  #take(): Said | undefined {
    try {
      const part = Buffer.alloc(1 << 18)
      const got = readSync(fdOf(this.#child.stdout), part, 0, part.length, null)
      this.#buffered = Buffer.concat([this.#buffered, part.subarray(0, got)])
    } catch (error) {
      if (!again(error)) throw error
    }
    if (this.#buffered.length < 4) return undefined
    const length = this.#buffered.readUIntBE(1, 3)
    if (this.#buffered.length < 4 + length) return undefined
    const one = { what: this.#buffered[0]!, bytes: this.#buffered.subarray(4, 4 + length) }
    this.#buffered = this.#buffered.subarray(4 + length)
    return one
  }

  #write(bytes: Buffer, got: Said[]): void {
    const deadline = performance.now() + DEADLINE_MS
    for (let done = 0; done < bytes.length;) {
      if (performance.now() > deadline) throw new Error("the front-end does not read")
      try {
        done += writeSync(fdOf(this.#child.stdin), bytes, done)
      } catch (error) {
        if (!again(error)) throw error
        const one = this.#take()
        if (one !== undefined) got.push(one)
      }
    }
  }

  /** Sends frames behind headers as the guest, on a pair of queues. @returns what came to the guest until all were in the queue, headers and
   * all */
  exchange(frames: readonly Uint8Array[], header: Buffer = Buffer.alloc(this.#headerBytes), pair = 0): Buffer[] {
    const got: Said[] = []
    const orders = frames.map((frame) => order(pair, Buffer.concat([header, frame])))
    this.#write(Buffer.concat([...orders, order(0, Buffer.alloc(0))]), got)
    this.#until(() => {
      const one = this.#take()
      if (one === undefined) return false
      if (one.bytes.length > 0) got.push(one)
      return one.bytes.length === 0
    })
    this.pairs = got.map((one) => one.what)
    return got.map((one) => one.bytes)
  }

  /** Has something done while the link goes on. @returns the answer */
  #ask(what: number, bytes: Uint8Array): Buffer {
    const got: Said[] = []
    this.#write(order(what, bytes), got)
    let answer: Said | undefined
    this.#until(() => {
      this.link.receive()
      answer = this.#take()
      return answer?.what === what
    }, true)
    return answer!.bytes
  }

  /** Gives a command to the control queue. @param room bytes for its answer @param each bytes of a piece that it is in; 0: it is whole
   * @returns the answer, as much as was written */
  command(command: Uint8Array, room = 1, each = 0): Buffer {
    return this.#ask(COMMAND, Buffer.concat([Buffer.of(room, each), command]))
  }

  /** Sends a message that has a reply. @returns the reply's payload */
  message(request: number, payload: Uint8Array = new Uint8Array()): Buffer {
    const head = Buffer.alloc(4)
    head.writeUInt32LE(request)
    return this.#ask(MESSAGE, Buffer.concat([head, payload]))
  }

  /** Flushes until all has been taken. @returns frames without their headers */
  flush(): Buffer[] {
    const got: Buffer[] = []
    for (;;) {
      const left = this.link.flush()
      got.push(...this.exchange([]))
      if (left === 0) return got.map((one) => Buffer.from(one.subarray(this.#headerBytes)))
    }
  }

  /** Lets the guest's side stand still, or go on. */
  signal(name: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    this.#child.kill(name)
  }

  /** Makes the guest's memory end after `bytes`, as it is mapped here. */
  shrink(bytes: number): void {
    const folder = `/proc/${this.#child.pid}/fd`
    const found = readdirSync(folder).find((fd) => readlinkSync(join(folder, fd)).startsWith("/memfd:"))
    truncateSync(join(folder, found!), bytes)
  }

  end(): void {
    this.#child.kill("SIGKILL")
    this.link.close()
    this.kernel.destroy()
    rmSync(this.#folder, { recursive: true })
  }
}
