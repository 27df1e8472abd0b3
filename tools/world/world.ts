// The small world: namespaces "host" and "world", a cable between them, and servers in the world.
//
//   guest ~~ passt [host] eth0 ──── eth0 [world] lo: servers
//                  192.0.2.2       192.0.2.1         198.51.100.10, .53
//                  2001:db8:1::2   2001:db8:1::1     2001:db8:2::10, ::53
import { writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { join } from "node:path"
import { HOST, NOBODY, PORT, RESOLVER, ROUTER, SEARCH_DOMAIN, SERVER } from "./addresses.ts"
import { scratchDirectory } from "./enter.ts"
import { createNamespace } from "./namespace.ts"
import type { Namespace } from "./namespace.ts"
import { must, run, until } from "./process.ts"

/** A worse line than a cable, in the direction from the world to the host and back. */
export interface PathQuality {
  /** Mbit/s, each direction. */
  readonly rate?: number
  /** Share of packets lost, 0 to 1, each direction. */
  readonly loss?: number
  /** Milliseconds, each direction; needs the kernel's sch_netem. */
  readonly delayMs?: number
}

export interface World {
  readonly host: Namespace
  readonly world: Namespace
  /** Degrade the path between host and world; an empty object makes it good again. */
  impair(quality: PathQuality): Promise<void>
  close(): Promise<void>
}

export interface WorldOptions {
  /** MTU of the cable between host and world, in bytes. Default 1500. */
  readonly mtu?: number
  /** Lines of the host's resolv.conf in place of the usual ones. */
  readonly resolvConf?: string
  /** Whether the world has its servers from the start. Default: yes. */
  readonly servers?: boolean
}

const SERVERS: string = fileURLToPath(new URL("servers.ts", import.meta.url))

/** Make both namespaces, wire them and start the servers. Only inside the sandbox (enter.ts). */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const [host, world] = await Promise.all([createNamespace("host"), createNamespace("world")])
  await must(["ip", "link", "add", "to-host", "type", "veth", "peer", "name", "to-world"])
  await must(["ip", "link", "set", "to-host", "netns", String(world.pid)])
  await must(["ip", "link", "set", "to-world", "netns", String(host.pid)])

  const mtu = options.mtu ?? 1500
  await ip(world, [
    "link set to-host name eth0",
    `link set eth0 mtu ${mtu} up`,
    `address add ${ROUTER.ipv4}/${HOST.prefix4} dev eth0`,
    `address add ${ROUTER.ipv6}/${HOST.prefix6} dev eth0 nodad`,
    `address add ${ROUTER.linkLocal}/64 dev eth0 nodad`,
    ...[SERVER.ipv4, RESOLVER.ipv4].map((address) => `address add ${address}/32 dev lo`),
    ...[SERVER.ipv6, RESOLVER.ipv6].map((address) => `address add ${address}/128 dev lo nodad`),
  ])
  await ip(host, [
    "link set to-world name eth0",
    `link set eth0 mtu ${mtu} up`,
    `address add ${HOST.ipv4}/${HOST.prefix4} dev eth0`,
    `address add ${HOST.ipv6}/${HOST.prefix6} dev eth0 nodad`,
    `route add default via ${ROUTER.ipv4} dev eth0`,
    `route add default via ${ROUTER.ipv6} dev eth0`,
  ])
  // Dropped without a word, so that a connection attempt hangs instead of being refused.
  // The world routes, so that it also says what it cannot reach.
  await world.must([
    "sh",
    "-c",
    "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$f; done",
  ])
  await ip(world, [`route add blackhole ${NOBODY.ipv4}/32`, `route add blackhole ${NOBODY.ipv6}/128`])

  const resolvConf = join(scratchDirectory(), `resolv.conf.${host.pid}`)
  const usual = `nameserver ${RESOLVER.ipv4}\nnameserver ${RESOLVER.ipv6}\nsearch ${SEARCH_DOMAIN}\n`
  writeFileSync(resolvConf, options.resolvConf ?? usual)
  // The mount follows the symbolic link that resolv.conf is on many systems.
  await host.must(["mount", "--bind", resolvConf, "/etc/resolv.conf"])

  if (options.servers !== false) {
    await startServers(world)
    for (const address of [SERVER.ipv4, SERVER.ipv6]) {
      world.start(["iperf3", "--server", "--bind", address, "--port", String(PORT.iperf3)], { stdio: "ignore" })
    }
  }
  return {
    host,
    world,
    impair: (quality) => impair([host, world], quality),
    async close() {
      await Promise.all([host.close(), world.close()])
    },
  }
}

/** Start the servers in a namespace and wait until they listen; on `addresses`, else on those of the world. */
export async function startServers(
  namespace: Pick<Namespace, "name" | "start">,
  addresses: readonly string[] = [],
): Promise<void> {
  const command = [process.execPath, "--disable-warning=ExperimentalWarning", SERVERS, ...addresses]
  const servers = namespace.start(command, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  const keep = (chunk: Buffer): void => {
    said = (said + chunk.toString()).slice(-10_000)
  }
  servers.stdout?.on("data", keep)
  servers.stderr?.on("data", keep)
  await until(`the servers in "${namespace.name}"`, 20_000, () => {
    if (servers.exitCode !== null) throw new Error(`the servers ended (status ${servers.exitCode}): ${said}`)
    return said.includes("ready\n")
  })
}

/** Several `ip` commands in one process. */
export async function ip(namespace: Namespace, commands: readonly string[]): Promise<void> {
  await namespace.must(["ip", "-batch", "-"], { input: `${commands.join("\n")}\n` })
}

/** Whether this kernel can delay packets: sch_netem is built in or can be loaded. */
export async function kernelHasNetem(): Promise<boolean> {
  const outcome = await run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
  if (outcome.status !== 0) return false
  await run(["tc", "qdisc", "del", "dev", "lo", "root"])
  return true
}

async function impair(ends: readonly Namespace[], quality: PathQuality): Promise<void> {
  for (const end of ends) await impairInterface(end, "eth0", quality)
}

/**
 * Degrade what an interface sends (rate, loss, delay) and, for loss, nothing else. Rate is a token bucket; loss is
 * netem's where the kernel has it and else a random drop in nftables.
 */
export async function impairInterface(end: Namespace, device: string, quality: PathQuality): Promise<void> {
  await end.run(["tc", "qdisc", "del", "dev", device, "root"])
  await end.run(["nft", "delete", "table", "netdev", "impair"])
  await end.run(["nft", "delete", "table", "inet", "impair"])
  const { rate, loss, delayMs } = quality
  if (delayMs !== undefined && delayMs > 0) {
    const lossArguments = loss === undefined ? [] : ["loss", `${loss * 100}%`]
    const rateArguments = rate === undefined ? [] : ["rate", `${rate}mbit`]
    const netem = ["netem", "delay", `${delayMs}ms`, ...lossArguments, ...rateArguments]
    await end.must(["tc", "qdisc", "add", "dev", device, "root", ...netem])
    return
  }
  if (rate !== undefined) {
    const bucket = ["tbf", "rate", `${rate}mbit`, "burst", "32kb", "latency", "50ms"]
    await end.must(["tc", "qdisc", "add", "dev", device, "root", ...bucket])
  }
  if (loss !== undefined && loss > 0) {
    const per10000 = Math.round(loss * 10_000)
    const drop = `numgen random mod 10000 < ${per10000} drop`
    const rules = `table inet impair { chain out { type filter hook output priority 0; oifname "${device}" ${drop}; }; }`
    await end.must(["nft", "-f", "-"], { input: rules })
  }
}
