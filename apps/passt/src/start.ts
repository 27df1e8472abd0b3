/**
 * Assembles the packages, in the order in which things may fail, and runs the loop.
 *
 *   log → identity → host → rules → socket, PID file → listen → capture → sandbox, leave root → background → privileges →
 *   ready → loop
 */
import type { Launch, PasstOptions } from "@passt/cli"
import { REF_LINK, REF_SHIFT } from "@passt/core"
import { chooseIdentity, errnoText, guestLines, type Logger, ServiceManager } from "@passt/host"
import {
  isInitialUserNamespaceRoot,
  lookupGroup,
  lookupUser,
  raiseFileLimit,
  setProcessName,
  SIGNAL,
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
  type GuestConfig,
  HostFollower,
  isolate,
  listen,
  openLog,
  openNull,
  prepareMemory,
  requireSeal,
  startPolicy,
  openControl,
  openPolicy,
  openPidFile,
  portContext,
  StartError,
  StatsTable,
  tellConfiguration,
} from "@passt/program"
import { UnixLink } from "@passt/transport-unix"
import { decodeState, encodeState, VhostLink, type VhostLinkObserver } from "@passt/transport-vhost"

const EADDRINUSE = 98
const EPROTO = 71
const EXTERNAL_SIGNAL = 0
const EXTERNAL_NEIGHBOURS = 1
const EXTERNAL_HOST = 2
const EXTERNAL_RESOLVERS = 3
const EXTERNAL_POLICY = 4

/** Everything up to readiness. @param made gets the paths of files that this run has made
 * @returns the loop @throws what runProgram tells the user */
export function prepare(options: PasstOptions, launch: Launch, made: string[]): () => number {
  const logger = openLog("passt", options, launch, launch.readyFd === null)
  for (const warning of [...launch.warnings, ...options.warnings]) logger.warning(warning)
  const identity = chooseIdentity(options.runAs?.text, isInitialUserNamespaceRoot(), { lookupUser, lookupGroup })
  if (identity.error) throw new StartError(identity.error)
  if (identity.warning) logger.warning(identity.warning)
  raiseFileLimit()
  setProcessName("passt")

  const config = describeGuest(options)
  const ports = portContext(options, config, false)
  const rules = forwardRules(options, ports)
  const { kernel, frames } = createKernel()
  let clientGone = false
  const observer = {
    // Processes outside have no number in our PID namespace.
    connected: (pid: number) => logger.info(pid > 0 ? `accepted connection from PID ${pid}` : "accepted connection"),
    disconnected: (errno: number, reason?: string) => {
      clientGone = true
      logger.info(reason ? `vhost-user: ${reason}, ending the connection` : farewell(errno))
    },
    turnedAway: (pid: number) =>
      logger.info(pid > 0 ? `discarding connection from PID ${pid}` : "discarding connection"),
  }
  const link = options.vhostUser
    ? new VhostLink(
        kernel,
        frames,
        { ...observer, ...vhostObserver(logger, config, options) },
        options.mtu || undefined,
      )
    : new UnixLink(kernel, frames, observer)
  openLink(link, options, launch)
  if (link.path !== "") made.push(link.path)
  link.watch(REF_LINK << REF_SHIFT)
  const pidFile = openPidFile(options.pidFile, made, launch.pidFileFd)
  const assembly = assemble(options, config, kernel, link, rules, logger, startPolicy(options, config))
  const { engine, followNeighbours } = assembly
  listen(engine)
  if (options.pcapFile !== null) {
    const result = kernel.openCapture(options.pcapFile)
    if (result < 0) logger.error(`Couldn't open capture file ${options.pcapFile}: ${errnoText(-result)}`)
    else logger.info(`Saving packet capture to ${options.pcapFile}`)
  }
  const neighboursChanged = followNeighbours(EXTERNAL_NEIGHBOURS)
  const signals = [SIGNAL.terminate, SIGNAL.quit, ...(options.policyFile === null ? [] : [SIGNAL.hangup])]
  kernel.watchSignals(externalRef(EXTERNAL_SIGNAL), signals)
  const chores = new Chores()
  if (options.statsSeconds > 0) chores.add(new StatsTable(engine, options.statsSeconds))
  let follower: HostFollower | undefined
  if (options.followHost) {
    const { resolversFd } = launch
    const indices = { hostIndex: EXTERNAL_HOST, resolversIndex: EXTERNAL_RESOLVERS }
    const follow = { ...indices, keepRouter6: true, resolversFd }
    follower = new HostFollower(options, config, assembly, kernel, logger, follow)
    chores.add(follower)
  }
  const controlEvent = openControl({ program: "passt", options, engine, kernel, logger, rules, ports, chores }, made)
  const policy = openPolicy(options, launch, engine, kernel, logger, chores, EXTERNAL_POLICY)
  let stop = false
  engine.onExternal = (index, mask) => {
    if (index === EXTERNAL_NEIGHBOURS) neighboursChanged()
    else if (index === EXTERNAL_HOST) follower?.hostChanged()
    else if (index === EXTERNAL_RESOLVERS) follower?.resolversChanged()
    else if (index === EXTERNAL_POLICY) policy?.opened()
    else if (index === EXTERNAL_SIGNAL) {
      for (let signal = kernel.takeSignal(); signal > 0; signal = kernel.takeSignal()) {
        if (signal === SIGNAL.hangup) policy?.reload()
        else stop = true
      }
    } else controlEvent(index, mask)
  }

  tellConfiguration(logger, options, config, rules)
  if (link.path !== "") for (const line of guestLines(link.path, options.vhostUser)) logger.info(line)

  // Low ports are bound, files are open: nothing that follows needs a privilege, or a file.
  const nullFd = openNull()
  const launcherPid = launch.readyFd === null ? 0 : process.ppid
  const manager = new ServiceManager({ environment: process.env, pid: process.pid, launcherPid })
  if (options.seal) {
    requireSeal()
    prepareMemory()
  }
  const report = isolate({
    identity: identity.identity ?? null,
    userNamespace: true,
    pidNamespace: launch.readyFd !== null,
    chrootFallback: options.chrootFallback,
  })
  const background = goToBackground(launch, logger, nullFd, { fd: pidFile, path: options.pidFile })
  dropPrivileges(logger, report, -1, false)
  background.detach()
  if (options.seal) {
    const file = options.logFile === null ? [] : (["log-file"] as const)
    // With a control socket a capture can begin at any time.
    const capture = options.pcapFile === null && options.controlPath === null ? [] : (["capture"] as const)
    const isControlled = options.controlPath !== null || options.configPath !== null
    const control = isControlled ? (["control"] as const) : []
    // With a control socket one can come at any time, too.
    const policed = engine.policy === undefined ? [] : (["policy"] as const)
    const vhost = options.vhostUser ? (["vhost-user"] as const) : []
    closeSeal(logger, "passt", ["passt", ...file, ...capture, ...control, ...policed, ...vhost])
  }
  manager.ready(link.path === "" ? "Ready for the guest" : `Ready for the guest on ${link.path}`, background.pid)
  background.ready()

  return () => {
    while (!stop && !(options.oneOff && clientGone)) {
      engine.turn(chores.wait(kernel.now()))
      chores.run(kernel.now())
    }
    manager.stopping()
    kernel.closeCapture()
    return 0
  }
}

