/**
 * A program for tests and measurements: an engine between the network namespace that it runs in and another, by splicing alone.
 *
 *   node splicer.ts NETNS-PATH RULES     RULES: JSON, parts of ForwardRule; `address` as text
 *
 * Writes "ready" when it listens, a line of JSON with counters and descriptors for each line that it reads, and ends with its input.
 */
import { closeSync, openSync, readdirSync, readSync } from "node:fs"
import {
  COUNTER,
  Engine,
  type EngineConfig,
  type ForwardRule,
  GuestState,
  NoLink,
  emptyTranslation,
  REF_EXTERNAL,
  REF_SHIFT,
} from "@passt/core"

import { NativeKernel } from "../kernel.ts"
import { words } from "./loopback.ts"

const [, , path = "", json = "[]", options = "{}"] = process.argv
const settings = JSON.parse(options) as { toLoopback?: boolean; inbound?: boolean }
const kernel = new NativeKernel()
const link = new NoLink()
kernel.attach(link.frames)
const netns = openSync(path, "r")
const entered = kernel.enterNamespace(netns)
if (entered < 0) throw new Error(`enterNamespace: ${entered}`)
closeSync(netns)
kernel.enableSplice()

const guest = new GuestState()
guest.ipv4 = guest.ipv6 = true
guest.address4.set(words("192.0.2.15"))
guest.address6.set(words("2001:db8::15"))
const rules = (JSON.parse(json) as (Partial<Omit<ForwardRule, "address">> & { address?: string })[]).map((rule) => {
  const first = rule.first ?? 1
  return {
    protocol: "tcp",
    device: "",
    first,
    last: first,
    targetFirst: first,
    targetAddress: null,
    weak: false,
    ...rule,
    address: rule.address === undefined ? null : Int32Array.from(words(rule.address)),
  } as ForwardRule
})
const config: EngineConfig = {
  kernel,
  link,
  guest,
  secret: Int32Array.of(1, 2, 3, 4),
  translation: emptyTranslation(),
  responders: {},
  rules,
  splice: { inbound: settings.inbound ?? true, toLoopback: settings.toLoopback ?? false, only: true },
  tcp: true,
  udp: true,
  icmp: false,
  outbound4: new Int32Array(4),
  outbound6: new Int32Array(4),
  outboundDevice4: "",
  outboundDevice6: "",
  linkLocalScope: 0,
  freebind: false,
  synRetries: 6,
  synLinear: 4,
  rtoMaxMs: 120_000,
  udpTimeout: 3,
  udpStreamTimeout: 6,
  log: (level, site, message) => process.stderr.write(`${level} ${site}: ${message}\n`),
}
const engine = new Engine(config)
engine.listen()
let running = true
const input = new Uint8Array(256)
kernel.watchLevel(0, REF_EXTERNAL << REF_SHIFT)
engine.onExternal = () => {
  if (readSync(0, input) <= 0) running = false
  else {
    process.stdout.write(
      `${JSON.stringify({
        tcp: engine.counters[COUNTER.tcpSpliceFlows],
        udp: engine.counters[COUNTER.udpSpliceFlows],
        in: engine.counters[COUNTER.bytesSplicedIn],
        out: engine.counters[COUNTER.bytesSplicedOut],
        turns: engine.counters[COUNTER.turns],
        flows: engine.ctx.flows.count,
        listeners: engine.listeners.count,
        descriptors: readdirSync("/proc/self/fd").length,
        memory: process.memoryUsage.rss(),
      })}\n`,
    )
  }
}
process.stdout.write("ready\n")
while (running) engine.turn(-1)
engine.close()
kernel.destroy()
