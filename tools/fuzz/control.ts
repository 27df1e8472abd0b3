/**
 * Requests to the control socket: sound ones, cut up, put together anew, and followed by bytes of any kind, from clients that come
 * and go and read as they like. Whatever they send, the server must neither throw nor turn for ever, what it says must be
 * lines of JSON, and in the end a client that behaves must be served, with the rules that are served in the list and open.
 */
import { DatagramWorld } from "../../packages/core/src/sim/datagram-world.ts"
import { openCalls } from "../../packages/control/src/calls.ts"
import { Capture } from "../../packages/control/src/capture.ts"
import { Forwards } from "../../packages/control/src/forwards.ts"
import { PATIENCE_MS } from "../../packages/control/src/client.ts"
import { Wire } from "../../packages/control/src/test-support/wire.ts"
import { Random } from "./random.ts"
import { Failure, type Target } from "./target.ts"

const ACTIONS = 60
const SOUND: readonly string[] = [
  '{"call":"version","id":1}\n',
  '{"call":"flows","id":"x","protocol":"udp"}\n',
  '{"call":"forwards","v":1}\n',
  '{"call":"forward-add","protocol":"udp","spec":"6000-6010:7000-7010,~6003"}\n',
  '{"call":"forward-add","protocol":"udp","spec":"127.0.0.1%lo/5353"}\n',
  '{"call":"forward-remove","protocol":"udp","spec":"127.0.0.1%lo/5353"}\n',
  '{"call":"forward-remove","number":2}\n',
  '{"call":"stats"}\n',
  '{"call":"metrics"}\n',
  '{"call":"capture-start"}\n',
  '{"call":"capture-stop"}\n',
]

/** A sound request, or something that has become of some. */
function request(random: Random): Buffer {
  let bytes = Buffer.from(random.pick(SOUND))
  if (random.chance(0.3)) return bytes
  for (let edits = random.between(1, 4); edits > 0; edits--) {
    const at = random.below(bytes.length + 1)
    switch (random.below(4)) {
      case 0:
        bytes = bytes.subarray(0, at)
        break
      case 1:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(random.pick(SOUND)).subarray(random.below(20))])
        break
      case 2:
        if (at < bytes.length) bytes[at]! ^= 1 << random.below(8)
        break
      default:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(random.below(9000), random.pick(["x", "[", "0", " ", "\n"])),
        ])
    }
  }
  return bytes
}

function run(seed: number): void {
  const random = new Random(seed)
  const world = new DatagramWorld({ rules: [] })
  const ports = {
    ipv4: true,
    ipv6: true,
    tcp: true,
    udp: true,
    ephemeralFirst: 49_152,
    ephemeralLast: 65_535,
    auto: false,
  }
  const forwards = new Forwards(world.engine, [], ports)
  const context = {
    engine: world.engine,
    forwards,
    capture: new Capture({ captureTo: () => (random.chance(0.5) ? 0 : -22), closeCapture: () => 0 }, false),
    program: "fuzz",
    version: "0",
    uptimeSeconds: () => 0,
  }
  const wire = new Wire(openCalls(context), forwards)
  const clients: number[] = []
  let descriptor = 100_000
  for (let action = 0; action < ACTIONS; action++) {
    const fd = clients.length === 0 ? -1 : random.pick(clients)
    switch (fd < 0 ? 0 : random.below(8)) {
      case 0:
        clients.push(wire.connect())
        break
      case 1:
        wire.end(fd)
        break
      case 2:
        wire.allow(fd, random.pick([0, 1, 1000, 1 << 30]))
        break
      case 3:
        wire.pass(random.below(2 * PATIENCE_MS))
        break
      default:
        if (!wire.isClosed(fd)) wire.write(fd, request(random), random.chance(0.1) ? descriptor++ : -1)
    }
    if (wire.run() === 10_000) throw new Failure(`the server turns for ever after action ${action}`)
  }
  for (const fd of clients) {
    wire.allow(fd, 1 << 30)
    const said = wire.output(fd)
    // A client that was closed may have been told half a line.
    for (const line of said
      .slice(0, said.lastIndexOf("\n") + 1)
      .split("\n")
      .slice(0, -1))
      JSON.parse(line)
    wire.end(fd)
  }
  wire.pass(2 * PATIENCE_MS)
  for (const fd of clients) if (!wire.isClosed(fd)) throw new Failure("a client that has left is still there")
  const last = wire.connect()
  wire.write(last, '{"call":"forwards"}\n')
  const lines = wire.lines(last)
  const open = lines.reduce((sum, { forward }) => sum + ((forward as { open: number } | undefined)?.open ?? 0), 0)
  if (lines.at(-1)?.["done"] !== true) throw new Failure("a client that behaves is not served")
  if (open !== world.engine.listeners.count || open !== world.kernel.open.length) {
    throw new Failure(`${open} ports in the list, ${world.kernel.open.length} sockets open`)
  }
}

export const controlTarget: Target = { name: "control", run }
