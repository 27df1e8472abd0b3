// A guest in QEMU: boots the image, with its network card on a UNIX stream socket.
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import type { ChildProcess, SpawnOptions } from "node:child_process"
import { scratchDirectory } from "../world/enter.ts"
import { ended, start, stop, until } from "../world/process.ts"
import { accelerator } from "./accelerator.ts"
import { connectWhenThere, openChannel } from "./channel.ts"
import type { Channel, CommandResult } from "./channel.ts"
import { guestImage } from "./image.ts"

export const QEMU = "qemu-system-x86_64"

/** The network card that the guest sees. e1000 needs the generic kernel, which is a larger download. */
export type Nic = "virtio-net" | "e1000"

export interface GuestOptions {
  /** Path of passt's socket. Without it the guest has no network card. */
  readonly socket?: string
  /** What -netdev gets in place of a stream to `socket`; its id is "net". */
  readonly netdev?: string
  readonly nic?: Nic
  /** Whether `socket` speaks vhost-user: the guest's memory is shared then. QEMU connects again when the socket closes. */
  readonly vhostUser?: boolean
  /** Whether the guest's memory is a file that others may map: for a `netdev` of one's own that speaks vhost-user. */
  readonly sharedMemory?: boolean
  /** Further properties of the card, as QEMU's -device has them: "csum=off,mq=on". */
  readonly card?: string
  /** Pairs of queues of a card behind vhost-user, 1 to 8; more than one needs "mq=on" in `card`. Default: 1. */
  readonly queues?: number
  /** Default: 1. */
  readonly processors?: number
  /** Default: 256 MiB. */
  readonly memoryKiB?: number
  /** Further arguments for QEMU. */
  readonly more?: readonly string[]
  /** The guest is not booted, but comes from another QEMU: where it is waited for, as -incoming has it. */
  readonly incoming?: string
  readonly mac?: string
  /** "none" leaves the card unconfigured. Default: DHCP and SLAAC at boot. */
  readonly network?: "dhcp" | "none"
  /** QEMU's -accel; default: what `accelerator` found to work. */
  readonly accel?: "kvm" | "tcg"
  /** Where and as whom QEMU runs; default: here. */
  readonly start?: (command: readonly string[], options?: SpawnOptions) => ChildProcess
  readonly bootTimeoutMs?: number
}

/** What can be asked of a guest once its agent answers. */
export interface GuestCommands {
  /** Run a shell command. Default limit: 30,000 ms. */
  run(command: string, timeoutMs?: number): Promise<CommandResult>
  /** Run a shell command that must succeed; its standard output. */
  must(command: string, timeoutMs?: number): Promise<string>
  /** Wait until DHCP and SLAAC are through. */
  online(timeoutMs?: number): Promise<void>
}

export interface Guest extends GuestCommands {
  /** From starting QEMU to the first answer. */
  readonly bootMs: number
  readonly accel: "kvm" | "tcg"
  readonly kernelVersion: string
  readonly qemu: ChildProcess
  /** What the kernel and QEMU have said so far, for diagnosis. */
  log(): string
  /** Join this process's terminal to a shell in the guest; resolves when the shell ends (or at Ctrl-]). */
  shell(): Promise<void>
  /** Pull the plug. */
  kill(): Promise<void>
}

const CTRL_RIGHT_BRACKET = 0x1d
const MEMORY_KIB = 256 * 1024

