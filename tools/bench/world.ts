/**
 * The small world of one measurement: a "host" namespace where passt and its peers run, and a "guest" namespace whose
 * only way out is the bridge's tap. The guest is configured the way passt's own DHCP and router advertisements would:
 * the host's address, the host's gateway.
 *
 *     guest namespace              host namespace
 *     client/server                server/client (127.0.0.1, reached as the gateway address)
 *         │ kernel                     │ kernel: sockets
 *       eth0 (tap) ── bridge ── UNIX socket or virtqueues ── passt        uplink (veth): 192.0.2.2, 2001:db8:1::2, default routes
 */

import { spawn, type ChildProcess } from "node:child_process"
import { chmodSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { lineReader, type LineReader } from "./lines.ts"
import { openNamespace, type Namespace } from "./namespace.ts"
import type { ScenarioKind } from "./scenarios.ts"

export type Family = 4 | 6

/** How frames reach passt: over its UNIX stream socket, or by virtqueues in the guest's memory. */
export type Link = "unix" | "vhost-user"

// Documentation prefixes (RFC 5737, RFC 3849): they route nowhere.
const HOST: Record<Family, string> = { 4: "192.0.2.2", 6: "2001:db8:1::2" }
const GATEWAY: Record<Family, string> = { 4: "192.0.2.1", 6: "2001:db8:1::1" }
const LOOPBACK: Record<Family, string> = { 4: "127.0.0.1", 6: "::1" }

/** What passt forwards into the guest, TCP and UDP. */
export const FORWARDED_PORT = 5301
/** Where servers in the host namespace listen. */
export const HOST_PORT = 5201

/**
 * Room for windows: the paths measured here have microseconds of delay, but a batch of 64 KiB frames and a busy
 * scheduler need megabytes. Ports: a connection per transaction uses up a fresh one each time.
 */
export const SYSCTLS = `
sysctl -qw net.ipv4.tcp_rmem="4096 131072 67108864"
sysctl -qw net.ipv4.tcp_wmem="4096 131072 67108864"
sysctl -qw net.ipv4.ip_local_port_range="10000 65535"
sysctl -qw net.ipv4.ping_group_range="0 2147483647"
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
sysctl -qw net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0
`

const HOST_SCRIPT = `${SYSCTLS}
ip link add uplink type veth peer name world
ip link set world up
ip link set uplink up
ip addr add ${HOST[4]}/24 dev uplink
ip -6 addr add ${HOST[6]}/64 dev uplink nodad
ip route add default via ${GATEWAY[4]}
ip -6 route add default via ${GATEWAY[6]}
`

const GUEST_ADDRESS_SCRIPT: Record<Family, string> = {
  4: `ip addr add ${HOST[4]}/24 dev eth0; ip route add default via ${GATEWAY[4]}`,
  6: `ip -6 addr add ${HOST[6]}/64 dev eth0 nodad; ip -6 route add default via ${GATEWAY[6]}`,
}

const START_MS_MAX = 15_000

export interface WorldOptions {
  /** passt's command line up to its own options. */
  passt: readonly string[]
  bridge: string
  link: Link
  mtu: number
  txQueueLength: number
  queueEntries: number
  queuePairs: number
  packedQueues: boolean
  /** Hand frames to the guest's kernel through NAPI. */
  napi: boolean
  /** Keep the guest's programs on the first processor, and passt and its peers on the second. */
  pin: boolean
}

/** Where the two ends of a measurement run, and how the client finds the server. */
export interface Ends {
  readonly server: Namespace
  readonly client: Namespace
  readonly to: string
  readonly port: number
}

export interface World {
  /** The process whose cost is measured; undefined when nothing stands between the ends. */
  readonly measured: ChildProcess | undefined
  /** What it prints on standard output: V8's traces, when they were asked for. */
  readonly output: LineReader | undefined
  readonly bridge: ChildProcess | undefined
  ends(kind: ScenarioKind, family: Family): Ends
  /** What was written to standard error, for a failure's message. */
  log(): string
  /** Ends every process and removes everything. */
  close(): void
}

/** Whether a process has ended, by itself or killed. */
export const exited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** Builds the world and waits until frames can flow. Throws, with what passt said, if they can't. */
export const openWorld = async (options: WorldOptions): Promise<World> => {
  const directory = mkdtempSync(join(tmpdir(), "passt-bench-"))
  // A passt started as root becomes "nobody" and makes its socket after that.
  chmodSync(directory, 0o777)
  const logPath = join(directory, "log")
  const log = openSync(logPath, "a")
  const host = await openNamespace(options.pin ? 1 : undefined)
  const guest = await openNamespace(options.pin ? 0 : undefined)
  const children: ChildProcess[] = []
  const start = (command: string[]): ChildProcess => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", log] })
    children.push(child)
    return child
  }
  const close = (): void => {
    for (const child of children) if (!exited(child)) child.kill("SIGKILL")
    host.close()
    guest.close()
    rmSync(directory, { recursive: true, force: true })
  }
  const readLog = (): string => readFileSync(logPath, "utf8")

  try {
    host.shell(HOST_SCRIPT)
    guest.shell(SYSCTLS)
    const socket = join(directory, "passt.socket")
    const port = String(FORWARDED_PORT)
    const passtOptions = ["--foreground", "--one-off", "--socket", socket, "--mtu", String(options.mtu)]
    if (options.link === "vhost-user") passtOptions.unshift("--vhost-user")
    const passt = start(host.inside([...options.passt, ...passtOptions, "-t", port, "-u", port]))
    const bridgeOptions = ["--with-parent", "--wait", String(START_MS_MAX), "--socket", socket]
    if (options.napi) bridgeOptions.push("--napi")
    if (options.link === "vhost-user") {
      bridgeOptions.push("--vhost-user", "--queue", String(options.queueEntries), "--pairs", String(options.queuePairs))
      if (options.packedQueues) bridgeOptions.push("--packed")
    }
    bridgeOptions.push("--mtu", String(options.mtu), "--txqueuelen", String(options.txQueueLength))
    const bridge = start(guest.inside([options.bridge, ...bridgeOptions]))
    const passtOutput = lineReader(passt.stdout!)
    const firstLine = lineReader(bridge.stdout!).next(START_MS_MAX)
    const ready = await Promise.race([firstLine, new Promise((done) => passt.once("exit", done))])
    if (typeof ready !== "string") throw new Error("passt did not start")
    guest.shell(GUEST_ADDRESS_SCRIPT[4])
    // RFC 8200, section 5: no IPv6 below 1280.
    if (options.mtu >= 1280) guest.shell(GUEST_ADDRESS_SCRIPT[6])
    return {
      measured: passt,
      output: passtOutput,
      bridge,
      ends: ({ direction }, family) =>
        direction === "out"
          ? { server: host, client: guest, to: GATEWAY[family], port: HOST_PORT }
          : { server: guest, client: host, to: LOOPBACK[family], port: FORWARDED_PORT },
      log: readLog,
      close,
    }
  } catch (error) {
    const said = readLog()
    close()
    throw new Error(`${(error as Error).message}\n${said}`.trim())
  }
}
