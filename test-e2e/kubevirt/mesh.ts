// Istio's part of a pod: its rules, as istio-init and istio-cni set them, and a real transparent proxy in Envoy's place,
// HAProxy, at Envoy's ports and as Envoy's user.
import type { ChildProcess } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { scratchDirectory } from "../../tools/world/enter.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { ended, stop, until } from "../../tools/world/process.ts"
import { unprivileged } from "./pod.ts"

const PROXY_ID = 1337
export const OUTBOUND = 15_001
export const INBOUND = 15_006
export const HEALTH = 15_021

const RULES = `*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports ${INBOUND}
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner ${PROXY_ID} -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner ${PROXY_ID} -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner ${PROXY_ID} -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner ${PROXY_ID} -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner ${PROXY_ID} -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner ${PROXY_ID} -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -p tcp -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports ${OUTBOUND}
COMMIT
`

/** Connections go on to where they were going (the kernel remembers); inbound ones come from 127.0.0.6, as Envoy's do. */
const CONFIGURATION = `global
  log stdout format raw local0
  maxconn 200
defaults
  mode tcp
  log global
  timeout connect 3s
  timeout client 10s
  timeout server 10s
frontend outbound
  bind 0.0.0.0:${OUTBOUND}
  log-format "outbound %[src] to %[dst]:%[dst_port]"
  default_backend on
frontend inbound
  bind 0.0.0.0:${INBOUND}
  log-format "inbound %[src] to %[dst]:%[dst_port]"
  default_backend to-application
backend on
  server original 0.0.0.0:0
backend to-application
  source 127.0.0.6
  server original 0.0.0.0:0
frontend others
  mode http
  bind 0.0.0.0:15000
  bind 0.0.0.0:15004
  bind 0.0.0.0:15008
  bind 0.0.0.0:15009
  bind 0.0.0.0:15020
  bind 0.0.0.0:${HEALTH}
  bind 0.0.0.0:15053
  bind 0.0.0.0:15090
  http-request return status 200 content-type text/plain string "the proxy"
`

export interface Proxy {
  readonly process: ChildProcess
  /** Connections so far, one per line. */
  log(): string
  stop(): Promise<void>
}

export async function interceptTraffic(pod: Namespace): Promise<void> {
  await pod.must(["iptables-restore", "--noflush"], { input: RULES })
}

export async function startProxy(pod: Namespace): Promise<Proxy> {
  const file = join(scratchDirectory(), `haproxy.${pod.pid}.cfg`)
  writeFileSync(file, CONFIGURATION)
  const command = unprivileged(["/usr/sbin/haproxy", "-db", "-f", file], PROXY_ID)
  const child = pod.start(command, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  let errors = ""
  child.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString()))
  await until("the proxy", 10_000, async () => {
    if (child.exitCode !== null) throw new Error(`the proxy ended: ${said}${errors}`)
    const { stdout } = await pod.run(["ss", "-Htln", `sport = :${HEALTH}`])
    return stdout.includes(`:${HEALTH}`)
  })
  return {
    process: child,
    log: () => said,
    async stop() {
      child.kill("SIGTERM")
      if (!(await ended(child, 3000))) await stop(child)
    },
  }
}
