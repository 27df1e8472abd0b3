import { expect, test } from "vitest"

import { GUEST4, GUEST6, record } from "../sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../sim/datagram-world.ts"
import { TcpDialogue } from "../sim/tcp-dialogue.ts"
import type { FlowClass, FlowView } from "./flows.ts"

const PEER4 = "198.51.100.9"
const PEER6 = "2001:db8:9::9"

function list(world: DatagramWorld, count: number): FlowView[] {
  const found: FlowView[] = []
  let slices = 0
  for (let row = 0; row >= 0; slices++) row = world.engine.flows(row, count, (flow) => found.push(flow))
  expect(slices).toBeLessThanOrEqual(Math.ceil(world.engine.ctx.flows.highWater / count) + 1)
  return found
}

test("a flow shows its ends on both sides, its age, and what it has carried", () => {
  const world = new DatagramWorld()
  world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf("hello")))
  world.pass(2000)
  world.kernel.arrive(record(PEER4, 53), record(GUEST4, 4321), bytesOf("answer"))
  world.turn()
  world.pass(1000)
  expect(list(world, 10)).toMatchObject([
    {
      row: 0,
      protocol: "udp",
      kind: "link",
      direction: "out",
      state: "query",
      guest: { address: GUEST4, port: 4321 },
      far: { address: PEER4, port: 53 },
      peer: { address: PEER4, port: 53 },
      ageMs: 3000,
      idleMs: 1000,
      bytesFromGuest: 5,
      bytesToGuest: 6,
      rttMicros: null,
    },
  ])
  world.send(datagram(GUEST4, 4321, PEER4, 53, bytesOf("more")))
  expect(list(world, 1)).toMatchObject([{ state: "established", bytesFromGuest: 9, idleMs: 0 }])
})

test("one that came to a forwarded port is inbound; slices of any size show the same", () => {
  const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
  world.kernel.arrive(record(PEER6, 999), record("2001:db8::1", 5000), bytesOf("in"))
  world.turn()
  for (let port = 1; port <= 5; port++) world.send(datagram(GUEST6, port, PEER6, 53, bytesOf("x")))
  const all = list(world, 100)
  expect(all).toHaveLength(6)
  expect(all[0]).toMatchObject({ direction: "in", our: { port: 5000 }, peer: { address: PEER6, port: 999 } })
  for (const count of [1, 2, 3, 5, 6]) expect(list(world, count)).toEqual(all)
})

test("what has ended is not shown, and a row that is used again starts at nothing", () => {
  const world = new DatagramWorld()
  world.send(datagram(GUEST4, 1, PEER4, 53, bytesOf("hello")))
  world.pass(200_000)
  expect(list(world, 7)).toEqual([])
  world.send(datagram(GUEST4, 2, PEER4, 53, bytesOf("x")))
  expect(list(world, 7)).toMatchObject([{ row: 0, bytesFromGuest: 1, bytesToGuest: 0, ageMs: 0 }])
})

test("a connection keeps its direction, and its state follows both streams", () => {
  const states = (d: TcpDialogue): unknown[] => {
    const found: FlowView[] = []
    d.engine.flows(0, 10, (flow) => found.push(flow))
    const classes: FlowClass[] = []
    d.engine.flowClasses(0, 10, (flow) => classes.push(flow))
    expect(found).toMatchObject(classes)
    return found.map(({ direction, state }) => `${direction} ${state}`)
  }
  const d = new TcpDialogue()
  d.arrive()
  expect(states(d)).toEqual(["in opening"])
  d.ack = 1
  d.say("SA", { mss: 1460 })
  expect(states(d)).toEqual(["in established"])
  d.say("FA", { seq: 1 })
  expect(states(d)).toEqual(["in closing"])
  const out = new TcpDialogue()
  out.say("S")
  expect(states(out)).toEqual(["out opening"])
})
