/**
 * UDP under any sequence of what guest, peers, network and kernel may do. After each step nothing is leaked; at the end
 * every datagram has gone to its own destination or been dropped, none twice, none out of order, none under another name.
 */
import fc from "fast-check"
import { expect, test } from "vitest"

import { EACCES, EADDRINUSE, EAGAIN, ECONNREFUSED, EMFILE, EMSGSIZE, ENETUNREACH, ENOBUFS } from "../errno.ts"
import type { SimSocket } from "../sim/datagram-kernel.ts"
import { GUEST4, GUEST6, record } from "../sim/config.ts"
import { datagram, DatagramWorld, decodeQuote } from "../sim/datagram-world.ts"
import * as icmp from "../wire/icmp.ts"
import { format } from "../wire/address.ts"

const PEERS = ["198.51.100.1", "198.51.100.2", "2001:db8:1::1", "2001:db8:1::2"]
const HOSTS = ["203.0.113.9", "203.0.113.9", "2001:db8:2::9", "2001:db8:2::9"]
const ERRNOS = [EACCES, EADDRINUSE, EAGAIN, ECONNREFUSED, EMFILE, EMSGSIZE, ENETUNREACH, ENOBUFS]
const CALLS = [
  "udpSocket",
  "bind",
  "connect",
  "watch",
  "setHopLimit",
  "sendDatagrams",
  "receiveDatagrams",
  "receiveFrom",
  "readError",
]
const FORWARDED = 5000

const peer = fc.nat(PEERS.length - 1)
const port = fc.integer({ min: 1, max: 3 })
const command = fc.oneof(
  { weight: 4, arbitrary: fc.record({ what: fc.constant("out"), peer, port, count: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("in"), peer, port, count: fc.integer({ min: 1, max: 80 }) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant("error"), peer: fc.nat(50), port, count: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant("fail"),
      peer: fc.nat(CALLS.length - 1),
      port: fc.nat(ERRNOS.length - 1),
      count: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("stall"), peer, port, count: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("pass"), peer, port, count: fc.nat(60) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant("stray"), peer, port, count: fc.constant(1) }) },
)

/** A number and the peer that it belongs to, as payload. */
function payload(number: number, peerIndex: number, portNumber: number): Uint8Array {
  const bytes = new Uint8Array(8)
  const d = new DataView(bytes.buffer)
  d.setInt32(0, number)
  d.setUint16(4, peerIndex)
  d.setUint16(6, portNumber)
  return bytes
}

test("nothing is lost sight of, mixed up or leaked", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
      const world = new DatagramWorld({ udpRules: [{ first: FORWARDED }], flowMax: 8 })
      const { kernel, link } = world
      let number = 0
      let offered = 0
      const seen = new Set<number>()
      const last = new Map<string, number>()
      // Strays are sorted when their accidental socket is served; in that instant others may overtake them.
      const strays = new Set<number>()

      /** Notes a datagram at its destination. */
      function note(way: string, bytes: Uint8Array, address: string, portNumber: number): void {
        const d = new DataView(bytes.buffer, bytes.byteOffset)
        const n = d.getInt32(0)
        expect([way, PEERS[d.getUint16(4)], d.getUint16(6)]).toEqual([way, address, portNumber])
        expect(seen.has(n)).toBe(false)
        seen.add(n)
        if (strays.has(n)) return
        const flow = `${way} ${address} ${portNumber}`
        expect(n).toBeGreaterThan(last.get(flow) ?? -1)
        last.set(flow, n)
      }
      function collect(): void {
        for (const sent of kernel.sent.splice(0))
          note("out", sent.bytes, format(Int32Array.from(sent.remote)), sent.remote[4]!)
        for (const got of world.received()) {
          if (got.protocol === 17) {
            note("in", got.data, got.source, got.sourcePort)
            continue
          }
          // An error is about a datagram of the guest's own.
          const quote = decodeQuote(got.family, got.data)
          expect([GUEST4, GUEST6]).toContain(quote.source)
          expect(PEERS).toContain(quote.destination)
        }
      }
      function report(s: SimSocket): void {
        const v4 = s.family === 4
        kernel.report(s, {
          errno: ECONNREFUSED,
          origin: v4 ? 2 : 3,
          type: v4 ? icmp.UNREACHABLE : icmp.V6_UNREACHABLE,
          code: v4 ? 3 : 4,
          info: 0,
          offender: s.remote!,
          quote: payload(0, 0, 0),
        })
      }

      for (const c of commands) {
        const v4 = c.peer < 2
        switch (c.what) {
          case "out":
            for (let i = 0; i < c.count; i++) {
              offered++
              link.push(
                datagram(v4 ? GUEST4 : GUEST6, FORWARDED, PEERS[c.peer]!, c.port, payload(number++, c.peer, c.port)),
              )
            }
            break
          case "in":
            for (let i = 0; i < c.count; i++) {
              offered++
              kernel.arrive(
                record(PEERS[c.peer]!, c.port),
                record(HOSTS[c.peer]!, FORWARDED),
                payload(number++, c.peer, c.port),
              )
            }
            break
          case "stray":
            kernel.onConnect = (s) => {
              kernel.onConnect = undefined
              if ((s.family === 4) !== v4) return
              offered++
              strays.add(number)
              kernel.put(
                s,
                record(PEERS[c.peer]!, c.port),
                record(HOSTS[c.peer]!, FORWARDED),
                payload(number++, c.peer, c.port),
              )
            }
            break
          case "error": {
            const connected = kernel.open.filter((s) => s.remote !== undefined)
            if (connected.length > 0) for (let i = 0; i < c.count; i++) report(connected[c.peer % connected.length]!)
            break
          }
          case "fail":
            kernel.failNext(CALLS[c.peer]!, ...Array.from({ length: c.count }, () => ERRNOS[c.port]!))
            break
          case "stall":
            link.stalled = c.count === 1
            break
          default:
            world.pass(1000 * c.count)
        }
        world.turn(2)
        collect()
      }

      // The weather clears: what waits arrives, then silence ends everything.
      link.stalled = false
      kernel.script.clear()
      world.turn(20)
      world.pass(3000)
      world.turn(20)
      collect()
      expect(seen.size).toBeLessThanOrEqual(offered)
      expect(world.engine.ctx.work.count).toBe(0)
      world.pass(130_000)
      collect()
      expect(world.flows).toBe(0)
      expect(kernel.open.map((s) => s.listening)).toEqual([true])
      expect(kernel.open[0]!.queue).toHaveLength(0)
      expect(kernel.open[0]!.ref).toBeGreaterThanOrEqual(0)
      expect(world.engine.ctx.timers.armed).toBe(0)
      world.engine.close()
      expect(kernel.open).toHaveLength(0)
    }),
    { numRuns: 150 },
  )
})
