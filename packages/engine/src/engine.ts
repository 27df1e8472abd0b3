/**
 * An engine in the program: one guest's network, in Node's own loop.
 *
 * ```
 *   createEngine ─▶ "new" ─start─▶ "starting" ─▶ "running" ─stop, abort, failure─▶ "stopping" ─▶ "stopped"
 * ```
 * Everything that is opened is kept in #undo, in order; stopping, and a start that fails, take it back from its end. A stop
 * during the start waits for the step at hand.
 */
import { EventEmitter } from "node:events"
import { unlinkSync } from "node:fs"
import { Forwards } from "@passt/control"
import {
  COUNTER,
  type Engine as FlowEngine,
  FrameTable,
  type Link,
  type PolicyDocument,
  REF_LINK,
  REF_SHIFT,
} from "@passt/core"
import { errnoText, LEVEL, Logger } from "@passt/host"
import { NativeKernel } from "@passt/native"
import {
  assemble,
  Chores,
  describeGuest,
  type GuestConfig,
  HostFollower,
  portContext,
  trustedResolvers,
} from "@passt/program"
import { UnixLink } from "@passt/transport-unix"
import { VhostLink } from "@passt/transport-vhost"
import type { CommonOptions } from "@passt/cli"
import { type Capture, type CaptureOptions, Captures } from "./capture.ts"
import {
  checkForward,
  checkGuest,
  type ForwardConfig,
  type GuestLink,
  type NetworkConfig,
  readNetwork,
} from "./config.ts"
import { ConfigError, EngineError } from "./config-error.ts"
import { channels, type EngineEvent, type EngineEvents, EventQueue, type Flow } from "./events.ts"
import { FlowIds, FlowList } from "./flows.ts"
import { type Forward, ForwardTable } from "./forwards.ts"
import { HostLoop } from "./loop.ts"
import { openNamespace } from "./namespace.ts"
import {
  checkService,
  type FlowHandler,
  Policy,
  type PolicyConfig,
  readPolicy,
  type Service,
  type ServiceConfig,
} from "./policy.ts"

const EADDRINUSE = 98
const EPROTO = 71
const EXTERNAL_NEIGHBOURS = 1
const EXTERNAL_HOST = 2
/** Fields of EngineConfig that are not the network's. */
const OWN_FIELDS: readonly string[] = [
  "guest",
  "forwards",
  "services",
  "policy",
  "onFlow",
  "onFlowDeadlineMs",
  "capture",
  "followHost",
  "signal",
]
const DEADLINE_MS_MAX = 600_000
/** Flows that are judged by new rules before the rest of the program has its turn. */
const FLOWS_PER_STEP = 1024

export interface EngineConfig extends NetworkConfig {
  readonly guest: GuestLink
  /** Forwarded from the start; a port that can't be had fails the start. None by default. */
  readonly forwards?: readonly ForwardConfig[]
  /** TCP services that the program is itself, at addresses of their own in the guest's network; asked about before everything else. */
  readonly services?: readonly ServiceConfig[]
  /** Rules about flows, as an object or as JSON (docs/policy.md). With one, `onFlow` is asked only where it says "ask". */
  readonly policy?: PolicyConfig | string
  /** Decides about each flow that is about to begin: allow, refuse, drop, redirect. One that throws, or does not answer in time, refuses
   * the flow. Absent, and no policy: all are allowed. */
  readonly onFlow?: FlowHandler
  /** How long a flow waits for the promise of `onFlow`, milliseconds, up to 600,000; 10,000 by default. */
  readonly onFlowDeadlineMs?: number
  /** A capture from the start to the end. */
  readonly capture?: CaptureOptions
  /** Whether the host's addresses and routes are followed as they change; true by default. */
  readonly followHost?: boolean
  /** Stops the engine, or its start. */
  readonly signal?: AbortSignal
}

/** "new": `start` was not called yet. "stopped": for good. */
export type EngineState = "new" | "starting" | "running" | "stopping" | "stopped"

/** Totals since the start, by name: frames, bytes, flows, retransmissions, and drops by reason. */
export type EngineStats = { readonly [K in keyof typeof COUNTER]: number }

