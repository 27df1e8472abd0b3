/**
 * Updates as pesto sends them: sound ones, edited, cut up, and followed by bytes of any kind, from clients that come, leave and read as
 * they like, while ports fail to open. Whatever they send, the server must neither throw nor turn for ever; every client is told
 * whole tables or nothing; and in the end one that behaves is served: the rules that it is told are those whose sockets are open.
 */
import type { ForwardRule } from "../../packages/cli/src/forward-rule.ts"
import { Forwards } from "../../packages/control/src/forwards.ts"
import { PESTO_PATIENCE_MS } from "../../packages/control/src/pesto/server.ts"
import { END, hexRule, PestoWire, readGreeting, table } from "../../packages/control/src/test-support/pesto-wire.ts"
import { EADDRINUSE, EMFILE } from "../../packages/core/src/errno.ts"
import { PLACE_HOST, PLACE_NAMESPACE } from "../../packages/core/src/kernel.ts"
import { DatagramWorld } from "../../packages/core/src/sim/datagram-world.ts"
import { parse } from "../../packages/core/src/wire/address.ts"
import { Random } from "./random.ts"
import { Failure, type Target } from "./target.ts"

const ACTIONS = 60
const HOST = 1
const SPLICE = 3

function rule(random: Random, place: ForwardRule["place"]): ForwardRule {
  const text = random.pick(["", "", "0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.1"])
  const first = 5000 + random.below(40)
  return {
    protocol: random.chance(0.8) ? "udp" : "tcp",
    place,
    address: text === "" ? null : parse(text)!,
    dualStack: text === "",
    device: place === PLACE_NAMESPACE || random.chance(0.1) ? "lo" : "",
    first,
    last: first + random.below(6),
    targetFirst: random.pick([first, 80, 65_530]),
    targetAddress: random.chance(0.03) ? parse(random.pick(["10.0.0.5", "2001:db8::5"]))! : null,
    weak: random.chance(0.2),
    auto: false,
  }
}

/** A sound update, or something that has become of one. */
function update(random: Random): Buffer {
  const some = (place: ForwardRule["place"]): ForwardRule[] =>
    Array.from({ length: random.below(5) }, () => rule(random, place))
  const tables = [table(HOST, some(PLACE_HOST)), ...(random.chance(0.7) ? [table(SPLICE, some(PLACE_NAMESPACE))] : [])]
  let bytes = Buffer.concat([...tables, END])
  if (random.chance(0.5)) return bytes
  for (let edits = random.between(1, 3); edits > 0; edits--) {
    const at = random.below(bytes.length + 1)
    switch (random.below(4)) {
      case 0:
        bytes = bytes.subarray(0, at)
        break
      case 1:
        if (at < bytes.length) bytes[at]! ^= 1 << random.below(8)
        break
      case 2:
        if (at < bytes.length) bytes[at] = random.pick([0, 1, 3, 0xff])
        break
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(random.below(9000), random.pick([0, 1, 0xff]))])
    }
  }
  return bytes
}

function run(seed: number): void {
  const random = new Random(seed)
  const world = new DatagramWorld({ rules: [] })
  const context = {
    ipv4: true,
    ipv6: random.chance(0.9),
    tcp: true,
    udp: true,
    ephemeralFirst: 49_152,
    ephemeralLast: 65_535,
    auto: random.chance(0.8),
  }
  const forwards = new Forwards(world.engine, [], context)
  const wire = new PestoWire(forwards, context)
  const clients: number[] = []
  // Events are those of the client that is being served.
  const current = (): number => clients.find((fd) => !wire.isClosed(fd)) ?? -1
  for (let action = 0; action < ACTIONS; action++) {
    const fd = current()
    wire.acceptError = random.chance(0.05) ? -EMFILE : 0
    if (random.chance(0.2))
      world.kernel.failNext("listenUdp", ...random.pick([[EADDRINUSE], [0, 0, EADDRINUSE], [EMFILE]]))
    switch (fd < 0 ? 0 : random.below(8)) {
      case 0:
        clients.push(wire.connect(random.chance(0.2) ? random.below(2000) : 1 << 30))
        break
      case 1:
        wire.end(fd)
        break
      case 2:
        wire.give(fd, random.pick([1, 1000, 1 << 20]))
        break
      case 3:
        wire.pass(random.below(2 * PESTO_PATIENCE_MS))
        break
      case 4:
        wire.write(fd, update(random), 1000 + action)
        break
      default: {
        const bytes = update(random)
        const cut = random.below(bytes.length + 1)
        wire.write(fd, bytes.subarray(0, cut))
        if (!wire.isClosed(fd)) wire.write(fd, bytes.subarray(cut))
      }
    }
    wire.run()
  }
  wire.acceptError = 0
  world.kernel.failNext("listenUdp")
  for (let i = 0; i <= clients.length; i++) {
    if (current() >= 0) wire.end(current())
    wire.pass(2 * PESTO_PATIENCE_MS)
  }
  for (const fd of clients) {
    if (!wire.isClosed(fd)) throw new Failure("a client that has left is still there")
  }
  const told = readGreeting(wire.output(wire.connect()))
  const rules = told.flatMap((one) => one.rules)
  const served = world.engine.ctx.rules.filter((one) => one !== undefined)
  if (
    rules.toSorted().join() !==
    served
      .map((one) => hexRule(one as ForwardRule))
      .toSorted()
      .join()
  ) {
    throw new Failure(`told of ${rules.length} rules, ${served.length} are served`)
  }
  if (world.engine.listeners.count !== world.kernel.open.length) {
    throw new Failure(`${world.engine.listeners.count} sockets are counted, ${world.kernel.open.length} open`)
  }
}

export const pestoTarget: Target = { name: "pesto", run }
