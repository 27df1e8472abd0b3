import fc from "fast-check"
import { describe, expect, test } from "vitest"

import { Context, REF_INDEX_MASK, REF_RELAY, REF_SHIFT } from "../../context.ts"
import { EMFILE, ENOMEM } from "../../errno.ts"
import { FAR, FD, FLOW_SHIFT, KIND_TCP, PORT } from "../../flow/table.ts"
import { RELAY_MAX } from "../../limits.ts"
import { newConfig, newGuest, words } from "../../sim/config.ts"
import { dnsAnswer, dnsQuery } from "../../sim/dns.ts"
import { SimEnd, SimRelayKernel } from "../../sim/relay-kernel.ts"
import { SimLink } from "../../sim/sim-link.ts"
import { COUNTER } from "../../stats.ts"
import { copy } from "../../wire/address.ts"
import { parsePolicy } from "../document.ts"
import { DIRECTION_OUT } from "../matcher.ts"
import { ALLOWED, REFUSED } from "../verdict.ts"
import { IDLE_MS } from "./relay.ts"

const RESOLVER = "192.0.2.53"
const WEB = "198.51.100.80"
const POLICY = `{ "dns": { "names": "only-allowed", "private-answers": "refuse" },
  "rules": [{ "action": "allow", "name": "*.example.org", "port": 443 }] }`

/** A message as a stream has it, filled up to a length. */
function framed(message: Uint8Array, length = message.length): Uint8Array {
  const bytes = new Uint8Array(2 + Math.max(length, message.length))
  bytes[0] = (bytes.length - 2) >> 8
  bytes[1] = bytes.length - 2
  bytes.set(message, 2)
  return bytes
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

/** Takes whole messages off a stream. */
function messagesOf(stream: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 0; at < stream.length;) {
    const length = (stream[at]! << 8) | stream[at + 1]!
    expect(at + 2 + length).toBeLessThanOrEqual(stream.length)
    found.push(stream.slice(at + 2, at + 2 + length))
    at += 2 + length
  }
  return found
}

const isRefusal = (message: Uint8Array): boolean => (message[3]! & 15) === 5
const numbered = (message: Uint8Array, id: number): Uint8Array => {
  const copied = message.slice()
  copied[0] = id >> 8
  copied[1] = id
  return copied
}

/** Flows to a resolver whose packets are left out: the test has their sockets' other ends. */
class RelayWorld {
  readonly kernel: SimRelayKernel = new SimRelayKernel()
  readonly ctx: Context
  readonly stuck: number[] = []

  constructor(policy = POLICY) {
    const config = newConfig(this.kernel.kernel, new SimLink(), newGuest())
    this.ctx = new Context({ ...config, policy: { ...parsePolicy(policy), resolvers: [words(RESOLVER)] } })
    this.gate.relays.onStuck = (flow) => {
      this.stuck.push(flow)
      this.end(flow)
    }
  }

  get gate(): NonNullable<Context["gate"]> {
    return this.ctx.gate!
  }

  counter(name: keyof typeof COUNTER): number {
    return this.ctx.counters[COUNTER[name]]!
  }

  /** A flow that asks the gate. @returns the flow, and the verdict */
  ask(): { flow: number; verdict: number } {
    const w = this.ctx.words
    const flow = this.ctx.flows.allocate(KIND_TCP)
    const base = flow << FLOW_SHIFT
    for (const end of [FAR, FAR + 12]) {
      copy(w, base + end, words(RESOLVER), 0)
      w[base + end + PORT] = 53
    }
    return { flow, verdict: this.gate.ask(flow, DIRECTION_OUT) }
  }

  /** A flow whose socket is connected. @returns both sockets' other ends */
  open(room?: number): { flow: number; guest: SimEnd; resolver: SimEnd } {
    if (room !== undefined) this.kernel.room = room
    const { flow, verdict } = this.ask()
    expect(verdict).toBe(ALLOWED)
    const [far, resolver] = this.kernel.connect()
    this.ctx.words[(flow << FLOW_SHIFT) + FD] = far.fd
    expect(this.gate.relays.interpose(flow)).toBe(0)
    const guest = this.kernel.ends.get(this.ctx.words[(flow << FLOW_SHIFT) + FD]!)!
    expect(guest).not.toBe(far)
    this.run()
    return { flow, guest, resolver }
  }

