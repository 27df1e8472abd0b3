/**
 * The one function behind both protocols: from a virtual machine and its domain to a domain with our interfaces, and to the engines that have to
 * listen before anybody uses it. Touches nothing, so that a refusal leaves nothing half done; its result put in again comes out the same.
 */
import { createHash } from "node:crypto"
import {
  appendChildren,
  applyEdits,
  type Edit,
  type Element,
  childrenNamed,
  onlyChild,
  parseDocument,
} from "./domain/document.ts"
import { aliasOf, engineInterface, libvirtInterface } from "./domain/interface.ts"
import { shareMemory } from "./domain/memory.ts"
import { portSet, toSpecification } from "./ports.ts"
import { Refusal } from "./refusal.ts"
import type { Settings } from "./settings.ts"
import { type BoundInterface, readVirtualMachine, type VirtualMachine } from "./vmi.ts"
import { readWishes, type Wishes } from "./wishes.ts"

/** Longest path of a UNIX socket: sun_path holds 108 bytes with the final zero. */
const SOCKET_PATH_MAX = 107

export interface Context {
  readonly settings: Settings
  /** The directory of engines' sockets, as this container sees it, and as the machine's does. */
  readonly engineDirectory: string
  readonly engineDirectoryInMachine: string
  /** Whether a machine without an interface of ours is a mistake (a hook, called for those alone), or none of our business. */
  readonly needsInterface: boolean
}

/** An engine that the domain's machine connects to. */
export interface EnginePlan {
  readonly interfaceName: string
  readonly socket: string
  /** Where the engine is asked for its metrics. */
  readonly control: string
  /** passt's options, without those of sockets. */
  readonly options: readonly string[]
}

export interface Mutation {
  readonly domain: string
  readonly engines: readonly EnginePlan[]
  readonly machine: VirtualMachine
  readonly wishes: Wishes
}

/**
 * @param vmi a VirtualMachineInstance, as JSON
 * @param domain a libvirt domain, as XML
 * @throws Refusal with a sentence for the machine's owner
 */
export function mutate(vmi: string, domain: string, context: Context): Mutation {
  const { settings } = context
  const machine = readVirtualMachine(vmi, settings.pluginName)
  const { interfaces } = machine
  const wishes = readWishes(machine, settings)
  if (interfaces.length === 0) {
    if (!context.needsInterface) return { domain, engines: [], machine, wishes }
    throw new Refusal(`no interface found: none of the machine has the binding "${settings.pluginName}"`)
  }
  const root = parseDocument(domain)
  if (root.name !== "domain" || root.uri !== "") throw new Refusal(`this is a <${root.name}>, not a libvirt <domain>`)
  const devices = onlyChild(root, "devices")
  if (devices === undefined) throw new Refusal("the domain has no <devices>")
  refuseBootConflict(root, interfaces)
  const engines: EnginePlan[] = []
  const edits: Edit[] = shareMemory(domain, root, devices)
  const added: string[] = []
  for (const own of interfaces) {
    let xml: string
    if (wishes.engine === "libvirt") {
      xml = libvirtInterface(machine, own, wishes.reserved, wishes.meshes.includes("istio"), wishes.mtu)
    } else {
      const name = fileName(own.name, context)
      const socket = `${context.engineDirectory}/${name}.sock`
      const control = `${context.engineDirectory}/${name}.control`
      engines.push({ interfaceName: own.name, socket, control, options: engineOptions(machine, own, wishes) })
      xml = engineInterface(machine, own, `${context.engineDirectoryInMachine}/${name}.sock`, wishes.mtu)
    }
    const present = withAlias(devices, own.name)
    if (present === undefined) added.push(xml)
    else edits.push({ start: present.start, end: present.end, text: xml })
  }
  if (added.length > 0) edits.push(appendChildren(domain, devices, "devices", added))
  return { domain: applyEdits(domain, edits), engines, machine, wishes }
}

/** The interface that has our alias: this function's own work, or what KubeVirt has prepared. */
function withAlias(devices: Element, name: string): Element | undefined {
  const [found, second] = childrenNamed(devices, "interface").filter((each) =>
    childrenNamed(each, "alias").some((alias) => alias.attributes.get("name") === aliasOf(name)),
  )
  if (second !== undefined) throw new Refusal(`the domain has two interfaces with the alias ${aliasOf(name)}`)
  return found
}

/** libvirt takes an order per device, or kinds of devices for the whole machine. */
function refuseBootConflict(root: Element, interfaces: readonly BoundInterface[]): void {
  const ordered = interfaces.find(({ bootOrder }) => bootOrder !== null)
  if (ordered === undefined) return
  if (childrenNamed(root, "os").some((os) => childrenNamed(os, "boot").length > 0)) {
    throw new Refusal(`interface ${ordered.name}: it has a boot order, but the domain boots by kinds of devices`)
  }
}

/** A name for an engine's files: the interface's, or as much of it as a socket's path has room for, made unique. */
function fileName(name: string, context: Context): string {
  const longest = Math.max(context.engineDirectory.length, context.engineDirectoryInMachine.length)
  const room = SOCKET_PATH_MAX - longest - "/.control".length
  if (name.length <= room) return name
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 12)
  return `${name.slice(0, Math.max(0, room - hash.length - 1))}-${hash}`
}

function engineOptions(machine: VirtualMachine, own: BoundInterface, wishes: Wishes): string[] {
  const { podDevice } = own
  const options = ["--interface", podDevice]
  // The pod's network is chosen by its routes, as for any process in it; a further network is reached by its device alone.
  if (!own.isPrimary) options.push("--outbound-if4", podDevice, "--outbound-if6", podDevice)
  // With a further network, ports belong to a device. A mesh's proxy and probes come from the loopback interface.
  const devices = own.isPrimary ? (machine.interfaces.length > 1 ? [podDevice, "lo"] : [undefined]) : [podDevice]
  for (const protocol of ["tcp", "udp"] as const) {
    const set = portSet(own.ports[protocol], own.listsPorts, wishes.reserved[protocol])
    const specifications = new Set(devices.map((device) => toSpecification(set, device)))
    for (const specification of specifications) options.push(`--${protocol}-ports`, specification)
  }
  if (wishes.mtu !== null) options.push("--mtu", String(wishes.mtu))
  if (machine.hostname !== null) options.push("--hostname", machine.hostname)
  if (machine.fullName !== null) options.push("--fqdn", machine.fullName)
  return options
}
