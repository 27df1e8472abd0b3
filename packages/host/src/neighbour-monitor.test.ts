import { address as ip } from "@passt/core/wire"
import { beforeEach, describe, expect, it } from "vitest"
import { NeighbourMonitor } from "./neighbour-monitor.ts"
import { HOST_ORDER } from "./netlink/message.ts"
import type { Neighbour } from "./netlink/neighbour.ts"
import type { NetlinkError } from "./netlink/socket.ts"
import { words } from "../../core/src/test-support/bytes.ts"
import { code, message, ScriptedNetlink, withSequence } from "./test-support/scripted-netlink.ts"

const NEW = 28
const DEL = 29
const REACHABLE = 0x02
const STALE = 0x04
const FAILED = 0x20
const ENOBUFS = 105

function neighbour(type: number, index: number, address: string, mac: number, state: number): Uint8Array {
  const a = words(address)
  const v4 = ip.isMapped(a, 0)
  const payload = new Uint8Array(12 + (v4 ? 8 : 20) + 12)
  const view = new DataView(payload.buffer)
  view.setUint8(0, v4 ? 2 : 10)
  view.setInt32(4, index, HOST_ORDER)
  view.setUint16(8, state, HOST_ORDER)
  view.setUint16(12, v4 ? 8 : 20, HOST_ORDER)
  view.setUint16(14, 1, HOST_ORDER)
  for (let i = 0; i < 4; i++) if (!v4 || i === 3) view.setInt32(v4 ? 16 : 16 + 4 * i, a[i]!)
  const at = v4 ? 20 : 32
  view.setUint16(at, 10, HOST_ORDER)
  view.setUint16(at + 2, 2, HOST_ORDER)
  payload.set([2, 0, 0, 0, 0, mac], at + 4)
  return message(type, 0, payload)
}

let seen: string[]
let table: Uint8Array[]
let kernel: ScriptedNetlink
let monitor: NeighbourMonitor

function told(): string[] {
  while (monitor.process());
  return seen.splice(0)
}

beforeEach(() => {
  seen = []
  table = [neighbour(NEW, 3, "192.0.2.1", 1, REACHABLE), neighbour(NEW, 4, "fe80::1", 2, STALE)]
  kernel = new ScriptedNetlink((sequence) =>
    [...table, message(3, 2, code(0))].map((bytes) => withSequence(bytes, sequence)),
  )
  const onChange = (n: Neighbour): void => void seen.push(`${ip.format(n.address)} ${n.mac ? n.mac[5] : "gone"}`)
  monitor = new NeighbourMonitor({ interfaceIndex4: 3, interfaceIndex6: 4, onChange }, kernel)
})

