// libvirt on a machine with Debian, with our passt where it looks for one: its daemon as root (qemu:///system) or as the
// ordinary user (qemu:///session), and guests of tools/guest as domains.
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { connectWhenThere, openChannel } from "../guest/channel.ts"
import { guestImage } from "../guest/image.ts"
import { guestCommands } from "../guest/qemu.ts"
import type { GuestCommands } from "../guest/qemu.ts"
import { scratchDirectory } from "../world/enter.ts"
import { ended, must, run, start, stop, until } from "../world/process.ts"
import type { Outcome } from "../world/process.ts"
import { PROGRAMS, USER } from "./machine.ts"
import type { Machine } from "./machine.ts"

export type Mode = "system" | "session"

/** Whom QEMU and passt of the system mode run as, as Debian has it. */
export const QEMU_ID = 64_055

export interface Domain extends GuestCommands {
  readonly name: string
  readonly xml: string
}

export type ChangeXml = (xml: string) => Promise<string>

export interface Libvirt {
  readonly mode: Mode
  /** Where it keeps sockets and process ids of passt, as seen from outside. */
  readonly passtFolder: string
  /** A folder of all users' for other files of domains, the same inside and outside. */
  readonly folder: string
  virsh(...args: readonly string[]): Promise<Outcome>
  /** Start a domain with these <interface> elements, or try to. @param change gets its XML, and gives another */
  create(name: string, interfaces: string, change?: ChangeXml): Promise<Outcome>
  /** The same, for domains that must start; waits until the guest answers. */
  boot(name: string, interfaces: string, change?: ChangeXml): Promise<Domain>
  close(): Promise<void>
}

const QEMU_CONFIGURATION = `# What a container lacks: control groups, device nodes, the daemon that writes logs, trusted attributes.
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
security_driver = "none"
remember_owner = 0
`

/** @param command path of the socket by which the guest is told what to do */
export async function domainXml(name: string, command: string, interfaces: string): Promise<string> {
  const { kernel, initramfs } = await guestImage("cloud")
  return `<domain type='qemu'>
  <name>${name}</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>${kernel}</kernel>
    <initrd>${initramfs}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 mitigations=off guest.net=dhcp</cmdline>
  </os>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <channel type='unix'>
      <source mode='bind' path='${command}'/>
      <target type='virtio' name='agent'/>
    </channel>
    ${interfaces}
  </devices>
</domain>
`
}

// What libvirt-daemon-system would set up; libvirt looks for its default user even if another is configured.
const USERS = `
grep -q ^libvirt-qemu: /etc/passwd || echo libvirt-qemu:x:${QEMU_ID}:${QEMU_ID}::/nonexistent:/bin/false >>/etc/passwd
for line in libvirt-qemu:x:${QEMU_ID}: kvm:x:993:; do
  grep -q "^\${line%%:*}:" /etc/group || echo "$line" >>/etc/group
done
ln -sf ${PROGRAMS}/passt /usr/bin/passt`

export async function startLibvirt(machine: Machine, mode: Mode): Promise<Libvirt> {
  const as = mode === "system" ? machine.asRoot : machine.asUser
  await must(machine.asRoot(["sh", "-c", USERS]))
  const configuration = mode === "system" ? "/etc/libvirt" : `${USER.home}/.config/libvirt`
  const ids = mode === "system" ? `user = "+${QEMU_ID}"\ngroup = "+${QEMU_ID}"\n` : ""
  await machine.write(`${configuration}/qemu.conf`, ids + QEMU_CONFIGURATION)
  await machine.write(`${configuration}/libvirtd.conf`, 'auth_unix_rw = "none"\n')
  await must(machine.asRoot(["chown", "-R", `${USER.id}:${USER.id}`, USER.home]))
  // There is no bus, and it shall not look for one for half a minute.
  const daemon = start(as(["env", "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent", "libvirtd"]))
  let said = ""
  for (const stream of [daemon.stdout, daemon.stderr]) stream?.on("data", (chunk: Buffer) => (said += chunk.toString()))
  const virsh: Libvirt["virsh"] = (...args) => run(as(["virsh", "--quiet", `--connect=qemu:///${mode}`, ...args]))
  let answer: Outcome | undefined
  try {
    await until("libvirt", 60_000, async () => {
      if (daemon.exitCode !== null) throw new Error(`libvirtd ended (status ${daemon.exitCode})`)
      answer = await virsh("version")
      return answer.status === 0
    })
  } catch (error) {
    throw new Error(`${(error as Error).message}: ${answer?.stderr ?? ""}\n${said}`, { cause: error })
  }

  // One folder for each mode, that QEMU's user may write to.
  const folder = join(scratchDirectory(), `libvirt-${randomBytes(4).toString("hex")}`)
  await must(["install", "-d", "-m", "777", folder])
  const channelPath = (name: string): string => join(folder, `${name}.command`)
  const create: Libvirt["create"] = async (name, interfaces, change = async (xml) => xml) => {
    const path = join(folder, `${name}.xml`)
    await machine.write(path, await change(await domainXml(name, channelPath(name), interfaces)))
    return await virsh("create", path)
  }
  return {
    mode,
    passtFolder: machine.outside(
      mode === "system" ? "/run/libvirt/qemu/passt" : `${USER.runtime}/libvirt/qemu/run/passt`,
    ),
    folder,
    virsh,
    create,
    async boot(name, interfaces, change) {
      const { status, stderr } = await create(name, interfaces, change)
      if (status !== 0) throw new Error(`the domain did not start: ${stderr}\n${said}`)
      const channel = openChannel(await connectWhenThere(channelPath(name), 10_000))
      await Promise.race([
        channel.ready,
        new Promise((_, reject) => setTimeout(reject, 90_000, new Error("the guest did not boot")).unref()),
      ])
      const xml = await virsh("dumpxml", name)
      return { name, xml: xml.stdout, ...guestCommands(channel) }
    },
    async close() {
      const { stdout } = await virsh("list", "--name")
      for (const name of stdout.split("\n").filter(Boolean)) await virsh("destroy", name)
      await stop(daemon)
      await ended(daemon, 5000)
    },
  }
}

/** The words of a process's command line; none if it is gone. */
export function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1)
  } catch {
    return []
  }
}