/** Everything that exists while the engine runs. */
interface Parts {
  readonly kernel: NativeKernel
  readonly engine: FlowEngine
  readonly link: Link
  readonly loop: HostLoop
  readonly forwards: ForwardTable
  readonly captures: Captures
  readonly policy: Policy
}

/** @throws ConfigError that names the field */
export function createEngine(config: EngineConfig): Engine {
  return new Engine(config)
}

/** `createEngine` and `start`. @throws (rejects) ConfigError, EngineError, or the signal's reason */
export async function startEngine(config: EngineConfig): Promise<Engine> {
  const engine = new Engine(config)
  await engine.start()
  return engine
}

export class Engine extends EventEmitter<EngineEvents> implements AsyncDisposable {
  readonly #config: EngineConfig
  readonly #options: CommonOptions
  readonly #policy: PolicyDocument | undefined
  readonly #undo: (() => void)[] = []
  readonly #queues = new Set<EventQueue>()
  readonly #ids = new FlowIds()
  #state: EngineState = "new"
  #parts: Parts | undefined
  #starting: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #kept = true
  #stop = false
  #failure: Error | undefined

  /** See `createEngine`. */
  constructor(config: EngineConfig) {
    super()
    if (typeof config !== "object" || config === null) throw new ConfigError("config", "must be an object")
    checkGuest(config.guest)
    config.forwards?.forEach((forward, index) => checkForward(`forwards[${index}]`, forward))
    if (config.followHost !== undefined && typeof config.followHost !== "boolean") {
      throw new ConfigError("followHost", "must be true or false")
    }
    if (config.signal !== undefined && !(config.signal instanceof AbortSignal)) {
      throw new ConfigError("signal", "must be an AbortSignal")
    }
    checkCapture("capture", config.capture)
    config.services?.forEach((service, index) => checkService(`services[${index}]`, service))
    if (config.onFlow !== undefined && typeof config.onFlow !== "function") {
      throw new ConfigError("onFlow", "must be a function")
    }
    if (config.policy !== undefined) this.#policy = readPolicy(config.policy, config.onFlow !== undefined)
    const deadline = config.onFlowDeadlineMs ?? 1
    if (!Number.isInteger(deadline) || deadline < 1 || deadline > DEADLINE_MS_MAX) {
      throw new ConfigError("onFlowDeadlineMs", `must be 1…${DEADLINE_MS_MAX} milliseconds`)
    }
    this.#config = config
    this.#options = { ...readNetwork(config, OWN_FIELDS), followHost: config.followHost ?? true }
  }

  get state(): EngineState {
    return this.#state
  }

  /** Where the guest connects, of `unix` and `vhost-user`; the interface's name, of `namespace`; else empty. */
  get path(): string {
    const link = this.#parts?.link as { readonly path?: string; readonly name?: string } | undefined
    return link?.path ?? link?.name ?? ""
  }

