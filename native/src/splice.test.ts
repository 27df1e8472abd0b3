import { readdirSync } from "node:fs"
import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  EAGAIN,
  ECONNREFUSED,
  EINVAL,
  PLACE_HOST,
  PLACE_NAMESPACE,
  PORT_MAP_BYTES,
  SCAN_TCP,
  SCAN_UDP,
  SPLICE_BULK,
  SPLICE_BYTES,
  SPLICE_CONDITIONS,
  SPLICE_DATAGRAM_MAX,
  SPLICE_DELIVERED,
  SPLICE_ENDING,
  SPLICE_PENDING,
  SPLICE_PIPE,
  SPLICED_BULK,
  SPLICED_NO_PIPE,
  SPLICED_SOURCE_EMPTY,
  SPLICED_SOURCE_END,
  SPLICED_SOURCE_FAILED,
  SPLICED_TARGET_FAILED,
  SPLICED_TARGET_FULL,
} from "@passt/core"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

import type { NativeSplice } from "./splice.ts"
import { runChild } from "./test-support/child.ts"
import {
  addressAt,
  type Bench,
  bench,
  connectTo,
  fillPayload,
  layRows,
  listenTcp,
  onFreePort,
  pattern,
  payloadAt,
  setAddress,
  tcpPair,
  words,
} from "./test-support/loopback.ts"

/** Bytes written or read by one step of a test. */
const PIECE = 256 << 10

let b: Bench
let splice: NativeSplice
let open: number[]
beforeEach(() => {
  b = bench()
  b.kernel.enableSplice()
  splice = b.kernel.splice!
  open = []
})
afterEach(() => {
  for (const fd of open) b.kernel.close(fd)
  b.kernel.destroy()
})

/** client ── source │ target ── server: what the client writes to `source` is to come out at the server. */
function two(family = 4): { client: number; source: number; target: number; server: number } {
  const first = tcpPair(b.kernel, family)
  const second = tcpPair(b.kernel, family)
  open.push(first.client, first.server, first.listener, second.client, second.server, second.listener)
  return { client: first.client, source: first.server, target: second.client, server: second.server }
}

function forget(fd: number): void {
  open.splice(open.indexOf(fd), 1)
}

function write(fd: number, bytes: Uint8Array): number {
  const row = layRows(b.frames, 1, bytes.length)
  fillPayload(b.frames, row, bytes)
  return b.kernel.sendFrames(fd, 0, 1)
}

function read(fd: number, bytes = PIECE): Buffer {
  const row = layRows(b.frames, 1, bytes)
  const got = b.kernel.peekIntoFrames(fd, row, 1, bytes, 0)
  if (got <= 0) return Buffer.alloc(0)
  b.kernel.discard(fd, got)
  return Buffer.from(payloadAt(b.frames, row, got))
}

function conditions(): number {
  return splice.result[SPLICE_CONDITIONS]! & ~SPLICED_BULK
}

/** Reads until nothing comes any more. */
function readAll(fd: number): Buffer {
  const parts: Buffer[] = []
  for (let silent = 0; silent < 3;) {
    const part = read(fd)
    if (part.length === 0) {
      silent++
      b.kernel.wait(5)
    } else parts.push(part)
  }
  return Buffer.concat(parts)
}

/** Bytes that a call may move. */
const SHARE = 256 << 10