describe("NeighbourMonitor", () => {
  it("tells the whole table first", () => {
    expect(told()).toEqual(["192.0.2.1 1", "fe80::1 2"])
  })

  it("tells changes once: another MAC address, failure, removal", () => {
    told()
    kernel.queue.push(
      neighbour(NEW, 3, "192.0.2.1", 1, STALE),
      neighbour(NEW, 3, "192.0.2.1", 7, REACHABLE),
      neighbour(NEW, 3, "192.0.2.1", 7, FAILED),
      neighbour(DEL, 3, "192.0.2.1", 7, STALE),
      neighbour(DEL, 4, "fe80::1", 2, STALE),
    )
    expect(told()).toEqual(["192.0.2.1 7", "192.0.2.1 gone", "fe80::1 gone"])
  })

  it("leaves out other interfaces, of the other family too", () => {
    told()
    kernel.queue.push(
      neighbour(NEW, 4, "192.0.2.5", 1, REACHABLE),
      neighbour(NEW, 3, "fe80::5", 1, REACHABLE),
      neighbour(NEW, 9, "192.0.2.6", 1, REACHABLE),
    )
    expect(told()).toEqual([])
  })

  it("asks again after lost notifications, and tells what is gone since", () => {
    told()
    table = [neighbour(NEW, 4, "fe80::1", 2, STALE), neighbour(NEW, 3, "192.0.2.8", 8, REACHABLE)]
    kernel.queue.push(-ENOBUFS)
    expect(told()).toEqual(["192.0.2.8 8", "192.0.2.1 gone"])
    expect(kernel.requests).toBe(2)
  })

  it("asks again after an interrupted answer, and forgets nothing because of it", () => {
    told()
    let round = 0
    const whole = kernel.answer
    kernel.answer = (sequence, request) =>
      round++ === 0 ? [withSequence(message(3, 2 | 0x10, code(0)), sequence)] : whole(sequence, request)
    kernel.queue.push(-ENOBUFS)
    expect(told()).toEqual([])
    expect(kernel.requests).toBe(3)
  })

  describe("where the kernel refuses to tell the table", () => {
    const EOPNOTSUPP = 95
    let refusals: string[]
    const follow = (): void => {
      refusals = []
      const onChange = (n: Neighbour): void => void seen.push(`${ip.format(n.address)} ${n.mac ? n.mac[5] : "gone"}`)
      const onRefused = (error: NetlinkError): void => void refusals.push(error.message)
      monitor = new NeighbourMonitor({ interfaceIndex4: 3, interfaceIndex6: 4, onChange, onRefused }, kernel)
    }

    it.each([
      ["by its answer", () => [message(2, 0, code(-EOPNOTSUPP))]],
      ["at the end of its answer", () => [message(3, 2, code(-EOPNOTSUPP))]],
    ])("%s: that is told once, and changes are taken", (_, answers) => {
      kernel.answer = (sequence) => answers().map((bytes) => withSequence(bytes, sequence))
      follow()
      expect(told()).toEqual([])
      expect(refusals).toEqual(["Operation not supported on socket"])
      kernel.queue.push(neighbour(NEW, 3, "192.0.2.8", 8, REACHABLE))
      expect(told()).toEqual(["192.0.2.8 8"])
      expect(kernel.requests).toBe(1)
    })

    it("by not taking the question: the same", () => {
      kernel.netlinkSend = () => -EOPNOTSUPP
      follow()
      kernel.queue.push(neighbour(NEW, 3, "192.0.2.8", 8, REACHABLE))
      expect(told()).toEqual(["192.0.2.8 8"])
      expect(refusals).toEqual(["Couldn't send netlink request: Operation not supported on socket"])
    })

    it("because it is busy: asks again", () => {
      const EBUSY = 16
      const whole = kernel.answer
      kernel.answer = (sequence, request) =>
        request === 0 ? [withSequence(message(2, 0, code(-EBUSY)), sequence)] : whole(sequence, request)
      follow()
      expect(told()).toEqual(["192.0.2.1 1", "fe80::1 2"])
      expect(refusals).toEqual([])
    })
  })

  it("takes a bounded number of datagrams per turn", () => {
    told()
    for (let i = 0; i < 100; i++) kernel.queue.push(neighbour(NEW, 3, `192.0.2.${100 + i}`, 1, REACHABLE))
    expect(monitor.process()).toBe(true)
    expect(kernel.queue.length).toBe(36)
    expect(monitor.process()).toBe(false)
    expect(seen).toHaveLength(100)
  })

  it("gives up on a broken socket", () => {
    kernel.queue.push(-9)
    expect(() => monitor.process()).toThrow(/Couldn't read neighbour notifications/)
  })

  it("follows other interfaces when told to: what is known of the former ones is gone", () => {
    told()
    table = [neighbour(NEW, 5, "198.51.100.1", 7, REACHABLE), neighbour(NEW, 4, "fe80::1", 2, STALE)]
    monitor.follow(5, 4)
    expect(told()).toEqual(["192.0.2.1 gone", "198.51.100.1 7"])
    monitor.follow(5, 4)
    expect(kernel.requests).toBe(2)
  })
})
