import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

import {
  FRAME_NEEDS_CHECKSUM,
  FRAME_SEGMENT_TCP4,
  FRAME_SEGMENT_TCP6,
  FRAME_SEGMENT_UDP,
  FrameTable,
  RX_ARENA_BYTES,
} from "@passt/core"
import { NativeKernel } from "@passt/native"
import { afterEach, describe, expect, test } from "vitest"

import {
  completeHeaders,
  frameOf,
  type Headers,
  headersOf,
  internetChecksum,
  pattern,
  sameButIdentification,
  segmentsOf,
} from "../../core/src/test-support/frames.ts"
import { batch, type Bridged, bridged, openSide, queue, receiveAll, send, type Side } from "./test-support/bridged.ts"
import { Packets } from "./test-support/packets.ts"
import { Space, tapsUnavailable } from "./test-support/space.ts"
import { QUEUE_FRAMES, TapLink } from "./tap-link.ts"

const why = tapsUnavailable()
if (why !== undefined) console.log(`skipped, tap devices: ${why}`)

const EBADF = 9
const EBUSY = 16
const ENAMETOOLONG = 36
const EISCONN = 106

/** Undone after each test, last first. */
let undo: (() => void)[] = []
afterEach(() => {
  for (const step of undo.reverse()) step()
  undo = []
})

function pair(mtu: number, guest = true): Bridged {
  const b = bridged(mtu, {}, { offloads: guest })
  undo.push(() => b.end())
  return b
}

function space(): Space {
  const made = new Space()
  undo.push(() => made.end())
  return made
}

/** Queues a TCP super-frame. */
function queueSegment(side: Side, h: Headers, payload: Buffer, mss: number): void {
  const headers = completeHeaders(h, headersOf(h), payload.length)
  const { frames, link } = side
  expect(link.reserveRows(1, headers.length + payload.length)).toBe(1)
  const row = link.reservedRow
  frames.arena.set(headers, frames.offset[row]!)
  frames.arena.set(payload, frames.offset[row]! + headers.length)
  frames.length[row] = headers.length + payload.length
  frames.flags[row] = FRAME_NEEDS_CHECKSUM | (h.v6 ? FRAME_SEGMENT_TCP6 : FRAME_SEGMENT_TCP4)
  frames.checksumStart[row] = headers.length - 20 - h.tcpOptions
  frames.checksumOffset[row] = 16
  frames.segmentSize[row] = mss
  link.commit(row)
}

const v4: Headers = { v6: false, ipOptions: 0, tcpOptions: 12, sequence: 77, flags: 0x18 }
const v6: Headers = { ...v4, v6: true }

