/**
 * Two taps joined by a bridge of the kernel's, in a namespace of their own: the link that is tested, and one that stands
 * for the guest. What the guest's tap can't take, because it was opened without offloads, the kernel cuts and sums up.
 */
import { FrameTable } from "@passt/core"
import { NativeKernel } from "@passt/native"

import { TapLink, type TapLinkOptions } from "../tap-link.ts"
import { Space } from "./space.ts"

export const LINK_REF = 0x4000_0000

export interface Side {
  readonly kernel: NativeKernel
  readonly frames: FrameTable
  readonly link: TapLink
}

export interface Bridged {
  readonly space: Space
  readonly ours: Side
  readonly guest: Side
  /** What the observer of our link was told. */
  readonly told: string[]
  end(): void
}

export function openSide(space: Space, name: string, options: TapLinkOptions, told: string[] = []): Side {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  if (kernel.enterNamespace(space.fd) < 0) throw new Error("can't enter the namespace")
  const link = new TapLink(kernel, frames, { disconnected: (errno) => told.push(`disconnected ${errno}`) })
  const result = link.open(name, options)
  if (result < 0) throw new Error(`open ${name}: errno ${-result}`)
  link.watch(LINK_REF)
  return { kernel, frames, link }
}

export function bridged(mtu: number, ours: TapLinkOptions, guest: TapLinkOptions): Bridged {
  const space = new Space()
  const told: string[] = []
  const a = openSide(space, "ours", ours, told)
  const b = openSide(space, "guest", guest)
  space.shell(`
    ip link add name middle type bridge forward_delay 0 mcast_snooping 0
    for tap in ours guest; do ip link set $tap mtu ${mtu} master middle up; done
    ip link set middle mtu ${mtu} up
    bridge link set dev ours learning off
    bridge link set dev guest learning off`)
  return {
    space,
    ours: a,
    guest: b,
    told,
    end() {
      for (const { link, kernel } of [a, b]) {
        link.close()
        kernel.destroy()
      }
      space.end()
    },
  }
}

/** Copies of a batch's frames. */
export function batch({ frames }: Side, count: number): Buffer[] {
  return Array.from({ length: count }, (_, row) => {
    const at = frames.offset[row]!
    return Buffer.from(frames.arena.subarray(at, at + frames.length[row]!))
  })
}

/** Everything that is there. */
export function receiveAll(side: Side): Buffer[] {
  const got: Buffer[] = []
  side.kernel.wait(0)
  for (;;) {
    const rows = side.link.receive()
    if (rows < 0) throw new Error(`receive: errno ${-rows}`)
    got.push(...batch(side, rows))
    if (!side.link.more) return got
  }
}

/** Queues a frame as it is. @returns whether there was room */
export function queue({ link, frames }: Side, frame: Uint8Array): boolean {
  const row = link.reserve(frame.length)
  if (row < 0) return false
  frames.arena.set(frame, frames.offset[row]!)
  frames.length[row] = frame.length
  link.commit(row)
  return true
}

export function send(side: Side, frames: readonly Uint8Array[]): void {
  for (const frame of frames) {
    if (queue(side, frame)) continue
    side.link.flush()
    queue(side, frame)
  }
  side.link.flush()
}
