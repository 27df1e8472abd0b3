/**
 * The virtual machine, as its VirtualMachineInstance object says: only what concerns interfaces with our binding. The object is read at
 * one place and believed afterwards; fields that are not ours may hold anything.
 */
import { NAME } from "./settings.ts"
import type { Metadata } from "./mesh.ts"
import type { PortRange, ProtocolPorts } from "./ports.ts"
import { Refusal } from "./refusal.ts"

export interface PciAddress {
  readonly domain: string
  readonly bus: string
  readonly slot: string
  readonly function: string
}

/** An interface that asks for our binding. */
export interface BoundInterface {
  readonly name: string
  /** The pod's network, or what Multus has put in its place; else a further one. */
  readonly isPrimary: boolean
  /** The pod's network device. */
  readonly podDevice: string
  /** As libvirt spells it; null: libvirt chooses. */
  readonly mac: string | null
  /** As the object says; "virtio" when it says nothing. */
  readonly model: string
  readonly pciAddress: PciAddress | null
  readonly acpiIndex: number | null
  readonly bootOrder: number | null
  readonly isLinkDown: boolean
  readonly ports: ProtocolPorts
  /** Whether it names ports at all: else all are meant. */
  readonly listsPorts: boolean
}

export interface VirtualMachine {
  /** namespace/name, for messages. */
  readonly title: string
  readonly hostname: string | null
  readonly fullName: string | null
  readonly useVirtioTransitional: boolean
  readonly architecture: string
  readonly metadata: Metadata
  readonly interfaces: readonly BoundInterface[]
  /** Things that it asks for, and that it does not get. */
  readonly warnings: readonly string[]
}

type Json = Readonly<Record<string, unknown>>