describe.skipIf(why !== undefined)("the device", () => {
  test("is made where the kernel has entered, with a queue, offloads and a name", () => {
    const s = space()
    const side = openSide(s, "tap%d", {})
    undo.push(() => side.link.close())
    const [device] = JSON.parse(s.shell("ip -j link show tap0"))
    expect(side.link.name).toBe("tap0")
    expect(side.link.connected).toBe(true)
    expect(side.link.index).toBe(device.ifindex)
    expect(side.link.queue).toBe(QUEUE_FRAMES)
    expect(device.txqlen).toBe(QUEUE_FRAMES)
    expect(device.flags).not.toContain("UP")
    // TUN_F_CSUM, TSO4, TSO6: every kernel that we support.
    expect(side.link.offloads & 7).toBe(7)
    const mac = new Uint8Array(6)
    side.link.readMac(mac)
    expect(Buffer.from(mac).toString("hex")).toBe(device.address.replaceAll(":", ""))
    expect(side.link.open("other")).toBe(-EISCONN)
  })

  test("another's is not taken, and names have limits", () => {
    const s = space()
    const side = openSide(s, "eth0", { queue: 77 })
    expect(side.link.queue).toBe(77)
    const other = new TapLink(side.kernel, side.frames)
    expect(other.open("eth0")).toBe(-EBUSY)
    expect(other.open("a-name-of-16-byt")).toBe(-ENAMETOOLONG)
    expect(other.name).toBe("eth0")
    side.link.close()
    expect(s.shell("ip -j link | grep -c eth0 || true").trim()).toBe("0")
    expect(other.open("eth0")).toBe(0)
    other.close()
  })

  test("its end is told once, after its last frames", () => {
    const b = pair(1500)
    send(b.guest, [frameOf(64, 1), frameOf(65, 2)])
    b.space.shell("ip link del ours")
    expect(b.ours.kernel.wait(1000)).toBe(1)
    expect(b.told).toEqual([])
    let result = b.ours.link.receive()
    // The kernel throws away what its queue held.
    if (result > 0) result = b.ours.link.receive()
    expect(result).toBeLessThan(0)
    expect(b.told).toEqual([`disconnected ${-result}`])
    expect(b.ours.link.connected).toBe(false)
    expect(b.ours.link.more).toBe(false)
    expect(b.ours.link.receive()).toBe(0)
    expect(queue(b.ours, frameOf(64))).toBe(true)
    expect(b.ours.link.flush()).toBe(0)
    expect(b.ours.kernel.wait(0)).toBe(0)
  })

  test("its end is found out by a write too", () => {
    const b = pair(1500)
    b.space.shell("ip link del ours")
    queue(b.ours, frameOf(64))
    expect(b.ours.link.flush()).toBe(0)
    expect(b.ours.link.more).toBe(true)
    expect(b.ours.link.receive()).toBeLessThan(0)
    expect(b.told.length).toBe(1)
  })

  test("while it is down, frames are lost and counted", () => {
    const b = pair(1500)
    b.space.shell("ip link set ours down")
    for (let i = 0; i < 3; i++) queue(b.ours, frameOf(64, i))
    expect(b.ours.link.flush()).toBe(0)
    expect(b.ours.link.lostFrames).toBe(3)
    expect(b.ours.link.connected).toBe(true)
    b.space.shell("ip link set ours up; sleep 0.1; bridge link set dev ours state 3 2>/dev/null || true")
    queue(b.ours, frameOf(64, 4))
    b.ours.link.flush()
    expect(b.ours.link.lostFrames).toBe(3)
    expect(receiveAll(b.guest)).toEqual([frameOf(64, 4)])
  })
})

describe.skipIf(why !== undefined)("super-frames", () => {
  test.each([1500, 9000, 65_520])("cross whole in both directions at MTU %i", (mtu) => {
    const b = pair(mtu)
    for (const [from, to] of [
      [b.guest, b.ours],
      [b.ours, b.guest],
    ] as const) {
      for (const h of [v4, v6]) {
        const mss = Math.min(mtu - 100, 30_000)
        const payload = pattern(65_000, mtu)
        queueSegment(from, h, payload, mss)
        from.link.flush()
        expect(to.kernel.wait(1000)).toBe(1)
        expect(to.link.receive()).toBe(1)
        expect(to.frames.flags[0]).toBe(FRAME_NEEDS_CHECKSUM)
        const whole = Buffer.concat([completeHeaders(h, headersOf(h), payload.length), payload])
        const got = batch(to, 1)[0]!
        if (!got.equals(whole)) expect(got).toEqual(whole)
        expect(to.link.more).toBe(false)
        expect(to.link.receive()).toBe(0)
      }
    }
    expect(b.ours.link.badFrames).toBe(0)
    expect(b.guest.link.refusedRows).toBe(0)
  })

  test("are cut by the kernel for a device without offloads", () => {
    const b = pair(1500, false)
    const payload = pattern(50_001, 3)
    for (const h of [v4, v6]) {
      queueSegment(b.ours, h, payload, 1400)
      b.ours.link.flush()
      const got = receiveAll(b.guest)
      const want = segmentsOf(h, headersOf(h), payload, 1400)
      expect(got.length).toBe(want.length)
      for (let i = 0; i < want.length; i++) expect(sameButIdentification(got[i]!, want[i]!), `frame ${i}`).toBe(true)
    }
  })

  test("a batch is bounded in bytes, so that acknowledgements need not wait for all of a burst", () => {
    const b = pair(1500)
    const payload = pattern(64_000, 1)
    for (let i = 0; i < 40; i++) {
      queueSegment(b.guest, v4, payload, 1400)
      b.guest.link.flush()
    }
    let frames = 0
    do {
      const rows = b.ours.link.receive()
      expect(rows).toBeLessThanOrEqual(7)
      for (let row = 0; row < rows; row++)
        expect(b.ours.frames.offset[row]! + b.ours.frames.length[row]!).toBeLessThanOrEqual(RX_ARENA_BYTES)
      frames += rows
    } while (b.ours.link.more)
    expect(frames).toBe(40)
  })

  test("a capture holds them whole, with their checksums", () => {
    const b = pair(1500)
    const folder = mkdtempSync(join(tmpdir(), "passt-tap-"))
    undo.push(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "capture.pcap")
    expect(b.ours.kernel.openCapture(file)).toBe(0)
    const payload = pattern(20_001, 1)
    queueSegment(b.guest, v4, payload, 1400)
    send(b.guest, [frameOf(99, 2)])
    receiveAll(b.ours)
    queueSegment(b.ours, v6, payload, 1400)
    send(b.ours, [frameOf(42, 3)])
    b.ours.kernel.closeCapture()
    const bytes = readFileSync(file)
    const captured: Buffer[] = []
    for (let at = 24; at < bytes.length; at += 16 + bytes.readUInt32LE(at + 8))
      captured.push(bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8)))
    const whole = (h: Headers) => segmentsOf(h, headersOf(h), payload, 60_000)[0]!
    expect(captured.length).toBe(4)
    for (const [i, want] of [whole(v4), frameOf(99, 2), whole(v6), frameOf(42, 3)].entries())
      expect(captured[i]!.equals(want), `frame ${i}`).toBe(true)
    // The guest's kernel got what it was promised: an unfinished one.
    expect(
      receiveAll(b.guest)[0]!.equals(Buffer.concat([completeHeaders(v6, headersOf(v6), payload.length), payload])),
    ).toBe(true)
  })
})

