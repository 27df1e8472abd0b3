/** The `<interface>` element, in both modes. */
import { Refusal } from "../refusal.ts"
import { normalize, type PortRange, type ProtocolPorts, subtract } from "../ports.ts"
import type { BoundInterface, VirtualMachine } from "../vmi.ts"
import { element } from "./document.ts"

/** Where libvirt's passt logs: virt-launcher prints this file when it ends. */
const LOG_FILE = "/var/run/kubevirt/passt.log"

export function aliasOf(name: string): string {
  return `ua-${name}`
}

/** KubeVirt's names of models, as libvirt's. */
function libvirtModel(machine: VirtualMachine, model: string): string {
  if (model !== "virtio") return model
  // Channel devices have no transitional form.
  if (machine.architecture === "s390x") return "virtio"
  return machine.useVirtioTransitional ? "virtio-transitional" : "virtio-non-transitional"
}

/** What does not depend on who runs passt. */
function commonChildren(machine: VirtualMachine, own: BoundInterface, mtu: number | null): string[] {
  const children = [element("model", { type: libvirtModel(machine, own.model) })]
  if (own.mac !== null) children.push(element("mac", { address: own.mac }))
  if (own.pciAddress !== null) children.push(element("address", { type: "pci", ...own.pciAddress }))
  if (own.acpiIndex !== null) children.push(element("acpi", { index: own.acpiIndex }))
  if (own.bootOrder !== null) children.push(element("boot", { order: own.bootOrder }))
  if (own.isLinkDown) children.push(element("link", { state: "down" }))
  if (mtu !== null) children.push(element("mtu", { size: mtu }))
  return children
}

/** QEMU as the client of our engine, which may come back at any time. @param socket in the machine's container */
export function engineInterface(
  machine: VirtualMachine,
  own: BoundInterface,
  socket: string,
  mtu: number | null,
): string {
  const model = libvirtModel(machine, own.model)
  if (!model.startsWith("virtio")) {
    throw new Refusal(`interface ${own.name}: its model is ${own.model}, and this binding has only virtio`)
  }
  const reconnect = element("reconnect", { enabled: "yes", timeout: 1 })
  return element("interface", { type: "vhostuser" }, [
    element("alias", { name: aliasOf(own.name) }),
    element("source", { type: "unix", path: socket, mode: "client" }, [reconnect]),
    ...commonChildren(machine, own, mtu),
  ])
}

/**
 * What KubeVirt's own binding writes, and libvirt makes passt's options of; except that a service mesh does not cost the guest its UDP, and
 * that a port of the mesh's is not forwarded even if it is listed.
 * @param hasIstio with which KubeVirt's binding forwards all TCP ports but Istio's even if only UDP ports are listed
 */
export function libvirtInterface(
  machine: VirtualMachine,
  own: BoundInterface,
  reserved: ProtocolPorts,
  hasIstio: boolean,
  mtu: number | null,
): string {
  const device = own.isPrimary ? null : own.podDevice
  const forward = (proto: "tcp" | "udp"): string[] => {
    const listed = own.ports[proto]
    const free = listed.filter((range) => subtract([range], normalize(reserved[proto])).length > 0)
    const isAll = !own.listsPorts || (proto === "tcp" && hasIstio && listed.length === 0)
    if (!isAll && free.length === 0) return []
    // Ports that are listed need no exclusions; of TCP they are written all the same, as KubeVirt's binding does.
    const exclusions = isAll || proto === "tcp" ? ranges(reserved[proto], { exclude: "yes" }) : []
    return [element("portForward", { proto, dev: device }, [...exclusions, ...ranges(free, {})])]
  }
  return element("interface", { type: "vhostuser" }, [
    element("alias", { name: aliasOf(own.name) }),
    element("source", { dev: own.podDevice }),
    ...commonChildren(machine, own, mtu),
    element("backend", { type: "passt", logFile: LOG_FILE }),
    ...forward("tcp"),
    ...forward("udp"),
  ])
}

function ranges(list: readonly PortRange[], attributes: Readonly<Record<string, string>>): string[] {
  return list.map(({ first, last }) =>
    element("range", { start: first, end: last === first ? null : last, ...attributes }),
  )
}