describe("a stream from socket to socket", () => {
  test.each([4, 6])("a message over IPv%i: one call, no pipe left", (family) => {
    const { client, source, target, server } = two(family)
    const message = pattern(1000)
    expect(write(client, message)).toBe(1000)
    expect(splice.stream(source, target, -1, 0, 0, SHARE)).toBe(1000)
    expect([...splice.result]).toEqual([-1, 0, SPLICED_SOURCE_EMPTY])
    expect(read(server)).toEqual(message)
    expect(splice.stream(source, target, -1, 0, 0, SHARE)).toBe(0)
    expect(conditions()).toBe(SPLICED_SOURCE_EMPTY)
  })

  test.each([0, SPLICE_BULK])("much, through a target that is slow (flags %i)", (start) => {
    const { client, source, target, server } = two()
    const whole = pattern(12 << 20)
    const got: Buffer[] = []
    let written = 0
    let received = 0
    let pipe = -1
    let pending = 0
    let flags = start
    let held = 0
    let bulk = 0
    for (let i = 0; received < whole.length; i++) {
      if (written < whole.length) {
        const taken = write(client, whole.subarray(written, written + PIECE))
        if (taken > 0) written += taken
      }
      const moved = splice.stream(source, target, pipe, pending, flags, SHARE)
      expect(moved).toBeGreaterThanOrEqual(0)
      ;[pipe, pending] = [splice.result[SPLICE_PIPE]!, splice.result[SPLICE_PENDING]!]
      flags = splice.result[SPLICE_CONDITIONS]! & SPLICED_BULK ? SPLICE_BULK : 0
      expect(pipe >= 0).toBe(pending > 0)
      // What is on its way is so only because the target takes no more.
      if (pending > 0) expect(conditions() & SPLICED_TARGET_FULL).not.toBe(0)
      if (pending > 0) held++
      if (flags) bulk++
      if (i % 3 === 0) {
        const part = read(server)
        received += part.length
        got.push(part)
      }
    }
    expect(Buffer.concat(got).equals(whole)).toBe(true)
    expect(held).toBeGreaterThan(0)
    expect(bulk).toBeGreaterThan(0)
    expect(pending).toBe(0)
  })

  test("a share at a time", () => {
    const { client, source, target, server } = two()
    let written = 0
    for (let taken = 1; taken > 0 && written < 8 << 20; written += Math.max(taken, 0))
      taken = write(client, pattern(PIECE))
    // The receiver's queue holds a part of it; a call takes at most its share and what it found on the way.
    const moved = splice.stream(source, target, -1, 0, SPLICE_BULK, SHARE)
    expect(moved).toBeLessThanOrEqual(2 << 20)
    expect(moved).toBeGreaterThan(0)
    void server
  })

  test("the end, alone and behind data", () => {
    const { client, source, target, server } = two()
    write(client, pattern(100))
    b.kernel.shutdownWrite(client)
    expect(splice.stream(source, target, -1, 0, SPLICE_ENDING, SHARE)).toBe(100)
    expect(conditions()).toBe(SPLICED_SOURCE_END)
    expect(splice.stream(source, target, -1, 0, SPLICE_BULK, SHARE)).toBe(0)
    expect(conditions()).toBe(SPLICED_SOURCE_END)
    expect(read(server).length).toBe(100)
  })

  test.each([0, SPLICE_BULK])("what came before a reset comes through (flags %i)", (flags) => {
    const { client, source, target, server } = two()
    write(client, pattern(300_000))
    b.kernel.wait(5)
    b.kernel.reset(client)
    forget(client)
    let moved = 0
    do moved += splice.stream(source, target, -1, 0, flags | SPLICE_ENDING, SHARE)
    while (conditions() === 0)
    expect(conditions() & (SPLICED_SOURCE_FAILED | SPLICED_SOURCE_END)).not.toBe(0)
    expect(readAll(server).equals(pattern(300_000).subarray(0, moved))).toBe(true)
    expect(moved).toBeGreaterThan(60_000)
  })

  test("a target that is gone is told, and its pipe with it", () => {
    const { client, source, target, server } = two()
    write(client, pattern(10))
    b.kernel.reset(server)
    forget(server)
    expect(splice.stream(source, target, -1, 0, 0, SHARE)).toBe(0)
    expect(conditions() & SPLICED_TARGET_FAILED).not.toBe(0)
    expect(splice.result[SPLICE_PIPE]).toBe(-1)
    write(client, pattern(10))
    expect(splice.stream(source, target, -1, 0, SPLICE_BULK, SHARE)).toBe(0)
    expect(conditions() & SPLICED_TARGET_FAILED).not.toBe(0)
  })

  test("a full target keeps its pipe until it is emptied or dropped, and nothing leaks", () => {
    const before = readdirSync("/proc/self/fd").length
    const { client, source, target, server } = two()
    let pipe = -1
    let pending = 0
    for (let i = 0; i < 1000 && pending === 0; i++) {
      write(client, pattern(PIECE))
      splice.stream(source, target, -1, 0, 0, SHARE)
      ;[pipe, pending] = [splice.result[SPLICE_PIPE]!, splice.result[SPLICE_PENDING]!]
    }
    expect(pending).toBeGreaterThan(0)
    expect(splice.unsent(target)).toBeGreaterThan(0)
    expect(splice.dropPipe(pipe)).toBe(0)
    expect(splice.dropPipe(pipe)).toBe(-EINVAL)
    for (const fd of [client, source, target, server]) b.kernel.close(fd)
    open = open.filter((fd) => ![client, source, target, server].includes(fd))
    // The two listening sockets, and at most the pipe that the first calls used.
    expect(readdirSync("/proc/self/fd").length - before).toBeLessThanOrEqual(4)
  })

  test("pipes that are nobody's are refused", () => {
    const { source, target } = two()
    expect(splice.stream(source, target, 0, 10, 0, SHARE)).toBe(-EINVAL)
    expect(splice.stream(source, target, -1, 10, 0, SHARE)).toBe(-EINVAL)
    expect(splice.stream(source, target, 1 << 30, 10, 0, SHARE)).toBe(-EINVAL)
    expect(splice.stream(source, target, 0, 0, 0, SHARE)).toBe(-EINVAL)
    expect(splice.dropPipe(-1)).toBe(-EINVAL)
    expect(splice.stream(-1, target, -1, 0, 0, SHARE)).toBe(0)
    expect(conditions()).toBe(SPLICED_SOURCE_FAILED)
  })
})

