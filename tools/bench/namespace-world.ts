/**
 * The world of a measurement of pasta, or of what does the same: a "guest" namespace that is online through it, the "host"
 * namespace where it runs, and a "world" namespace behind a veth pair.
 *
 *     guest namespace            host namespace               world namespace
 *     client/server              client/server (127.0.0.1)    client/server (203.0.113.1)
 *       eth0 (tap) ── pasta ────── uplink ───────── veth ────── world: 192.0.2.1
 *
 * Paths: "tap" is between guest and world; "splice" is between the guest's loopback and the host's. The implementation
 * "veth" is the measure of both: from the host to the world, and the host's own loopback.
 */

import { spawn, type ChildProcess } from "node:child_process"
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Implementation } from "./implementations.ts"
import { lineReader } from "./lines.ts"
import { openNamespace, type Namespace } from "./namespace.ts"
import type { ScenarioKind } from "./scenarios.ts"
import { type Ends, type Family, FORWARDED_PORT, HOST_PORT, SYSCTLS, type World } from "./world.ts"

// Documentation prefixes (RFC 5737, RFC 3849): they route nowhere.
const HOST: Record<Family, string> = { 4: "192.0.2.2", 6: "2001:db8:1::2" }
const GATEWAY: Record<Family, string> = { 4: "192.0.2.1", 6: "2001:db8:1::1" }
/** Servers in the world: not the gateway, which pasta takes for the host. */
const WORLD: Record<Family, string> = { 4: "203.0.113.1", 6: "2001:db8:3::1" }
const LOOPBACK: Record<Family, string> = { 4: "127.0.0.1", 6: "::1" }

const START_MS_MAX = 15_000

const hostScript = (world: Namespace, mtu: number): string => `${SYSCTLS}
ip link add uplink type veth peer name world netns ${world.pid}
ip link set uplink mtu ${mtu} up
ip addr add ${HOST[4]}/24 dev uplink
ip route add default via ${GATEWAY[4]}
${mtu < 1280 ? "" : `ip -6 addr add ${HOST[6]}/64 dev uplink nodad; ip -6 route add default via ${GATEWAY[6]}`}
`

const worldScript = (mtu: number): string => `${SYSCTLS}
ip link set world mtu ${mtu} up
ip addr add ${GATEWAY[4]}/24 dev world
ip addr add ${WORLD[4]}/32 dev lo
ip route add default via ${HOST[4]}
${mtu < 1280 ? "" : `ip -6 addr add ${GATEWAY[6]}/64 dev world nodad; ip -6 addr add ${WORLD[6]}/128 dev lo nodad`}
`

export interface NamespaceWorldOptions {
  implementation: Implementation
  mtu: number
  /** Keep the guest's programs on the first processor, and all others on the second. */
  pin: boolean
}

const commandOf = ({ kind, command }: Implementation, netns: string, mtu: number, socket: string): string[] => {
  const forwarded = String(FORWARDED_PORT)
  const host = String(HOST_PORT)
  if (kind === "slirp4netns") {
    const shape = ["--configure", `--mtu=${mtu}`, "--netns-type=path", `--api-socket=${socket}`]
    return [...command, ...shape, netns, "eth0"]
  }
  const ports = ["-t", forwarded, "-u", forwarded, "-T", host, "-U", host]
  const shape = ["--config-net", "--ns-ifname", "eth0", "--mtu", String(mtu), "--runas", "0"]
  return [...command, "--foreground", ...shape, ...ports, "--netns", netns]
}

/** Has slirp4netns forward a port, as its API has it: one request and one answer per connection, in JSON. */
const forward = async (socket: string, proto: "tcp" | "udp"): Promise<void> => {
  const ports = { host_addr: "0.0.0.0", host_port: FORWARDED_PORT, guest_port: FORWARDED_PORT }
  const request = { execute: "add_hostfwd", arguments: { proto, ...ports } }
  const answer = await new Promise<string>((resolve, reject) => {
    const client = connect(socket, () => client.end(JSON.stringify(request)))
    let text = ""
    client.on("data", (part) => (text += part.toString()))
    client.on("end", () => resolve(text))
    client.on("error", reject)
  })
  if (answer.includes("error")) throw new Error(`slirp4netns does not forward: ${answer}`)
}

const exited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const endsOf = (implementation: Implementation, host: Namespace, guest: Namespace, world: Namespace) => {
  const bare = implementation.kind === "veth"
  const inner = bare ? host : guest
  return ({ direction, path }: ScenarioKind, family: Family): Ends => {
    const out = direction === "out"
    const port = out || bare ? HOST_PORT : FORWARDED_PORT
    if (path === "splice") {
      if (implementation.kind === "slirp4netns") throw new Error("slirp4netns has no such path")
      return { server: out ? host : inner, client: out ? inner : host, to: LOOPBACK[family], port }
    }
    return out
      ? { server: world, client: inner, to: WORLD[family], port }
      : { server: inner, client: world, to: HOST[family], port }
  }
}

/** Builds the world and waits until it works. Throws, with what the program said, if it does not. */
export const openNamespaceWorld = async (options: NamespaceWorldOptions): Promise<World> => {
  const { implementation, mtu, pin } = options
  const directory = mkdtempSync(join(tmpdir(), "pasta-bench-"))
  chmodSync(directory, 0o777)
  const logPath = join(directory, "log")
  const log = openSync(logPath, "a")
  const host = await openNamespace(pin ? 1 : undefined)
  const guest = await openNamespace(pin ? 0 : undefined)
  const world = await openNamespace(pin ? 1 : undefined)
  let measured: ChildProcess | undefined
  const close = (): void => {
    if (measured !== undefined && !exited(measured)) measured.kill("SIGKILL")
    host.close()
    guest.close()
    world.close()
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    host.shell(hostScript(world, mtu))
    world.shell(worldScript(mtu))
    guest.shell(SYSCTLS)
    if (implementation.kind !== "veth") {
      const socket = join(directory, "api")
      // The reference may not look into another process's /proc: it is given the namespace, and its own.
      const netns = openSync(`/proc/${guest.pid}/ns/net`, "r")
      const command = host.inside(commandOf(implementation, "/proc/self/fd/0", mtu, socket))
      measured = spawn(command[0]!, command.slice(1), { stdio: [netns, "pipe", log] })
      closeSync(netns)
      const ready = (test: string): string =>
        `for i in $(seq ${START_MS_MAX / 50}); do ${test} && exit 0; sleep 0.05; done; echo "it does not begin" >&2; exit 1`
      guest.shell(ready("ip -o -4 addr show scope global | grep -q ."))
      if (implementation.kind === "slirp4netns")
        for (const protocol of ["tcp", "udp"] as const) await forward(socket, protocol)
      host.shell(ready(`ss -Hltn sport = :${FORWARDED_PORT} | grep -q .`))
    }
    return {
      measured,
      output: measured === undefined ? undefined : lineReader(measured.stdout!),
      bridge: undefined,
      ends: endsOf(implementation, host, guest, world),
      log: () => readFileSync(logPath, "utf8"),
      close,
    }
  } catch (error) {
    const said = readFileSync(logPath, "utf8")
    close()
    throw new Error(`${(error as Error).message}\n${said}`.trim())
  }
}
