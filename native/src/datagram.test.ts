import {
  ADDRESS_LOCAL,
  ADDRESS_OFFENDER,
  ADDRESS_REMOTE,
  EAGAIN,
  ECONNREFUSED,
  EINVAL,
  EMSGSIZE,
  ERROR_CODE,
  ERROR_ERRNO,
  ERROR_ORIGIN,
  ERROR_PAYLOAD,
  ERROR_TYPE,
  FRAME_MAX,
  FRAME_SEGMENT_UDP,
} from "@passt/core"
import { afterEach, beforeEach, describe, expect, test } from "vitest"

import { enterNamespace, runChild } from "./test-support/child.ts"
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

function listenUdp(family: number, address: string, dualStack = false): { fd: number; port: number } {
  const made = onFreePort((port) => {
    setAddress(b.kernel, ADDRESS_LOCAL, address, port)
    return b.kernel.listenUdp(family, dualStack, "", false)
  })
  open.push(made.fd)
  return made
}

function connectUdp(family: number, address: string, port: number): number {
  const fd = b.kernel.udpSocket(family, false)
  open.push(fd)
  setAddress(b.kernel, ADDRESS_REMOTE, address, port)
  expect(b.kernel.connect(fd, family)).toBe(0)
  return fd
}

/** Sends one datagram. */
function send(fd: number, bytes: Uint8Array): void {
  const row = layRows(b.frames, 1, bytes.length)
  fillPayload(b.frames, row, bytes)
  expect(b.kernel.sendDatagrams(fd, 0, 1)).toBe(1)
}

describe("on a listening socket", () => {
  test.each([
    [4, "0.0.0.0", "127.0.0.9", 4],
    [6, "::", "::1", 6],
    [6, "::", "127.0.0.9", 4],
  ])("family %i bound to %s: a datagram for %s tells where it came from and went to", (family, bound, to, via) => {
    const { fd, port } = listenUdp(family, bound, true)
    const client = connectUdp(via, to, port)
    send(client, pattern(100))
    const row = layRows(b.frames, 1, 200)
    expect(b.kernel.receiveFrom(fd, row, true)).toBe(100)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(100)
    expect(addressAt(b.kernel, ADDRESS_LOCAL)).toEqual([...words(to), port, 0])
    expect(addressAt(b.kernel, ADDRESS_REMOTE).slice(0, 4)).toEqual(words(via === 4 ? "127.0.0.1" : "::1"))
    expect(addressAt(b.kernel, ADDRESS_REMOTE)[4]).toBeGreaterThan(0)
    expect(b.frames.payloadLength[row]).toBe(100)
    expect(payloadAt(b.frames, row)).toEqual(pattern(100))
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(-EAGAIN)
  })

  test("an empty datagram is one", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    send(connectUdp(4, "127.0.0.1", port), Buffer.alloc(0))
    const row = layRows(b.frames, 1, 200)
    b.frames.payloadLength[row] = 77
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(0)
    expect(b.frames.payloadLength[row]).toBe(0)
  })

  test("one that is longer than the row is told when looking, and refused when taking", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    const client = connectUdp(4, "127.0.0.1", port)
    send(client, pattern(500))
    send(client, pattern(10))
    const row = layRows(b.frames, 1, 100)
    expect(b.kernel.receiveFrom(fd, row, true)).toBe(500)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(-EMSGSIZE)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(10)
  })

  test("the socket of a flow can be bound beside it; another listener can't", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    const client = connectUdp(4, "127.0.0.1", port)
    send(client, pattern(10))
    const row = layRows(b.frames, 1, 100)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(10)

    setAddress(b.kernel, ADDRESS_LOCAL, "127.0.0.1", port)
    expect(b.kernel.listenUdp(4, false, "", false)).toBe(-98)
    const flow = b.kernel.udpSocket(4, false)
    open.push(flow)
    expect(b.kernel.setReuseAddress(flow)).toBe(0)
    expect(b.kernel.bind(flow, 4)).toBe(0)
    // ADDRESS_REMOTE still holds the sender.
    expect(b.kernel.connect(flow, 4)).toBe(0)
    send(client, pattern(20))
    layRows(b.frames, 1, 100)
    expect(b.kernel.receiveDatagrams(flow, row, 1, 100)).toBe(1)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(-EAGAIN)
  })

  test("rows that do not exist, or are out of the arena, are refused", () => {
    const { fd } = listenUdp(4, "127.0.0.1")
    expect(b.kernel.receiveFrom(fd, FRAME_MAX, false)).toBe(-EINVAL)
    expect(b.kernel.receiveFrom(fd, -1, false)).toBe(-EINVAL)
    const row = layRows(b.frames, 1, 100)
    b.frames.payload[row] = 60_000
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(-EINVAL)
  })
})

