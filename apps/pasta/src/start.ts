/**
 * Assembles the packages, in the order in which things may fail, and runs the loop.
 *
 *   log → host → rules → enter namespace → interface → PID file → listen → capture → sandbox → background → enter namespace
 *   again → privileges → ready, go → loop
 *
 * The launcher has been here before: user and user namespace are what they are to be, the network namespace is an open
 * descriptor, and a command to spawn waits in it.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs"
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
  lookupGroup,
  lookupUser,
  type NativeKernel,
  raiseFileLimit,
  setProcessName,
  SIGNAL,
  takeChild,
} from "@passt/native"
import {
  assemble,
  closeSeal,
  checkResult,
  Chores,
  createKernel,
  describeGuest,
  dropPrivileges,
  externalRef,
  forwardRules,
  goToBackground,
  HostFollower,
  type GuestConfig,
  isolate,
  listen,
  openLog,
  openNull,
  prepareMemory,
  requireSeal,
  startPolicy,
  openControl,
  openPolicy,
  type PolicyReloader,
  openPidFile,
  portContext,
  StartError,
  StatsTable,
  tellConfiguration,
} from "@passt/program"
import { TapLink } from "@passt/transport-tap"
import { watchNamespace } from "./end.ts"

const EXTERNAL_SIGNAL = 0
const EXTERNAL_NEIGHBOURS = 1
const EXTERNAL_NAMESPACE = 2
const EXTERNAL_HOST = 3
const EXTERNAL_RESOLVERS = 4
const EXTERNAL_POLICY = 5
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
  const ports = portContext(options, config, true)
  const rules = forwardRules(options, ports)
  const { kernel, frames } = createKernel()
  checkResult("Couldn't enter network namespace", kernel.enterNamespace(launch.netnsFd))
  const { link, name } = openInterface(options, config, kernel, frames, logger)
  const pidFile = openPidFile(options.pidFile, made, launch.pidFileFd)
  kernel.enableSplice()
  const assembly = assemble(options, config, kernel, link, rules, logger, {
    splice: { inbound: options.splice, toLoopback: options.toNamespaceLoopback, only: options.spliceOnly },
    ...startPolicy(options, config),
  })
  const { engine, followNeighbours } = assembly
  listen(engine)
  if (options.pcapFile !== null) {
    const result = kernel.openCapture(options.pcapFile)
    if (result < 0) logger.error(`Couldn't open capture file ${options.pcapFile}: ${errnoText(-result)}`)
    else logger.info(`Saving packet capture to ${options.pcapFile}`)
  }
  const watch = options.quitWithNamespace ? watchNamespace(options.target, launch.netnsDirectoryFd, logger) : undefined
  if (watch && watch.fd >= 0) kernel.watchLevel(watch.fd, externalRef(EXTERNAL_NAMESPACE))
  const child = command ? followCommand(command.pid) : undefined

  const neighboursChanged = followNeighbours(EXTERNAL_NEIGHBOURS)
  const signals = [
    SIGNAL.terminate,
    SIGNAL.quit,
    ...(options.policyFile === null ? [] : [SIGNAL.hangup]),
    ...(command ? [SIGNAL.child, SIGNAL.interrupt] : []),
  ]
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
  const controlEvent = openControl({ program: "pasta", options, engine, kernel, logger, rules, ports, chores }, made)
  const policy = openPolicy(options, launch, engine, kernel, logger, chores, EXTERNAL_POLICY)
  /** Exit status, once it is over. */
  let status = -1
  engine.onExternal = (index, mask) => {
    if (index === EXTERNAL_NEIGHBOURS) neighboursChanged()
    else if (index === EXTERNAL_POLICY) policy?.opened()
    else if (index === EXTERNAL_SIGNAL) status = takeSignals(kernel, child, status, policy)
    else if (index === EXTERNAL_HOST) follower?.hostChanged()
    else if (index === EXTERNAL_RESOLVERS) follower?.resolversChanged()
    else if (index !== EXTERNAL_NAMESPACE) controlEvent(index, mask)
    else if (watch?.gone()) status = namespaceGone(logger, watch.name)
  }

  tellConfiguration(logger, options, config, rules, name === "" ? {} : { namespaceInterface: name })
  if (watch?.goneBefore) status = namespaceGone(logger, watch.name)

  const nullFd = openNull()
  const launcherPid = launch.readyFd === null ? 0 : process.ppid
  // A command inherits the variable: then readiness is for the command to tell.
  const environment = command ? {} : process.env
  const manager = new ServiceManager({ environment, pid: process.pid, launcherPid })
  if (options.seal) {
    requireSeal()
    prepareMemory()
  }
  // The thread in the namespace would stay behind in the old root, and in the parent.
  kernel.leaveNamespace()
  const report = isolate({
    identity: null,
    // The launcher has joined or made the one that the namespace's owner knows us by.
    userNamespace: false,
    pidNamespace: launch.readyFd !== null,
    chrootFallback: options.chrootFallback,
  })
  const background = goToBackground(launch, logger, nullFd, { fd: pidFile, path: options.pidFile })
  checkResult("Couldn't enter network namespace again", kernel.enterNamespace(launch.netnsFd, true))
  closeSync(launch.netnsFd)
  // What is left to do needs at most one: ports that open later may be low.
  dropPrivileges(logger, report, CAPABILITY_BIND_SERVICE, command !== null)
  background.detach()
  if (options.seal) {
    const file = options.logFile === null ? [] : (["log-file"] as const)
    // With a control socket a capture can begin at any time.
    const capture = options.pcapFile === null && options.controlPath === null ? [] : (["capture"] as const)
    const isControlled = options.controlPath !== null || options.configPath !== null
    const control = isControlled ? (["control"] as const) : []
    // With a control socket one can come at any time, too.
    const policed = engine.policy === undefined ? [] : (["policy"] as const)
    const spawned = command ? (["command"] as const) : []
    closeSeal(logger, "pasta", ["pasta", ...file, ...capture, ...control, ...policed, ...spawned])
  }
  manager.ready(`Serving ${watch?.name ?? "a namespace"}`, background.pid)
  background.ready()
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

