/** `--control` and `--conf-path`: the control socket and pesto's, in the engine's own loop. */
import type { CommonOptions, ForwardRule, PortContext } from "@passt/cli"
import {
  Capture,
  CollectionCounter,
  type ControlContext,
  ControlServer,
  EVENT_INDICES,
  Forwards,
  HTTP_EVENT_INDICES,
  nativeSockets,
  openCalls,
  PESTO_EVENT_INDICES,
  PestoServer,
} from "@passt/control"
import { type Engine, LatencyHistogram } from "@passt/core"
import { elapsedMs, errnoText, type Logger } from "@passt/host"
import type { NativeKernel } from "@passt/native"
import { externalRef } from "./assemble.ts"
import type { Chore, Chores } from "./chores.ts"
import { StartError } from "./error.ts"
import { openMetrics } from "./metrics.ts"
import { VERSION } from "./version.ts"

const EADDRINUSE = 98
/** Indices of events from here on are the control socket's; the program's own are smaller. */
const FIRST_INDEX = 64
/** And these are pesto's. */
const FIRST_PESTO_INDEX: number = FIRST_INDEX + EVENT_INDICES
const FIRST_METRICS_INDEX: number = FIRST_PESTO_INDEX + PESTO_EVENT_INDICES

export interface ControlOptions {
  /** "passt" or "pasta". */
  readonly program: string
  readonly options: CommonOptions
  readonly engine: Engine
  readonly kernel: NativeKernel
  readonly logger: Logger
  /** The engine's rules, and what they were parsed with. */
  readonly rules: readonly ForwardRule[]
  readonly ports: PortContext
  readonly chores: Chores
}

/** Opens the sockets that were asked for. @param made gets their paths
 * @returns what to hand events to that are not the program's own @throws StartError */
export function openControl(control: ControlOptions, made: string[]): (index: number, mask: number) => void {
  const { options, engine, rules, ports } = control
  if (options.controlPath === null && options.configPath === null && options.metrics === null) return () => {}
  engine.prepareRules()
  const forwards = new Forwards(engine, rules, ports)
  const context = makeContext(control, forwards)
  const servers: { readonly first: number; readonly count: number; readonly server: Pick<EventServer, "event"> }[] = []
  if (options.controlPath !== null) {
    const server = openControlSocket(control, context, options.controlPath, made)
    servers.push({ first: FIRST_INDEX, count: EVENT_INDICES, server })
  }
  if (options.configPath !== null) {
    const server = openPestoSocket(control, forwards, options.configPath, made)
    servers.push({ first: FIRST_PESTO_INDEX, count: PESTO_EVENT_INDICES, server })
  }
  if (options.metrics !== null) {
    const server = openMetrics(options.metrics, context, control.kernel, control.chores, FIRST_METRICS_INDEX)
    servers.push({ first: FIRST_METRICS_INDEX, count: HTTP_EVENT_INDICES, server })
  }
  return (index, mask) => {
    for (const { first, count, server } of servers) {
      if (index >= first && index < first + count) server.event(index - first, mask, control.kernel.now())
    }
  }
}

interface EventServer extends Chore {
  listen(path: string): number
  event(index: number, mask: number, now: number): void
}

/** @throws StartError */
function listenOn(server: EventServer, path: string, name: string, chores: Chores, made: string[]): void {
  const result = server.listen(path)
  if (result === -EADDRINUSE) throw new StartError(`${name} socket ${path} is in use already`)
  if (result < 0) throw new StartError(`Couldn't listen on ${name.toLowerCase()} socket ${path}: ${errnoText(-result)}`)
  made.push(path)
  chores.add(server)
}

/** What calls and metrics are about; begins to measure. */
function makeContext(control: ControlOptions, forwards: Forwards): ControlContext {
  const { engine, kernel, options, program, chores } = control
  const began = elapsedMs()
  engine.latency = new LatencyHistogram()
  const collections = new CollectionCounter(kernel.now())
  chores.add(collections)
  return {
    engine,
    forwards,
    capture: new Capture(kernel, options.pcapFile !== null),
    program,
    version: VERSION,
    uptimeSeconds: () => Math.round(elapsedMs() - began) / 1000,
    collections: () => collections.read(),
  }
}

function openControlSocket(
  control: ControlOptions,
  context: ControlContext,
  path: string,
  made: string[],
): ControlServer {
  const { engine, kernel, chores } = control
  engine.prepareLists()
  const ref = (index: number): number => externalRef(FIRST_INDEX + index)
  const server = new ControlServer(nativeSockets(kernel), ref, openCalls(context), context.forwards, kernel.now())
  listenOn(server, path, "Control", chores, made)
  return server
}

function openPestoSocket(control: ControlOptions, forwards: Forwards, path: string, made: string[]): PestoServer {
  const { kernel, options, ports, chores, logger } = control
  const server = new PestoServer({
    sockets: nativeSockets(kernel),
    ref: (index) => externalRef(FIRST_PESTO_INDEX + index),
    forwards,
    context: ports,
    log: logger,
    drives: options.controlPath === null,
    now: kernel.now(),
  })
  listenOn(server, path, "Configuration", chores, made)
  logger.info(`Configuration socket: ${path}`)
  return server
}
