import { readFileSync } from "node:fs"

import {
  ADDRESS_LOCAL,
  ADDRESS_REMOTE,
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  EINVAL,
  EVENT_IN,
  EVENT_OUT,
  EVENT_RDHUP,
  FRAME_MAX,
  GATHER_MAX,
  HOLD_AREA,
  INFO_BYTES_ACKED,
  INFO_RTT,
  INFO_SEND_BUFFER,
  INFO_SEND_MSS,
  INFO_SEND_QUEUED,
  INFO_SEND_WINDOW,
  INFO_UNACKNOWLEDGED,
  RX_FRAME_MAX,
} from "@passt/core"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

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

function pair(family = 4): { client: number; server: number } {
  const made = tcpPair(b.kernel, family)
  open.push(made.client, made.server, made.listener)
  return made
}

/** Reads what is queued, without peek offsets. */
function take(fd: number, bytes: number): Buffer {
  const row = layRows(b.frames, 1, bytes)
  const got = b.kernel.peekIntoFrames(fd, row, 1, bytes, 0)
  if (got <= 0) return Buffer.alloc(0)
  b.kernel.discard(fd, got)
  return payloadAt(b.frames, row, got)
}

describe("addresses", () => {
  test("an accepted IPv4 connection tells both ends, mapped", () => {
    const { fd, port } = listenTcp(b.kernel, 4, "0.0.0.0")
    const client = connectTo(b.kernel, 4, "127.0.0.1", port)
    const server = b.kernel.accept(fd)
    open.push(fd, client, server)
    expect(server).toBeGreaterThanOrEqual(0)
    expect(addressAt(b.kernel, ADDRESS_LOCAL)).toEqual([...words("127.0.0.1"), port, 0])
    expect(addressAt(b.kernel, ADDRESS_REMOTE).slice(0, 4)).toEqual(words("127.0.0.1"))
    expect(b.kernel.accept(fd)).toBe(-EAGAIN)
  })

  test("a dual-stack listener takes IPv4 as mapped, one for IPv6 alone does not", () => {
    const both = listenTcp(b.kernel, 6, "::", true)
    const client = connectTo(b.kernel, 4, "127.0.0.1", both.port)
    const server = b.kernel.accept(both.fd)
    open.push(both.fd, client, server)
    expect(addressAt(b.kernel, ADDRESS_LOCAL)).toEqual([...words("127.0.0.1"), both.port, 0])

    const six = listenTcp(b.kernel, 6, "::", false)
    const refused = connectTo(b.kernel, 4, "127.0.0.1", six.port)
    open.push(six.fd, refused)
    expect(b.kernel.socketError(refused)).toBe(ECONNREFUSED)
  })

  test("an IPv6 socket connects to a mapped address, and shares a local port with an IPv4 socket otherwise", () => {
    const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
    const client = connectTo(b.kernel, 6, "127.0.0.1", port)
    const server = b.kernel.accept(fd)
    open.push(fd, client, server)
    expect(server).toBeGreaterThanOrEqual(0)

    const four = onFreePort((local) => {
      const socket = b.kernel.udpSocket(4, false)
      setAddress(b.kernel, ADDRESS_LOCAL, "0.0.0.0", local)
      const result = b.kernel.bind(socket, 4)
      return result < 0 ? result : socket
    })
    const six = b.kernel.udpSocket(6, false)
    setAddress(b.kernel, ADDRESS_LOCAL, "::", four.port)
    open.push(four.fd, six)
    expect(b.kernel.bind(six, 6)).toBe(0)
  })

  test("bind sets the source that the peer sees", () => {
    const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
    const client = b.kernel.tcpSocket(4)
    setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.5", 0)
    expect(b.kernel.bind(client, 4)).toBe(0)
    setAddress(b.kernel, ADDRESS_REMOTE, "127.0.0.1", port)
    b.kernel.connect(client, 4)
    const server = b.kernel.accept(fd)
    open.push(fd, client, server)
    expect(addressAt(b.kernel, ADDRESS_REMOTE).slice(0, 4)).toEqual(words("127.0.0.5"))
  })

  test("a foreign address can be bound only with freebind", () => {
    setAddress(b.kernel, ADDRESS_LOCAL, "192.0.2.77", 0)
    expect(b.kernel.listenTcp(4, false, "", false)).toBe(-99)
    const fd = b.kernel.listenTcp(4, false, "", true)
    expect(fd).toBeGreaterThanOrEqual(0)
    setAddress(b.kernel, ADDRESS_LOCAL, "2001:db8::77", 0)
    const six = b.kernel.listenTcp(6, false, "", true)
    expect(six).toBeGreaterThanOrEqual(0)
    open.push(fd, six)
  })

  test("a listener of one device takes connections that come through it", () => {
    const { fd, port } = onFreePort((local) => {
      setAddress(b.kernel, ADDRESS_LOCAL, "0.0.0.0", local)
      return b.kernel.listenTcp(4, false, "lo", false)
    })
    const client = connectTo(b.kernel, 4, "127.0.0.1", port)
    const server = b.kernel.accept(fd)
    open.push(fd, client, server)
    expect(server).toBeGreaterThanOrEqual(0)
    setAddress(b.kernel, ADDRESS_LOCAL, "0.0.0.0", 0)
    expect(b.kernel.listenTcp(4, false, "no-such-dev0", false)).toBe(-19)
    expect(b.kernel.listenTcp(4, false, "a-name-too-long-for-a-device", false)).toBe(-19)
    const loose = b.kernel.tcpSocket(4)
    open.push(loose)
    expect(b.kernel.bindToDevice(loose, "lo")).toBe(0)
    expect(b.kernel.bindToDevice(loose, "no-such-dev0")).toBeLessThan(0)
  })

  test("a port that is taken is refused", () => {
    const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
    open.push(fd)
    setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", port)
    expect(b.kernel.listenTcp(4, false, "", false)).toBe(-98)
  })

  test("a link-local address needs its scope, and gives it back", () => {
    setAddress(b.kernel, ADDRESS_LOCAL, "fe80::1", 0, 0)
    const fd = b.kernel.tcpSocket(6)
    open.push(fd)
    expect(b.kernel.bind(fd, 6)).toBe(-EINVAL)
  })

  test("another family than 4 or 6 is an error", () => {
    expect(b.kernel.tcpSocket(5)).toBeLessThan(0)
    const fd = b.kernel.tcpSocket(4)
    open.push(fd)
    expect(b.kernel.bind(fd, 5)).toBeLessThan(0)
  })
})

