/** A guest that goes on after its FIN: nothing of that reaches the peer, and the connection ends where the FIN says. */
import { expect, test } from "vitest"

import { GUEST4, words } from "../sim/config.ts"
import { pattern } from "../sim/pattern.ts"
import { QUIET_PEER } from "../sim/peer-script.ts"
import { buildFrame, readFrame } from "../sim/segment.ts"
import { TcpScene } from "../sim/tcp-scene.ts"
import type { TcpSocket } from "../sim/tcp-socket.ts"
import * as tcp from "../wire/tcp.ts"

const ID = 1
/** Bytes before the FIN. */
const BYTES = 100

class Guest {
  readonly scene: TcpScene = new TcpScene()
  #acknowledgement = 0

  constructor() {
    this.scene.kernel.onConnect = () => ({ ...QUIET_PEER, id: ID, connectDelay: -1, automatic: false, rtt: 20_000 })
  }

  /** @param at distance from the SYN: 1 is the first byte */
  say(flags: number, at: number, bytes: number): void {
    this.scene.link.push(
      buildFrame({
        source: words(GUEST4),
        destination: words("198.51.100.1"),
        sourcePort: 40_000,
        destinationPort: 80,
        sequence: at,
        acknowledgement: this.#acknowledgement,
        flags,
        window: 65_535,
        mss: -1,
        scale: -1,
        payload: pattern(2 * ID, at - 1, bytes),
      }),
    )
  }

  /** Lets the engine work. @returns the last acknowledgement that the guest heard */
  hear(): number {
    let heard = -1
    for (let i = 0; i < 4; i++) this.scene.turn(0)
    for (const frame of this.scene.link.sent.splice(0)) {
      const s = readFrame(frame)
      if ((s.flags & tcp.SYN) !== 0) this.#acknowledgement = (s.sequence + 1) | 0
      if ((s.flags & tcp.ACK) !== 0) heard = s.acknowledgement
    }
    return heard
  }

  connect(): TcpSocket {
    this.say(tcp.SYN, 0, 0)
    expect(this.hear()).toBe(1)
    this.say(tcp.ACK, 1, 0)
    this.hear()
    return this.scene.kernel.byId.get(ID)!
  }
}

// At the FIN's own number, over it, and behind a gap.
test.each([
  ["in earlier batches", BYTES + 1, true],
  ["in earlier batches, in part", BYTES - 9, true],
  ["in earlier batches, behind a gap", BYTES + 50, true],
  ["in the same batch", BYTES + 1, false],
  ["in the same batch, in part", BYTES - 9, false],
  ["in the same batch, behind a gap", BYTES + 50, false],
])("data behind a FIN, %s", (_, at, earlier) => {
  const guest = new Guest()
  const { scene } = guest
  const socket = guest.connect()
  guest.say(tcp.ACK, at, 300)
  if (earlier) expect(guest.hear()).toBe(1)
  guest.say(tcp.ACK | tcp.FIN, 1, BYTES)
  guest.hear()
  expect([socket.written, socket.shut, scene.engine.tcp.hold.used]).toEqual([BYTES, true, 0])
  // Said again, it is answered with what was acknowledged, once the peer has it.
  socket.acknowledge()
  guest.say(tcp.ACK, at, 300)
  expect(guest.hear()).toBe(1 + BYTES + 1)
  expect(socket.written).toBe(BYTES)
})
