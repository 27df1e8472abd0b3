/**
 * Spliced connections under arbitrary sequences of events, drawn from seeds: short reads and writes, peers that stop reading,
 * ends and resets at any moment, refusals, errors from every call, too few descriptors and pipes.
 *
 * Checked all the time: no byte is lost, duplicated or out of order; an end is told only after all data, and only if the other
 * side ended; nobody is asked again who said "empty" or "full"; at the end nothing is left.
 */
import { describe, expect, test } from "vitest"

import { ECONNRESET, EMFILE, ENOBUFS } from "../../errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE } from "../../kernel.ts"
import { Random } from "../../sim/random.ts"
import type { SimPeer, SimStream } from "../../sim/splice-kernel.ts"
import { type Dialogue, SpliceWorld } from "../../sim/splice-world.ts"

const WORLDS = 400
const EVENTS = 300
const FALLIBLE = new Set(["tcpSocket", "connect", "watch", "read", "write", "shutdownWrite", "bind"])

/** What a peer has said, to be compared with what the other got. */
interface Said {
  readonly peer: SimPeer
  readonly bytes: number[]
  ended: boolean
  wasCut: boolean
}

interface Pair {
  readonly client: Said
  server: Said | undefined
  readonly dialogue: Dialogue
  readonly index: number
}

function say(said: Said, random: Random): void {
  if (said.ended || said.wasCut || said.peer.wasReset || said.peer.socket.dead) return
  const length = random.pick([1, 2, 30, 150, 500])
  const bytes = Array.from({ length }, () => random.between(0, 255))
  said.bytes.push(...bytes)
  said.peer.write(bytes)
}

function act(said: Said, random: Random): void {
  const { peer } = said
  const roll = random.between(0, 99)
  if (roll < 50) say(said, random)
  else if (roll < 62) peer.appetite = 0
  else if (roll < 80) peer.read(random.pick([1, 100, 1000, 100_000]))
  else if (roll < 92) {
    if (!said.ended && !said.wasCut) peer.end()
    said.ended = true
  } else {
    said.wasCut = true
    peer.reset()
  }
}

function check(from: Said, to: Said | undefined): void {
  if (to === undefined) return
  const { received } = to.peer
  if (received.length > from.bytes.length) throw new Error("more was received than said")
  for (let i = 0; i < received.length; i++) if (received[i] !== from.bytes[i]) throw new Error(`byte ${i} is another`)
  if (!to.peer.ended) return
  // A close of ours looks like an end as well, but then all is said.
  if (received.length !== from.bytes.length) throw new Error("an end was told before all data")
  if (!from.ended) throw new Error("an end was told that nobody meant")
}

function run(seed: number): void {
  const random = new Random(seed)
  const world = new SpliceWorld({ flowMax: 16 })
  const { kernel } = world
  const faults = random.chance(0.3)
  kernel.step = () => random.pick([1, 5, 60, 100])
  kernel.share = random.pick([1, 100, 500])
  kernel.pipeCapacity = random.pick([1, 40, 100])
  kernel.pipeMax = random.pick([1, 2, 1000])
  if (random.chance(0.3)) kernel.descriptorMax = kernel.open + random.between(2, 20)
  kernel.onConnect = (socket: SimStream) => {
    world.connected.push(socket)
    return random.pick(["accept", "accept", "accept", "refuse", "hang"])
  }
  if (faults) {
    kernel.fault = (call) =>
      FALLIBLE.has(call) && random.chance(0.02) ? random.pick([ECONNRESET, EMFILE, ENOBUFS]) : 0
  }
  const pairs: Pair[] = []
  for (let i = 0; i < EVENTS; i++) {
    const pair = pairs.length > 0 ? random.pick(pairs) : undefined
    if (pair === undefined || random.chance(0.04)) {
      const before = world.connected.length
      const dialogue = world.connect("127.0.0.2", "127.0.0.1", random.pick([PLACE_HOST, PLACE_NAMESPACE]))
      const peer = dialogue.client
      const reached = world.connected.length > before
      pairs.push({
        client: { peer, bytes: [], ended: false, wasCut: false },
        server: reached ? { peer: dialogue.server(), bytes: [], ended: false, wasCut: false } : undefined,
        dialogue,
        index: before,
      })
    } else if (random.chance(0.5)) {
      act(pair.client, random)
    } else if (pair.server !== undefined) {
      const { socket } = pair.server.peer
      if (!socket.connecting) act(pair.server, random)
      else if (random.chance(0.5)) kernel.establish(socket)
      else socket.fail(ECONNRESET)
    }
    if (random.chance(0.7)) world.engine.turn(0)
    if (random.chance(0.1)) world.pass(10)
    for (const { client, server } of pairs) {
      check(client, server)
      if (server !== undefined) check(server, client)
    }
  }
  // Peers that read on get all that was said to them, as long as nothing failed.
  kernel.fault = undefined
  kernel.descriptorMax = kernel.pipeMax = Number.POSITIVE_INFINITY
  for (const { client, server } of pairs) {
    if (server?.peer.socket.connecting) kernel.establish(server.peer.socket)
    for (const said of [client, server]) {
      if (said === undefined) continue
      said.peer.appetite = Number.POSITIVE_INFINITY
      said.peer.socket.drain()
    }
  }
  world.pass(50)
  for (const { client, server } of pairs) {
    check(client, server)
    if (server === undefined) continue
    check(server, client)
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      const troubled = from.wasCut || to.wasCut || from.peer.wasReset || to.peer.wasReset || to.peer.socket.dead
      if (!troubled) expect(to.peer.received.length).toBe(from.bytes.length)
      if (!troubled && from.ended) expect(to.peer.ended).toBe(true)
      // What a peer said before it reset the connection arrives, unless the other end broke as well.
      const other = to.wasCut || to.peer.socket.error !== 0 || to.ended
      if (from.wasCut && !other && !faults && to.peer.wasReset && from.peer.socket.inbox.length > 0) {
        throw new Error("bytes were left unread before a reset")
      }
    }
  }
  for (const { client, server } of pairs) {
    for (const said of [client, server]) {
      if (said === undefined || said.wasCut) continue
      if (!said.ended && !said.peer.wasReset) said.peer.end()
      said.ended = true
    }
  }
  world.pass(50)
  world.expectNothingLeft()
}

describe("spliced connections, whatever happens", () => {
  const only = Number(process.env.SIM_SEED ?? Number.NaN)
  for (let seed = 1; seed <= WORLDS; seed++) {
    if (Number.isNaN(only) || seed === only) test(`seed ${seed}`, () => run(seed))
  }
})