describe("events", () => {
  test("a watched socket tells of data, of the end, and of being writable", () => {
    const { client, server } = pair()
    expect(b.kernel.watch(client, 0x1234_5678)).toBe(0)
    expect(b.kernel.wait(0)).toBe(1)
    expect(b.kernel.events[0]).toBe(0x1234_5678)
    expect(b.kernel.events[1]! & EVENT_OUT).toBe(EVENT_OUT)
    // Edge-triggered: nothing has changed.
    expect(b.kernel.wait(0)).toBe(0)
    layRows(b.frames, 1, 10)
    b.kernel.sendFrames(server, 0, 1)
    expect(b.kernel.wait(1000)).toBe(1)
    expect(b.kernel.events[1]! & EVENT_IN).toBe(EVENT_IN)
    b.kernel.shutdownWrite(server)
    expect(b.kernel.wait(1000)).toBe(1)
    expect(b.kernel.events[1]! & EVENT_RDHUP).toBe(EVENT_RDHUP)
    expect(b.kernel.unwatch(client)).toBe(0)
    b.kernel.sendFrames(client, 0, 1)
    expect(b.kernel.wait(0)).toBe(0)
  })

  test("a level-triggered descriptor is told again and again", () => {
    const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
    open.push(fd, connectTo(b.kernel, 4, "127.0.0.1", port))
    expect(b.kernel.watchLevel(fd, -2)).toBe(0)
    expect(b.kernel.wait(1000)).toBe(1)
    expect(b.kernel.events[0]).toBe(-2)
    expect(b.kernel.wait(0)).toBe(1)
    open.push(b.kernel.accept(fd))
    expect(b.kernel.wait(0)).toBe(0)
  })

  test("wait blocks as long as it was told", () => {
    const before = b.kernel.now()
    const micros = b.kernel.nowMicros()
    expect(b.kernel.wait(30)).toBe(0)
    expect((b.kernel.now() - before) | 0).toBeGreaterThanOrEqual(29)
    expect((b.kernel.nowMicros() - micros) | 0).toBeGreaterThanOrEqual(29_000)
  })

  test("an unusable descriptor is an error", () => {
    expect(b.kernel.watch(-1, 1)).toBe(-9)
    expect(b.kernel.close(-1)).toBe(-9)
    expect(b.kernel.epollFd).toBeGreaterThanOrEqual(0)
  })
})

