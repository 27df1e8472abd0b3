import { describe, expect, test } from "vitest"

import { emptyTranslation } from "../forward/translate.ts"
import { GUEST4, GUEST6, record, words } from "../sim/config.ts"
import { bytesOf, datagram, DatagramWorld } from "../sim/datagram-world.ts"

const HELLO = bytesOf("hello")
const PEER4 = "198.51.100.7"
const PEER6 = "2001:db8:1::7"
const FORWARDER = "192.0.2.3"
const NONE = { resolvers: [], loopback: [] }

const look = (world: DatagramWorld): void => {
  for (let flow = 0; flow >= 0;) flow = world.engine.endMovedFlows(flow, 1)
  world.turn()
}
const sentFrom = (world: DatagramWorld): string => world.kernel.sent.at(-1)!.local.slice(0, 4).join()

describe("flows of datagrams after a change of the host's network", () => {
  test.each([
    ["IPv4", GUEST4, PEER4, "203.0.113.1", "203.0.113.2"],
    ["IPv6", GUEST6, PEER6, "2001:db8:5::1", "2001:db8:5::2"],
  ])("end when the kernel would choose another source, and begin anew: %s", (_family, guest, peer, before, after) => {
    const world = new DatagramWorld()
    world.kernel.chosenSource = record(before, 0)
    world.send(datagram(guest, 4321, peer, 4000, HELLO))
    const [socket] = world.kernel.open
    look(world)
    expect(world.kernel.open).toEqual([socket])
    world.kernel.chosenSource = record(after, 0)
    look(world)
    expect(world.kernel.open).toEqual([])
    expect(world.counter("movedFlows")).toBe(1)
    world.send(datagram(guest, 4321, peer, 4000, HELLO))
    // With the guest's port, as before.
    expect(world.kernel.open[0]).toMatchObject({ chosen: record(after, 4321) })
  })

  test("stay while there is no way to their peer: the old one may come back", () => {
    const world = new DatagramWorld()
    world.kernel.chosenSource = record("203.0.113.1", 0)
    world.send(datagram(GUEST4, 4321, PEER4, 4000, HELLO))
    world.kernel.chosenSource = undefined
    look(world)
    expect(world.kernel.open).toHaveLength(1)
  })

  test("whose address was given end when the host has lost it", () => {
    const world = new DatagramWorld({ outbound4: words("203.0.113.9") })
    world.send(datagram(GUEST4, 4321, PEER4, 4000, HELLO))
    expect(sentFrom(world)).toBe(words("203.0.113.9").join())
    look(world)
    expect(world.kernel.open).toHaveLength(1)
    world.kernel.goneAddresses.push(record("203.0.113.9", 0))
    look(world)
    expect(world.kernel.open).toHaveLength(0)
  })

  test("end when the address that they talk to means another one by now: queries reach the new resolver", () => {
    const translation = (resolver: string) => ({
      ...emptyTranslation(),
      dnsForward4: words(FORWARDER),
      dnsHost4: words(resolver),
    })
    const world = new DatagramWorld({ translation: translation("127.0.0.53") })
    const query = datagram(GUEST4, 4321, FORWARDER, 53, HELLO)
    world.send(query, datagram(GUEST4, 4321, PEER4, 4000, HELLO))
    world.engine.reconfigure({ linkLocalScope: 3, translation: translation("203.0.113.53"), former: NONE })
    look(world)
    expect(world.counter("movedFlows")).toBe(1)
    world.send(query)
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record("203.0.113.53", 53))
    expect(world.engine.ctx.linkLocalScope).toBe(3)
  })

  test("a resolver that the guest was told keeps answering it, at other ports it is what it is", () => {
    const translation = { ...emptyTranslation(), dnsHost4: words("203.0.113.53") }
    const world = new DatagramWorld({ translation })
    const former = { resolvers: [words("10.0.0.53")], loopback: [words("10.0.0.1")] }
    world.engine.reconfigure({ linkLocalScope: 0, translation, former })
    world.send(datagram(GUEST4, 1, "10.0.0.53", 53, HELLO))
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record("203.0.113.53", 53))
    world.send(datagram(GUEST4, 1, "10.0.0.53", 54, HELLO))
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record("10.0.0.53", 54))
    world.send(datagram(GUEST4, 1, "10.0.0.1", 54, HELLO))
    expect(world.kernel.sent.at(-1)!.remote).toEqual(record("127.0.0.1", 54))
  })
})
