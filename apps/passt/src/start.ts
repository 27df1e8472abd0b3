/**
 * Assembles the packages, in the order in which things may fail, and runs the loop.
 *
 *   log → identity → host → rules → socket, PID file → listen → leave root → capture → ready → loop
 */
import { closeSync, existsSync, openSync, rmSync, writeSync } from "node:fs"
import { formatRule, type Launch, parsePortOptions, type PasstOptions } from "@passt/cli"
import { Engine, type EngineConfig, FrameTable, REF_EXTERNAL, REF_LINK, REF_SHIFT } from "@passt/core"
import { DhcpResponder, Dhcpv6Responder } from "@passt/dhcp"
import { chooseIdentity, errnoText, guestLines, type Logger, NeighbourMonitor, summary } from "@passt/host"
import {
  dropCapabilities,
  dropRoot,
  entropy,
  isInitialUserNamespaceRoot,
  lookupGroup,
  lookupUser,
  NativeKernel,
  raiseFileLimit,
  redirectStdio,
  setNoNewPrivs,
  setProcessName,
  SIGNAL,
} from "@passt/native"
import { ArpResponder, learnNeighbour, NdpResponder, NeighbourTable } from "@passt/ndp"
import { UnixLink } from "@passt/transport-unix"
import { describeGuest, type GuestConfig } from "./guest.ts"
import { engineLog, openLog } from "./log.ts"

/** The start has failed: one line for the user. */
export class StartError extends Error {}

const EADDRINUSE = 98
/** Indices of REF_EXTERNAL. */
const EXTERNAL_SIGNAL = 0
const EXTERNAL_NEIGHBOURS = 1
/** Seconds from the Unix epoch to the year 2000, where DUID-LLT times begin (RFC 8415 section 11.2). */
const YEAR_2000 = 946_684_800

function systemMessage(what: string, error: unknown): StartError {
  const errno = (error as { errno?: number }).errno
  return new StartError(`${what}: ${errno === undefined ? String(error) : errnoText(Math.abs(errno))}`)
}

/** @returns the exit status, when the program is done @throws what main tells the user */
export function start(options: PasstOptions, launch: Launch): number {
  const made: string[] = []
  let run: () => number
  try {
    run = prepare(options, launch, made)
  } catch (error) {
    // A failed start leaves nothing behind.
    for (const path of made) rmSync(path, { force: true })
    throw error
  }
  return run()
}

/** Everything up to readiness. @param made gets the paths of files that this run has made
 * @returns the loop */
