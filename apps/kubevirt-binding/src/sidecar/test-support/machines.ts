/**
 * Virtual machines and domains as KubeVirt makes them, written after its published schemas: what virt-launcher hands to hooks in several
 * versions, with much around that is none of our business.
 */
import { readSettings, type Settings } from "../settings.ts"
import type { Context } from "../mutate.ts"

export interface InterfaceWish {
  readonly name?: string
  readonly binding?: object
  readonly ports?: readonly object[] | undefined
  readonly portRanges?: readonly object[]
  readonly [more: string]: unknown
}

export interface MachineWish {
  readonly interfaces?: readonly InterfaceWish[]
  readonly networks?: readonly object[]
  readonly statuses?: readonly object[]
  readonly annotations?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  readonly devices?: object
  readonly spec?: object
}

/** A VirtualMachineInstance: one interface of ours on the pod's network, unless something else is wished. */
export function machineJson(wish: MachineWish = {}): string {
  const interfaces = (wish.interfaces ?? [{}]).map((each) => ({ name: "default", binding: { name: "passt" }, ...each }))
  return JSON.stringify({
    kind: "VirtualMachineInstance",
    apiVersion: "kubevirt.io/v1",
    metadata: {
      name: "vm-1",
      namespace: "tenant",
      uid: "0f8fad5b-d9cb-469f-a165-70867728950e",
      annotations: { "kubevirt.io/latest-observed-api-version": "v1", ...wish.annotations },
      labels: { "kubevirt.io/nodeName": "node-1", ...wish.labels },
    },
    spec: {
      domain: {
        cpu: { cores: 2, model: "host-model" },
        machine: { type: "q35" },
        memory: { guest: "1Gi" },
        devices: { disks: [{ name: "root", disk: { bus: "virtio" } }], interfaces, ...wish.devices },
      },
      networks: wish.networks ?? [{ name: "default", pod: {} }],
      volumes: [{ name: "root", containerDisk: { image: "registry.example/root:1" } }],
      ...wish.spec,
    },
    status: {
      phase: "Scheduled",
      interfaces: wish.statuses ?? [{ name: "default", infoSource: "domain", podInterfaceName: "eth0", queueCount: 1 }],
    },
  })
}

const METADATA = `<metadata><kubevirt xmlns="http://kubevirt.io"><uid>0f8fad5b-d9cb-469f-a165-70867728950e</uid><graceperiod>
<deletionGracePeriodSeconds>30</deletionGracePeriodSeconds></graceperiod></kubevirt></metadata>`

function domainXml(version: string, memory: string, interfaces: string, more = ""): string {
  return `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>tenant_vm-1</name>
  <memory unit="b">1073741824</memory>
  <os><type arch="x86_64" machine="q35">hvm</type><smbios mode="sysinfo"></smbios></os>
  ${METADATA}${memory}
  <sysinfo type="smbios"><system><entry name="version">${version} &amp; &quot;more&quot;</entry></system></sysinfo>
  <features><acpi></acpi></features>
  <cpu mode="host-model"><topology sockets="1" cores="2" threads="1"></topology></cpu>
  <vcpu placement="static">2</vcpu>
  <devices>
    <interface type='ethernet'>
      <source></source><target dev="tap37a8eec1ce1" managed="no"></target><model type="virtio-non-transitional"></model>
      <mac address="02:00:00:aa:bb:cc"></mac><mtu size="1450"></mtu><alias name="ua-storage"></alias>
    </interface>${interfaces}
    <channel type="unix"><target name="org.qemu.guest_agent.0" type="virtio"></target></channel>
    <controller type="usb" index="0" model="none"></controller>
    <!-- "<interface>" in a comment, ein Grüezi, and 𝄞 beyond the first plane -->
    <disk device="disk" type="file" model="virtio-non-transitional">
      <source file="/var/run/kubevirt-ephemeral-disks/disk-data/root/disk.qcow2"></source>
      <target bus="virtio" dev="vda"></target><driver cache="none" type="qcow2" discard="unmap"></driver>
      <alias name="ua-root"></alias>
    </disk>
    <console type="pty"></console>
  </devices>
  <qemu:commandline><qemu:arg value="-fw_cfg"></qemu:arg></qemu:commandline>${more}
</domain>`
}

const HUGE = "<memoryBacking><hugepages><page size='2' unit='M'></page></hugepages></memoryBacking>"
const SHARED = "<memoryBacking><source type='memfd'></source><access mode='shared'></access></memoryBacking>"

type DomainName =
  | "v1.1"
  | "v1.3, virtiofs"
  | "v1.5, huge pages"
  | "v1.6, prepared interface"
  | "v1.8"
  | "v1.9, in one line"

/** Domains by what is particular about them. */
export const DOMAINS: Readonly<Record<DomainName, string>> = {
  "v1.1": domainXml("v1.1.1", "", ""),
  "v1.3, virtiofs": domainXml("v1.3.1", `\n  ${SHARED}`, ""),
  "v1.5, huge pages": domainXml("v1.5.2", `\n  ${HUGE}`, ""),
  "v1.6, prepared interface": domainXml(
    "v1.6.0",
    "",
    "<interface type='ethernet'><alias name='ua-default'/><target dev='tap0' managed='no'/></interface>",
  ),
  "v1.8": domainXml("v1.8.0", "\n  <memoryBacking/>", "", "\n  <launchSecurity type='unknown' newer='yes'/>\n"),
  "v1.9, in one line": domainXml("v1.9.0", "", "").replaceAll(/\n\s*/g, ""),
}

export function settings(variables: NodeJS.ProcessEnv = {}): Settings {
  return readSettings({ CONTAINER_NAME: "hook-sidecar-0", ...variables })
}

export function context(variables: NodeJS.ProcessEnv = {}, needsInterface = true): Context {
  return {
    settings: settings(variables),
    engineDirectory: "/var/run/kubevirt-hooks/engine",
    engineDirectoryInMachine: "/var/run/kubevirt-hooks/hook-sidecar-0/engine",
    needsInterface,
  }
}