describe.skipIf(why !== undefined)("datagrams of one flow that follow each other", () => {
  interface Datagram {
    v6?: boolean
    port?: number
    bytes: number
    ttl?: number
  }
  /** Queues a datagram as the engine does: without a checksum over IPv4, with one to finish over IPv6. */
  function queueDatagram({ frames, link }: Side, { v6: six = false, port = 7, bytes, ttl = 64 }: Datagram): Buffer {
    const header = six ? 62 : 42
    const frame = frameOf(header + bytes, bytes + port)
    frame.writeUInt16BE(six ? 0x86dd : 0x0800, 12)
    if (six) {
      frame.set([0x60, 0, 0, 1, 0, 0, 17, ttl], 14)
      frame.writeUInt16BE(8 + bytes, 18)
      frame.fill(0xfd, 22, 54)
    } else {
      frame.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2], 14)
      frame.writeUInt16BE(28 + bytes, 16)
      frame.writeUInt16BE(internetChecksum(frame.subarray(14, 34)), 24)
    }
    frame.writeUInt16BE(port, header - 8)
    frame.writeUInt16BE(9, header - 6)
    frame.writeUInt16BE(8 + bytes, header - 4)
    frame.writeUInt16BE(0, header - 2)
    const end = Buffer.from([0, 17, (8 + bytes) >> 8, (8 + bytes) & 255])
    const addresses = six ? frame.subarray(22, 54) : frame.subarray(26, 34)
    const pseudo = ~internetChecksum(Buffer.concat([addresses, end])) & 0xffff
    if (six) frame.writeUInt16BE(pseudo, header - 2)

    const row = link.reserve(frame.length)
    frames.arena.set(frame, frames.offset[row]!)
    frames.length[row] = frame.length
    frames.flags[row] = six ? FRAME_NEEDS_CHECKSUM : 0
    frames.checksumStart[row] = header - 8
    frames.checksumOffset[row] = 6
    link.commit(row)
    // What a socket of the guest's would have to accept.
    const body = Buffer.from(frame.subarray(header - 8))
    body.writeUInt16BE(0, 6)
    const sum = internetChecksum(Buffer.concat([addresses, end, body]))
    frame.writeUInt16BE(sum === 0 ? 0xffff : sum, header - 2)
    return frame
  }
  /** Without the checksum, which over IPv4 may be missing, and what the kernel may number. */
  function neutral(frame: Buffer): Buffer {
    const copy = Buffer.from(frame)
    if (copy.readUInt16BE(12) === 0x0800) {
      copy.fill(0, 18, 20)
      copy.fill(0, 24, 26)
      copy.fill(0, 40, 42)
    }
    return copy
  }
  const repeat = (count: number, one: Datagram): Datagram[] => Array.from({ length: count }, () => one)

  test.each<[string, Datagram[]]>([
    ["many", repeat(40, { bytes: 64 })],
    ["many over IPv6", repeat(40, { v6: true, bytes: 65 })],
    ["more than one frame holds", repeat(150, { bytes: 1400 })],
    ["a shorter one at the end", [...repeat(10, { bytes: 1000 }), { bytes: 1 }, ...repeat(10, { bytes: 1000 })]],
    ["a longer one", [...repeat(10, { bytes: 100 }), { bytes: 101 }, ...repeat(5, { bytes: 100 })]],
    ["empty ones", repeat(6, { bytes: 0 })],
    ["another flow's between", [...repeat(4, { bytes: 9 }), { bytes: 9, port: 8 }, ...repeat(4, { bytes: 9 })]],
    ["another family's between", [...repeat(4, { bytes: 9 }), { bytes: 9, v6: true }, ...repeat(4, { bytes: 9 })]],
    ["hop limits that differ", [...repeat(4, { bytes: 9 }), ...repeat(4, { bytes: 9, ttl: 3 })]],
    ["two", repeat(2, { bytes: 500 })],
  ])("come out one by one: %s", (_, datagrams) => {
    const b = pair(1500, false)
    const want = datagrams.map((one) => queueDatagram(b.ours, one))
    b.ours.link.flush()
    const got = receiveAll(b.guest)
    expect(b.ours.link.refusedRows).toBe(0)
    expect(got.length).toBe(want.length)
    for (let i = 0; i < want.length; i++) {
      if (!neutral(got[i]!).equals(neutral(want[i]!)))
        expect(neutral(got[i]!), `datagram ${i}`).toEqual(neutral(want[i]!))
    }
  })

  test("cross as one super-frame where the guest's kernel takes it; a capture has them one by one", () => {
    const b = pair(1500)
    if ((b.ours.link.offloads & 0x20) === 0) return console.log("skipped: this kernel has no UDP super-frames")
    const folder = mkdtempSync(join(tmpdir(), "passt-tap-"))
    undo.push(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "capture.pcap")
    b.ours.kernel.openCapture(file)
    const want = repeat(20, { v6: true, bytes: 700 }).map((one) => queueDatagram(b.ours, one))
    b.ours.link.flush()
    b.ours.kernel.closeCapture()
    b.guest.kernel.wait(0)
    expect(b.guest.link.receive()).toBe(1)
    expect(b.guest.frames.flags[0]).toBe(FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_UDP)
    expect(b.guest.frames.segmentSize[0]).toBe(700)
    expect(b.guest.frames.length[0]).toBe(62 + 20 * 700)
    const [whole] = batch(b.guest, 1)
    expect(whole!.readUInt16BE(18)).toBe(8 + 20 * 700)
    expect(whole!.readUInt16BE(58)).toBe(8 + 20 * 700)
    for (let i = 0; i < 20; i++) {
      expect(whole!.subarray(62 + i * 700, 62 + (i + 1) * 700).equals(want[i]!.subarray(62)), `datagram ${i}`).toBe(
        true,
      )
    }
    const bytes = readFileSync(file)
    const captured: Buffer[] = []
    for (let at = 24; at < bytes.length; at += 16 + bytes.readUInt32LE(at + 8))
      captured.push(bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8)))
    expect(captured).toEqual(want)
  })
})

