/**
 * What an embedded engine leaves of its program's event loop: iperf3 floods both directions over a namespace's tap while timers of the
 * program are measured (perf_hooks.monitorEventLoopDelay), and a second engine in the same loop waits for its turns.
 *
 *   node tools/bench/host-loop.ts [SECONDS [CONNECTIONS]]      as root; fails when the 99th percentile is 20 ms or more
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setTimeout } from "node:timers/promises"
import { startInNamespace } from "../../examples/lib/namespace.ts"
import { MemoryLink, startEngine } from "../../packages/engine/src/index.ts"

const DELAY_P99_MS_MAX = 20
const PORT = 15_201

const [seconds = "8", connections = "4"] = process.argv.slice(2)
const server = spawn("iperf3", ["-s", "-1", "-B", "127.0.0.1", "-p", String(PORT)], { stdio: "ignore" })
await setTimeout(500)
const client = ["iperf3", "-c", "10.0.2.2", "-p", String(PORT), "--bidir", "-t", seconds, "-P", connections]
const load = await startInNamespace(["sh", "-c", `${client.join(" ")} > /dev/null`])
const network = { ipv6: false, address: "10.0.2.15/24", gateway: "10.0.2.1", hostLoopback: "10.0.2.2" }
await using engine = await startEngine({ guest: { kind: "namespace", path: load.path }, ...network })
await using idle = await startEngine({ guest: new MemoryLink(), ...network })

const delay = monitorEventLoopDelay({ resolution: 1 })
const status = load.run()
// Connections are being made.
await setTimeout(1000)
const before = { ...engine.stats(), at: performance.now() }
delay.enable()
await setTimeout((Number(seconds) - 2) * 1000)
delay.disable()
const after = { ...engine.stats(), at: performance.now() }
await status
if (server.exitCode === null) await once(server, "exit")

const took = (after.at - before.at) / 1000
const gigabits = (bytes: number): string => ((bytes * 8) / took / 1e9).toFixed(1)
const ms = (nanoseconds: number): number => Math.round(nanoseconds / 1e4) / 100
const p99 = ms(delay.percentile(99))
console.log(`out ${gigabits(after.bytesFromGuest - before.bytesFromGuest)} Gbit/s`)
console.log(`in ${gigabits(after.bytesToGuest - before.bytesToGuest)} Gbit/s`)
console.log(
  `turns ${Math.round((after.turns - before.turns) / took)} per second, of the idle engine ${idle.stats().turns}`,
)
console.log(
  `loop delay: median ${ms(delay.percentile(50))}, p99 ${p99}, p99.9 ${ms(delay.percentile(99.9))}, max ${ms(delay.max)} ms`,
)
if (!(after.bytesFromGuest > before.bytesFromGuest) || !(after.bytesToGuest > before.bytesToGuest)) process.exitCode = 1
if (!(p99 < DELAY_P99_MS_MAX)) {
  console.log(`wanted: p99 under ${DELAY_P99_MS_MAX} ms`)
  process.exitCode = 1
}