describe("on connected sockets", () => {
  test("a batch goes out and comes in, each datagram in its own row", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    const client = connectUdp(4, "127.0.0.1", port)
    const sizes = [1, 1400, 0, 60, 8000]
    const first = layRows(b.frames, sizes.length, 8000)
    sizes.forEach((size, i) => {
      b.frames.payloadLength[first + i] = size
      fillPayload(b.frames, first + i, pattern(size, i + 1))
    })
    expect(b.kernel.sendDatagrams(client, 0, sizes.length)).toBe(sizes.length)
    layRows(b.frames, 10, 9000)
    expect(b.kernel.receiveDatagrams(fd, first, 10, 9000)).toBe(sizes.length)
    expect(Array.from(b.frames.payloadLength.subarray(first, first + 5))).toEqual(sizes)
    sizes.forEach((size, i) => expect(payloadAt(b.frames, first + i)).toEqual(pattern(size, i + 1)))
    expect(b.kernel.receiveDatagrams(fd, first, 10, 9000)).toBe(-EAGAIN)
  })

  test("a datagram that is too long for any network is an error of its own", () => {
    const { port } = listenUdp(4, "127.0.0.1")
    const client = connectUdp(4, "127.0.0.1", port)
    layRows(b.frames, 2, 65_508)
    b.frames.payloadLength[b.frames.gather[0]!] = 10
    expect(b.kernel.sendDatagrams(client, 0, 2)).toBe(1)
    expect(b.kernel.sendDatagrams(client, 1, 1)).toBe(-EMSGSIZE)
  })

  test("more room than a row has is refused", () => {
    const { fd } = listenUdp(4, "127.0.0.1")
    const first = layRows(b.frames, 2, 100)
    expect(b.kernel.receiveDatagrams(fd, first, 2, 101)).toBe(-EINVAL)
    expect(b.kernel.receiveDatagrams(fd, FRAME_MAX - 1, 2, 10)).toBe(-EINVAL)
    expect(b.kernel.sendDatagrams(fd, 0, 1025)).toBe(-EINVAL)
  })

  test("the hop limit can be set", () => {
    const { port } = listenUdp(4, "127.0.0.1")
    expect(b.kernel.setHopLimit(connectUdp(4, "127.0.0.1", port), 4, 3)).toBe(0)
    expect(b.kernel.setHopLimit(connectUdp(6, "::1", port), 6, 3)).toBe(0)
    expect(b.kernel.setHopLimit(connectUdp(6, "::1", port), 6, 300)).toBe(-EINVAL)
  })

  test.each([
    [4, "127.0.0.1", false],
    [6, "::1", false],
    [4, "127.0.0.1", true],
  ])("the hop limit of what arrives is told, IPv%i (%s, dual stack: %s)", (family, address, dual) => {
    const { fd, port } = listenUdp(dual ? 6 : family, dual ? "::" : address, dual)
    const client = connectUdp(family, address, port)
    const sendWith = (hops: number): void => {
      expect(b.kernel.setHopLimit(client, family, hops)).toBe(0)
      send(client, pattern(10))
    }
    sendWith(1)
    const row = layRows(b.frames, 2, 100)
    expect(b.kernel.receiveFrom(fd, row, false)).toBe(10)
    expect(b.frames.hopLimit[row]).toBe(1)

    const flow = b.kernel.udpSocket(family, false)
    open.push(flow)
    expect(b.kernel.wantHopLimits(flow, family)).toBe(0)
    expect(b.kernel.setReuseAddress(flow)).toBe(0)
    setAddress(b.kernel, ADDRESS_LOCAL, address, port)
    expect(b.kernel.bind(flow, family)).toBe(0)
    // ADDRESS_REMOTE still holds the sender.
    expect(b.kernel.connect(flow, family)).toBe(0)
    for (const hops of [63, 255]) sendWith(hops)
    layRows(b.frames, 2, 100)
    expect(b.kernel.receiveDatagrams(flow, row, 2, 100)).toBe(2)
    expect(Array.from(b.frames.hopLimit.subarray(row, row + 2))).toEqual([63, 255])
  })
})

