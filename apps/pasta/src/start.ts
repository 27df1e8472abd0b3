/**
 * Assembles the packages, in the order in which things may fail, and runs the loop.
 *
 *   log → host → rules → enter namespace → interface → PID file → listen → capture → privileges → ready, go → loop
 *
 * The launcher has been here before: user and user namespace are what they are to be, the network namespace is an open
 * descriptor, and a command to spawn waits in it.
 */
import { closeSync, readFileSync, writeSync } from "node:fs"
import type { Launch, PastaOptions } from "@passt/cli"
import { type FrameTable, type Link, NoLink, REF_LINK, REF_SHIFT } from "@passt/core"
import {
  chooseIdentity,
  errnoText,
  type FamilySetup,
  type Logger,
  nativeCalls,
  NamespaceNetwork,
  ServiceManager,
} from "@passt/host"
import {
  CAPABILITY_BIND_SERVICE,
  dropCapabilities,
  lookupGroup,
  lookupUser,
  type NativeKernel,
  raiseFileLimit,
  setNoNewPrivs,
  setProcessName,
  SIGNAL,
  takeChild,
} from "@passt/native"
import {
  assemble,
  becomeDaemon,
  checkResult,
  Chores,
  createKernel,
  describeGuest,
  externalRef,
  forwardRules,
  HostFollower,
  type GuestConfig,
  listen,
  openLog,
  openPidFile,
  StartError,
  StatsTable,
  tellConfiguration,
  writePidFile,
} from "@passt/program"
import { TapLink } from "@passt/transport-tap"
import { watchNamespace } from "./end.ts"

const EXTERNAL_SIGNAL = 0
const EXTERNAL_NEIGHBOURS = 1
const EXTERNAL_NAMESPACE = 2
const EXTERNAL_HOST = 3
const EXTERNAL_RESOLVERS = 4
/** Of the interface where the template has none: local mode. */
const NAME_DEFAULT = "tap0"
const ENOENT = 2
const ENXIO = 6
const EAGAIN = 11
const EACCES = 13
const EBUSY = 16
const ENODEV = 19

/** Everything up to readiness. @param made gets the paths of files that this run has made
 * @returns the loop @throws what runProgram tells the user */
export function prepare(options: PastaOptions, launch: Launch, made: string[]): () => number {
  const { command } = launch
  const logger = openLog("pasta", options, launch, launch.readyFd === null && !command)
  for (const warning of [...launch.warnings, ...options.warnings]) logger.warning(warning)
  // The launcher has become that user, if there is one.
  const identity = chooseIdentity(options.runAs?.text, false, { lookupUser, lookupGroup })
  if (identity.error) throw new StartError(identity.error)
  if (launch.netnsFd === null)
    throw new StartError("There is no network namespace: pasta has to be started by its launcher")
  raiseFileLimit()
  setProcessName("pasta")

  const config = describeGuest(options)
  const rules = forwardRules(options, config, true)
  const { kernel, frames } = createKernel()
  checkResult("Couldn't enter network namespace", kernel.enterNamespace(launch.netnsFd))
  closeSync(launch.netnsFd)
  const { link, name } = openInterface(options, config, kernel, frames, logger)
  const pidFile = openPidFile(options.pidFile, made, launch.pidFileFd)
  kernel.enableSplice()
  const assembly = assemble(options, config, kernel, link, rules, logger, {
    splice: { inbound: options.splice, toLoopback: options.toNamespaceLoopback, only: options.spliceOnly },
  })
  const { engine, followNeighbours } = assembly
  listen(engine)
  if (options.pcapFile !== null) {
    const result = kernel.openCapture(options.pcapFile)
    if (result < 0) logger.error(`Couldn't open capture file ${options.pcapFile}: ${errnoText(-result)}`)
    else logger.info(`Saving packet capture to ${options.pcapFile}`)
  }
  const watch = options.quitWithNamespace ? watchNamespace(options.target, launch.netnsDirectoryFd) : undefined
  if (watch && watch.fd >= 0) kernel.watchLevel(watch.fd, externalRef(EXTERNAL_NAMESPACE))
  // What is left to do needs at most one: ports that open later may be low.
  setNoNewPrivs()
  dropCapabilities(CAPABILITY_BIND_SERVICE)

  const neighboursChanged = followNeighbours(EXTERNAL_NEIGHBOURS)
  const signals = [SIGNAL.terminate, SIGNAL.quit, ...(command ? [SIGNAL.child, SIGNAL.interrupt] : [])]
  kernel.watchSignals(externalRef(EXTERNAL_SIGNAL), signals)
  const chores = new Chores()
  if (options.statsSeconds > 0) chores.add(new StatsTable(engine, options.statsSeconds))
  let follower: HostFollower | undefined
  // Without an interface there is nobody to tell.
  if (options.followHost && !options.spliceOnly) {
    const { resolversFd } = launch
    const indices = { hostIndex: EXTERNAL_HOST, resolversIndex: EXTERNAL_RESOLVERS }
    const follow = { ...indices, keepRouter6: true, resolversFd }
    follower = new HostFollower(options, config, assembly, kernel, logger, follow)
    chores.add(follower)
  }
  /** Exit status, once it is over. */
  let status = -1
  engine.onExternal = (index) => {
    if (index === EXTERNAL_NEIGHBOURS) neighboursChanged()
    else if (index === EXTERNAL_SIGNAL) status = takeSignals(kernel, command?.pid ?? 0, status)
    else if (index === EXTERNAL_HOST) follower?.hostChanged()
    else if (index === EXTERNAL_RESOLVERS) follower?.resolversChanged()
    else if (watch?.gone()) status = namespaceGone(logger, watch.name)
  }

  tellConfiguration(logger, options, config, rules, name === "" ? {} : { namespaceInterface: name })
  // It may have gone before it was watched.
  if (watch && watch.fd < 0 && watch.gone()) status = namespaceGone(logger, watch.name)
  writePidFile(pidFile, options.pidFile)
  const launcherPid = launch.readyFd === null ? 0 : process.ppid
  // A command inherits the variable: then readiness is for the command to tell.
  const environment = command ? {} : process.env
  const manager = new ServiceManager({ environment, pid: process.pid, launcherPid })
  manager.ready(`Serving ${watch?.name ?? "a namespace"}`)
  if (launch.readyFd !== null) becomeDaemon(logger, launch.readyFd)
  if (command) {
    // The terminal is the command's from here on, unless somebody wants to see what happens.
    if (options.logLevel === "info" || options.logLevel === "warning") logger.switchToDaemon()
    writeSync(command.goFd, "g")
    closeSync(command.goFd)
  }

  return () => {
    if (watch && watch.everyMs >= 0) {
      const { everyMs } = watch
      const look = {
        isDue: true,
        dueAt: kernel.now() + everyMs,
        run(now: number) {
          look.dueAt = now + everyMs
          if (watch.gone()) status = namespaceGone(logger, watch.name)
        },
      }
      chores.add(look)
    }
    while (status < 0) {
      engine.turn(chores.wait(kernel.now()))
      chores.run(kernel.now())
    }
    manager.stopping()
    // At once: the kernel takes its time to take the interface away when we end, and a container that restarts wants its
    // ports back by then.
    engine.listeners.close()
    kernel.closeCapture()
    return status
  }
}

