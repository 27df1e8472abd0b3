import { existsSync, readFileSync, readSync, rmSync, statSync, symlinkSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"

import { ADDRESS_LOCAL, ADDRESS_REMOTE, EADDRINUSE, ECONNRESET, EVENT_IN, FrameTable, RX_FRAME_MAX } from "@passt/core"
import { NativeKernel } from "@passt/native"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

import { Client, framed, pattern, unframed } from "./test-support/client.ts"
import { padded } from "./test-support/segment-model.ts"
import { LINK_REF, batch, queue, receiveAll, type Setting, setting } from "./test-support/setting.ts"
import { UnixLink } from "./unix-link.ts"

const EPROTO = 71
let s: Setting
beforeEach(() => {
  s = setting()
})
afterEach(() => {
  s.end()
})

function onFreePort(open: (port: number) => number): { fd: number; port: number } {
  for (let port = 40_000 + (process.pid % 10_000); ; port++) {
    const fd = open(port)
    if (fd >= 0) return { fd, port }
    if (fd !== -EADDRINUSE) throw new Error(`errno ${-fd}`)
  }
}

/** A client that has been accepted. */
function attached(): Client {
  const client = s.connect()
  s.link.handleEvent(0, EVENT_IN)
  expect(s.link.connected).toBe(true)
  return client
}

describe("framing", () => {
  const frames = [pattern(14, 1), pattern(60, 2), pattern(1514, 3), pattern(65_535, 4), pattern(15, 5)]

  test("frames come out as they went in", () => {
    const client = attached()
    client.write(framed(...frames))
    const got = receiveAll(s)
    expect(got.frames).toEqual(frames)
    expect(got.result).toBe(0)
  })

  test("a stream that is cut at any byte gives the same frames", () => {
    const client = attached()
    const bytes = framed(pattern(14, 1), pattern(60, 2), pattern(100, 3))
    for (let cut = 0; cut <= bytes.length; cut++) {
      client.write(bytes.subarray(0, cut))
      const before = receiveAll(s).frames
      client.write(bytes.subarray(cut))
      expect([...before, ...receiveAll(s).frames]).toEqual([pattern(14, 1), pattern(60, 2), pattern(100, 3)])
    }
  })

  test("bytes that come one by one", () => {
    const client = attached()
    const got: Buffer[] = []
    for (const byte of framed(pattern(20, 1), pattern(14, 2))) {
      client.write(Uint8Array.of(byte))
      got.push(...receiveAll(s).frames)
    }
    expect(got).toEqual([pattern(20, 1), pattern(14, 2)])
  })

  test("a long stream of all sizes in reads of all sizes, through the area many times", () => {
    const client = attached()
    const sent: Buffer[] = []
    for (let i = 0; i < 400; i++) sent.push(pattern(14 + ((i * 7919) % 65_522), i))
    const bytes = framed(...sent)
    const got: Buffer[] = []
    let at = 0
    for (let i = 0; at < bytes.length; i++) {
      at += client.write(bytes.subarray(at, at + 1 + ((i * 104_729) % 300_000)))
      // Now and then two writes meet in one read.
      if (i % 3 !== 0) got.push(...receiveAll(s).frames)
    }
    got.push(...receiveAll(s).frames)
    expect(got.length).toBe(sent.length)
    for (let i = 0; i < sent.length; i++) expect(got[i]!.equals(sent[i]!), `frame ${i}`).toBe(true)
  })

  test("a batch has at most as many frames as there are rows; the rest is there without another read", () => {
    const client = attached()
    const count = RX_FRAME_MAX * 2 + 10
    client.write(framed(...Array.from({ length: count }, (_, i) => pattern(20, i))))
    expect(s.link.receive()).toBe(RX_FRAME_MAX)
    expect(s.link.more).toBe(true)
    expect(s.link.receive()).toBe(RX_FRAME_MAX)
    expect(s.link.more).toBe(true)
    expect(s.link.receive()).toBe(10)
    expect(batch(s, 10)[9]).toEqual(pattern(20, count - 1))
    expect(s.link.more).toBe(false)
    expect(s.link.receive()).toBe(0)
  })

  test("exactly one batch leaves nothing", () => {
    const client = attached()
    client.write(framed(...Array.from({ length: RX_FRAME_MAX }, (_, i) => pattern(20, i))))
    expect(s.link.receive()).toBe(RX_FRAME_MAX)
    expect(s.link.more).toBe(false)
  })

  test.each([0, 13, 65_536, 0x7fff_ffff, 0xffff_ffff])("a length of %i ends the client", (length) => {
    const client = attached()
    const bad = Buffer.alloc(4)
    bad.writeUInt32BE(length)
    client.write(Buffer.concat([framed(pattern(20)), bad, pattern(100)]))
    // What came before it is still good.
    expect(s.link.receive()).toBe(1)
    expect(batch(s, 1)).toEqual([pattern(20)])
    expect(s.link.more).toBe(true)
    expect(s.link.receive()).toBe(-EPROTO)
    expect(s.link.connected).toBe(false)
    expect(s.told).toEqual(["connected me", `disconnected ${EPROTO}`])
    const next = attached()
    next.write(framed(pattern(33)))
    expect(receiveAll(s).frames).toEqual([pattern(33)])
  })

  test("a row tells all of its frame, and no more can be pulled than it has", () => {
    const client = attached()
    client.write(framed(pattern(100)))
    s.frames.flags[0] = 7
    expect(s.link.receive()).toBe(1)
    expect(s.frames.length[0]).toBe(100)
    expect(s.frames.window[0]).toBe(100)
    expect(s.frames.flags[0]).toBe(0)
    expect(s.link.pull(0, 100)).toBe(100)
    expect(s.link.pull(0, 101)).toBe(-1)
  })
})

describe("clients", () => {
  test("the event of a client that connects has the link's ref", () => {
    expect(s.kernel.wait(0)).toBe(0)
    const client = s.connect()
    expect(s.kernel.wait(1000)).toBe(1)
    expect(s.kernel.events[0]).toBe(LINK_REF)
    s.link.handleEvent(0, s.kernel.events[1]!)
    expect(s.link.connected).toBe(true)
    expect(s.kernel.wait(0)).toBe(0)
    client.write(framed(pattern(20)))
    expect(s.kernel.wait(1000)).toBe(1)
    expect(s.kernel.events[0]).toBe(LINK_REF)
    // Level-triggered: it stays until it is read.
    expect(s.kernel.wait(0)).toBe(1)
    expect(s.link.receive()).toBe(1)
    expect(s.kernel.wait(0)).toBe(0)
  })

  test("receive accepts too", () => {
    const client = s.connect()
    client.write(framed(pattern(20)))
    expect(s.link.receive()).toBe(1)
    expect(s.told).toEqual(["connected me"])
  })

  test("a second one is turned away, and the first does not notice", () => {
    const first = attached()
    const second = s.connect()
    expect(s.kernel.wait(1000)).toBe(1)
    expect(s.link.receive()).toBe(0)
    expect(s.told).toEqual(["connected me", "turned away me"])
    expect(s.kernel.wait(0)).toBe(0)
    expect(() => second.write(framed(pattern(20)))).toThrow("EPIPE")
    first.write(framed(pattern(30)))
    expect(receiveAll(s).frames).toEqual([pattern(30)])
  })

  test("the end of a client is told once, after its last frames; the next one is accepted", () => {
    const client = attached()
    client.write(framed(pattern(20)))
    client.close()
    expect(s.link.receive()).toBe(1)
    expect(s.link.receive()).toBe(-ECONNRESET)
    expect(s.link.connected).toBe(false)
    expect(s.link.receive()).toBe(0)
    expect(s.told).toEqual(["connected me", `disconnected ${ECONNRESET}`])
    attached()
  })

  test("a partial frame dies with its client", () => {
    for (const cut of [1, 3, 4, 5, 90]) {
      const client = attached()
      client.write(framed(pattern(100)).subarray(0, cut))
      expect(s.link.receive()).toBe(0)
      client.close()
      expect(s.link.receive()).toBe(-ECONNRESET)
      const next = attached()
      next.write(framed(pattern(50)))
      expect(receiveAll(s).frames).toEqual([pattern(50)])
      next.close()
      expect(s.link.receive()).toBe(-ECONNRESET)
    }
  })

  test("a guest that comes back before its end was read is not taken for a second one", () => {
    const client = attached()
    client.write(framed(pattern(20)))
    client.close()
    const next = s.connect()
    next.write(framed(pattern(40)))
    s.kernel.wait(1000)
    expect(s.link.receive()).toBe(1)
    expect(s.link.receive()).toBe(-ECONNRESET)
    expect(s.link.connected).toBe(false)
    // Nothing more may be told by epoll: the link says itself that there is something.
    expect(s.link.more).toBe(true)
    expect(s.link.receive()).toBe(1)
    expect(batch(s, 1)).toEqual([pattern(40)])
    expect(s.told).toEqual(["connected me", `disconnected ${ECONNRESET}`, "connected me"])
  })

  test("frames for a lost client never reach the next one", () => {
    const client = attached()
    let queued = 0
    while (!s.link.blocked) {
      for (let i = 0; i < 50; i++) if (queue(s, pattern(1514, queued))) queued++
      s.link.flush()
    }
    client.close()
    expect(s.link.receive()).toBe(-ECONNRESET)
    expect(s.link.blocked).toBe(false)
    expect(s.link.flush()).toBe(0)
    const next = attached()
    expect(queue(s, pattern(99))).toBe(true)
    expect(s.link.flush()).toBe(0)
    expect(unframed(next.read())).toEqual([pattern(99)])
  })

  test("frames without any client go nowhere", () => {
    expect(queue(s, pattern(99))).toBe(true)
    expect(s.link.flush()).toBe(0)
    const next = attached()
    expect(s.link.flush()).toBe(0)
    expect(next.read().length).toBe(0)
  })

  test("a client that only stops reading is found out when we write", () => {
    const client = attached()
    client.close()
    queue(s, pattern(99))
    expect(s.link.flush()).toBe(0)
    expect(s.link.blocked).toBe(false)
    expect(s.link.receive()).toBe(-ECONNRESET)
  })

  test("disconnect drops the client, the socket stays", () => {
    const client = attached()
    s.link.disconnect()
    expect(s.link.connected).toBe(false)
    expect(client.read().length).toBe(0)
    attached()
  })
})

describe("the socket's path", () => {
  const other = () => {
    const frames = new FrameTable()
    s.kernel.attach(frames)
    return new UnixLink(s.kernel, frames)
  }

  test("one that is served is in use", () => {
    const link = other()
    expect(link.listen(s.path)).toBe(-98)
    expect(link.path).toBe("")
    // The attempt is seen as a client that came and went.
    expect(s.link.receive()).toBe(-ECONNRESET)
    attached()
  })

  test("one that nobody serves any more is taken over", () => {
    s.link.close()
    expect(existsSync(s.path)).toBe(true)
    const link = other()
    expect(link.listen(s.path)).toBe(0)
    expect(link.path).toBe(s.path)
    link.close()
  })

  test("another file is left alone", () => {
    const file = join(s.folder, "file")
    writeFileSync(file, "precious")
    const link = other()
    expect(link.listen(file)).toBe(-98)
    expect(readFileSync(file, "utf8")).toBe("precious")
    const dangling = join(s.folder, "dangling")
    symlinkSync(join(s.folder, "nowhere"), dangling)
    expect(link.listen(dangling)).toBeLessThan(0)
    link.close()
  })

  test("unusable paths are errors", () => {
    const link = other()
    expect(link.listen(join(s.folder, "x".repeat(108)))).toBe(-36)
    expect(link.listen(join(s.folder, "no", "such"))).toBe(-2)
    expect(link.listen("")).toBe(-2)
    link.close()
  })

  test("without a path, the first free number", () => {
    const one = other()
    const two = other()
    expect(one.listen()).toBe(0)
    expect(two.listen()).toBe(0)
    const number = (path: string) => Number(/^\/tmp\/passt_(\d+)\.socket$/.exec(path)?.[1])
    expect(number(two.path)).toBeGreaterThan(number(one.path))
    expect(statSync(one.path).isSocket()).toBe(true)
    one.close()
    two.close()
    rmSync(one.path)
    rmSync(two.path)
  })

  test("a link listens once", () => {
    expect(s.link.listen(join(s.folder, "second"))).toBe(-106)
  })
})

describe("an inherited descriptor", () => {
  test("is the one client", () => {
    const { frames, kernel } = s
    // Any stream socket will do.
    const listener = onFreePort((port) => {
      kernel.address.set([0, 0, 0xffff, 0x7f00_0001, port, 0], ADDRESS_LOCAL)
      return kernel.listenTcp(4, false, "", false)
    })
    const inherited = kernel.tcpSocket(4)
    kernel.address.set([0, 0, 0xffff, 0x7f00_0001, listener.port, 0], ADDRESS_REMOTE)
    kernel.connect(inherited, 4)
    const far = kernel.accept(listener.fd)
    expect(far).toBeGreaterThanOrEqual(0)

    const link = new UnixLink(kernel, frames)
    expect(link.adopt(inherited)).toBe(0)
    expect(link.connected).toBe(true)
    expect(link.adopt(far)).toBe(-106)
    expect(link.watch(LINK_REF + 1)).toBe(0)
    const row = link.reserve(70)
    frames.arena.set(pattern(70), frames.offset[row]!)
    link.commit(row)
    expect(link.flush()).toBe(0)
    const got = Buffer.alloc(100)
    expect(readSync(far, got)).toBe(74)
    expect(unframed(got.subarray(0, 74))).toEqual([pattern(70)])
    writeSync(far, framed(pattern(80)))
    expect(kernel.wait(1000)).toBe(1)
    expect(kernel.events[0]).toBe(LINK_REF + 1)
    expect(link.receive()).toBe(1)
    expect(batch(s, 1)).toEqual([pattern(80)])
    kernel.close(far)
    kernel.close(listener.fd)
    expect(kernel.wait(1000)).toBe(1)
    expect(link.receive()).toBe(-ECONNRESET)
    expect(link.more).toBe(false)
    // It was closed with the client.
    expect(kernel.close(inherited)).toBe(-9)
  })

  test("must be a connected stream socket", () => {
    const frames = new FrameTable()
    s.kernel.attach(frames)
    const link = new UnixLink(s.kernel, frames)
    const udp = s.kernel.udpSocket(4, false)
    const tcp = s.kernel.tcpSocket(4)
    expect(link.adopt(udp)).toBe(-91)
    expect(link.adopt(tcp)).toBe(-107)
    expect(link.adopt(-1)).toBe(-9)
    expect(link.adopt(s.kernel.epollFd)).toBe(-88)
    s.kernel.close(udp)
    s.kernel.close(tcp)
  })
})

test("a capture holds what was received and what was sent, as it went over the socket", () => {
  const file = join(s.folder, "capture.pcap")
  writeFileSync(file, "older")
  expect(s.kernel.openCapture(join(s.folder, "no", "such"))).toBe(-2)
  expect(s.kernel.openCapture(file)).toBe(0)
  const client = attached()
  const before = Date.now()
  client.write(framed(pattern(20, 1), pattern(1514, 2)))
  expect(s.link.receive()).toBe(2)
  queue(s, pattern(42, 3))
  queue(s, pattern(65_535, 4))
  s.link.flush()
  const sent = unframed(client.read())
  expect(s.kernel.closeCapture()).toBe(0)

  const bytes = readFileSync(file)
  expect(bytes.subarray(0, 24).toString("hex")).toBe("d4c3b2a1020004000000000000000000ffff000001000000")
  const captured: Buffer[] = []
  for (let at = 24; at < bytes.length;) {
    const length = bytes.readUInt32LE(at + 8)
    expect(bytes.readUInt32LE(at + 12)).toBe(length)
    const time = bytes.readUInt32LE(at) * 1000 + bytes.readUInt32LE(at + 4) / 1000
    expect(Math.abs(time - before)).toBeLessThan(5000)
    captured.push(bytes.subarray(at + 16, at + 16 + length))
    at += 16 + length
  }
  expect(captured).toEqual([pattern(20, 1), pattern(1514, 2), ...sent])
  expect(sent[0]).toEqual(padded(pattern(42, 3)))
  const fresh = join(s.folder, "fresh.pcap")
  expect(s.kernel.openCapture(fresh)).toBe(0)
  s.kernel.closeCapture()
  expect(statSync(fresh).mode & 0o777).toBe(0o600)
})

test("several links can't be made without end", () => {
  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  expect(() => {
    for (let i = 0; i < 100; i++) new UnixLink(kernel, frames)
  }).toThrow("errno 24")
  kernel.destroy()
})