export async function bootGuest(options: GuestOptions = {}): Promise<Guest> {
  const nic = options.nic ?? "virtio-net"
  const image = await guestImage(nic === "e1000" ? "generic" : "cloud")
  const accel = options.accel ?? (await accelerator())
  const { memoryKiB = MEMORY_KIB } = options
  const id = randomBytes(4).toString("hex")
  const scratch = scratchDirectory()
  const commandSocket = join(scratch, `guest-${id}.command`)
  const consoleSocket = join(scratch, `guest-${id}.console`)
  const stream = `stream,id=net,server=off,addr.type=unix,addr.path=${options.socket}`
  // QEMU 7.2 without KVM ends with a segmentation fault when it masks the message-signalled interrupts of such a card.
  const card =
    options.vhostUser === true ? `vectors=0${options.card === undefined ? "" : `,${options.card}`}` : options.card
  const own = options.vhostUser === true ? `vhost-user,id=net,chardev=front-end,queues=${options.queues ?? 1}` : stream
  const netdev = options.netdev ?? (options.socket === undefined ? undefined : own)
  const network =
    netdev === undefined ? ["-nic", "none"] : ["-netdev", netdev, "-device", deviceArgument(nic, options.mac, card)]
  if (options.vhostUser === true) {
    network.unshift("-chardev", `socket,id=front-end,path=${options.socket},reconnect=1`)
  }
  if (options.vhostUser === true || options.sharedMemory === true) {
    network.push("-object", `memory-backend-memfd,id=ram,size=${memoryKiB}K,share=on`, "-machine", "memory-backend=ram")
  }
  const command = [
    [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ["-machine", "pc", "-accel", accel, "-cpu", "max", "-m", `${memoryKiB}K`, "-smp", String(options.processors ?? 1)],
    ["-kernel", image.kernel, "-initrd", image.initramfs],
    ["-append", `console=ttyS0 quiet panic=-1 mitigations=off guest.net=${options.network ?? "dhcp"}`],
    ["-chardev", "stdio,id=log,signal=off", "-serial", "chardev:log"],
    ["-device", "virtio-serial-pci"],
    ["-chardev", `socket,id=console,path=${consoleSocket},server=on,wait=off`],
    ["-device", "virtconsole,chardev=console,nr=0"],
    ["-chardev", `socket,id=command,path=${commandSocket},server=on,wait=off`],
    ["-device", "virtserialport,chardev=command,name=agent,nr=1"],
    network,
    options.more ?? [],
    options.incoming === undefined ? [] : ["-incoming", options.incoming],
  ].flat()
  const began = performance.now()
  const qemu = (options.start ?? start)(command, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  const keep = (chunk: Buffer): void => {
    // The end is what matters: a guest that prints for ever must not fill this process.
    said = (said + chunk.toString()).slice(-100_000)
  }
  qemu.stdout?.on("data", keep)
  qemu.stderr?.on("data", keep)
  const failed = new Promise<never>((_, reject) => {
    qemu.once("error", (error) => reject(new Error(`${QEMU} cannot be started: ${error.message}`)))
    qemu.once("exit", (code, signal) => {
      reject(new Error(`${QEMU} ended (${signal ?? `status ${code}`}) before the guest was up\n${said.trim()}`))
    })
  })
  failed.catch(() => {})

  const timeoutMs = options.bootTimeoutMs ?? 90_000
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the guest did not boot within ${timeoutMs} ms\n${said}`)), timeoutMs)
  })
  try {
    const socket = await Promise.race([connectWhenThere(commandSocket, timeoutMs), failed])
    const channel = openChannel(socket)
    // A guest that comes from elsewhere has said that it is there to somebody else: it is asked.
    const asked = async (): Promise<unknown> => await channel.run("true", timeoutMs).catch(() => failed)
    const ready = options.incoming === undefined ? channel.ready : asked()
    await Promise.race([ready, failed, tooLate])
    const bootMs = performance.now() - began
    const commands = guestCommands(channel)
    return {
      ...commands,
      bootMs,
      accel,
      kernelVersion: image.kernelVersion,
      qemu,
      log: () => said,
      shell: () => shell(consoleSocket, commands.run),
      async kill() {
        qemu.kill("SIGKILL")
        await ended(qemu, 5000)
        channel.close()
      },
    }
  } catch (error) {
    await stop(qemu)
    throw error
  } finally {
    clearTimeout(timer)
  }
}

/** The commands of a guest by its channel, which is ready. */
export function guestCommands(channel: Channel): GuestCommands {
  const run = (text: string, limitMs: number = 30_000): Promise<CommandResult> => channel.run(text, limitMs)
  return {
    run,
    async must(text, limitMs) {
      const result = await run(text, limitMs)
      if (result.status === 0) return result.stdout
      throw new Error(`in the guest: ${text}: status ${result.status}\n${(result.stderr || result.stdout).trim()}`)
    },
    async online(limitMs = 30_000) {
      await until("the guest's network", limitMs, async () => (await run("test -e /run/net/up")).status === 0, 100)
    },
  }
}

function deviceArgument(nic: Nic, mac: string | undefined, more: string | undefined): string {
  const model = nic === "e1000" ? "e1000" : "virtio-net-pci"
  // Without a ROM: nothing boots from the network here.
  return `${model},netdev=net,romfile=${mac === undefined ? "" : `,mac=${mac}`}${more === undefined ? "" : `,${more}`}`
}

/** The terminal becomes the guest's console hvc0: raw, so that Ctrl-C and the cursor keys reach the guest. */
async function shell(
  consoleSocket: string,
  run: (command: string, limitMs: number) => Promise<unknown>,
): Promise<void> {
  const socket = await connectWhenThere(consoleSocket, 5000)
  const { stdin, stdout } = process
  const { rows = 24, columns = 80 } = stdout
  const oneDayMs = 24 * 60 * 60 * 1000
  const size = `stty -F /dev/hvc0 rows ${rows} cols ${columns}`
  const ended = run(`${size}; setsid -c sh -l < /dev/hvc0 > /dev/hvc0 2>&1`, oneDayMs)
  const escaped = new Promise<void>((resolve) => {
    stdin.on("data", (chunk: Buffer) => {
      if (chunk.includes(CTRL_RIGHT_BRACKET)) resolve()
      else socket.write(chunk)
    })
    // Piped input: its end is the end of the shell's input too.
    stdin.on("end", () => socket.write("\x04"))
    socket.on("close", () => resolve())
  })
  socket.on("error", () => {})
  socket.on("data", (chunk: Buffer) => stdout.write(chunk))
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.resume()
  try {
    await Promise.race([ended, escaped])
  } catch {
    // "poweroff" in the shell takes the guest away: that is an end like any other.
  } finally {
    if (stdin.isTTY) stdin.setRawMode(false)
    stdin.pause()
    stdin.removeAllListeners("data")
    socket.destroy()
  }
}