function prepare(options: PasstOptions, launch: Launch, made: string[]): () => number {
  const foreground = launch.readyFd === null
  const logger = startLog(options, foreground)
  for (const warning of options.warnings) logger.warning(warning)
  const identity = chooseIdentity(options.runAs?.text, isInitialUserNamespaceRoot(), { lookupUser, lookupGroup })
  if (identity.error) throw new StartError(identity.error)
  if (identity.warning) logger.warning(identity.warning)
  raiseFileLimit()
  setProcessName("passt")

  const config = describeGuest(options)
  const { ephemeralPorts } = config.host.settings
  const rules = parsePortOptions(options.ports, {
    ipv4: config.guest.ipv4,
    ipv6: config.guest.ipv6,
    tcp: options.tcp,
    udp: options.udp,
    ephemeralFirst: ephemeralPorts[0],
    ephemeralLast: ephemeralPorts[1],
    auto: false,
  })

  const kernel = new NativeKernel()
  const frames = new FrameTable()
  kernel.attach(frames)
  let clientGone = false
  const link = new UnixLink(kernel, frames, {
    connected: (pid) => logger.info(`accepted connection from PID ${pid}`),
    disconnected: (errno) => {
      clientGone = true
      logger.info(errno === 71 ? "Bad frame size from guest, resetting connection" : "Client connection closed")
    },
    turnedAway: (pid) => logger.info(`discarding connection from PID ${pid}`),
  })
  openLink(link, options, launch)
  if (link.path !== "") made.push(link.path)
  link.watch(REF_LINK << REF_SHIFT)
  const pidFile = openPidFile(options, made)
  const secret = new Int32Array(6)
  entropy(secret)
  const neighbours = new NeighbourTable(config.guest, secret[4]!, secret[5]!)
  for (const address of [
    config.translation.mapHostLoopback4,
    config.translation.mapHostLoopback6,
    config.translation.mapGuestAddress4,
    config.translation.mapGuestAddress6,
  ]) {
    if (address.some((word) => word !== 0)) neighbours.block(address, 0)
  }
  const told = {
    dns: [...config.resolvers.advertised4, ...config.resolvers.advertised6],
    search: config.resolvers.search,
  }
  const advertise = { advertiseDns: options.announceDns, advertiseSearch: options.announceSearch }
  const fqdn = options.fqdn === null ? {} : { fqdn: options.fqdn }
  const log = engineLog(logger)
  const info = { info: (line: string) => log("info", "dhcp", line) }
  const hasAddress6 = config.guest.address6.some((word) => word !== 0)
  const dhcpv6 = options.dhcpv6 && hasAddress6
  const arp = new ArpResponder(link, config.guest, neighbours)
  const ndp = options.ndp
    ? new NdpResponder(link, config.guest, neighbours, {
        ...told,
        ...advertise,
        managed: dhcpv6,
        advertise: options.ra,
        random: () => {
          const word = new Int32Array(1)
          entropy(word)
          return word[0]!
        },
      })
    : undefined
  const { settings, ipv4, ipv6 } = config.host
  const none = new Int32Array(4)
  const engineConfig: EngineConfig = {
    kernel,
    link,
    guest: config.guest,
    secret,
    translation: config.translation,
    neighbours: {
      macs: neighbours.macs,
      lookup: (words, index) => neighbours.resolve(words, index),
      get generation() {
        return neighbours.generation
      },
    },
    responders: {
      arp,
      ...(ndp ? { ndp } : {}),
      ...(options.dhcp && ipv4
        ? {
            dhcp: new DhcpResponder(link, config.guest, {
              ...told,
              ...advertise,
              ...fqdn,
              ...info,
              ...(options.hostname === null ? {} : { hostname: options.hostname }),
            }),
          }
        : {}),
      ...(dhcpv6
        ? {
            dhcpv6: new Dhcpv6Responder(link, config.guest, {
              ...told,
              ...advertise,
              ...fqdn,
              ...info,
              duidTime: (Math.floor(Date.now() / 1000) - YEAR_2000) | 0,
            }),
          }
        : {}),
    },
    rules,
    tcp: options.tcp,
    udp: options.udp,
    icmp: options.icmp,
    outbound4: options.outboundAddress.v4 ?? none,
    outbound6: options.outboundAddress.v6 ?? none,
    outboundDevice4: options.outboundInterface.v4 ?? "",
    outboundDevice6: options.outboundInterface.v6 ?? "",
    linkLocalScope: ipv6?.interfaceIndex ?? 0,
    freebind: options.freebind,
    synRetries: Math.min(settings.tcpSynRetries + settings.tcpSynLinearTimeouts, 7),
    synLinear: settings.tcpSynLinearTimeouts,
    rtoMaxMs: settings.tcpRtoMaxMs,
    udpTimeout: settings.udpTimeout,
    udpStreamTimeout: settings.udpStreamTimeout,
    log,
  }
  const engine = new Engine(engineConfig)
  try {
    engine.listen()
  } catch (error) {
    throw new StartError((error as Error).message)
  }
  // Low ports are bound by now, files are open: nothing that follows needs a privilege.
  if (identity.identity) {
    const { uid, gid } = identity.identity
    const result = dropRoot(uid, gid)
    if (result < 0) throw new StartError(`Couldn't change to user ${uid}: ${errnoText(-result)}`)
  }
  if (options.pcapFile !== null) {
    const result = kernel.openCapture(options.pcapFile)
    if (result < 0) logger.error(`Couldn't open capture file ${options.pcapFile}: ${errnoText(-result)}`)
    else logger.info(`Saving packet capture to ${options.pcapFile}`)
  }
  setNoNewPrivs()
  dropCapabilities()

  const monitor = new NeighbourMonitor({
    interfaceIndex4: ipv4?.interfaceIndex ?? 0,
    interfaceIndex6: ipv6?.interfaceIndex ?? 0,
    onChange: (neighbour) => {
      if (neighbour.mac) learnNeighbour(neighbours, ndp ? { arp, ndp } : { arp }, neighbour.address, 0, neighbour.mac)
      else neighbours.remove(neighbour.address, 0)
    },
  })
  monitor.process()
  kernel.watchLevel(monitor.fd, (REF_EXTERNAL << REF_SHIFT) | EXTERNAL_NEIGHBOURS)
  kernel.watchSignals((REF_EXTERNAL << REF_SHIFT) | EXTERNAL_SIGNAL, [SIGNAL.terminate, SIGNAL.quit])
  let stop = false
  engine.onExternal = (index) => {
    if (index === EXTERNAL_NEIGHBOURS) monitor.process()
    else while (kernel.takeSignal() !== 0) stop = true
  }

  tellConfiguration(logger, options, config, rules.map(formatRule), link.path)
  for (const warning of config.resolvers.warnings) logger.warning(warning)
  writePidFile(pidFile, options)
  if (!foreground) becomeDaemon(logger, launch.readyFd!)

  return () => {
    while (!stop && !(options.oneOff && clientGone)) engine.turn(-1)
    kernel.closeCapture()
    return 0
  }
}