const MAC = /^[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}$/i
const PCI_ADDRESS = /^([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/i
/** IFNAMSIZ less the final zero; the kernel takes neither "/" nor white space, port specifications no "%". */
const DEVICE = /^[^\s/%]{1,15}$/
/** RFC 1123 labels, up to the 63 that DHCP option 12 is given here. */
const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const DOMAIN_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/
const MODEL = /^[A-Za-z0-9_-]{1,64}$/

function object(value: unknown, what: string): Json {
  if (value === undefined || value === null) return {}
  if (typeof value !== "object" || Array.isArray(value)) throw new Refusal(`${what} is not an object`)
  return value as Json
}

function list(value: unknown, what: string): Json[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new Refusal(`${what} is not a list`)
  return value.map((item, i) => object(item, `${what}[${i}]`))
}

function text(value: unknown, what: string): string {
  if (value === undefined || value === null) return ""
  if (typeof value !== "string") throw new Refusal(`${what} is not a string`)
  return value
}

function integer(value: unknown, what: string, min: number, max: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    throw new Refusal(`${what} is not an integer from ${min} to ${max}`)
  }
  return value
}

function strings(value: unknown, what: string): Record<string, string> {
  const entries = Object.entries(object(value, what))
  return Object.fromEntries(entries.map(([key, item]) => [key, text(item, `${what}["${key}"]`)]))
}

function matching(value: string, pattern: RegExp, what: string, isWhat: string): string {
  if (!pattern.test(value)) throw new Refusal(`${what}: "${value}" is not ${isWhat}`)
  return value
}

/** Reads `ports` and `portRanges`. */
function readPorts(item: Json, what: string, warnings: string[]): ProtocolPorts & { readonly any: boolean } {
  const sets = { tcp: [] as PortRange[], udp: [] as PortRange[] }
  const add = (entry: Json, where: string, first: number, last: number): void => {
    const protocol = text(entry.protocol, `${where}.protocol`).toLowerCase() || "tcp"
    if (protocol === "tcp" || protocol === "udp") sets[protocol].push({ first, last })
    else warnings.push(`${where}: protocol "${protocol}" is neither TCP nor UDP, the port is passed over`)
  }
  const ports = list(item.ports, `${what}.ports`)
  ports.forEach((entry, i) => {
    const where = `${what}.ports[${i}]`
    const port = integer(entry.port, `${where}.port`, 1, 65_535)
    add(entry, where, port, port)
  })
  const ranges = list(item.portRanges, `${what}.portRanges`)
  ranges.forEach((entry, i) => {
    const where = `${what}.portRanges[${i}]`
    const first = integer(entry.start, `${where}.start`, 1, 65_535)
    add(entry, where, first, integer(entry.end, `${where}.end`, first, 65_535))
  })
  return { ...sets, any: ports.length + ranges.length > 0 }
}

function pciAddress(value: string, what: string): PciAddress {
  const [, domain = "", bus = "", slot = "", fn = ""] = PCI_ADDRESS.exec(value) ?? []
  if (domain === "") throw new Refusal(`${what}: "${value}" is not a PCI address like 0000:01:00.0`)
  return { domain: `0x${domain}`, bus: `0x${bus}`, slot: `0x${slot}`, function: `0x${fn}` }
}

function readInterface(item: Json, what: string, vmi: Json, spec: Json, warnings: string[]): BoundInterface {
  const name = matching(text(item.name, `${what}.name`), NAME, `${what}.name`, "a name")
  const network = list(spec.networks, "spec.networks").find((each) => each.name === name)
  if (network === undefined) throw new Refusal(`interface ${name}: there is no network of this name`)
  const multus = network.multus === undefined ? null : object(network.multus, `network ${name}.multus`)
  const isPod = network.pod !== undefined
  if (!isPod && multus === null)
    throw new Refusal(`interface ${name}: its network is neither the pod's nor one of Multus`)
  const isPrimary = isPod || multus?.default === true
  const status = object(vmi.status, "status")
  const own = list(status.interfaces, "status.interfaces").find((each) => each.name === name)
  const which = isPrimary ? "primary network interface" : `network interface ${name}`
  if (own === undefined) throw new Refusal(`${which} status was not found`)
  const podDevice = text(own.podInterfaceName, `status of interface ${name}: podInterfaceName`)
  if (podDevice === "") throw new Refusal(`${which}: pod network interface name was not found`)
  const mac = text(item.macAddress, `${what}.macAddress`)
  if (mac !== "" && !MAC.test(mac)) throw new Refusal(`interface ${name}: "${mac}" is not a MAC address`)
  const pci = text(item.pciAddress, `${what}.pciAddress`)
  // Kubernetes leaves out zeros, and some clients write them.
  const acpi = integer(item.acpiIndex ?? 0, `${what}.acpiIndex`, 0, 0x7fff_ffff)
  const boot = integer(item.bootOrder ?? 0, `${what}.bootOrder`, 0, 0x7fff_ffff)
  const dhcp = Object.keys(object(item.dhcpOptions, `${what}.dhcpOptions`))
  if (dhcp.length > 0) warnings.push(`interface ${name}: dhcpOptions (${dhcp.join(", ")}) are not given to the guest`)
  const { any, ...ports } = readPorts(item, what, warnings)
  return {
    name,
    isPrimary,
    podDevice: matching(podDevice, DEVICE, `interface ${name}: podInterfaceName`, "a device's name"),
    mac: mac === "" ? null : mac.toLowerCase().replaceAll("-", ":"),
    model: matching(text(item.model, `${what}.model`) || "virtio", MODEL, `${what}.model`, "a model's name"),
    pciAddress: pci === "" ? null : pciAddress(pci, `interface ${name}: pciAddress`),
    acpiIndex: acpi || null,
    bootOrder: boot || null,
    isLinkDown: item.state === "down",
    ports,
    listsPorts: any,
  }
}

/** A machine's name may have dots and more than a label's characters; DHCP gets its first label, as KubeVirt's own server does. */
function hostname(spec: Json, name: string): string | null {
  const label = (text(spec.hostname, "spec.hostname") || name.split(".")[0]!).slice(0, 63)
  return HOST_NAME.test(label) ? label : null
}

/**
 * @param json a VirtualMachineInstance, as JSON
 * @param pluginName by which interfaces ask for our binding
 * @throws Refusal
 */
export function readVirtualMachine(json: string, pluginName: string): VirtualMachine {
  let parsed: unknown
  try {
    parsed = JSON.parse(json)
  } catch (error) {
    throw new Refusal(`the VirtualMachineInstance is not JSON: ${(error as Error).message}`)
  }
  if (parsed === null) throw new Refusal("the VirtualMachineInstance is empty")
  const vmi = object(parsed, "the VirtualMachineInstance")
  const meta = object(vmi.metadata, "metadata")
  const name = text(meta.name, "metadata.name")
  const namespace = text(meta.namespace, "metadata.namespace")
  const spec = object(vmi.spec, "spec")
  const domain = object(spec.domain, "spec.domain")
  const devices = object(domain.devices, "spec.domain.devices")
  const warnings: string[] = []
  const interfaces: BoundInterface[] = []
  list(devices.interfaces, "spec.domain.devices.interfaces").forEach((item, i) => {
    const what = `spec.domain.devices.interfaces[${i}]`
    const binding = object(item.binding, `${what}.binding`)
    // One that is to be absent is being unplugged: it gets no device.
    if (binding.name !== pluginName || item.state === "absent") return
    interfaces.push(readInterface(item, what, vmi, spec, warnings))
  })
  const names = interfaces.map((each) => each.name)
  const twice = names.find((each, i) => names.indexOf(each) !== i)
  if (twice !== undefined) throw new Refusal(`there are two interfaces of the name ${twice}`)
  if (interfaces.filter((each) => each.isPrimary).length > 1) {
    throw new Refusal("more than one interface is on the pod's network")
  }
  if (devices.networkInterfaceMultiqueue === true && interfaces.length > 0) {
    warnings.push("networkInterfaceMultiqueue: interfaces with this binding have one pair of queues")
  }
  const label = hostname(spec, name)
  const subdomain = text(spec.subdomain, "spec.subdomain")
  const fullName = `${label}.${subdomain}.${namespace}.svc.cluster.local`
  return {
    title: `${namespace}/${name}`,
    hostname: label,
    fullName: label !== null && subdomain !== "" && DOMAIN_NAME.test(fullName) ? fullName : null,
    useVirtioTransitional: devices.useVirtioTransitional === true,
    architecture: text(spec.architecture, "spec.architecture"),
    metadata: {
      annotations: strings(meta.annotations, "metadata.annotations"),
      labels: strings(meta.labels, "metadata.labels"),
    },
    interfaces,
    warnings,
  }
}
