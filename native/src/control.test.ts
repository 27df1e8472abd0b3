import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"

import { acceptControl, connectControl, listenControl, receiveControl, sendControl } from "./control.ts"
import { NativeKernel } from "./kernel.ts"

const EAGAIN = 11
const EINVAL = 22
const EPIPE = 32
const ENAMETOOLONG = 36
const EADDRINUSE = 98
const ECONNREFUSED = 111

let folder: string
let path: string
let open: number[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "control-"))
  path = join(folder, "socket")
  open = []
})
afterEach(() => {
  for (const fd of open) closeSync(fd)
  rmSync(folder, { recursive: true })
})

function keep(fd: number): number {
  expect(fd).toBeGreaterThanOrEqual(0)
  open.push(fd)
  return fd
}

function pair(): { client: number; server: number } {
  const listener = keep(listenControl(path))
  const client = keep(connectControl(path))
  return { client, server: keep(acceptControl(listener)) }
}

test("the socket is its owner's alone, takes the place of a dead one, and of nothing else", () => {
  const listener = listenControl(path)
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(listenControl(path)).toBe(-EADDRINUSE)
  closeSync(listener)
  expect(connectControl(path)).toBe(-ECONNREFUSED)
  keep(listenControl(path))
  const file = join(folder, "file")
  writeFileSync(file, "kept")
  expect(listenControl(file)).toBe(-EADDRINUSE)
  expect(readFileSync(file, "utf8")).toBe("kept")
  expect(listenControl(join(folder, "x".repeat(200)))).toBe(-ENAMETOOLONG)
})

test("bytes pass, from and to where they are wanted; nothing waits on the server's side", () => {
  const { client, server } = pair()
  const room = new Uint8Array(8)
  const passed = new Int32Array(1)
  expect(receiveControl(server, room, 0, passed)).toBe(-EAGAIN)
  expect(sendControl(client, Buffer.from("abcdefgh"), 2, 5)).toBe(3)
  expect(receiveControl(server, room, 4, passed)).toBe(3)
  expect([...room]).toEqual([0, 0, 0, 0, 0x63, 0x64, 0x65, 0])
  expect(passed[0]).toBe(-1)
  for (const [from, to] of [
    [-1, 2],
    [3, 2],
    [0, 9],
  ] as const) {
    expect(sendControl(client, room, from, to)).toBe(-EINVAL)
  }
  expect(receiveControl(server, room, 8, passed)).toBe(-EINVAL)
  const much = new Uint8Array(1 << 20)
  let sent = 0
  while (sent >= 0) sent = sendControl(server, much, 0, much.length)
  expect(sent).toBe(-EAGAIN)
})

test("an end is told, and does not kill", () => {
  const listener = keep(listenControl(path))
  const client = connectControl(path)
  const server = keep(acceptControl(listener))
  closeSync(client)
  expect(receiveControl(server, new Uint8Array(1), 0, new Int32Array(1))).toBe(0)
  expect(sendControl(server, new Uint8Array(1), 0, 1)).toBe(-EPIPE)
})

test("an open file comes along, and frames can be captured into it; into others they can't", () => {
  const { client, server } = pair()
  const file = join(folder, "capture")
  const passed = new Int32Array(1)
  const kernel = new NativeKernel()
  const send = (fd: number): number => {
    expect(sendControl(client, Buffer.from("x"), 0, 1, fd)).toBe(1)
    expect(receiveControl(server, new Uint8Array(1), 0, passed)).toBe(1)
    expect(passed[0]).not.toBe(fd)
    return passed[0]!
  }
  const mine = keep(openSync(file, "w"))
  expect(kernel.captureTo(send(mine))).toBe(0)
  expect(kernel.closeCapture()).toBe(0)
  expect(readFileSync(file).readUInt32LE(0)).toBe(0xa1b2c3d4)
  // What was passed is closed by then, what was kept is not.
  expect(() => writeSync(passed[0]!, "x")).toThrow("EBADF")
  expect(writeSync(mine, "x")).toBe(1)

  const readable = keep(openSync(file, "r"))
  expect(kernel.captureTo(send(readable))).toBe(-EINVAL)
  expect(kernel.captureTo(send(client))).toBe(-EINVAL)
  expect(kernel.captureTo(send(keep(openSync("/dev/null", "w"))))).toBe(-EINVAL)
  expect(() => closeSync(passed[0]!)).toThrow("EBADF")
  kernel.destroy()
})