function farewell(errno: number): string {
  return errno === EPROTO ? "Bad frame size from guest, resetting connection" : "Client connection closed"
}

/** What only vhost-user has to tell. */
function vhostObserver(logger: Logger, config: GuestConfig, options: PasstOptions): VhostLinkObserver {
  return {
    queueBroken: () => logger.warning("vhost-user: a queue makes no sense, waiting for the guest's driver to reset it"),
    features: (names) => logger.debug(`vhost-user: the guest's driver takes ${names.join(", ")}`),
    saveState() {
      logger.info("vhost-user: the guest goes on elsewhere")
      return encodeState(config.guest)
    },
    loadState(bytes) {
      const state = decodeState(bytes)
      if (state === undefined) {
        logger.error("vhost-user: the state of the guest makes no sense, or is of another version")
        return false
      }
      const { guest } = config
      if (state.mac.some((byte) => byte !== 0)) guest.mac.set(state.mac)
      guest.macGeneration++
      if (!guest.fixed4) guest.seen4.set(state.seen4)
      if (!guest.fixed6) guest.seen6.set(state.seen6)
      guest.seenLinkLocal6.set(state.seenLinkLocal6)
      const { connections } = state
      const left = connections === 0 ? "" : `; ${connections} connections can't be taken over`
      logger.info(`vhost-user: the guest comes from elsewhere${left}`)
      return true
    },
    mtu(mtu) {
      logger.info(`vhost-user: the guest's network card has an MTU of ${mtu}`)
      // 0: none is announced.
      if (options.mtu > mtu) config.guest.mtu = mtu
    },
  }
}

function openLink(link: UnixLink | VhostLink, options: PasstOptions, launch: Launch): void {
  if (launch.listenerFd !== null) {
    checkResult("The socket passed by LISTEN_FDS can't be used", link.adoptListener(launch.listenerFd))
    return
  }
  if (options.fd !== null) {
    checkResult(`Invalid --fd: ${options.fd}`, link.adopt(launch.socketFd ?? options.fd))
    return
  }
  const result = link.listen(options.socketPath ?? undefined)
  if (result === 0) return
  const path = options.socketPath ?? "/tmp/passt_N.socket"
  if (result === -EADDRINUSE) throw new StartError(`Socket path ${path} already in use`)
  throw new StartError(`Failed to bind UNIX domain socket ${path}: ${errnoText(-result)}`)
}