  /** Opens everything and joins the loop: resolves when the guest can connect and all ports are forwarded.
   * @throws (rejects) EngineError, or the signal's reason; everything is closed then */
  start(): Promise<void> {
    if (this.#starting !== undefined) return this.#starting
    if (this.#state !== "new") {
      return Promise.reject(new EngineError("ERR_PASST_STATE", `the engine is ${this.#state}`))
    }
    this.#state = "starting"
    this.#starting = this.#start().catch((error: unknown) => {
      this.#close()
      throw error
    })
    return this.#starting
  }

  async #start(): Promise<void> {
    const { signal } = this.#config
    signal?.throwIfAborted()
    const aborted = (): void => void this.stop()
    signal?.addEventListener("abort", aborted, { once: true })
    this.#undo.push(() => signal?.removeEventListener("abort", aborted))
    let parts: Parts
    try {
      parts = this.#open()
    } catch (error) {
      if (error instanceof EngineError || error instanceof ConfigError) throw error
      throw new EngineError("ERR_PASST_START", (error as Error).message, { cause: error })
    }
    this.#parts = parts
    if (!this.#kept) parts.loop.keep(false)
    for (const [index, forward] of (this.#config.forwards ?? []).entries()) {
      for (const result of await parts.forwards.add(`forwards[${index}]`, forward)) {
        if (result.error !== "") throw new EngineError("ERR_PASST_START", `forwards[${index}]: ${result.error}`)
      }
      this.#checkGoesOn()
    }
    // Whoever calls start() sees events from the first one on.
    await Promise.resolve()
    this.#checkGoesOn()
    this.#state = "running"
  }

  #checkGoesOn(): void {
    if (!this.#stop) return
    this.#config.signal?.throwIfAborted()
    throw this.#failure ?? new EngineError("ERR_PASST_STATE", "the engine was stopped while it started")
  }

  #open(): Parts {
    const options = this.#options
    const config = describeGuest(options)
    const kernel = new NativeKernel()
    this.#undo.push(() => kernel.destroy())
    const wake = (): void => this.#parts?.loop.wake()
    const link = this.#openLink(config, kernel, wake)
    const log: NonNullable<Parameters<typeof assemble>[6]>["log"] = (level, _site, message) => {
      this.emit("log", level, message)
    }
    const logger = new Logger({ level: LEVEL.info, stderr: (line) => void this.emit("log", "info", line.trimEnd()) })
    const isNamespace = this.#config.guest.kind === "namespace"
    const { services = [], onFlow, onFlowDeadlineMs } = this.#config
    const policy = new Policy(services, this.#policy, onFlow, wake)
    const assembly = assemble(options, config, kernel, link, [], logger, {
      log,
      onFlow: (row, begins) => this.#flow(row, begins),
      policy: policy.options(onFlowDeadlineMs, trustedResolvers(config)),
      ...(isNamespace ? { splice: { inbound: true, toLoopback: false } } : {}),
    })
    this.#undo.push(() => assembly.close())
    const { engine } = assembly
    policy.attach(engine.policy)
    this.#undo.push(() => engine.close())
    const ports = portContext(options, config, false)
    const chores = new Chores()
    const followed = assembly.followNeighbours(EXTERNAL_NEIGHBOURS)
    let follower: HostFollower | undefined
    if (options.followHost) {
      const follow = { hostIndex: EXTERNAL_HOST, resolversIndex: 0, keepRouter6: true, resolversFd: null }
      follower = new HostFollower(options, config, assembly, kernel, logger, follow)
      this.#undo.push(() => follower?.close())
      chores.add(follower)
    }
    engine.onExternal = (index) => {
      if (index === EXTERNAL_NEIGHBOURS) followed()
      else if (index === EXTERNAL_HOST) follower?.hostChanged()
    }
    engine.listen()
    const captures = new Captures(link)
    this.#undo.push(() => captures.stop())
    if (this.#config.capture !== undefined) captures.start(this.#config.capture)
    const forwards = new ForwardTable(new Forwards(engine, [], ports), wake)
    const after = (): void => {
      forwards.step()
      captures.flush()
    }
    const loop = new HostLoop(kernel, engine, chores, after, (error) => this.#failed(error))
    const joined = loop.join()
    if (joined < 0) throw new EngineError("ERR_PASST_START", `no place in the event loop: ${errnoText(-joined)}`)
    this.#undo.push(() => {
      loop.leave()
      forwards.abandon()
    })
    return { kernel, engine, link, loop, forwards, captures, policy }
  }

  #openLink(config: GuestConfig, kernel: NativeKernel, wake: () => void): Link {
    const { guest } = this.#config
    if (guest.kind === "memory") {
      let link
      try {
        link = guest.attach(wake)
      } catch (error) {
        throw new EngineError("ERR_PASST_STATE", (error as Error).message)
      }
      this.#undo.push(() => link.close())
      kernel.attach(link.frames)
      return link
    }
    const frames = new FrameTable()
    kernel.attach(frames)
    const observer = {
      connected: (pid: number) => this.#tell({ type: "guestConnected", pid }),
      disconnected: (errno: number, reason = "") => {
        const why = errno === EPROTO ? "it broke the rules of the protocol" : errnoText(errno)
        this.#tell({ type: "guestDisconnected", reason: reason === "" ? why : reason })
      },
    }
    if (guest.kind === "namespace") {
      kernel.enableSplice()
      this.#undo.push(() => kernel.leaveNamespace())
      const warn = (warning: string): void => void this.emit("log", "warning", warning)
      const link = openNamespace(guest, config, kernel, frames, observer, warn)
      this.#undo.push(() => link.close())
      return link
    }
    const link =
      guest.kind === "vhost-user" ? new VhostLink(kernel, frames, observer) : new UnixLink(kernel, frames, observer)
    this.#undo.push(() => link.close())
    if (guest.kind === "unix" || guest.kind === "vhost-user") {
      const result = link.listen(guest.path)
      if (result === -EADDRINUSE) throw new EngineError("ERR_PASST_START", `socket ${guest.path} is in use already`)
      if (result < 0) throw new EngineError("ERR_PASST_START", `cannot listen on ${guest.path}: ${errnoText(-result)}`)
      this.#undo.push(() => unlinkSync(guest.path))
    } else {
      const fd = guest.kind === "socketpair" ? guest.take() : guest.fd
      const result = link.adopt(fd)
      if (result < 0) throw new EngineError("ERR_PASST_START", `cannot use descriptor ${fd}: ${errnoText(-result)}`)
    }
    link.watch(REF_LINK << REF_SHIFT)
    return link
  }

  /** Ends the engine: connections are reset, sockets closed, its socket's file removed. Any number of times, at any time. */
  stop(): Promise<void> {
    this.#stopped ??= this.#end()
    return this.#stopped
  }

  async #end(): Promise<void> {
    this.#stop = true
    // It may be a turn's own callback that asks: what it works on must not go away under it.
    await Promise.resolve()
    if (this.#state === "starting") {
      this.#parts?.forwards.abandon()
      await this.#starting?.catch(ignored)
    }
    this.#close()
  }

  #close(): void {
    if (this.#state === "stopped" || this.#state === "stopping") return
    this.#state = "stopping"
    for (const undo of this.#undo.splice(0).toReversed()) {
      try {
        undo()
      } catch (error) {
        this.emit("log", "error", (error as Error).message)
      }
    }
    this.#parts = undefined
    this.#state = "stopped"
    for (const queue of this.#queues) queue.end(this.#failure)
    if (this.#failure === undefined) this.emit("close")
    // As with "error" of other emitters: what nobody hears of is thrown.
    else if (!this.emit("close", this.#failure)) process.nextTick(throwAgain, this.#failure)
  }

  /** A turn has thrown: a fault of ours, after which nothing can be said of the engine's state. */
  #failed(error: unknown): void {
    this.#failure = error instanceof Error ? error : new Error(String(error))
    void this.stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** The process may end though the engine runs. */
  unref(): this {
    this.#kept = false
    this.#parts?.loop.keep(false)
    return this
  }

  /** The process goes on as long as the engine runs: as at the start. */
  ref(): this {
    this.#kept = true
    this.#parts?.loop.keep(true)
    return this
  }

  /** Flows that are alive: to iterate over at once, or (`for await`) in slices between which the engine and the program go on. What
   * begins or ends meanwhile may or may not be among them. */
  flows(): FlowList {
    return new FlowList(this.#parts?.engine, this.#ids)
  }

  /** Totals since the start. */
  stats(): EngineStats {
    const counters = this.#parts?.engine.counters
    const entries = Object.entries(COUNTER).map(([name, index]) => [name, counters?.[index] ?? 0])
    return Object.fromEntries(entries) as EngineStats
  }

  /** Forwards more ports, without touching what is forwarded already.
   * @returns a result for each rule that the specification stands for: its `error` is empty, or why it is not served
   * @throws (rejects) ConfigError for a specification that is none, EngineError when the engine is not running */
  addForward(forward: ForwardConfig): Promise<Forward[]> {
    return this.#running().forwards.add("forward", checkForward("forward", forward))
  }

  /** Ends a rule. Its connections go on, its flows of datagrams end. @returns whether there was one of this number */
  removeForward(number: number): Promise<boolean> {
    return this.#running().forwards.remove(number)
  }

  /** Rules that are served. */
  forwards(): Forward[] {
    return this.#parts?.forwards.list() ?? []
  }

  /** Other rules, for flows that begin from now on; with "existing-flows": "end", flows that they don't allow end.
   * @throws ConfigError that names the field: the rules stay as they were @throws EngineError */
  async setPolicy(policy: PolicyConfig | string): Promise<void> {
    const { engine, policy: current } = this.#running()
    const document = readPolicy(policy, this.#config.onFlow !== undefined)
    current.load(document)
    for (let row = 0; row >= 0 && this.#state === "running";) {
      row = engine.judgeFlows(row, FLOWS_PER_STEP, document.existingFlows === "end")
      await new Promise(setImmediate)
    }
  }

  /** Begins to be a TCP service at an address of the guest's network. @throws ConfigError, EngineError */
  serve(service: ServiceConfig): Service {
    return this.#running().policy.serve(checkService("service", service))
  }

  /** Captures the guest's frames. @throws ConfigError, EngineError */
  capture(options: CaptureOptions): Capture {
    checkCapture("capture", options)
    return this.#running().captures.start(options)
  }

  #running(): Parts {
    const parts = this.#parts
    if (parts === undefined || this.#state !== "running") {
      throw new EngineError("ERR_PASST_STATE", `the engine is ${this.#state}, not running`)
    }
    return parts
  }

  /** Events from now on. At most 10,000 wait for who reads them; of more, the oldest are lost, and counted by an event of its own.
   * Ends with the engine. @param options.signal ends it by its reason */
  events(options: { readonly signal?: AbortSignal } = {}): AsyncIterableIterator<EngineEvent, undefined> {
    const { signal } = options
    const aborted = (): void => queue.end(signal?.reason)
    const queue = new EventQueue(() => {
      this.#queues.delete(queue)
      signal?.removeEventListener("abort", aborted)
    })
    if (signal?.aborted) aborted()
    else if (this.#state === "stopped") queue.end()
    else {
      signal?.addEventListener("abort", aborted, { once: true })
      this.#queues.add(queue)
    }
    return queue
  }

  #tell(event: EngineEvent & { readonly type: "guestConnected" | "guestDisconnected" }): void {
    const channel = channels[event.type]
    if (channel.hasSubscribers) channel.publish({ engine: this, ...event })
    for (const queue of this.#queues) queue.push(event)
    // A listener's error must not end a batch half-way.
    queueMicrotask(() => {
      if (event.type === "guestConnected") this.emit("guestConnected", event.pid)
      else this.emit("guestDisconnected", event.reason)
    })
  }

  #flow(row: number, begins: boolean): void {
    const id = begins ? this.#ids.begin(row) : this.#ids.of(row)
    const type = begins ? "flowOpen" : "flowClose"
    const channel = channels[type]
    if (this.#queues.size === 0 && this.listenerCount(type) === 0 && !channel.hasSubscribers) return
    const view = this.#parts?.engine.flow(row)
    if (view === undefined) return
    const flow: Flow = { id, ...view }
    if (channel.hasSubscribers) channel.publish({ engine: this, flow })
    for (const queue of this.#queues) queue.push({ type, flow })
    queueMicrotask(() => this.emit(type, flow))
  }
}

/** Whoever called start() is told. */
function ignored(): void {}

function throwAgain(error: Error): never {
  throw error
}

function checkCapture(field: string, capture: unknown): void {
  if (capture === undefined) return
  if (typeof capture !== "object" || capture === null) throw new ConfigError(field, "must be an object")
  const { path, onFrame, filter, snapLength } = capture as { readonly [K in keyof CaptureOptions]?: unknown }
  if (path !== undefined && (typeof path !== "string" || path === ""))
    throw new ConfigError(`${field}.path`, "must be a path")
  if (onFrame !== undefined && typeof onFrame !== "function")
    throw new ConfigError(`${field}.onFrame`, "must be a function")
  if (filter !== undefined && typeof filter !== "function")
    throw new ConfigError(`${field}.filter`, "must be a function")
  if (path === undefined && onFrame === undefined) throw new ConfigError(field, "must have a path or onFrame")
  const snap = snapLength ?? 14
  if (!Number.isInteger(snap) || (snap as number) < 14 || (snap as number) > 65_535) {
    throw new ConfigError(`${field}.snapLength`, "must be 14…65535 bytes")
  }
}