describe("error queue", () => {
  test.each([
    [4, "127.0.0.1", 2, 3, 3],
    [6, "::1", 3, 1, 4],
  ])(
    "family %i: port unreachable tells type, code, offender and the datagram",
    (family, address, origin, type, code) => {
      const { fd, port } = listenUdp(family, address)
      b.kernel.close(fd)
      open.splice(open.indexOf(fd), 1)
      const client = connectUdp(family, address, port)
      send(client, pattern(40))
      const row = layRows(b.frames, 1, 100)
      expect(b.kernel.readError(client, row, 100)).toBe(1)
      expect(b.kernel.error[ERROR_ERRNO]).toBe(ECONNREFUSED)
      expect(b.kernel.error[ERROR_ORIGIN]).toBe(origin)
      expect(b.kernel.error[ERROR_TYPE]).toBe(type)
      expect(b.kernel.error[ERROR_CODE]).toBe(code)
      expect(b.kernel.error[ERROR_PAYLOAD]).toBe(40)
      expect(payloadAt(b.frames, row, 40)).toEqual(pattern(40))
      expect(addressAt(b.kernel, ADDRESS_OFFENDER).slice(0, 4)).toEqual(words(address))
      expect(addressAt(b.kernel, ADDRESS_REMOTE)).toEqual([...words(address), port, 0])
      expect(b.kernel.readError(client, row, 100)).toBe(0)
    },
  )

  test("room for less than the datagram gets its beginning", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    b.kernel.close(fd)
    open.splice(open.indexOf(fd), 1)
    const client = connectUdp(4, "127.0.0.1", port)
    send(client, pattern(40))
    const row = layRows(b.frames, 1, 100)
    b.frames.arena.fill(0, b.frames.offset[row]!, b.frames.offset[row]! + 154)
    expect(b.kernel.readError(client, row, 8)).toBe(1)
    expect(b.kernel.error[ERROR_PAYLOAD]).toBe(8)
    expect(payloadAt(b.frames, row, 10)).toEqual(Buffer.concat([pattern(40).subarray(0, 8), Buffer.alloc(2)]))
    expect(b.kernel.readError(client, row, 101)).toBe(-EINVAL)
    expect(b.kernel.readError(client, -1, 8)).toBe(-EINVAL)
  })

  test("a mapped destination of an IPv6 socket reports the errors of IPv4", () => {
    const { fd, port } = listenUdp(4, "127.0.0.1")
    b.kernel.close(fd)
    open.splice(open.indexOf(fd), 1)
    const client = connectUdp(6, "127.0.0.1", port)
    send(client, pattern(12))
    const row = layRows(b.frames, 1, 100)
    expect(b.kernel.readError(client, row, 100)).toBe(1)
    expect(b.kernel.error[ERROR_ORIGIN]).toBe(2)
    expect(addressAt(b.kernel, ADDRESS_OFFENDER).slice(0, 4)).toEqual(words("127.0.0.1"))
  })
})

// In a network namespace of its own, where net.ipv4.ping_group_range is what the test wants.
const entered = enterNamespace('echo "0 0" >/proc/sys/net/ipv4/ping_group_range')
if (typeof entered === "string") console.log(`skipped, tests of ping sockets: ${entered}`)
const inside = typeof entered === "string" ? [] : entered

describe.skipIf(inside.length === 0)("ping sockets", () => {
  test.each([
    [4, "127.0.0.1", 8, 0],
    [6, "::1", 128, 129],
  ])("of family %i: a request gets its reply, with the socket's identifier", (family, address, request, reply) => {
    const printed = runChild(
      `
      const { kernel, frames } = l.bench()
      const fd = kernel.pingSocket(${family})
      l.setAddress(kernel, core.ADDRESS_LOCAL, ${family} === 4 ? "0.0.0.0" : "::", 0x4321)
      l.setAddress(kernel, core.ADDRESS_REMOTE, "${address}", 0)
      const made = [kernel.bind(fd, ${family}), kernel.connect(fd, ${family}), kernel.watch(fd, 1)]
      let row = l.layRows(frames, 1, 12)
      l.fillPayload(frames, row, Buffer.from([${request}, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4]))
      made.push(kernel.sendDatagrams(fd, 0, 1))
      for (let i = 0; i < 20; i++) if (kernel.wait(100) > 0 && kernel.events[1] & core.EVENT_IN) break
      row = l.layRows(frames, 1, 100)
      made.push(kernel.receiveDatagrams(fd, row, 1, 100))
      const bytes = l.payloadAt(frames, row)
      console.log(JSON.stringify([made, bytes[0], bytes.subarray(4).toString("hex")]))`,
      [],
      inside,
    )
    expect(JSON.parse(printed)).toEqual([[0, 0, 0, 1, 1], reply, "4321000501020304"])
  })

  test.each([
    [4, "127.0.0.1"],
    [6, "::1"],
  ])("of family %i: no two have one identifier", (family, address) => {
    const printed = runChild(
      `
      const { kernel } = l.bench()
      const one = kernel.pingSocket(${family})
      const two = kernel.pingSocket(${family})
      const bind = (fd, port) => {
        l.setAddress(kernel, core.ADDRESS_LOCAL, ${family} === 4 ? "0.0.0.0" : "::", port)
        return kernel.bind(fd, ${family})
      }
      l.setAddress(kernel, core.ADDRESS_REMOTE, "${address}", 0)
      const results = [bind(one, 0x4321), kernel.connect(one, ${family}), bind(two, 0x4321), bind(two, 0x4322)]
      kernel.close(one)
      const three = kernel.pingSocket(${family})
      results.push(bind(three, 0x4321))
      console.log(JSON.stringify(results))`,
      [],
      inside,
    )
    expect(JSON.parse(printed)).toEqual([0, 0, -98, 0, 0])
  })
})

