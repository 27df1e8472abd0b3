/** What a machine's annotations say to this binding, over what its cluster's settings say. */
import { MESHES } from "./mesh.ts"
import { joinPorts, parsePortList, type ProtocolPorts } from "./ports.ts"
import { Refusal } from "./refusal.ts"
import { type EngineMode, engineMode, portNumber, type Settings, terminateMode } from "./settings.ts"
import type { VirtualMachine } from "./vmi.ts"

const PREFIX = "binding.passt/"

/** Least that IPv6 needs (RFC 8200 section 5), and the largest IP packet. */
const MTU_MIN = 1280
const MTU_MAX = 65_520

export interface Wishes {
  readonly engine: EngineMode
  /** Ports of others in the pod: of meshes, of the configuration, of our own metrics. */
  readonly reserved: ProtocolPorts
  readonly meshes: readonly string[]
  /** Null: what passt announces by itself. */
  readonly mtu: number | null
  readonly metricsPort: number | null
  readonly onTerminate: "end" | "wait"
}

/** @throws Refusal for an annotation that makes no sense, or that is not known */
export function readWishes(machine: VirtualMachine, settings: Settings): Wishes {
  const rest = new Map<string, string>()
  for (const [key, value] of Object.entries(machine.metadata.annotations)) {
    if (key.startsWith(PREFIX)) rest.set(key.slice(PREFIX.length), value.trim())
  }
  const take = <T>(name: string, read: (text: string, what: string) => T, fallback: T): T => {
    const text = rest.get(name)
    rest.delete(name)
    return text === undefined ? fallback : read(text, `annotation ${PREFIX}${name}`)
  }
  const engine = take("engine", engineMode, settings.engine)
  const excluded = take("exclude-ports", parsePortList, { tcp: [], udp: [] })
  const mtu = take("mtu", mtuValue, null)
  const metricsPort = take("metrics-port", portNumber, settings.metricsPort)
  const onTerminate = take("on-sigterm", terminateMode, settings.onTerminate)
  const [unknown] = rest.keys()
  if (unknown !== undefined) throw new Refusal(`annotation ${PREFIX}${unknown} is not known`)
  const meshes = MESHES.filter((mesh) => mesh.isIn(machine.metadata))
  const own = metricsPort === null ? [] : [{ first: metricsPort, last: metricsPort }]
  const reserved = joinPorts([...meshes.map(({ ports }) => ports), settings.excluded, excluded, { tcp: own, udp: [] }])
  return { engine, reserved, meshes: meshes.map(({ name }) => name), mtu, metricsPort, onTerminate }
}

function mtuValue(text: string, what: string): number {
  const mtu = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (mtu < MTU_MIN || mtu > MTU_MAX)
    throw new Refusal(`${what}: "${text}" is not a number from ${MTU_MIN} to ${MTU_MAX}`)
  return mtu
}