describe("virtio's header is input", () => {
  function adopted(): Side & { packets: Packets } {
    const kernel = new NativeKernel()
    const frames = new FrameTable()
    kernel.attach(frames)
    const link = new TapLink(kernel, frames)
    const packets = new Packets(kernel)
    expect(link.adopt(packets.theirs, true)).toBe(0)
    undo.push(() => {
      link.close()
      packets.end()
      kernel.destroy()
    })
    return { kernel, frames, link, packets }
  }
  interface Fields {
    flags?: number
    type?: number
    headerLength?: number
    size?: number
    start?: number
    offset?: number
  }
  function packet(fields: Fields, frame: Buffer): Buffer {
    const { flags = 0, type = 0, headerLength = 0, size = 0, start = 0, offset = 0 } = fields
    const header = new Uint8Array(new Uint16Array([0, headerLength, size, start, offset]).buffer)
    header[0] = flags
    header[1] = type
    return Buffer.concat([header, frame])
  }

  test.each<[string, Fields, number, number]>([
    ["nothing", {}, 0, 0],
    ["a checksum to finish", { flags: 1, start: 34, offset: 16 }, FRAME_NEEDS_CHECKSUM, 0],
    ["a checksum in places that there are not", { flags: 1, start: 65_535, offset: 65_535 }, FRAME_NEEDS_CHECKSUM, 0],
    ["bits that we don't know", { flags: 0xfe }, 0, 0],
    ["TCP over IPv4", { flags: 1, type: 1, size: 1400 }, FRAME_NEEDS_CHECKSUM, 0],
    ["TCP over IPv6", { flags: 1, type: 4, size: 1400 }, FRAME_NEEDS_CHECKSUM, 0],
    ["TCP with ECN", { flags: 1, type: 0x81, size: 1400 }, FRAME_NEEDS_CHECKSUM, 0],
    ["TCP in segments of nothing", { type: 1 }, 0, 0],
    ["headers longer than the frame", { headerLength: 65_535 }, 0, 0],
    ["UDP", { flags: 1, type: 5, size: 500 }, FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_UDP, 500],
    ["UDP in datagrams longer than the frame", { type: 5, size: 65_535 }, FRAME_SEGMENT_UDP, 65_535],
  ])("%s", (_, fields, flags, segment) => {
    const side = adopted()
    side.packets.write(packet(fields, frameOf(2000, 1)))
    expect(side.link.receive()).toBe(1)
    expect(batch(side, 1)).toEqual([frameOf(2000, 1)])
    expect(side.frames.flags[0]).toBe(flags)
    expect(side.frames.segmentSize[0]).toBe(segment)
    expect(side.link.badFrames).toBe(0)
  })

  test.each<[string, Fields, number]>([
    ["UDP in datagrams of nothing", { type: 5 }, 2000],
    ["thousands of datagrams of a byte", { type: 5, size: 1 }, 2000],
    ["fragments, which nobody offered", { type: 3, size: 1400 }, 2000],
    ["an unknown type", { type: 2, size: 1400 }, 2000],
    ["another unknown type", { type: 0x7f }, 2000],
    ["a frame without Ethernet header", {}, 13],
    ["no frame", {}, 0],
  ])("dropped and counted: %s", (_, fields, length) => {
    const side = adopted()
    side.packets.write(packet(fields, frameOf(length, 1)))
    side.packets.write(packet({}, frameOf(70, 2)))
    expect(side.link.receive()).toBe(1)
    expect(batch(side, 1)).toEqual([frameOf(70, 2)])
    expect(side.link.badFrames).toBe(1)
  })

  test("half a header is dropped", () => {
    const side = adopted()
    side.packets.write(Buffer.from([1, 2, 3]))
    expect(side.link.receive()).toBe(0)
    expect(side.link.badFrames).toBe(1)
    expect(side.link.more).toBe(false)
  })

  test("nothing but bad frames still ends the turn", () => {
    const side = adopted()
    const bad = packet({ type: 9 }, frameOf(64))
    for (let i = 0; i < 300; i++) side.packets.write(bad)
    expect(side.link.receive()).toBe(0)
    expect(side.link.badFrames).toBeGreaterThan(0)
    expect(side.link.badFrames).toBeLessThanOrEqual(256)
    while (side.link.more) expect(side.link.receive()).toBe(0)
  })

  test("any header: the row's columns are within what the engine expects", () => {
    const side = adopted()
    let x = 1
    const random = (below: number): number => {
      x = (Math.imul(x, 1664525) + 1013904223) | 0
      return (x >>> 8) % below
    }
    for (let i = 0; i < 5000; i++) {
      const length = random(3000)
      const any = packet({}, frameOf(length, i))
      for (let j = 0; j < 10; j++) any[j] = random(3) === 0 ? random(256) : random(8)
      side.packets.write(any)
      const bad = side.link.badFrames
      const rows = side.link.receive()
      expect(rows + side.link.badFrames - bad).toBe(1)
      if (rows === 0) continue
      expect(batch(side, 1)[0]!.equals(frameOf(length, i))).toBe(true)
      expect(side.frames.flags[0]! & ~(FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_UDP)).toBe(0)
      if ((side.frames.flags[0]! & FRAME_SEGMENT_UDP) === 0) expect(side.frames.segmentSize[0]).toBe(0)
      else expect(length / side.frames.segmentSize[0]!).toBeLessThan(200)
    }
  })

  test("what we write says what is left to do", () => {
    const side = adopted()
    queueSegment(side, v4, pattern(2500, 1), 1000)
    side.link.flush()
    const got = side.packets.read()
    const words = new Uint16Array(new Uint8Array(got.subarray(0, 10)).buffer)
    expect([got[0], got[1], ...words.subarray(1)]).toEqual([1, 1, 66, 1000, 34, 16])
    // One segment is no super-frame.
    queueSegment(side, v6, pattern(1000, 1), 1000)
    side.link.flush()
    const one = side.packets.read()
    const fields = new Uint16Array(new Uint8Array(one.subarray(0, 10)).buffer)
    expect([one[0], one[1], ...fields.subarray(1)]).toEqual([1, 0, 86, 0, 54, 16])
    queue(side, frameOf(60))
    side.link.flush()
    expect(side.packets.read()).toEqual(Buffer.concat([Buffer.alloc(10), frameOf(60)]))
  })

  test("descriptors that are none, or of another kind", () => {
    const side = adopted()
    expect(side.link.adopt(side.kernel.epollFd, true)).toBe(-EISCONN)
    const other = new TapLink(side.kernel, side.frames)
    expect(other.adopt(-1)).toBe(-EBADF)
    expect(other.connected).toBe(false)
    expect(other.receive()).toBe(0)
  })
})

