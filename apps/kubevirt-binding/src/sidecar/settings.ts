/**
 * What the container's environment says. KubeVirt sets two of these variables; the others are for images derived from ours, and for
 * containers that an admission policy injects. Annotations of a virtual machine go before its cluster's settings.
 */
import { isLevel, type Level } from "./log.ts"
import { parsePortList, type ProtocolPorts } from "./ports.ts"
import { Refusal } from "./refusal.ts"

/** Who runs passt: this sidecar, or libvirt in the container of the machine. */
export type EngineMode = "sidecar" | "libvirt"

export interface Settings {
  /** The plugin's name in the KubeVirt resource, by which interfaces ask for it. */
  readonly pluginName: string
  /** This container's name, which is that of its directory among all hook sidecars'. */
  readonly containerName: string
  readonly engine: EngineMode
  /** Ports that lead to no guest of this cluster. */
  readonly excluded: ProtocolPorts
  /** Where metrics are served; null: nowhere. */
  readonly metricsPort: number | null
  /** Whether SIGTERM ends the sidecar, or only the Shutdown hook does. */
  readonly onTerminate: "end" | "wait"
  readonly logLevel: Level
  /** This container's directory for hook sockets. */
  readonly hookDirectory: string
  /** Directory of plugins' sockets, the same path in this container and the machine's. */
  readonly pluginDirectory: string
  readonly passt: string
}

/** A name that may become part of a path, of an XML attribute, and of an option. KubeVirt's own names are such. */
export const NAME: RegExp = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$/

function name(variables: NodeJS.ProcessEnv, key: string, fallback: string): string {
  const text = variables[key] || fallback
  if (!NAME.test(text)) throw new Refusal(`${key}: "${text}" is not a name of letters, digits, ".", "_" and "-"`)
  return text
}

/** @param what names the value in messages @throws Refusal */
export function engineMode(text: string, what: string): EngineMode {
  if (text !== "sidecar" && text !== "libvirt")
    throw new Refusal(`${what}: "${text}" is neither "sidecar" nor "libvirt"`)
  return text
}

/** @param what names the value in messages @throws Refusal */
export function portNumber(text: string, what: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw new Refusal(`${what}: "${text}" is not a port number`)
  return port
}

/** @param what names the value in messages @throws Refusal */
export function terminateMode(text: string, what: string): "end" | "wait" {
  if (text !== "end" && text !== "wait") throw new Refusal(`${what}: "${text}" is neither "end" nor "wait"`)
  return text
}

/** @throws Refusal */
export function readSettings(variables: NodeJS.ProcessEnv): Settings {
  const logLevel = variables.PASST_LOG_LEVEL || "info"
  if (!isLevel(logLevel)) {
    throw new Refusal(`PASST_LOG_LEVEL: "${logLevel}" is none of debug, info, warning, error`)
  }
  const port = variables.PASST_METRICS_PORT
  return {
    pluginName: name(variables, "NETWORK_BINDING_PLUGIN_NAME", "passt"),
    containerName: name(variables, "CONTAINER_NAME", "hook-sidecar-0"),
    engine: engineMode(variables.PASST_ENGINE || "sidecar", "PASST_ENGINE"),
    excluded: parsePortList(variables.PASST_EXCLUDE_PORTS ?? "", "PASST_EXCLUDE_PORTS"),
    metricsPort: port ? portNumber(port, "PASST_METRICS_PORT") : null,
    onTerminate: terminateMode(variables.PASST_ON_SIGTERM || "end", "PASST_ON_SIGTERM"),
    logLevel,
    hookDirectory: variables.PASST_HOOK_DIRECTORY || "/var/run/kubevirt-hooks",
    pluginDirectory: variables.PASST_PLUGIN_DIRECTORY || "/var/run/kubevirt-plugin",
    passt: variables.PASST_BINARY || "/usr/bin/passt",
  }
}
