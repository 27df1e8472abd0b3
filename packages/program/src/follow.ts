/**
 * Following the host: its addresses, routes and resolvers become what the guest is told and what the engine does, while it
 * runs. What the user has given by options stays.
 *
 * ```
 *   netlink ─▶ something changed ─▶ it settles ─▶ look at everything ─▶ decide as at start ─▶ differs? ─▶ engine, DHCP, NDP
 *   resolv.conf ─▶ new content ──▶──┘
 * ```
 * Between two networks there is none: nothing better can be told than what was, so that stays until there is something
 * new. But when the way to the world in IPv6 stays away, the guest is told to prefer IPv4.
 *
 * Changes that come quickly one after the other are waited for, longer each time; and looking takes at most a twentieth of the
 * processor's time, however large the host's tables are and however often they change.
 */
import { closeSync, readSync } from "node:fs"
import type { CommonOptions } from "@passt/cli"
import {
  describeHost,
  differences,
  elapsedMs,
  former,
  HostError,
  type HostConfig,
  type HostFamily,
  HostMonitor,
  LEVEL,
  type LimitedSite,
  type Logger,
  mergeIpv4,
  mergeIpv6,
  NetlinkError,
  parseResolvConf,
  type ResolverConfig,
  signatureOf,
  type Snapshot,
} from "@passt/host"
import type { NativeKernel } from "@passt/native"
import { type Assembly, externalRef } from "./assemble.ts"
import type { Chore } from "./chores.ts"
import { decide, type GuestConfig, hostOptions } from "./guest.ts"

/** From the first sign of a change until it is looked at, milliseconds; doubled with every change that follows soon. */
const SETTLE_MS = 200
const SETTLE_MS_MAX = 5_000
/** After that long without a change the next one is taken for a single one again. */
const CALM_MS = 30_000
/** How long the way to the world may be away before the guest is told. */
const LOST_MS = 5_000
/** Looking may take one part in so many of the time. */
const LOOK_SHARE = 20
/** Until the next try when the kernel did not answer. */
const RETRY_MS = 5_000
/** Flows looked at per turn. */
const FLOWS_PER_TURN = 256
/** Longest content of resolv.conf that the watcher sends; one more byte shows one that is longer. */
const RESOLV_CONF_BYTES = 64 * 1024

export interface FollowOptions {
  /** Whether the guest knows its IPv6 router by the address that router advertisements come from: then that stays its gateway. */
  readonly keepRouter6: boolean
  /** The watcher of resolv.conf, see native/launcher/README.md; null: there is none. */
  readonly resolversFd: number | null
  /** Indices of events for the program (externalRef). */
  readonly hostIndex: number
  readonly resolversIndex: number
  /** Called when addresses or routes of the host have changed, after the engine knows. */
  readonly onChange?: (config: GuestConfig) => void
}

export class HostFollower implements Chore {
  isDue = false
  dueAt = 0
  readonly #options: CommonOptions
  readonly #follow: FollowOptions
  readonly #assembly: Assembly
  readonly #kernel: NativeKernel
  readonly #logger: Logger
  readonly #news: LimitedSite
  readonly #monitor: HostMonitor
  readonly #bytes: Buffer = Buffer.alloc(RESOLV_CONF_BYTES + 1)
  #resolversFd: number
  /** What holds now. */
  #config: GuestConfig
  #resolvConf: ResolverConfig
  #online6 = true
  #lostAt = 0
  #isLost = false
  #settleMs = SETTLE_MS
  #changedAt: number
  /** Earliest time of the next look. */
  #restUntil: number
  /** Next flow to look at, -1: none. */
  #flow = -1
  #isWatching = true
  /** To look without a sign, and when. */
  #lookAgain = false
  #lookAgainAt = 0
  /** What was found by the last look, in short; "": none. */
  #signature = ""
  readonly #former: { resolvers: Int32Array[]; loopback: Int32Array[] } = { resolvers: [], loopback: [] }