  /** Lets everything happen that can. */
  run(): void {
    const event = (ref: number): void => {
      if (ref >>> REF_SHIFT === REF_RELAY) this.gate.relays.event(ref & REF_INDEX_MASK)
    }
    for (let i = 0; this.kernel.deliver(event); i++) if (i > 10_000) throw new Error("it never ends")
  }

  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 1000) {
      this.kernel.time += Math.min(1000, left)
      this.ctx.now = this.kernel.time
      this.gate.sweep()
      this.run()
    }
  }

  /** The flow's end: what Context.retire does. */
  end(flow: number): void {
    this.ctx.retire(flow, true)
    this.ctx.flows.free(this.ctx.work.take())
  }

  read(end: SimEnd, most = 1 << 20): Uint8Array {
    const parts: Uint8Array[] = []
    for (;;) {
      const got = end.read(most)
      if (!(got instanceof Uint8Array) || got.length === 0) return joined(parts)
      parts.push(got)
      this.run()
    }
  }

  /** Nothing is left when all is over. */
  checkEmpty(...outside: readonly SimEnd[]): void {
    const ours = [...this.kernel.ends.values()].filter((end) => !end.isClosed && !outside.includes(end))
    expect(ours.map(({ fd }) => fd)).toEqual([])
    expect(this.gate.relays.used).toBe(0)
  }
}