test("without descriptors nothing is read, and later everything is there", () => {
  const out = runChild(`
    const { kernel, frames } = l.bench()
    const { openSync, closeSync } = await import("node:fs")
    const { execFileSync } = await import("node:child_process")
    kernel.enableSplice()
    const a = l.tcpPair(kernel), c = l.tcpPair(kernel)
    const row = l.layRows(frames, 1, 500)
    kernel.sendFrames(a.client, 0, 1)
    execFileSync("prlimit", ["--pid", String(process.pid), "--nofile=64:64"])
    const spent = []
    try { for (;;) spent.push(openSync("/dev/null", "r")) } catch {}
    const moved = kernel.splice.stream(a.server, c.client, -1, 0, 0, ${SHARE})
    console.log(moved, [...kernel.splice.result].join())
    for (const fd of spent) closeSync(fd)
    console.log(kernel.splice.stream(a.server, c.client, -1, 0, 0, ${SHARE}))
    process.exit(0)
  `)
  expect(out.trim().split("\n")).toEqual([`0 -1,0,${SPLICED_NO_PIPE}`, "500"])
})

describe("datagrams from socket to socket", () => {
  /** client ── near │ far ── server, all connected. */
  function pair(): { client: number; near: number; far: number; server: number } {
    const [client, near] = connectedPair()
    const [far, server] = connectedPair()
    return { client, near, far, server }
  }

  function connectedPair(): [number, number] {
    const bound = () => {
      const made = onFreePort((port) => {
        const fd = b.kernel.udpSocket(4, false)
        setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", port)
        const result = b.kernel.bind(fd, 4)
        if (result < 0) b.kernel.close(fd)
        return result < 0 ? result : fd
      })
      open.push(made.fd)
      return made
    }
    const [one, other] = [bound(), bound()]
    for (const [fd, port] of [
      [one.fd, other.port],
      [other.fd, one.port],
    ] as const) {
      setAddress(b.kernel, ADDRESS_REMOTE, "127.0.0.1", port)
      expect(b.kernel.connect(fd, 4)).toBe(0)
    }
    return [one.fd, other.fd]
  }

  function send(fd: number, bytes: Uint8Array): void {
    const row = layRows(b.frames, 1, bytes.length)
    fillPayload(b.frames, row, bytes)
    expect(b.kernel.sendDatagrams(fd, 0, 1)).toBe(1)
  }

  function take(fd: number): Buffer[] {
    const row = layRows(b.frames, 64, 65_000)
    const count = b.kernel.receiveDatagrams(fd, row, 64, 65_000)
    return Array.from({ length: Math.max(count, 0) }, (_, i) => Buffer.from(payloadAt(b.frames, row + i)))
  }

  test("each stays what it is, of every length, in order", () => {
    const { client, near, far, server } = pair()
    const datagrams = [0, 1, 100, 100, 100, 100, 1472, 0, 65_000, 7, 7].map((length, i) => pattern(length, i + 1))
    for (const datagram of datagrams) send(client, datagram)
    expect(splice.datagrams(near, far, SPLICE_DATAGRAM_MAX)).toBe(datagrams.length)
    expect(splice.result[SPLICE_DELIVERED]).toBe(datagrams.length)
    expect(splice.result[SPLICE_BYTES]).toBe(datagrams.reduce((sum, datagram) => sum + datagram.length, 0))
    expect(take(server)).toEqual(datagrams)
    expect(splice.datagrams(near, far, SPLICE_DATAGRAM_MAX)).toBe(-EAGAIN)
  })

  test("no more than asked for; nowhere is a place too", () => {
    const { client, near, far, server } = pair()
    for (let i = 0; i < 5; i++) send(client, pattern(10, i))
    expect(splice.datagrams(near, far, 2)).toBe(2)
    expect(splice.datagrams(near, -1, 1)).toBe(1)
    expect(splice.datagrams(near, far, 64)).toBe(2)
    expect(take(server)).toEqual([pattern(10, 0), pattern(10, 1), pattern(10, 3), pattern(10, 4)])
    expect(splice.datagrams(near, far, 65)).toBe(-EINVAL)
    expect(splice.datagrams(near, far, 0)).toBe(-EINVAL)
  })

  test("datagrams that come merged leave as they were sent", () => {
    const { client, near, far, server } = pair()
    expect(splice.wantMerged(near)).toBe(0)
    // Twenty equal ones and a shorter one: the sender's kernel sends them as one (UDP_SEGMENT), ours takes them so.
    const first = layRows(b.frames, 21, 1000)
    const datagrams = Array.from({ length: 21 }, (_, i) => pattern(i < 20 ? 1000 : 300, i + 1))
    datagrams.forEach((datagram, i) => {
      fillPayload(b.frames, first + i, datagram)
      b.frames.payloadLength[first + i] = datagram.length
    })
    expect(b.kernel.sendDatagrams(client, 0, 21)).toBe(21)
    while (splice.datagrams(near, far, 64) > 0) continue
    expect(take(server)).toEqual(datagrams)
  })

  test("a target that is not there costs its datagrams, and is tried again", () => {
    const { client, near, far, server } = pair()
    b.kernel.close(server)
    forget(server)
    for (let i = 0; i < 3; i++) {
      send(client, pattern(10))
      expect(splice.datagrams(near, far, 64)).toBe(1)
    }
    // The verdict on the last: a read meets it once, and its place in the error queue is free again.
    expect(splice.datagrams(far, near, 64)).toBe(-ECONNREFUSED)
    expect(splice.datagrams(far, near, 64)).toBe(-EAGAIN)
  })

  test("a look at the ends takes nothing", () => {
    const listener = onFreePort((port) => {
      setAddress(b.kernel, ADDRESS_LOCAL, "::", port)
      return b.kernel.listenUdp(6, true, "", false)
    })
    open.push(listener.fd)
    const fd = b.kernel.udpSocket(4, false)
    open.push(fd)
    setAddress(b.kernel, ADDRESS_REMOTE, "127.0.0.9", listener.port)
    b.kernel.connect(fd, 4)
    send(fd, pattern(700))
    for (let i = 0; i < 2; i++) {
      expect(splice.peekAddresses(listener.fd)).toBe(700)
      expect(addressAt(b.kernel, ADDRESS_REMOTE).slice(0, 4)).toEqual(words("127.0.0.1"))
      expect(addressAt(b.kernel, ADDRESS_LOCAL)).toEqual([...words("127.0.0.9"), listener.port, 0])
    }
    expect(splice.datagrams(listener.fd, -1, 1)).toBe(1)
    expect(splice.peekAddresses(listener.fd)).toBe(-EAGAIN)
  })
})

