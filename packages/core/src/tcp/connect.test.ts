/** What a guest may ask for when it opens a connection, and what it gets. */
import { expect, test } from "vitest"

import { FRAME_LENGTH_MAX } from "../limits.ts"
import { GUEST4, GUEST6, words } from "../sim/config.ts"
import { buildFrame, type Segment } from "../sim/segment.ts"
import { TcpScene } from "../sim/tcp-scene.ts"
import * as tcp from "../wire/tcp.ts"
import { MSS } from "./state.ts"

const PEER4 = "198.51.100.1"
const PEER6 = "2001:db8:1::1"

function segment(source: string, destination: string, given: Partial<Segment>): Uint8Array {
  return buildFrame({
    source: words(source),
    destination: words(destination),
    sourcePort: 40_000,
    destinationPort: 80,
    sequence: 1000,
    acknowledgement: 0,
    flags: tcp.SYN,
    window: 65_535,
    mss: -1,
    scale: -1,
    payload: new Uint8Array(),
    ...given,
  })
}

test.each([
  [GUEST4, PEER4, 54],
  [GUEST6, PEER6, 74],
])("a segment size from %s that no frame can carry is brought down to one that can", (guest, peer, headers) => {
  // As large as UnixLink's.
  const scene = new TcpScene({ segmentBytesMax: FRAME_LENGTH_MAX - 54 })
  scene.link.push(segment(guest, peer, { mss: 65_535 }))
  scene.turn(0)
  expect(headers + scene.word(MSS)).toBe(FRAME_LENGTH_MAX)
})

// RFC 1122 sections 3.2.1.3 and 4.2.3.10: neither a connection nor a reset.
test.each([
  ["0.0.0.0", PEER4],
  ["255.255.255.255", PEER4],
  ["224.0.0.251", PEER4],
  [GUEST4, "224.0.0.251"],
  [GUEST4, "255.255.255.255"],
  [GUEST4, "0.0.0.0"],
  [GUEST6, "ff02::1"],
  [GUEST6, "::"],
])("nothing is answered to a segment from %s to %s", (source, destination) => {
  const scene = new TcpScene()
  for (const flags of [tcp.SYN, tcp.ACK, tcp.SYN | tcp.ACK, tcp.FIN | tcp.ACK, 0]) {
    scene.link.push(segment(source, destination, { flags }))
  }
  scene.turn(0)
  expect(scene.link.sent).toEqual([])
  expect([scene.flows, scene.counter("dropAddress")]).toEqual([0, 5])
})

test.each([
  [0, 80],
  [40_000, 0],
])("nothing is answered to a segment from port %i to port %i", (sourcePort, destinationPort) => {
  const scene = new TcpScene()
  scene.link.push(segment(GUEST4, PEER4, { sourcePort, destinationPort, flags: tcp.ACK }))
  scene.turn(0)
  expect(scene.link.sent).toEqual([])
  expect(scene.counter("dropAddress")).toBe(1)
})