describe("a connection to a resolver", () => {
  const query = framed(dnsQuery("www.example.org"))
  const answer = framed(dnsAnswer("www.example.org", [{ name: "www.example.org", data: WEB }]))

  test("carries messages to and fro, and is heard before the guest has them", () => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    guest.write(query)
    world.run()
    expect(world.read(resolver)).toEqual(query)
    resolver.write(answer.subarray(0, 20))
    world.run()
    expect(world.read(guest)).toHaveLength(0)
    let known = 0
    world.kernel.onSend = () => (known = world.gate.dns.memory.size)
    resolver.write(answer.subarray(20))
    world.run()
    expect(known).toBe(1)
    expect(world.read(guest)).toEqual(answer)
    guest.shutdown()
    world.run()
    expect(resolver.read(1)).toHaveLength(0)
    resolver.shutdown()
    world.run()
    expect(guest.read(1)).toHaveLength(0)
    world.end(flow)
    world.checkEmpty(resolver)
    expect(resolver.error).toBe(0)
    expect(world.counter("policyStreams")).toBe(1)
  })

  test("is judged message by message, however it is cut, whoever is slow", () => {
    const kinds = fc.constantFrom("asked", "asked", "refused", "rubbish", "private")
    const message = fc.record({
      kind: kinds,
      length: fc.oneof({ weight: 9, arbitrary: fc.nat(600) }, { weight: 1, arbitrary: fc.nat(65_535) }),
      answer: fc.oneof({ weight: 9, arbitrary: fc.nat(2000) }, { weight: 1, arbitrary: fc.nat(65_535) }),
    })
    const sizes = fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70_000 })))
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 12 }),
        sizes,
        fc.constantFrom(1000, 5000, 65_536),
        (list, size, room) => {
          const world = new RelayWorld()
          const next = (): number => size.next().value
          world.kernel.most = next
          const { flow, guest, resolver } = world.open(room)
          const nameOf = {
            asked: "www.example.org",
            private: "in.example.org",
            refused: "secret.example",
            rubbish: "x.example.org",
          }
          const sent = list.map(({ kind, length }, id) => {
            const bytes = numbered(dnsQuery(nameOf[kind]), id)
            // An answer is no query.
            if (kind === "rubbish") bytes[2] = 0x80
            return framed(bytes, length)
          })
          const answers = list.map(({ kind, answer: length }, id) => {
            const data = kind === "private" ? "10.0.0.1" : WEB
            return framed(numbered(dnsAnswer(nameOf[kind], [{ name: nameOf[kind], data }]), id), length)
          })
          let toSend = joined(sent)
          let toAnswer: Uint8Array = new Uint8Array(0)
          let asked: Uint8Array = new Uint8Array(0)
          let heard = 0
          let got: Uint8Array = new Uint8Array(0)
          let quiet = 0
          for (let i = 0; quiet < 4; i++) {
            const before = toSend.length + toAnswer.length
            if (toSend.length > 0) {
              const taken = guest.write(toSend.subarray(0, next()))
              if (taken > 0) toSend = toSend.slice(taken)
            }
            world.run()
            if (i % 3 === 0) asked = joined([asked, world.read(resolver, next())])
            const whole = wholeOf(asked)
            for (; heard < whole.length; heard++) {
              const id = (whole[heard]![0]! << 8) | whole[heard]![1]!
              toAnswer = joined([toAnswer, answers[id]!])
            }
            if (toAnswer.length > 0) {
              const taken = resolver.write(toAnswer.subarray(0, next()))
              if (taken > 0) toAnswer = toAnswer.slice(taken)
            }
            world.run()
            const read = i % 5 === 0 ? world.read(guest, next()) : new Uint8Array(0)
            got = joined([got, read])
            const isMoving = toSend.length + toAnswer.length !== before || read.length > 0 || i % 15 !== 0
            quiet = isMoving ? (i % 15 === 0 ? 0 : quiet) : quiet + 1
          }
          expect(toSend).toHaveLength(0)
          const may = (kind: string): boolean => kind === "asked" || kind === "private"
          expect(asked).toEqual(joined(sent.filter((_, id) => may(list[id]!.kind))))
          const messages = messagesOf(got)
          const ids = (isIt: (kind: string) => boolean): number[] =>
            list.flatMap(({ kind }, id) => (isIt(kind) ? [id] : []))
          const idOf = (bytes: Uint8Array): number => (bytes[0]! << 8) | bytes[1]!
          const refused = messages.filter(isRefusal).map(idOf)
          expect(refused.filter((id) => list[id]!.kind === "refused")).toEqual(ids((kind) => kind === "refused"))
          expect(messages.map(idOf).filter((id) => may(list[id]!.kind))).toEqual(ids(may))
          for (const bytes of messages) {
            if (isRefusal(bytes)) expect(["refused", "private"]).toContain(list[idOf(bytes)]!.kind)
            else expect(framed(bytes)).toEqual(answers[idOf(bytes)])
          }
          world.end(flow)
          world.checkEmpty(resolver)
        },
      ),
      { numRuns: 60 },
    )
  })

  test.each(["end", "failure"])("has refusals between answers, and answers between refusals, up to its %s", (how) => {
    const refused = framed(dnsQuery("secret.example"))
    const world = new RelayWorld()
    const { guest, resolver } = world.open(20)
    const got: Uint8Array[] = []
    const take = (): void => {
      for (let read = world.read(guest, 7); read.length > 0; read = world.read(guest, 7)) got.push(read)
    }
    resolver.other.room = guest.other.room = 1000
    resolver.write(answer)
    world.run()
    guest.write(refused)
    world.run()
    take()
    expect(messagesOf(joined(got)).map(isRefusal)).toEqual([false, true])
    guest.write(refused)
    world.run()
    resolver.write(answer)
    world.run()
    take()
    expect(messagesOf(joined(got)).map(isRefusal)).toEqual([false, true, true, false])
    // Nor does the resolver's end come into the middle of one.
    guest.write(refused)
    world.run()
    if (how === "end") resolver.shutdown()
    else resolver.close(true)
    world.run()
    take()
    expect(messagesOf(joined(got)).map(isRefusal)).toEqual([false, true, true, false, true])
    expect(guest.read(1)).toHaveLength(0)
  })

  test("takes as many messages as come at once", () => {
    const world = new RelayWorld(`{ "dns": {}, "rules": [] }`)
    const { guest, resolver } = world.open()
    for (const [from, to] of [
      [guest, resolver],
      [resolver, guest],
    ] as const) {
      // Messages of no bytes: it is not for us to say that there are none.
      expect(from.write(new Uint8Array(10_000))).toBe(10_000)
      world.run()
      expect(to.inbox).toHaveLength(10_000)
    }
  })

  test("takes the longest messages, one after another", () => {
    const world = new RelayWorld()
    const { guest, resolver } = world.open(4096)
    const longest = framed(dnsQuery("www.example.org"), 65_535)
    for (const [from, to] of [
      [guest, resolver],
      [resolver, guest],
    ] as const) {
      const stream = joined([longest, longest, query])
      const got: Uint8Array[] = []
      for (let at = 0, i = 0; i < 200; i++) {
        if (at < stream.length) at += Math.max(0, from.write(stream.subarray(at, at + 4096)))
        world.run()
        got.push(world.read(to))
      }
      expect(joined(got)).toEqual(stream)
    }
  })

  test("ends without what was not whole", () => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    guest.write(joined([query, query.subarray(0, 9)]))
    guest.shutdown()
    world.run()
    expect(world.read(resolver)).toEqual(query)
    expect(resolver.read(1)).toHaveLength(0)
    resolver.write(joined([answer, answer.subarray(0, 30)]))
    resolver.shutdown()
    world.run()
    expect(world.read(guest)).toEqual(answer)
    expect(guest.read(1)).toHaveLength(0)
    world.end(flow)
    world.checkEmpty(resolver)
  })

  test("ends where the resolver ends it: the guest has a FIN, and what it says after that goes nowhere", () => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    resolver.write(answer)
    resolver.shutdown()
    world.run()
    expect(world.read(guest)).toEqual(answer)
    expect(guest.read(1)).toHaveLength(0)
    for (let i = 0; i < 1000; i++) {
      expect(guest.write(framed(dnsQuery("secret.example")))).toBeGreaterThan(0)
      world.run()
    }
    expect(world.read(resolver)).toHaveLength(0)
    guest.shutdown()
    world.run()
    world.end(flow)
    world.checkEmpty(resolver)
  })

  test.each(["while it is read", "while it is written"])("outlives its resolver's failure %s", (when) => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    resolver.write(answer)
    world.run()
    resolver.close(true)
    if (when === "while it is written") guest.write(query)
    world.run()
    guest.write(query)
    world.run()
    expect(world.read(guest)).toEqual(answer)
    expect(guest.read(1)).toHaveLength(0)
    expect(world.counter("policyStreamsGivenUp")).toBe(1)
    // It holds on to its side.
    world.pass(IDLE_MS + 2000)
    expect(world.stuck).toEqual([flow])
    world.checkEmpty()
  })

  test("of a guest that resets it is reset to the resolver", () => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    guest.write(query.subarray(0, 5))
    world.run()
    world.end(flow)
    expect(guest.isClosed).toBe(true)
    expect(resolver.read(1)).toBeLessThan(0)
    world.checkEmpty(resolver)
  })

  test("in which nothing is said ends, first with a word and then without", () => {
    const world = new RelayWorld()
    const { flow, guest, resolver } = world.open()
    guest.write(query)
    world.pass(IDLE_MS - 1000)
    expect(world.counter("policyStreamsGivenUp")).toBe(0)
    resolver.write(answer)
    world.pass(IDLE_MS - 1000)
    // Half a message is none.
    guest.write(query.subarray(0, 5))
    world.pass(2000)
    expect(world.counter("policyStreamsGivenUp")).toBe(1)
    expect(world.read(guest)).toEqual(answer)
    expect(guest.read(1)).toHaveLength(0)
    expect(world.stuck).toEqual([])
    world.pass(IDLE_MS + 1000)
    expect(world.stuck).toEqual([flow])
    world.checkEmpty(resolver)
  })

  test("of a guest that asks and never reads holds nobody up, and ends", () => {
    const world = new RelayWorld()
    const slow = world.open(3000)
    const refused = framed(dnsQuery("secret.example"))
    for (let i = 0; i < 1000; i++) {
      slow.guest.write(refused)
      slow.resolver.write(answer)
      world.run()
    }
    expect(slow.guest.inbox.length).toBeLessThanOrEqual(3000)
    const other = world.open()
    other.guest.write(query)
    world.run()
    expect(world.read(other.resolver)).toEqual(query)
    world.pass(2 * IDLE_MS + 3000)
    expect(world.stuck).toContain(slow.flow)
    world.checkEmpty(slow.resolver, other.resolver)
  })
})

