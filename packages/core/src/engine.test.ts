import { expect, test } from "vitest"

import type { Neighbours } from "./context.ts"
import { GUEST4, record } from "./sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "./sim/datagram-world.ts"

const PEER = "198.51.100.7"

test("frames of a flow carry its neighbour's MAC address, as the host's table has it now", () => {
  // One neighbour, in a row that changes.
  let row = -1
  let generation = 0
  const neighbours: Neighbours = {
    macs: Uint8Array.of(2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb),
    lookup: () => row,
    get generation() {
      return generation
    },
  }
  const world = new DatagramWorld({ neighbours })
  const sourceOfAnswer = (): number => {
    world.kernel.arrive(record(PEER, 53), record(GUEST4, 4321), bytesOf("answer"))
    world.turn()
    return world.link.sent.pop()![11]!
  }
  world.send(datagram(GUEST4, 4321, PEER, 53, bytesOf("hello")))
  expect(sourceOfAnswer()).toBe(world.guest.ourMac[5])
  row = 1
  expect(sourceOfAnswer()).toBe(world.guest.ourMac[5])
  generation++
  expect(sourceOfAnswer()).toBe(0xb)
  row = 0
  generation++
  expect(sourceOfAnswer()).toBe(0xa)
  row = -1
  generation++
  expect(sourceOfAnswer()).toBe(world.guest.ourMac[5])
})
