import { expect, test } from "vitest"

import { PLACE_NAMESPACE } from "../kernel.ts"
import { GUEST4, record } from "../sim/config.ts"
import { datagram, DatagramWorld } from "../sim/datagram-world.ts"
import { SpliceWorld } from "../sim/splice-world.ts"
import { PEER4, TcpDialogue } from "../sim/tcp-dialogue.ts"
import { DIRECTION_FROM_GUEST, DIRECTION_TO_GUEST } from "../flow/table.ts"
import type { PolicyOptions } from "./rule.ts"

const BURST = 65_536
const RATE = 100_000
const policy: PolicyOptions = { rules: [{ action: "allow", limit: { bytesPerSecond: RATE, burstBytes: BURST } }] }

/** Bytes that a flow may have carried after so many milliseconds, give or take. */
function expectRate(bytes: number, ms: number, slack: number): void {
  const due = BURST + (RATE * ms) / 1000
  expect(Math.abs(bytes - due)).toBeLessThan(slack)
}

test("a download is read from its socket as slowly as it may pass", () => {
  const d = new TcpDialogue({ policy })
  d.connect()
  d.arriveData(500_000)
  let received = 0
  for (let ms = 0; ms < 2000; ms += 10) {
    d.pass(10)
    for (const { seq, length } of d.heard()) if (length > 0) received = Math.max(received, seq + length - 1)
    d.ack = received + 1
    d.say("A")
  }
  expectRate(received, 2000, 5000)
})

test("an upload is offered no wider window than there is room for", () => {
  const d = new TcpDialogue({ policy, peer: { sendBuffer: 1 << 20, window: 1 << 20 } as object })
  d.connect({ scale: 8 })
  let edge = 65_536
  for (let ms = 0; ms < 3000; ms += 10) {
    for (const { ack, window } of d.heard()) edge = Math.max(edge, ack + window)
    const room = edge - d.seq
    if (room >= 1460) d.say("A", { length: 1460 })
    d.pass(10)
  }
  expect(d.seq).toBeLessThan(65_536 + BURST + RATE * 3)
  expect(d.seq).toBeGreaterThan(RATE * 3 * 0.8)
})

test("datagrams of the guest beyond the rate are dropped and counted", () => {
  const world = new DatagramWorld({ policy })
  for (let i = 0; i < 200; i++) world.send(datagram(GUEST4, 1, PEER4, 9, new Uint8Array(1000)))
  const sent = world.kernel.sent.length * 1000
  expectRate(sent, 0, 1001)
  expect(world.counter("dropRateLimit")).toBe(200 - world.kernel.sent.length)
  world.pass(1000)
  for (let i = 0; i < 200; i++) world.send(datagram(GUEST4, 1, PEER4, 9, new Uint8Array(1000)))
  expect(world.kernel.sent.length * 1000 - sent).toBeLessThanOrEqual(BURST + 1000)
})

test("datagrams to the guest wait in their socket; the loop does not spin", () => {
  const world = new DatagramWorld({ policy })
  world.send(datagram(GUEST4, 1, PEER4, 9, new Uint8Array(1)))
  for (let i = 0; i < 300; i++) world.kernel.arrive(record(PEER4, 9), record(GUEST4, 1), new Uint8Array(1000))
  world.turn(20)
  const first = world.received().length
  expect(first).toBeLessThan(110)
  expect(world.engine.ctx.work.count).toBe(0)
  world.pass(500)
  const second = world.received().length
  expect(second).toBeGreaterThan(0)
  expect(first + second).toBeLessThan(300)
})

test("spliced connections are held to it, in both directions", () => {
  const world = new SpliceWorld({ policy })
  const { client, server } = world.connect("127.0.0.1", "127.0.0.1", PLACE_NAMESPACE)
  const write = (peer: { write(bytes: readonly number[]): void }): void => {
    for (let i = 0; i < 6; i++) peer.write(Array.from({ length: 50_000 }, () => 1))
  }
  write(client)
  world.turn()
  const { bytes } = world.engine.ctx.flows
  expectRate(bytes[DIRECTION_FROM_GUEST]!, 0, 1000)
  world.pass(1000)
  expectRate(bytes[DIRECTION_FROM_GUEST]!, 1000, 3000)
  write(server())
  world.pass(1000)
  expect(bytes[DIRECTION_TO_GUEST]!).toBeLessThanOrEqual(BURST + 1.1 * RATE)
  expect(bytes[DIRECTION_TO_GUEST]!).toBeGreaterThan(BURST)
})
