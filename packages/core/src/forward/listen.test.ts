import { describe, expect, test } from "vitest"

import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE } from "../errno.ts"
import { REF_LISTENER, REF_SHIFT } from "../context.ts"
import { forwardRule, record, words } from "../sim/config.ts"
import { DatagramWorld } from "../sim/datagram-world.ts"

describe("listening sockets", () => {
  test("one per port, each watched under its own number", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000, last: 5002 }, { first: 6000 }] })
    const { listeners } = world.engine
    expect(listeners.count).toBe(4)
    expect([...listeners.port]).toEqual([5000, 5001, 5002, 6000])
    expect([...listeners.rule]).toEqual([0, 0, 0, 1])
    expect(world.kernel.open.map((s) => s.ref)).toEqual([0, 1, 2, 3].map((i) => (REF_LISTENER << REF_SHIFT) | i))
    expect(world.kernel.open.every((s) => !s.edge)).toBe(true)
    listeners.close()
    expect(world.kernel.open).toEqual([])
    expect(listeners.count).toBe(0)
  })

  test("address, family and device are those of the rule", () => {
    const world = new DatagramWorld({
      rules: [
        forwardRule("udp", { first: 1000 }),
        forwardRule("udp", { first: 1001, address: words("0.0.0.0") }),
        forwardRule("udp", { first: 1002, address: words("192.0.2.7"), device: "eth7" }),
        forwardRule("udp", { first: 1003, address: words("2001:db8::7") }),
        { ...forwardRule("udp", { first: 1004 }), protocol: "tcp" },
      ],
    })
    expect(world.kernel.open).toMatchObject([
      { kind: "udp", family: 6, dualStack: true, local: record("::", 1000), device: "" },
      { family: 4, dualStack: false, local: record("0.0.0.0", 1001) },
      { family: 4, dualStack: false, local: record("192.0.2.7", 1002), device: "eth7" },
      { family: 6, dualStack: false, local: record("2001:db8::7", 1003) },
      { kind: "tcp", family: 6, dualStack: true, local: record("::", 1004) },
    ])
  })

  /** Opens with these errors for the first sockets. @returns what the user reads, and what is left */
  function failing(
    rule: Parameters<typeof forwardRule>[1],
    ...errnos: number[]
  ): { message: string; world: DatagramWorld } {
    const world = new DatagramWorld({ udpRules: [rule] })
    world.engine.listeners.close()
    world.log.length = 0
    world.kernel.failNext("listenUdp", ...errnos)
    try {
      world.engine.listen()
      return { message: "", world }
    } catch (error) {
      return { message: (error as Error).message, world }
    }
  }

  test("a port that can't be bound is named with the reason, and nothing stays open", () => {
    const { message, world } = failing({ first: 5000, last: 5004 }, 0, 0, EADDRINUSE)
    expect(message).toBe("Listen failed for UDP *:5002: Address already in use")
    expect(world.kernel.open).toEqual([])
    expect(failing({ first: 80 }, EACCES).message).toMatch(
      /^Listen failed for UDP \*:80: Permission denied.*CAP_NET_BIND_SERVICE/,
    )
    expect(failing({ first: 5000, address: words("198.51.100.7") }, EADDRNOTAVAIL).message).toBe(
      "Listen failed for UDP 198.51.100.7:5000: Cannot assign requested address",
    )
    expect(failing({ first: 5000, address: words("2001:db8::7"), device: "eth7" }, EADDRINUSE).message).toBe(
      "Listen failed for UDP [2001:db8::7]%eth7:5000: Address already in use",
    )
  })

  test("best effort passes over ports in use, with one warning", () => {
    const { message, world } = failing({ first: 5000, last: 5004, weak: true }, 0, EADDRINUSE, 0, EADDRINUSE)
    expect(message).toBe("")
    expect(world.kernel.open).toHaveLength(3)
    expect(world.kernel.open.map((s) => s.local[4])).toEqual([5000, 5002, 5004])
    expect(world.log).toHaveLength(1)
    expect(world.log[0]!.message).toContain("2 of 5 ports")
  })

  test("best effort that reaches nothing is a failure", () => {
    const { message, world } = failing({ first: 5000, last: 5001, weak: true }, EADDRINUSE, EADDRINUSE)
    expect(message).toBe("Couldn't listen on requested ports: UDP *:5000: Address already in use")
    expect(world.kernel.open).toEqual([])
  })

  test("without descriptors the rest of the ports is not tried", () => {
    const { message, world } = failing({ first: 5000, last: 5999, weak: true }, 0, EMFILE)
    expect(message).toBe("")
    expect(world.kernel.open).toHaveLength(1)
    expect(world.log[0]!.message).toContain("999 of 1000 ports")
  })

  test("a socket that can't be watched is closed", () => {
    const world = new DatagramWorld({ udpRules: [{ first: 5000 }] })
    world.engine.listeners.close()
    world.kernel.failNext("watchLevel", EMFILE)
    expect(() => world.engine.listen()).toThrow("Too many open files")
    expect(world.kernel.open).toEqual([])
  })
})
