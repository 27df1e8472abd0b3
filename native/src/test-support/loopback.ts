/** A kernel with its frame table, and loopback sockets made through it. */
import { ADDRESS_LOCAL, ADDRESS_REMOTE, EADDRINUSE, EINPROGRESS, FrameTable, RX_FRAME_MAX, TX_AREA } from "@passt/core"

import { NativeKernel } from "../kernel.ts"

export interface Bench {
  kernel: NativeKernel
  frames: FrameTable
}

export function bench(): Bench {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  return { kernel, frames }
}

/** Address words of a text: IPv4 mapped, or IPv6 in full form or with one `::`. */
export function words(text: string): number[] {
  if (text.includes(".")) return [0, 0, 0xffff, text.split(".").reduce((word, byte) => (word << 8) | Number(byte), 0)]
  const [head = "", tail] = text.split("::")
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16)))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
  return [0, 2, 4, 6].map((i) => (all[i]! << 16) | all[i + 1]!)
}

export function setAddress(kernel: NativeKernel, record: number, text: string, port: number, scope = 0): void {
  kernel.address.set([...words(text), port, scope], record)
}

export function addressAt(kernel: NativeKernel, record: number): number[] {
  return Array.from(kernel.address.subarray(record, record + 6))
}

let nextPort = 20_000 + (process.pid % 20_000)

/** Calls `open` with ports until one is free. */
export function onFreePort(open: (port: number) => number): { fd: number; port: number } {
  for (let i = 0; i < 1000; i++) {
    const port = nextPort++
    const fd = open(port)
    if (fd >= 0) return { fd, port }
    if (fd !== -EADDRINUSE) throw new Error(`errno ${-fd}`)
  }
  throw new Error("no free port")
}

export function listenTcp(
  kernel: NativeKernel,
  family: number,
  address: string,
  dualStack = false,
): { fd: number; port: number } {
  return onFreePort((port) => {
    setAddress(kernel, ADDRESS_LOCAL, address, port)
    return kernel.listenTcp(family, dualStack, "", false)
  })
}

export function connectTo(kernel: NativeKernel, family: number, address: string, port: number): number {
  const fd = kernel.tcpSocket(family)
  setAddress(kernel, ADDRESS_REMOTE, address, port)
  const result = kernel.connect(fd, family)
  if (result !== 0 && result !== -EINPROGRESS) throw new Error(`connect: errno ${-result}`)
  return fd
}

/** Two ends of a TCP connection over loopback. */
export function tcpPair(kernel: NativeKernel, family = 4): { client: number; server: number; listener: number } {
  const address = family === 4 ? "127.0.0.1" : "::1"
  const { fd: listener, port } = listenTcp(kernel, family, address)
  const client = connectTo(kernel, family, address, port)
  const server = kernel.accept(listener)
  if (server < 0) throw new Error(`accept: errno ${-server}`)
  return { client, server, listener }
}

/** Lays rows for payloads of `bytes` behind 54 bytes of headers, one after the other. @returns the first row */
export function layRows(frames: FrameTable, count: number, bytes: number, first: number = RX_FRAME_MAX): number {
  for (let i = 0; i < count; i++) {
    frames.offset[first + i] = TX_AREA + 64 + i * (bytes + 128)
    frames.payload[first + i] = 54
    frames.payloadLength[first + i] = bytes
    frames.length[first + i] = 54 + bytes
    frames.window[first + i] = 54 + bytes
    frames.gather[i] = first + i
  }
  return first
}

export function payloadAt(frames: FrameTable, row: number, length?: number): Buffer {
  const at = frames.offset[row]! + frames.payload[row]!
  return Buffer.from(frames.arena.subarray(at, at + (length ?? frames.payloadLength[row]!)))
}

export function fillPayload(frames: FrameTable, row: number, bytes: Uint8Array): void {
  frames.arena.set(bytes, frames.offset[row]! + frames.payload[row]!)
}

/** Bytes that differ from place to place. */
export function pattern(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length)
  let x = seed | 1
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0
    out[i] = x >>> 24
  }
  return out
}