describe("super-frames of datagrams", () => {
  /** A row whose payload is datagrams of `each` bytes. */
  function superRow(index: number, bytes: number, each: number): Buffer {
    const row = FRAME_MAX - 1 - index
    b.frames.offset[row] = 1_100_000 + index * 70_000
    b.frames.payload[row] = 42
    b.frames.payloadLength[row] = bytes
    b.frames.length[row] = 42 + bytes
    b.frames.window[row] = 42 + bytes
    b.frames.flags[row] = each > 0 ? FRAME_SEGMENT_UDP : 0
    b.frames.segmentSize[row] = each
    b.frames.gather[index] = row
    const payload = pattern(bytes, index + each)
    fillPayload(b.frames, row, payload)
    return payload
  }
  function pair(): { client: number; server: number } {
    const { fd: server, port } = listenUdp(4, "127.0.0.1")
    return { client: connectUdp(4, "127.0.0.1", port), server }
  }
  function receive(fd: number): Buffer[] {
    const got: Buffer[] = []
    const row = layRows(b.frames, 1, 65_000)
    while (b.kernel.receiveDatagrams(fd, row, 1, 65_000) === 1) got.push(payloadAt(b.frames, row))
    return got
  }
  function cut(payload: Buffer, each: number): Buffer[] {
    const out: Buffer[] = []
    for (let at = 0; at < payload.length; at += each) out.push(payload.subarray(at, at + each))
    return out
  }

  test.each([
    [10_000, 1000],
    [10_001, 1000],
    [65_000, 1232],
    [2800, 1400],
    [128, 1],
    [60_000, 30_000],
    [1000, 1000],
    [999, 1000],
    [1, 1],
  ])("%i bytes by %i", (bytes, each) => {
    const { client, server } = pair()
    const payload = superRow(0, bytes, each)
    expect(b.kernel.sendDatagrams(client, 0, 1)).toBe(1)
    expect(receive(server)).toEqual(cut(payload, each))
  })

  test("between others, in order", () => {
    const { client, server } = pair()
    const want: Buffer[] = []
    const sizes: [number, number][] = [
      [100, 0],
      [5000, 500],
      [100, 0],
      [100, 0],
      [100, 0],
      [100, 0],
      [100, 0],
      [3001, 1500],
      [4, 1],
      [700, 0],
    ]
    sizes.forEach(([bytes, each], i) => want.push(...cut(superRow(i, bytes, each), each === 0 ? bytes : each)))
    expect(b.kernel.sendDatagrams(client, 0, sizes.length)).toBe(sizes.length)
    expect(receive(server)).toEqual(want)
  })

  test("more datagrams than the kernel cuts at once are cut here", () => {
    const { client, server } = pair()
    const payload = superRow(0, 400, 2)
    expect(b.kernel.sendDatagrams(client, 0, 1)).toBe(1)
    expect(receive(server)).toEqual(cut(payload, 2))
  })

  test("more than a call can take is refused", () => {
    const { client, server } = pair()
    superRow(0, 5000, 1)
    expect(b.kernel.sendDatagrams(client, 0, 1)).toBe(-EINVAL)
    const fits = superRow(0, 100, 50)
    superRow(1, 5000, 1)
    expect(b.kernel.sendDatagrams(client, 0, 2)).toBe(1)
    expect(receive(server)).toEqual(cut(fits, 50))
  })

  test("runs of datagrams that a super-frame's length would not hold", () => {
    const { client, server } = pair()
    for (const bytes of [1232, 1472, 1473]) {
      const want = Array.from({ length: 60 }, (_, i) => superRow(i, bytes, 0))
      expect(b.kernel.sendDatagrams(client, 0, 60)).toBe(60)
      expect(receive(server)).toEqual(want)
    }
  })

  test("columns of the wrong kind are one datagram", () => {
    const { client, server } = pair()
    const payload = superRow(0, 1000, 100)
    for (const size of [0, -1, 0x7fff_ffff]) {
      b.frames.segmentSize[b.frames.gather[0]!] = size
      expect(b.kernel.sendDatagrams(client, 0, 1)).toBe(1)
      expect(receive(server)).toEqual([payload])
    }
  })
})
