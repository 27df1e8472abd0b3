import { expect, it } from "vitest"
import { HostMonitor } from "./host-monitor.ts"
import { code, message, ScriptedNetlink, withSequence } from "./test-support/scripted-netlink.ts"

const ENOBUFS = 105

/** Two sockets with a queue each: what one is told does not stand in the way of the other's answers. */
class TwoSockets extends ScriptedNetlink {
  readonly notices: (Uint8Array | number)[] = []
  readonly groups: number[] = []
  readonly closedFds: number[] = []
  override netlinkOpen(groups = 0): number {
    this.groups.push(groups)
    return 1000 + this.groups.length
  }
  override netlinkReceive(fd: number, bytes: Uint8Array, peek: boolean): number {
    if (fd !== 1001) return super.netlinkReceive(fd, bytes, peek)
    const next = this.notices.shift()
    return next === undefined ? -11 : typeof next === "number" ? next : next.length
  }
  override close(fd = 0): void {
    this.closedFds.push(fd)
  }
}

const done = (sequence: number): Uint8Array[] => [withSequence(message(3, 2, code(0)), sequence)]

it("forgets what it was told, lost or not, and asks for everything", () => {
  const kernel = new TwoSockets(done)
  const monitor = new HostMonitor(kernel)
  // Links, addresses and routes of both families.
  expect(kernel.groups).toEqual([0x551, 0])
  kernel.notices.push(new Uint8Array(9000), -ENOBUFS, new Uint8Array(20))
  expect(monitor.look()).toEqual({ links: [], addresses: [], routes: [] })
  expect(kernel.notices).toEqual([])
  expect(kernel.requests).toBe(5)
  monitor.close()
  expect(kernel.closedFds).toEqual([1001, 1002])
})

it("leaves the rest of a flood for the next time", () => {
  const kernel = new TwoSockets(done)
  const monitor = new HostMonitor(kernel)
  kernel.notices.push(...Array.from({ length: 5000 }, () => new Uint8Array(20)))
  monitor.look()
  expect(kernel.notices.length).toBeGreaterThan(3000)
})