function startLog(options: PasstOptions, foreground: boolean): Logger {
  try {
    return openLog(options, foreground)
  } catch (error) {
    throw systemMessage(`Couldn't open log file ${options.logFile}`, error)
  }
}

function openLink(link: UnixLink, options: PasstOptions, launch: Launch): void {
  if (options.fd !== null) {
    const result = link.adopt(launch.socketFd ?? options.fd)
    if (result < 0) throw new StartError(`Invalid --fd: ${options.fd}: ${errnoText(-result)}`)
    return
  }
  const result = link.listen(options.socketPath ?? undefined)
  if (result === 0) return
  const path = options.socketPath ?? "/tmp/passt_N.socket"
  if (result === -EADDRINUSE) throw new StartError(`Socket path ${path} already in use`)
  throw new StartError(`Failed to bind UNIX domain socket ${path}: ${errnoText(-result)}`)
}

/** @returns the descriptor, -1 without a PID file */
function openPidFile(options: PasstOptions, made: string[]): number {
  if (options.pidFile === null) return -1
  // One that a caller has made (QEMU does) stays the caller's.
  if (!existsSync(options.pidFile)) made.push(options.pidFile)
  try {
    return openSync(options.pidFile, "w", 0o600)
  } catch (error) {
    throw systemMessage(`Couldn't open PID file ${options.pidFile}`, error)
  }
}

function writePidFile(fd: number, options: PasstOptions): void {
  if (fd < 0) return
  try {
    writeSync(fd, `${process.pid}\n`)
    closeSync(fd)
  } catch (error) {
    throw systemMessage(`Couldn't write PID file ${options.pidFile}`, error)
  }
}

function tellConfiguration(
  logger: Logger,
  options: PasstOptions,
  config: GuestConfig,
  forwards: readonly string[],
  path: string,
): void {
  const { translation, resolvers, host } = config
  for (const note of host.notes) logger.info(note)
  for (const line of summary({
    host,
    ourMac: config.guest.ourMac,
    mtu: options.mtu,
    dhcp: options.dhcp,
    dhcpv6: options.dhcpv6 && config.guest.address6.some((word) => word !== 0),
    ndp: options.ndp,
    ra: options.ra,
    resolvers4: options.announceDns ? resolvers.advertised4 : [],
    resolvers6: options.announceDns ? resolvers.advertised6 : [],
    search: options.announceSearch ? resolvers.search : [],
    mapHostLoopback4: translation.mapHostLoopback4,
    mapHostLoopback6: translation.mapHostLoopback6,
    mapGuestAddress4: translation.mapGuestAddress4,
    mapGuestAddress6: translation.mapGuestAddress6,
    dnsForward4: translation.dnsForward4,
    dnsForward6: translation.dnsForward6,
    dnsHost4: translation.dnsHost4,
    dnsHost6: translation.dnsHost6,
    forwards,
  })) {
    logger.info(line)
  }
  if (path !== "") for (const line of guestLines(path)) logger.info(line)
}

/** The caller may go on: nothing of ours keeps its streams, or its file systems, in use. */
function becomeDaemon(logger: Logger, readyFd: number): void {
  process.chdir("/")
  logger.switchToDaemon()
  redirectStdio()
  try {
    writeSync(readyFd, "1")
    closeSync(readyFd)
  } catch {
    process.exit(1)
  }
}