describe("who listens", () => {
  function scan(kind: number): (port: number) => boolean {
    const map = new Uint8Array(PORT_MAP_BYTES).fill(0xff)
    expect(splice.scan(PLACE_HOST, kind, map)).toBeGreaterThanOrEqual(0)
    // Files say the same; others may come and go in between, so look only at what is asked.
    const read = new Uint8Array(PORT_MAP_BYTES).fill(0xff)
    expect(b.kernel.raw.scanListeners(PLACE_HOST, kind, read, 1)).toBeGreaterThanOrEqual(0)
    const bit = (from: Uint8Array, port: number): boolean => (from[port >> 3]! & (1 << (port & 7))) !== 0
    return (port) => {
      expect(bit(read, port)).toBe(bit(map, port))
      return bit(map, port)
    }
  }

  test("TCP and UDP, both families; connections don't count", () => {
    const tcp4 = listenTcp(b.kernel, 4, "127.0.0.1")
    const tcp6 = listenTcp(b.kernel, 6, "::1")
    const udp6 = onFreePort((port) => {
      setAddress(b.kernel, ADDRESS_LOCAL, "::1", port)
      return b.kernel.listenUdp(6, false, "", false)
    })
    const client = connectTo(b.kernel, 4, "127.0.0.1", tcp4.port)
    open.push(tcp4.fd, tcp6.fd, udp6.fd, client, b.kernel.accept(tcp4.fd))
    const clientPort = addressAt(b.kernel, ADDRESS_REMOTE)[4]!
    const tcp = scan(SCAN_TCP)
    const udp = scan(SCAN_UDP)
    expect([tcp(tcp4.port), tcp(tcp6.port), tcp(udp6.port), tcp(clientPort)]).toEqual([true, true, false, false])
    expect([udp(udp6.port), udp(tcp4.port)]).toEqual([true, false])
    b.kernel.close(tcp6.fd)
    forget(tcp6.fd)
    expect(scan(SCAN_TCP)(tcp6.port)).toBe(false)
  })

  test("maps that are too small, and places that were not entered, are refused", () => {
    expect(splice.scan(PLACE_HOST, SCAN_TCP, new Uint8Array(100))).toBe(-EINVAL)
    expect(splice.scan(7, SCAN_TCP, new Uint8Array(PORT_MAP_BYTES))).toBe(-EINVAL)
    expect(splice.scan(PLACE_NAMESPACE, SCAN_TCP, new Uint8Array(PORT_MAP_BYTES))).toBeLessThan(0)
    expect(b.kernel.tcpSocket(4, PLACE_NAMESPACE)).toBeLessThan(0)
  })
})
