/**
 * Records what crosses a guest's link, and sends a guest's frames again:
 *
 *   node examples/record-replay.ts record FILE -- COMMAND [ARGUMENT…]
 *   node examples/record-replay.ts replay FILE
 *
 * The file is pcapng: Wireshark reads it, and captures of other programs can be replayed. Nobody is behind the replay: frames go to a new
 * engine through a link in memory, in their order, and what it answers and opens for them is shown.
 */
import { readFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { type CapturedFrame, type EngineConfig, MemoryLink, readCapture, startEngine } from "@passt/engine"
import { startInNamespace } from "./lib/namespace.ts"

const NETWORK = {
  ipv6: false,
  address: "10.0.2.15/24",
  gateway: "10.0.2.1",
  hostLoopback: "10.0.2.2",
} satisfies Partial<EngineConfig>

async function record(path: string, command: readonly string[]): Promise<number> {
  const sandbox = await startInNamespace(command)
  await using engine = await startEngine({
    guest: { kind: "namespace", path: sandbox.path, interfaceName: "eth0" },
    ...NETWORK,
  })
  using capture = engine.capture({ path })
  const status = await sandbox.run()
  console.log(`recorded ${capture.frames} frames`)
  return status
}

async function replay(path: string): Promise<number> {
  const frames: CapturedFrame[] = [...readCapture(readFileSync(path))].filter(({ fromGuest }) => fromGuest !== false)
  const link = new MemoryLink()
  let answers = 0
  link.onFrame = () => void answers++
  await using engine = await startEngine({ guest: link, ...NETWORK })
  engine.on("flowOpen", ({ protocol, far }) => console.log(`${protocol} to ${far?.address}:${far?.port}`))
  for (const { bytes, length } of frames) {
    // One that was cut when it was captured is no frame.
    if (bytes.length === length) link.send(bytes)
    await setTimeout(1)
  }
  await setTimeout(100)
  console.log(`replayed ${engine.stats().framesFromGuest} frames, got ${answers}`)
  return 0
}

const [verb, path = "", separator, ...command] = process.argv.slice(2)
if (verb === "record" && separator === "--" && command.length > 0) process.exitCode = await record(path, command)
else if (verb === "replay" && path !== "") process.exitCode = await replay(path)
else {
  console.error("usage: record-replay.ts record FILE -- COMMAND [ARGUMENT…] | replay FILE")
  process.exitCode = 1
}