  /** Opens its sockets. @throws NetlinkError */
  constructor(
    options: CommonOptions,
    config: GuestConfig,
    assembly: Assembly,
    kernel: NativeKernel,
    logger: Logger,
    follow: FollowOptions,
  ) {
    this.#options = options
    this.#follow = follow
    this.#assembly = assembly
    this.#kernel = kernel
    this.#logger = logger
    this.#news = logger.limited(LEVEL.info)
    this.#config = config
    this.#resolvConf = config.resolvConf
    this.#resolversFd = follow.resolversFd ?? -1
    this.#changedAt = kernel.now()
    this.#restUntil = kernel.now()
    this.#monitor = new HostMonitor()
    kernel.watchLevel(this.#monitor.fd, externalRef(follow.hostIndex))
    if (this.#resolversFd >= 0) kernel.watchLevel(this.#resolversFd, externalRef(follow.resolversIndex))
    // Something may have changed since the host was read.
    this.#schedule(kernel.now())
  }

  /** Closes its sockets; no more events come. */
  close(): void {
    this.#monitor.close()
    if (this.#resolversFd >= 0) closeSync(this.#resolversFd)
    this.#resolversFd = -1
    this.isDue = false
  }

  /** Links, addresses or routes of the host have changed. */
  hostChanged(): void {
    // One sign is enough until it is looked at: more are not even noticed.
    this.#kernel.unwatch(this.#monitor.fd)
    this.#isWatching = false
    this.#schedule(this.#kernel.now())
  }

  /** The watcher has sent the content of resolv.conf, or has ended. */
  resolversChanged(): void {
    if (this.#resolversFd < 0) return
    let length = 0
    try {
      length = readSync(this.#resolversFd, this.#bytes)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return
    }
    if (length === 0) {
      this.#kernel.unwatch(this.#resolversFd)
      closeSync(this.#resolversFd)
      this.#resolversFd = -1
      this.#logger.warning("The watcher of resolv.conf has ended: the host's resolvers are not followed any more")
      return
    }
    // The first byte only makes that even an empty file is a message.
    const found = parseResolvConf(this.#bytes.toString("utf8", 1, length))
    // Files without resolvers are written between two networks.
    if (found.servers.length === 0 && this.#resolvConf.servers.length > 0) return
    this.#resolvConf = found
    this.#schedule(this.#kernel.now())
  }

  run(now: number): void {
    this.isDue = false
    if (this.#flow >= 0) {
      this.#flow = this.#assembly.engine.endMovedFlows(this.#flow, FLOWS_PER_TURN)
      if (this.#flow >= 0) this.#wake(now)
      else this.#rest()
      return
    }
    this.#look(now)
    if (this.#flow < 0) this.#rest()
    else this.#wake(now)
  }

  /** Until the next sign. */
  #rest(): void {
    this.#watch()
    if (this.#lookAgain) this.#wake(this.#lookAgainAt)
    this.#lookAgain = false
  }

  #look(now: number): void {
    const began = elapsedMs()
    let snapshot: Snapshot
    let host: HostConfig
    try {
      snapshot = this.#monitor.look()
      host = describeHost(snapshot, hostOptions(this.#options), this.#config.host.settings)
    } catch (error) {
      if (!(error instanceof NetlinkError || error instanceof HostError)) throw error
      // The interface that was asked for may come back.
      this.#logger.debug(`The host's network can't be followed at the moment: ${error.message}`)
      if (error instanceof NetlinkError) this.#lookAgainAfter(now, RETRY_MS)
      return
    }
    this.#take(host, now)
    const signature = signatureOf(snapshot, this.#config.resolvers)
    if (signature !== this.#signature) {
      // Also where what the guest is told stays, the way to some peers may be another one.
      if (this.#signature !== "") {
        this.#flow = 0
        this.#follow.onChange?.(this.#config)
      }
      this.#signature = signature
    }
    this.#restUntil = (now + Math.ceil((elapsedMs() - began) * LOOK_SHARE)) | 0
  }

  #lookAgainAfter(now: number, ms: number): void {
    this.#lookAgain = true
    this.#lookAgainAt = (now + ms) | 0
  }

  #schedule(now: number): void {
    if (this.isDue) return
    if (((now - this.#changedAt) | 0) > CALM_MS) this.#settleMs = SETTLE_MS
    const settled = (now + this.#settleMs) | 0
    this.#wake(((this.#restUntil - settled) | 0) > 0 ? this.#restUntil : settled)
  }

  #wake(at: number): void {
    this.isDue = true
    this.dueAt = at | 0
  }

  #watch(): void {
    if (this.#isWatching) return
    this.#kernel.watchLevel(this.#monitor.fd, externalRef(this.#follow.hostIndex))
    this.#isWatching = true
  }

  /** Takes over what the host is now. */
  #take(found: HostConfig, now: number): void {
    const before = this.#config
    const { keepRouter6 } = this.#follow
    const host: HostConfig = {
      ...found,
      ipv4: before.host.ipv4 && found.ipv4 && mergeIpv4(before.host.ipv4, found.ipv4),
      ipv6: before.host.ipv6 && found.ipv6 && mergeIpv6(before.host.ipv6, found.ipv6, keepRouter6),
    }
    const online6 = this.#hasWay6(before.host.ipv6, found.ipv6, now)
    const decision = decide(this.#options, host, this.#resolvConf)
    const config: GuestConfig = { host, guest: before.guest, resolvConf: this.#resolvConf, ...decision }
    const lines = differences(before, config)
    const isSame = lines.length === 0 && online6 === this.#online6 && indices(before.host) === indices(host)
    if (isSame) return
    if (online6 !== this.#online6) {
      lines.push(online6 ? "IPv6: the host is online again" : "IPv6: the host has no way to the world any more")
    }
    this.#remember(before, config)
    apply(host, config.guest)
    this.#config = config
    this.#online6 = online6
    this.#assembly.reconfigure(config, this.#former, online6)
    for (const line of lines) this.#news.say(line)
    this.#changedAt = now
    this.#settleMs = Math.min(this.#settleMs * 2, SETTLE_MS_MAX)
  }

  /** Whether there is a way to the world in IPv6, or it has been away for a short time only. */
  #hasWay6(before: HostFamily | undefined, found: HostFamily | undefined, now: number): boolean {
    // In local mode from the start the guest talks to the host itself: that goes on.
    this.#isLost &&= found?.local === true
    if (before === undefined || before.local || !found?.local) return true
    if (!this.#isLost) {
      this.#isLost = true
      this.#lostAt = now
    }
    const left = LOST_MS - ((now - this.#lostAt) | 0)
    if (left <= 0) return false
    this.#lookAgainAfter(now, left)
    return this.#online6
  }

  /** Addresses that the guest may go on using although it is told others now. */
  #remember(before: GuestConfig, after: GuestConfig): void {
    const told = (c: GuestConfig): Int32Array[] => [...c.resolvers.advertised4, ...c.resolvers.advertised6]
    const loopback = (c: GuestConfig): Int32Array[] => [c.translation.mapHostLoopback4, c.translation.mapHostLoopback6]
    if (this.#options.announceDns) this.#former.resolvers = former(this.#former.resolvers, told(before), told(after))
    this.#former.loopback = former(this.#former.loopback, loopback(before), loopback(after))
  }
}

function apply(host: HostConfig, guest: GuestConfig["guest"]): void {
  if (host.ipv4) {
    guest.address4.set(host.ipv4.address)
    guest.gateway4.set(host.ipv4.gateway)
    guest.prefix4 = host.ipv4.prefix
  }
  if (host.ipv6) {
    guest.address6.set(host.ipv6.address)
    guest.gateway6.set(host.ipv6.gateway)
  }
}

function indices(host: HostConfig): string {
  return `${host.ipv4?.interfaceIndex} ${host.ipv6?.interfaceIndex}`
}