describe("places for them", () => {
  test("are few: who finds none is refused, and those that end make room", () => {
    const world = new RelayWorld()
    const open = Array.from({ length: RELAY_MAX }, () => world.open())
    const refused = world.ask()
    expect(refused.verdict).toBe(REFUSED)
    expect(world.counter("policyStreamsRefused")).toBe(1)
    world.end(refused.flow)
    world.end(open[3]!.flow)
    open[3]!.resolver.close(false)
    const again = world.open()
    expect(world.gate.relays.used).toBe(RELAY_MAX)
    for (const { flow, resolver } of [...open.filter((_, i) => i !== 3), again]) {
      world.end(flow)
      resolver.close(false)
    }
    world.checkEmpty()
  })

  test("are not for flows that a rule is against", () => {
    const world = new RelayWorld(`{ "dns": {}, "rules": [{ "action": "drop", "protocol": "tcp", "port": 53 }] }`)
    world.ask()
    expect(world.gate.relays.used).toBe(0)
  })

  test("are given back by what never connects", () => {
    const world = new RelayWorld()
    const { flow } = world.ask()
    world.pass(IDLE_MS + 1000)
    expect(world.stuck).toEqual([flow])
    world.checkEmpty()
  })

  test.each([
    ["pair", EMFILE, 2],
    ["watch", ENOMEM, 4],
  ])("are of no use when the kernel has nothing left: %s", (call, errno, ends) => {
    const world = new RelayWorld()
    const { flow } = world.ask()
    const [far, resolver] = world.kernel.connect()
    world.ctx.words[(flow << FLOW_SHIFT) + FD] = far.fd
    world.kernel.fails.set(call, errno)
    expect(world.gate.relays.interpose(flow)).toBe(-errno)
    expect(world.kernel.ends.size).toBe(ends)
    expect(world.ctx.words[(flow << FLOW_SHIFT) + FD]).toBe(far.fd)
    world.end(flow)
    world.checkEmpty(resolver)
  })
})

/** The whole messages of a stream that goes on. */
function wholeOf(stream: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 0; at + 2 <= stream.length;) {
    const end = at + 2 + ((stream[at]! << 8) | stream[at + 1]!)
    if (end > stream.length) break
    found.push(stream.slice(at + 2, end))
    at = end
  }
  return found
}
