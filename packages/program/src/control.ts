/** `--control`: the control socket, in the engine's own loop. */
import type { CommonOptions, ForwardRule, PortContext } from "@passt/cli"
import { Capture, ControlServer, EVENT_INDICES, Forwards, nativeSockets, openCalls } from "@passt/control"
import type { Engine } from "@passt/core"
import { errnoText } from "@passt/host"
import type { NativeKernel } from "@passt/native"
import { externalRef } from "./assemble.ts"
import type { Chores } from "./chores.ts"
import { StartError } from "./error.ts"
import { VERSION } from "./version.ts"

const EADDRINUSE = 98
/** Indices of events from here on are the control socket's; the program's own are smaller. */
const FIRST_INDEX = 64

export interface ControlOptions {
  /** "passt" or "pasta". */
  readonly program: string
  readonly options: CommonOptions
  readonly engine: Engine
  readonly kernel: NativeKernel
  /** The engine's rules, and what they were parsed with. */
  readonly rules: readonly ForwardRule[]
  readonly ports: PortContext
  readonly chores: Chores
}

/** Opens it, if it was asked for. @param made gets the path
 * @returns what to hand events to that are not the program's own @throws StartError */
export function openControl(control: ControlOptions, made: string[]): (index: number, mask: number) => void {
  const { engine, kernel, options, program, rules, ports, chores } = control
  const path = options.controlPath
  if (path === null) return () => {}
  engine.prepareRules()
  const began = performance.now()
  const forwards = new Forwards(engine, rules, ports)
  const calls = openCalls({
    engine,
    forwards,
    capture: new Capture(kernel, options.pcapFile !== null),
    program,
    version: VERSION,
    uptimeSeconds: () => Math.round(performance.now() - began) / 1000,
  })
  const ref = (index: number): number => externalRef(FIRST_INDEX + index)
  const server = new ControlServer(nativeSockets(kernel), ref, calls, forwards, kernel.now())
  const result = server.listen(path)
  if (result === -EADDRINUSE) throw new StartError(`Control socket ${path} is in use already`)
  if (result < 0) throw new StartError(`Couldn't listen on control socket ${path}: ${errnoText(-result)}`)
  made.push(path)
  chores.add(server)
  return (index, mask) => {
    if (index >= FIRST_INDEX && index < FIRST_INDEX + EVENT_INDICES) {
      server.event(index - FIRST_INDEX, mask, kernel.now())
    }
  }
}