/** The spawned command: its process, and its status file, which can't be opened later. */
interface Child {
  readonly pid: number
  /** -1: there is none. */
  readonly statusFd: number
}

function followCommand(pid: number): Child {
  try {
    return { pid, statusFd: openSync(`/proc/${pid}/status`, "r") }
  } catch {
    return { pid, statusFd: -1 }
  }
}

/** @param child undefined: there is none @param status as it is
 * @returns the exit status, -1 while it isn't over */
function takeSignals(
  kernel: NativeKernel,
  child: Child | undefined,
  status: number,
  policy: PolicyReloader | undefined,
): number {
  let left = status
  for (let signal = kernel.takeSignal(); signal > 0; signal = kernel.takeSignal()) {
    if (signal === SIGNAL.child && child) {
      const ended = takeChild(child.pid)
      // What was decided before stays: we may have ended it ourselves, for an interrupt.
      if (ended !== -EAGAIN && left < 0) left = Math.max(ended, 0)
    } else if (signal === SIGNAL.interrupt && child) {
      if (endsByInterrupt(child)) {
        process.kill(child.pid, "SIGKILL")
        left = 128 + signal
      }
    } else if (signal === SIGNAL.hangup) policy?.reload()
    else left = 0
  }
  return left
}

/** Whether an interrupt from the terminal, which the command gets as well as we do, would end it, were it not process 1 of its
 * PID namespace, where signals without a handler are lost (pid_namespaces(7)). */
function endsByInterrupt(child: Child): boolean {
  try {
    const room = Buffer.alloc(4096)
    const text = room.toString("latin1", 0, readSync(child.statusFd, room, 0, room.length, 0))
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
