/** A link on a socket of its own, with its kernel and frames. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

import { FrameTable } from "@passt/core"
import { NativeKernel } from "@passt/native"

import { UnixLink } from "../unix-link.ts"
import { Client } from "./client.ts"

export interface Setting {
  kernel: NativeKernel
  frames: FrameTable
  link: UnixLink
  folder: string
  path: string
  /** What the observer was told. */
  told: string[]
  clients: Client[]
  connect(): Client
  end(): void
}

export const LINK_REF = 0x4000_0000

export function setting(): Setting {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  const told: string[] = []
  const link = new UnixLink(kernel, frames, {
    connected: (pid) => told.push(`connected ${pid === process.pid ? "me" : pid}`),
    disconnected: (errno) => told.push(`disconnected ${errno}`),
    turnedAway: (pid) => told.push(`turned away ${pid === process.pid ? "me" : pid}`),
  })
  const folder = mkdtempSync(join(tmpdir(), "passt-link-"))
  const path = join(folder, "socket")
  const listening = link.listen(path)
  if (listening < 0) throw new Error(`listen: errno ${-listening}`)
  link.watch(LINK_REF)
  const clients: Client[] = []
  return {
    kernel,
    frames,
    link,
    folder,
    path,
    told,
    clients,
    connect() {
      const client = new Client(path)
      clients.push(client)
      return client
    },
    end() {
      for (const client of clients) client.close()
      link.close()
      kernel.destroy()
      rmSync(folder, { recursive: true })
    },
  }
}

/** Copies of the frames of a batch. */
export function batch(s: Setting, count: number): Buffer[] {
  return Array.from({ length: count }, (_, row) => {
    const at = s.frames.offset[row]!
    return Buffer.from(s.frames.arena.subarray(at, at + s.frames.length[row]!))
  })
}

/** Receives until nothing more is there. @returns all frames, or the negative result that ended it */
export function receiveAll(s: Setting): { frames: Buffer[]; result: number } {
  const frames: Buffer[] = []
  for (;;) {
    const result = s.link.receive()
    if (result <= 0) return { frames, result }
    frames.push(...batch(s, result))
  }
}

/** Queues a frame as it is. @returns whether there was room */
export function queue(s: Setting, frame: Uint8Array): boolean {
  const row = s.link.reserve(frame.length)
  if (row < 0) return false
  s.frames.arena.set(frame, s.frames.offset[row]!)
  s.frames.length[row] = frame.length
  s.link.commit(row)
  return true
}