describe("payload to sockets", () => {
  test("rows are written in gather order, empty ones are passed over", () => {
    const { client, server } = pair()
    const first = layRows(b.frames, 3, 100)
    const parts = [pattern(100, 1), pattern(100, 2), pattern(100, 3)]
    parts.forEach((part, i) => fillPayload(b.frames, first + i, part))
    b.frames.payloadLength[first + 1] = 0
    b.frames.gather.set([first + 2, first + 1, first], 5)
    expect(b.kernel.sendFrames(client, 5, 3)).toBe(200)
    expect(take(server, 400)).toEqual(Buffer.concat([parts[2]!, parts[0]!]))
  })

  test("held bytes: copied from a row, sent from the arena", () => {
    const { client, server } = pair()
    const row = layRows(b.frames, 1, 1000)
    const bytes = pattern(1000)
    fillPayload(b.frames, row, bytes)
    expect(b.kernel.holdPayload(row, 54 + 100, 800, HOLD_AREA + 10)).toBe(0)
    expect(b.kernel.sendHeld(client, HOLD_AREA + 10, 800)).toBe(800)
    expect(take(server, 1000)).toEqual(bytes.subarray(100, 900))
  })

  test("a full socket takes a part, then nothing", () => {
    const { client } = pair()
    layRows(b.frames, 100, 60_000)
    let last = 0
    for (let sent = b.kernel.sendFrames(client, 0, 100); sent !== -EAGAIN; sent = b.kernel.sendFrames(client, 0, 100)) {
      expect(sent).toBeGreaterThan(0)
      last = sent
    }
    expect(last).toBeLessThan(100 * 60_000)
  })

  test("numbers that lead out of the arena are refused", () => {
    const { client } = pair()
    const row = layRows(b.frames, 1, 100)
    const { kernel, frames } = b
    frames.gather[0] = FRAME_MAX
    expect(kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
    frames.gather[0] = row
    expect(kernel.sendFrames(client, 0, GATHER_MAX + 1)).toBe(-EINVAL)
    expect(kernel.sendFrames(client, GATHER_MAX, 1)).toBe(-EINVAL)
    expect(kernel.sendFrames(client, -1, 1)).toBe(-EINVAL)
    frames.payloadLength[row] = -1
    expect(kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
    frames.payloadLength[row] = 0x7fff_ffff
    expect(kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
    frames.payloadLength[row] = 10
    frames.offset[row] = 0x7fff_fff0
    expect(kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
    frames.offset[row] = frames.arena.length - 60
    expect(kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
    frames.offset[row] = -4
    expect(kernel.holdPayload(row, 54, 10, HOLD_AREA)).toBe(-EINVAL)
    layRows(frames, 1, 100)
    expect(kernel.holdPayload(row, 54, 101, HOLD_AREA)).toBe(-EINVAL)
    expect(kernel.holdPayload(row, 54, 10, frames.arena.length - 9)).toBe(-EINVAL)
    expect(kernel.sendHeld(client, frames.arena.length - 9, 10)).toBe(-EINVAL)
    expect(kernel.sendHeld(client, -1, 10)).toBe(-EINVAL)
    // More than was reserved for a row to the guest.
    expect(kernel.peekIntoFrames(client, row, 1, 101, 0)).toBe(-EINVAL)
    expect(kernel.peekIntoFrames(client, FRAME_MAX - 1, 2, 1, 0)).toBe(-EINVAL)
    expect(kernel.peekIntoFrames(client, -1, 1, 1, 0)).toBe(-EINVAL)
  })
})

describe.each([4, 6])("payload from sockets, IPv%i", (family) => {
  test("peeking fills rows and leaves the data where it is", () => {
    const { client, server } = pair(family)
    const bytes = pattern(3000)
    layRows(b.frames, 1, 3000)
    fillPayload(b.frames, RX_FRAME_MAX, bytes)
    expect(b.kernel.sendFrames(client, 0, 1)).toBe(3000)
    const row = layRows(b.frames, 3, 1400)
    for (let again = 0; again < 2; again++) {
      expect(b.kernel.peekIntoFrames(server, row, 3, 1400, 0)).toBe(3000)
      expect(payloadAt(b.frames, row, 1400)).toEqual(bytes.subarray(0, 1400))
      expect(payloadAt(b.frames, row + 1, 1400)).toEqual(bytes.subarray(1400, 2800))
      expect(payloadAt(b.frames, row + 2, 200)).toEqual(bytes.subarray(2800))
    }
    // Passing over what is known already.
    expect(b.kernel.peekIntoFrames(server, row, 3, 1400, 2900)).toBe(100)
    expect(payloadAt(b.frames, row, 100)).toEqual(bytes.subarray(2900))
    expect(b.kernel.peekIntoFrames(server, row, 3, 1400, 3000)).toBe(-EAGAIN)
    expect(b.kernel.discard(server, 1000)).toBe(1000)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(1400)
    expect(payloadAt(b.frames, row, 1400)).toEqual(bytes.subarray(1000, 2400))
  })

  test("with a peek offset the kernel continues where the last peek ended", (context) => {
    if (!(family === 4 ? b.kernel.peekOffset4 : b.kernel.peekOffset6)) context.skip()
    const { client, server } = pair(family)
    const bytes = pattern(3000)
    layRows(b.frames, 1, 3000)
    fillPayload(b.frames, RX_FRAME_MAX, bytes)
    b.kernel.sendFrames(client, 0, 1)
    expect(b.kernel.setPeekOffset(server, 0)).toBe(0)
    const row = layRows(b.frames, 1, 1400)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(1400)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(1400)
    expect(payloadAt(b.frames, row, 1400)).toEqual(bytes.subarray(1400, 2800))
    // What is thrown away moves the offset with it.
    expect(b.kernel.discard(server, 2000)).toBe(2000)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(200)
    expect(payloadAt(b.frames, row, 200)).toEqual(bytes.subarray(2800))
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(-EAGAIN)
    expect(b.kernel.setPeekOffset(server, 0)).toBe(0)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(1000)
    b.kernel.shutdownWrite(client)
    expect(b.kernel.peekIntoFrames(server, row, 1, 1400, 0)).toBe(0)
  })
})

test("more can be passed over than a block holds", () => {
  const { client, server } = pair()
  const { frames, kernel } = b
  const bytes = pattern(50_000)
  layRows(frames, 1, 50_000)
  fillPayload(frames, RX_FRAME_MAX, bytes)
  // A reader that keeps up makes the kernel enlarge its receive buffer (tcp_rmem).
  for (let i = 0; i < 200; i++) {
    kernel.sendFrames(client, 0, 1)
    kernel.discard(server, 50_000)
  }
  while (kernel.discard(server, 1 << 20) > 0);
  for (let i = 0; i < 4; i++) expect(kernel.sendFrames(client, 0, 1)).toBe(50_000)
  const row = layRows(frames, 2, 1000)
  expect(kernel.peekIntoFrames(server, row, 2, 1000, 150_100)).toBe(2000)
  expect(payloadAt(frames, row, 1000)).toEqual(bytes.subarray(100, 1100))
  expect(payloadAt(frames, row + 1, 1000)).toEqual(bytes.subarray(1100, 2100))
  expect(kernel.peekIntoFrames(server, row, 1, 1000, (16 << 20) + 1)).toBe(-EINVAL)
})

test("the end of the stream reads as 0, a reset as its error", () => {
  const one = pair()
  b.kernel.shutdownWrite(one.client)
  const row = layRows(b.frames, 1, 100)
  expect(b.kernel.peekIntoFrames(one.server, row, 1, 100, 0)).toBe(0)
  expect(b.kernel.sendFrames(one.server, 0, 1)).toBe(100)

  const two = tcpPair(b.kernel)
  open.push(two.server, two.listener)
  expect(b.kernel.reset(two.client)).toBe(0)
  expect(b.kernel.peekIntoFrames(two.server, row, 1, 100, 0)).toBe(-ECONNRESET)
  expect(b.kernel.sendFrames(two.server, 0, 1)).toBe(-32)
})

test("a refused connection shows as a socket error, once", () => {
  const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
  b.kernel.close(fd)
  const client = connectTo(b.kernel, 4, "127.0.0.1", port)
  open.push(client)
  expect(b.kernel.socketError(client)).toBe(ECONNREFUSED)
  expect(b.kernel.socketError(client)).toBe(0)
})

test("what the kernel knows of a connection", () => {
  const { client, server } = pair()
  const { kernel } = b
  layRows(b.frames, 1, 5000)
  expect(kernel.sendFrames(client, 0, 1)).toBe(5000)
  expect(kernel.tcpInfo(client)).toBe(0)
  // The handshake counts one byte on the connecting side.
  expect(kernel.info[INFO_BYTES_ACKED]! + kernel.info[INFO_UNACKNOWLEDGED]!).toBeGreaterThanOrEqual(5000)
  expect(kernel.info[INFO_SEND_WINDOW]).toBeGreaterThan(0)
  expect(kernel.info[INFO_RTT]).toBeGreaterThan(0)
  expect(kernel.info[INFO_SEND_BUFFER]).toBeGreaterThan(10_000)
  expect(kernel.info[INFO_SEND_QUEUED]).toBeGreaterThanOrEqual(0)
  expect(kernel.info[INFO_SEND_MSS]).toBeGreaterThan(500)
  expect(kernel.setMss(server, 900)).toBe(0)
  expect(kernel.setKeepalive(server)).toBe(0)
  expect(kernel.setHopLimit(server, 4, 9)).toBe(0)
  expect(kernel.tcpInfo(-1)).toBe(-9)
})

test("the send buffer of a near peer is made large, and told as it is then", () => {
  const { kernel } = b
  const { client } = pair()
  expect(kernel.tcpInfo(client)).toBe(0)
  const told = kernel.info[INFO_SEND_BUFFER]!
  const limit = Number(readFileSync("/proc/sys/net/core/wmem_max", "utf8"))
  expect(told).toBeGreaterThanOrEqual(2 * Math.min(limit, 1 << 19))
  expect(kernel.tcpInfo(client)).toBe(0)
  expect(kernel.info[INFO_SEND_BUFFER]).toBe(told)
})

test("urgent data stays in the stream", async () => {
  const { fd, port } = listenTcp(b.kernel, 4, "127.0.0.1")
  const { execFileSync } = await import("node:child_process")
  execFileSync("python3", [
    "-c",
    `import socket; s = socket.create_connection(("127.0.0.1", ${port})); s.send(b"ab"); s.send(b"c", socket.MSG_OOB); s.send(b"d")`,
  ])
  const server = b.kernel.accept(fd)
  open.push(fd, server)
  // The urgent mark ends one read.
  expect(Buffer.concat([take(server, 100), take(server, 100), take(server, 100)]).toString()).toBe("abcd")
})

test("calls before frames are attached, and after the end, fail", () => {
  const bare = bench()
  const { client, server, listener } = tcpPair(bare.kernel)
  open.push(client, server, listener)
  bare.kernel.destroy()
  expect(bare.kernel.sendFrames(client, 0, 1)).toBe(-EINVAL)
  expect(bare.kernel.peekIntoFrames(server, 0, 1, 10, 0)).toBe(-EINVAL)
  expect(bare.kernel.wait(0)).toBe(-9)
  expect(() => bare.kernel.attach(bare.frames)).toThrow("errno 9")
})
