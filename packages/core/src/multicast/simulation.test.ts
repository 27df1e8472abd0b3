/**
 * Groups under any sequence of what guest, peers, host and kernel may do. After each step nothing is leaked; the guest never hears itself,
 * nor anything twice, nor a group that it is not in; in the end everything is closed.
 */
import fc from "fast-check"
import { expect, test } from "vitest"

import { EACCES, EADDRINUSE, EAGAIN, EMFILE, ENETUNREACH, ENOBUFS } from "../errno.ts"
import { GUEST4, GUEST6, record } from "../sim/config.ts"
import { datagram, DatagramWorld, textOf, bytesOf } from "../sim/datagram-world.ts"
import { igmpFor, mldFor } from "../sim/group-messages.ts"

const GROUPS = ["224.0.0.251", "239.7.7.7", "ff02::fb", "ff05::1234"]
const PORTS = [5353, 7007, 6006]
const ERRNOS = [EACCES, EADDRINUSE, EAGAIN, EMFILE, ENETUNREACH, ENOBUFS]
const CALLS = [
  "udpSocket",
  "bind",
  "connect",
  "prepare",
  "joinGroup",
  "sendTo",
  "receiveGroup",
  "watch",
  "localAddress",
]

const step = fc.record({
  what: fc.constantFrom(
    "join",
    "join",
    "leave",
    "send",
    "send",
    "news",
    "news",
    "host",
    "fail",
    "stall",
    "pass",
    "gone",
  ),
  group: fc.nat(GROUPS.length - 1),
  port: fc.nat(PORTS.length - 1),
  count: fc.integer({ min: 1, max: 60 }),
})

test("nothing comes back, twice, unasked, or is leaked", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const world = new DatagramWorld({ udpRules: [{ first: 6006 }], flowMax: 24 })
      const { kernel, link } = world
      let number = 0
      const heard = new Set<string>()
      // Joined at some time since the guest came: a leave takes its time.
      let joined = new Set<string>()
      const collect = (): void => {
        for (const got of world.received()) {
          const text = textOf(got.data)
          expect(text).not.toContain("own")
          expect(joined).toContain(got.destination)
          expect(heard).not.toContain(text)
          heard.add(text)
        }
      }
      for (const { what, group, port, count } of steps) {
        const to = GROUPS[group]!
        const v6 = to.includes(":")
        const at = PORTS[port]!
        switch (what) {
          case "join":
            joined.add(to)
            link.push(v6 ? mldFor(131, to) : igmpFor(0x16, to))
            break
          case "leave":
            link.push(v6 ? mldFor(132, to) : igmpFor(0x17, to))
            break
          case "send":
            for (let i = 0; i < count; i++) {
              link.push(datagram(v6 ? GUEST6 : GUEST4, at, to, at, bytesOf(`own ${number++}`)))
            }
            break
          case "news":
          case "host": {
            const peer = v6
              ? what === "host"
                ? "2001:db8:2::9"
                : "fe80::7"
              : what === "host"
                ? "203.0.113.9"
                : "198.51.100.7"
            for (let i = 0; i < count; i++) {
              if (!joined.has(to)) break
              kernel.arriveAtGroup(record(peer, at), record(to, at), bytesOf(`${what} ${number++}`), 255)
            }
            break
          }
          case "fail":
            kernel.failNext(CALLS[(group * PORTS.length + port) % CALLS.length]!, ERRNOS[count % ERRNOS.length]!)
            break
          case "stall":
            link.stalled = count < 30
            break
          case "gone":
            link.connected = false
            world.turn(2)
            expect(kernel.open.filter((s) => s.joined?.length === 1)).toEqual([])
            link.connected = true
            joined = new Set(joined)
            break
          default:
            world.pass(1000 * count)
        }
        world.turn(2)
        collect()
      }
      link.stalled = false
      kernel.script.clear()
      world.turn(30)
      collect()
      world.pass(400_000)
      collect()
      expect(kernel.open.map((s) => s.listening)).toEqual([true])
      expect(world.flows).toBe(0)
      expect(world.engine.ctx.timers.armed).toBe(0)
    }),
    { numRuns: 100 },
  )
})