test.skipIf(why !== undefined)("receiving and sending leave no garbage", () => {
  const folder = mkdtempSync(join(tmpdir(), "passt-tap-"))
  undo.push(() => rmSync(folder, { recursive: true }))
  const file = join(folder, "child.ts")
  const here = import.meta.dirname
  writeFileSync(
    file,
    `
    import { FRAME_NEEDS_CHECKSUM, FRAME_SEGMENT_TCP4 } from ${JSON.stringify(join(here, "../../core/src/index.ts"))}
    import { frameOf, headersOf, completeHeaders, pattern } from ${JSON.stringify(join(here, "../../core/src/test-support/frames.ts"))}
    import { bridged, queue } from ${JSON.stringify(join(here, "test-support/bridged.ts"))}
    const b = bridged(1500, {}, {})
    const h = { v6: false, ipOptions: 0, tcpOptions: 0, sequence: 1, flags: 0x18 }
    const large = Buffer.concat([completeHeaders(h, headersOf(h), 20000), pattern(20000)])
    let sum = 0
    function turn({ link, frames, kernel }) {
      sum = (sum + kernel.wait(0)) | 0
      link.handleEvent(0, 1)
      sum = (sum + link.receive() + (link.more ? 1 : 0) + link.pull(0, 20)) | 0
      let row = link.reserve(1000)
      frames.length[row] = 64
      link.commit(row)
      if (link.reserveRows(1, large.length) === 1) {
        row = link.reservedRow
        frames.length[row] = large.length
        frames.flags[row] = FRAME_NEEDS_CHECKSUM | FRAME_SEGMENT_TCP4
        frames.checksumStart[row] = 34
        frames.checksumOffset[row] = 16
        frames.segmentSize[row] = 1460
        link.commit(row)
      }
      sum = (sum + link.flush() + (link.blocked ? 1 : 0)) | 0
    }
    // The bytes of the first two rows stay where they are.
    for (const side of [b.ours, b.guest]) {
      queue(side, frameOf(64))
      queue(side, large)
      side.link.flush()
    }
    for (let i = 0; i < 5_000; i++) {
      turn(b.ours)
      turn(b.guest)
    }
    await new Promise((done) => setTimeout(done, 100))
    gc()
    console.log("measured part begins")
    for (let i = 0; i < 20_000; i++) {
      turn(b.ours)
      turn(b.guest)
    }
    console.log("measured part ends", b.ours.link.refusedRows, b.ours.link.lostFrames, b.guest.link.badFrames)
    b.end()
    process.exit(0)
  `,
  )
  const flags = ["--expose-gc", "--trace-gc", "--min-semi-space-size=1", "--max-semi-space-size=1"]
  const out = execFileSync(process.execPath, [...flags, file], { encoding: "utf8" })
  expect(out).toContain("measured part ends 0 0 0")
  const part = out.slice(out.indexOf("measured part begins"), out.indexOf("measured part ends"))
  expect(part.split("\n").filter((line) => /Scavenge|Mark-Compact/.test(line))).toEqual([])
})
