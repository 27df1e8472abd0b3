import { ADDRESS_LOCAL, ADDRESS_REMOTE, EADDRINUSE, EAGAIN, EINVAL, EMSGSIZE } from "@passt/core"
import { afterEach, beforeEach, expect, test } from "vitest"

import {
  addressAt,
  type Bench,
  bench,
  fillPayload,
  layRows,
  onFreePort,
  pattern,
  payloadAt,
  setAddress,
} from "./test-support/loopback.ts"

/** The loopback interface has this index in every network namespace. */
const LOOPBACK = 1
const GROUP = "239.255.77.77"

let b: Bench
let open: number[]
beforeEach(() => {
  b = bench()
  open = []
})
afterEach(() => {
  for (const fd of open) b.kernel.close(fd)
  b.kernel.destroy()
})

function prepared(): number {
  const fd = b.kernel.udpSocket(4, false)
  open.push(fd)
  setAddress(b.kernel, ADDRESS_LOCAL, "0.0.0.0", 0)
  expect(b.kernel.groups.prepare(fd, 4, LOOPBACK)).toBe(0)
  return fd
}

/** A socket bound to the group and a port. */
function listener(port: number): number {
  const fd = prepared()
  b.kernel.setReuseAddress(fd)
  setAddress(b.kernel, ADDRESS_LOCAL, GROUP, port)
  expect(b.kernel.bind(fd, 4)).toBe(0)
  return fd
}

function sender(): number {
  const fd = prepared()
  setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", 0)
  expect(b.kernel.bind(fd, 4)).toBe(0)
  return fd
}

function send(fd: number, to: string, port: number, bytes: Uint8Array): number {
  const row = layRows(b.frames, 1, bytes.length)
  fillPayload(b.frames, row, bytes)
  setAddress(b.kernel, ADDRESS_REMOTE, to, port)
  return b.kernel.groups.send(fd, 4, 0, 1)
}

/** A port that nobody else has, as long as a socket holds it. */
function freePort(): number {
  const { fd, port } = onFreePort((candidate) => {
    const made = b.kernel.udpSocket(4, false)
    setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", candidate)
    const result = b.kernel.bind(made, 4)
    if (result >= 0) return made
    b.kernel.close(made)
    return result
  })
  b.kernel.close(fd)
  return port
}

test("a group is heard once it is joined, by everybody at its port, with source and hop limit", () => {
  const port = freePort()
  const [one, two] = [listener(port), listener(port)]
  const from = sender()
  expect(b.kernel.groups.setHopLimit(from, 4, 7)).toBe(0)
  expect(send(from, GROUP, port, pattern(50))).toBe(1)
  const row = layRows(b.frames, 1, 2000)
  expect(b.kernel.groups.receive(one, row)).toBe(-EAGAIN)
  for (const fd of [one, two]) {
    setAddress(b.kernel, ADDRESS_LOCAL, GROUP, 0)
    expect(b.kernel.groups.joinGroup(fd, 4, LOOPBACK)).toBe(0)
    expect(b.kernel.groups.joinGroup(fd, 4, LOOPBACK)).toBe(-EADDRINUSE)
  }
  expect(b.kernel.groups.localAddress(from, 4)).toBe(0)
  const source = addressAt(b.kernel, ADDRESS_LOCAL)
  expect(send(from, GROUP, port, pattern(50))).toBe(1)
  for (const fd of [one, two]) {
    const into = layRows(b.frames, 1, 2000)
    expect(b.kernel.groups.receive(fd, into)).toBe(50)
    expect(addressAt(b.kernel, ADDRESS_REMOTE)).toEqual(source)
    expect(b.frames.hopLimit[into]).toBe(7)
    expect(payloadAt(b.frames, into)).toEqual(pattern(50))
    expect(b.kernel.groups.receive(fd, into)).toBe(-EAGAIN)
  }
  // Single nodes' datagrams to that port are for others.
  expect(send(from, "127.0.0.1", port, pattern(5))).toBe(1)
  expect(b.kernel.groups.receive(one, row)).toBe(-EAGAIN)
})

test("what does not fit is gone; nonsense is refused", () => {
  const port = freePort()
  const fd = listener(port)
  setAddress(b.kernel, ADDRESS_LOCAL, GROUP, 0)
  expect(b.kernel.groups.joinGroup(fd, 4, LOOPBACK)).toBe(0)
  const from = sender()
  expect(send(from, GROUP, port, pattern(500))).toBe(1)
  const row = layRows(b.frames, 1, 100)
  expect(b.kernel.groups.receive(fd, row)).toBe(-EMSGSIZE)
  expect(b.kernel.groups.receive(fd, row)).toBe(-EAGAIN)
  expect(b.kernel.groups.receive(fd, -1)).toBe(-EINVAL)
  setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", 0)
  expect(b.kernel.groups.joinGroup(fd, 4, LOOPBACK)).toBe(-EINVAL)
  expect(b.kernel.groups.joinGroup(fd, 5, LOOPBACK)).toBe(-EINVAL)
  expect(b.kernel.groups.prepare(fd, 5, LOOPBACK)).toBe(-EINVAL)
  expect(b.kernel.groups.send(from, 5, 0, 1)).toBe(-EINVAL)
  expect(b.kernel.groups.setHopLimit(from, 4, 300)).toBe(-EINVAL)
})