/** Makes the interface in the namespace, and sets it up if that was asked for. */
function openInterface(
  options: PastaOptions,
  config: GuestConfig,
  kernel: NativeKernel,
  frames: FrameTable,
  logger: Logger,
): { readonly link: Link; readonly name: string } {
  const network = new NamespaceNetwork({
    ...nativeCalls,
    netlinkOpen: (groups, nonBlocking) => kernel.netlinkOpenInNamespace(groups, nonBlocking),
  })
  try {
    network.bringUpLoopback()
    if (options.spliceOnly) return { link: new NoLink(), name: "" }
    const { ipv4, ipv6 } = config.host
    const template = [ipv4, ipv6].find((family) => family && !family.local)
    const name = options.tapName ?? template?.interfaceName ?? NAME_DEFAULT
    const link = new TapLink(kernel, frames)
    const opened = link.open(name)
    if (opened === -EACCES || opened === -ENOENT || opened === -ENODEV || opened === -ENXIO) {
      throw new StartError(`Couldn't open /dev/net/tun: ${errnoText(-opened)}`)
    }
    if (opened === -EBUSY) throw new StartError(`Interface ${name} is in use in the namespace already`)
    checkResult(`Couldn't make tap interface ${name} in the namespace`, opened)
    link.watch(REF_LINK << REF_SHIFT)
    if (options.tapMac) {
      network.setMac(link.index, options.tapMac)
      config.guest.mac.set(options.tapMac)
    } else link.readMac(config.guest.mac)
    if (options.configure) {
      const families: FamilySetup[] = []
      for (const family of [4, 6] as const) {
        const host = family === 4 ? ipv4 : ipv6
        if (!host) continue
        const slot = family === 4 ? "v4" : "v6"
        const copyAddresses = options.copyAddresses && options.address[slot] === null
        const copyRoutes = options.copyRoutes && options.gateway[slot] === null
        families.push({ family, host, copyAddresses, copyRoutes })
      }
      const warnings = network.configure({ index: link.index, mtu: options.mtu, families })
      for (const warning of warnings) logger.warning(warning)
    }
    return { link, name: link.name }
  } finally {
    network.close()
  }
}

/** @param child the spawned command's process; 0: none @param status as it is
 * @returns the exit status, -1 while it isn't over */
function takeSignals(kernel: NativeKernel, child: number, status: number): number {
  let left = status
  for (let signal = kernel.takeSignal(); signal > 0; signal = kernel.takeSignal()) {
    if (signal === SIGNAL.child) {
      const ended = takeChild(child)
      if (ended !== -EAGAIN) left = Math.max(ended, 0)
    } else if (signal === SIGNAL.interrupt) {
      if (endsByInterrupt(child)) {
        process.kill(child, "SIGKILL")
        left = 128 + signal
      }
    } else left = 0
  }
  return left
}

/** Whether an interrupt from the terminal, which the command gets as well as we do, would end it, were it not process 1 of its
 * PID namespace, where signals without a handler are lost (pid_namespaces(7)). */
function endsByInterrupt(child: number): boolean {
  try {
    const text = readFileSync(`/proc/${child}/status`, "utf8")
    const bit = 1n << BigInt(SIGNAL.interrupt - 1)
    const sets = [...text.matchAll(/^Sig(?:Ign|Cgt):\s*([0-9a-f]+)$/gm)]
    return sets.every(([, set]) => (BigInt(`0x${set}`) & bit) === 0n)
  } catch {
    return false
  }
}

function namespaceGone(logger: Logger, name: string): number {
  logger.info(`Namespace ${name} is gone, exiting`)
  return 0
}
