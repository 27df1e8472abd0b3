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
const SOURCE = join(import.meta.dirname, "../../../../tools/vhost-frontend/main.cc")
const DEADLINE_MS = 20_000

const again = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "EAGAIN"
const fdOf = (stream: unknown): number => (stream as { _handle: { fd: number } })._handle.fd

/** Builds the front-end. @returns its path */
export function buildFrontEnd(folder: string): string {
  const program = join(folder, "vhost-frontend")
  execFileSync("g++", ["-std=c++20", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", program])
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

  constructor(program: string, features: bigint) {
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
    this.#child = spawn(program, [path, features.toString(16)], { stdio: ["pipe", "pipe", "inherit"] })
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
  #take(): Buffer | undefined {
    try {
      const part = Buffer.alloc(1 << 18)
      const got = readSync(fdOf(this.#child.stdout), part, 0, part.length, null)
      this.#buffered = Buffer.concat([this.#buffered, part.subarray(0, got)])
    } catch (error) {
      if (!again(error)) throw error
    }
    if (this.#buffered.length < 4) return undefined
    const length = this.#buffered.readUInt32BE(0)
    if (this.#buffered.length < 4 + length) return undefined
    const one = this.#buffered.subarray(4, 4 + length)
    this.#buffered = this.#buffered.subarray(4 + length)
    return one
  }

  #write(bytes: Buffer, got: Buffer[]): void {
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

  /** Sends frames behind headers as the guest. @returns what came to the guest until all were in the queue, headers and all */
  exchange(frames: readonly Uint8Array[], header: Buffer = Buffer.alloc(this.#headerBytes)): Buffer[] {
    const got: Buffer[] = []
    const parts = [...frames.map((frame) => Buffer.concat([header, frame])), Buffer.alloc(0)].flatMap((part) => {
      const prefix = Buffer.alloc(4)
      prefix.writeUInt32BE(part.length)
      return [prefix, part]
    })
    this.#write(Buffer.concat(parts), got)
    this.#until(() => {
      const one = this.#take()
      if (one === undefined) return false
      if (one.length > 0) got.push(one)
      return one.length === 0
    })
    return got
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
