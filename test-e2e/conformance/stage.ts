// What a check has to work with: a small world of its own, the program under test, and a clean-up that leaves nothing.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ChildProcess } from "node:child_process"
import type { Socket } from "node:net"
import { ROUTER } from "../../tools/world/addresses.ts"
import { scratchDirectory } from "../../tools/world/enter.ts"
import { createNamespace } from "../../tools/world/namespace.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { isListening } from "../../tools/world/passt.ts"
import { ended, run, stop, until } from "../../tools/world/process.ts"
import type { Outcome, RunOptions } from "../../tools/world/process.ts"
import { createWorld, ip } from "../../tools/world/world.ts"
import type { World } from "../../tools/world/world.ts"
import { Guest, PATIENCE_MS } from "./guest.ts"
import { Peer } from "./peer.ts"

/** How to start the programs under test. */
export interface Commands {
  readonly passt: readonly string[]
  readonly pasta: readonly string[]
}

/** The longest start that is waited for. */
const START_MS = 40_000

/** How many passts for all checks there were. */
let sharedCount = 0

/** A world that one check after the other uses. */
export interface Slot {
  readonly world: World
  readonly hostPeer: Peer
  readonly worldPeer: Peer
  /** Processes in the host's namespace that belong to the slot. */
  readonly residents: Set<number>
  /** passt with no options but its socket, for all checks that ask for no more; started by the first of them. */
  shared?: Running
  close(): Promise<void>
}

/** Processes in a network namespace. */
function processesIn(namespace: Namespace): number[] {
  const wanted = readlinkSync(`/proc/${namespace.pid}/ns/net`)
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`) === wanted
      } catch {
        return false
      }
    })
}

export async function createSlot(): Promise<Slot> {
  const world = await createWorld({ servers: false })
  const [hostPeer, worldPeer] = [new Peer(world.host), new Peer(world.world, { serve: true })]
  await Promise.all([hostPeer.clear(), worldPeer.clear()])
  return { world, hostPeer, worldPeer, residents: new Set(processesIn(world.host)), close: () => world.close() }
}

/** passt in the foreground, and what it has said so far. */
export interface Running {
  readonly socket: string
  readonly process: ChildProcess
  log(): string
  /** Waits until it has said something: that comes by another way than frames, and may come after them. */
  says(pattern: RegExp): Promise<unknown>
  /** Its end: the exit status, or the signal that ended it. Fails if it does not come. */
  exit(timeoutMs?: number): Promise<number | NodeJS.Signals>
}

/** A namespace that pasta serves from the background. */
export interface Served {
  readonly guest: Namespace
  readonly peer: Peer
  readonly pid: number
  isAlive(): boolean
  log(): string
}

/** Collects what a started passt says. */
function watched(child: ChildProcess, socket: string): Running {
  let said = ""
  const keep = (chunk: Buffer): void => {
    said = (said + chunk.toString()).slice(-200_000)
  }
  child.stdout!.on("data", keep)
  child.stderr!.on("data", keep)
  return {
    socket,
    process: child,
    log: () => said,
    says: (pattern) => until(`${pattern} in what passt says`, PATIENCE_MS, () => pattern.test(said)),
    exit: async (timeoutMs = 15_000) => {
      if (!(await ended(child, timeoutMs))) throw new Error(`passt did not end within ${timeoutMs} ms`)
      return child.signalCode ?? child.exitCode!
    },
  }
}

export class Stage {
  readonly slot: Slot
  readonly commands: Commands
  /** Empty, of this check alone, open to the ordinary user. */
  readonly folder: string
  /** An option that the program under test didn't know. */
  unknownOption: string | undefined
  readonly #undo: (() => unknown)[] = []
  /** Whether the host is as it always is, so that the passt that checks share may be used. */
  #mayShare = true

  constructor(slot: Slot, commands: Commands) {
    this.slot = slot
    this.commands = commands
    this.folder = mkdtempSync(join(scratchDirectory(), "check-"))
  }

  get host(): Namespace {
    return this.slot.world.host
  }
  get world(): Namespace {
    return this.slot.world.world
  }
  /** Sockets of the host. */
  get hostPeer(): Peer {
    return this.slot.hostPeer
  }
  /** Sockets behind the host's router. */
  get worldPeer(): Peer {
    return this.slot.worldPeer
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  read(name: string): string {
    return readFileSync(this.path(name), "utf8")
  }

  /** Called when the check is over, last one first. */
  defer(undo: () => unknown): void {
    this.#undo.push(undo)
  }

  /** `ip` commands in a namespace, and those that take them back. */
  async ip(namespace: Namespace, commands: readonly string[], undo: readonly string[]): Promise<void> {
    if (namespace === this.host) await this.alone()
    this.defer(() => ip(namespace, undo))
    await ip(namespace, commands)
  }

  /** Another resolv.conf of the host until the check is over. */
  async resolvConf(text: string): Promise<void> {
    await this.alone()
    const path = join(scratchDirectory(), `resolv.conf.${this.host.pid}`)
    const before = readFileSync(path)
    this.defer(() => writeFileSync(path, before))
    writeFileSync(path, text)
  }

  #noticed(said: string): string {
    this.unknownOption ??= /(?:unrecognized option|invalid option --) '?([^'\n]+)/.exec(said)?.[1]
    // Old versions want a system log, which the namespace hasn't; a build for newer processors can't be found behind a
    // loader (tools/bench/debian-release.ts).
    return said.replace(/^(Failed to send \d+ bytes to syslog|Can't run AVX2 build.*)\n/gm, "")
  }

  #outcome(outcome: Outcome): Outcome {
    return { ...outcome, stderr: this.#noticed(outcome.stderr) }
  }

  /** Runs passt to the end of its foreground process, as an ordinary user. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const command = this.host.insideAsUser([...this.commands.passt, ...args])
    return this.#outcome(await run(command, { timeoutMs: START_MS, ...options }))
  }

  /** The same for pasta. */
  async pasta(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const command = this.host.insideAsUser([...this.commands.pasta, ...args])
    return this.#outcome(await run(command, { timeoutMs: START_MS, ...options }))
  }

  /** Runs passt or pasta as root of the namespaces, as Podman runs pasta. */
  async asRoot(program: keyof Commands, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const command = this.host.inside([...this.commands[program], ...args])
    return this.#outcome(await run(command, { timeoutMs: START_MS, ...options }))
  }

  /** passt in the foreground, listening. */
  async start(args: readonly string[] = [], socket: string = this.path("socket")): Promise<Running> {
    const running = await this.#launch(args, socket)
    this.defer(() => stop(running.process))
    return running
  }

  async #launch(args: readonly string[], socket: string): Promise<Running> {
    const command = [...this.commands.passt, "--foreground", "--socket", socket, ...args]
    const child = this.host.startAsUser(command, { stdio: ["ignore", "pipe", "pipe"] })
    const running = watched(child, socket)
    const ready = until("passt's socket", START_MS, () => {
      if (child.exitCode === null && child.signalCode === null) return isListening(this.host, socket)
      throw new Error(
        `passt ended at once (${child.signalCode ?? `status ${child.exitCode}`}): ${this.#noticed(running.log()).trim()}`,
      )
    })
    await ready.catch(async (error: unknown) => {
      await stop(child)
      throw error
    })
    return running
  }

  /** passt on an inherited, connected socket, as QEMU starts it; the guest at the other end. */
  async inherited(args: readonly string[] = []): Promise<{ readonly guest: Guest; readonly running: Running }> {
    const command = [...this.commands.passt, "--foreground", "--fd", "3", ...args]
    const child = this.host.startAsUser(command, { stdio: ["ignore", "pipe", "pipe", "pipe"] })
    this.defer(() => stop(child))
    const running = watched(child, "")
    child.once("exit", () => this.#noticed(running.log()))
    const guest = new Guest(child.stdio[3] as Socket)
    // Nothing but an answer tells that it has started.
    guest.send(guest.arpFrame(ROUTER.ipv4))
    await guest.find("an answer to the first frame", (packet) => packet.arp?.operation === 2, START_MS)
    return { guest, running }
  }

  /**
   * Refusals: each of these command lines is answered by a message on standard error, nothing on standard output, status 1.
   *
   * @param pattern what the message must contain
   */
  async refused(
    list: readonly (readonly string[])[],
    pattern: RegExp = /./,
    program: keyof Commands = "passt",
  ): Promise<void> {
    const one = async (args: readonly string[], index: number): Promise<void> => {
      const outcome =
        program === "passt" ? await this.run(["-s", this.path(`socket${index}`), ...args]) : await this.pasta(args)
      const { status, stdout, stderr } = outcome
      const said = stderr.trim().split("\n").slice(-3).join(" / ")
      if (status !== 1) throw new Error(`${args.join(" ")}: status ${status}, said: ${said}`)
      if (stdout !== "" || !pattern.test(stderr)) {
        throw new Error(`${args.join(" ")}: said "${said}", on standard output "${stdout}"`)
      }
    }
    // A few at a time.
    for (let at = 0; at < list.length; at += 4) {
      await Promise.all(list.slice(at, at + 4).map((args, index) => one(args, at + index)))
    }
  }

  /** Another machine at the same socket. */
  async connect(running: Running): Promise<Guest> {
    const guest = await Guest.connect(running.socket)
    this.defer(() => guest.close())
    return guest
  }

  /** The passt that checks share may be in no good state: the next check gets another one. */
  renewShared(): void {
    this.slot.shared?.process.kill("SIGKILL")
    delete this.slot.shared
  }

  /**
   * From here to the end of the check there is no passt but its own: the one that checks share has sockets for flows and groups, which
   * are seen among the host's, and follows what changes on the host, a moment later than the next check begins.
   */
  async alone(): Promise<void> {
    this.#mayShare = false
    const { shared } = this.slot
    this.renewShared()
    if (shared !== undefined) await shared.exit()
  }

  async #shared(): Promise<Running> {
    const { slot } = this
    if (slot.shared === undefined) {
      const running = await this.#launch([], join(scratchDirectory(), `shared-${this.host.pid}-${++sharedCount}`))
      for (const pid of withDescendants(running.process.pid!)) slot.residents.add(pid)
      slot.shared = running
    }
    return slot.shared
  }

  /** passt with these arguments, and a guest behind it. Without arguments it is one that other checks use, too, if it can be. */
  async guest(args: readonly string[] = []): Promise<Guest> {
    const shared = args.length === 0 && this.#mayShare
    const guest = await this.connect(shared ? await this.#shared() : await this.start(args))
    const family = args.findLast((arg) => ["-4", "-6", "--ipv4-only", "--ipv6-only"].includes(arg))
    if (family?.includes("6")) guest.fenceBy = "ndp"
    // Its ports are open by then, and its first questions have come.
    await guest.fence()
    return guest
  }

  /** A namespace with nothing in it. */
  async namespace(): Promise<Namespace> {
    const made = await createNamespace("guest")
    this.defer(() => made.close())
    return made
  }

  /** The process of a network namespace in a user namespace of its own, as rootless containers have them. */
  async container(): Promise<{ readonly pid: number; must(command: readonly string[]): Promise<string> }> {
    const hold = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
    const holder = this.host.start(hold)
    this.defer(() => stop(holder))
    await new Promise((resolve) => holder.stdout!.once("data", resolve))
    const pid = holder.pid!
    const inside = ["nsenter", `--target=${pid}`, "--user", "--net", "--preserve-credentials", "--"]
    return { pid, must: (command) => this.host.must([...inside, ...command]) }
  }

  /** pasta in the background, serving a namespace. */
  async serve(args: readonly string[] = ["--config-net"]): Promise<Served> {
    const guest = await this.namespace()
    const [pidFile, logFile] = [this.path("pasta.pid"), this.path("pasta.log")]
    const files = ["--pid", pidFile, "--log-file", logFile]
    const outcome = await this.asRoot("pasta", [...files, ...args, "--netns", `/proc/${guest.pid}/ns/net`])
    if (outcome.status !== 0) throw new Error(`pasta failed (status ${outcome.status}): ${outcome.stderr.trim()}`)
    const pid = Number(readFileSync(pidFile, "utf8"))
    const peer = new Peer(guest)
    await peer.clear()
    return { guest, peer, pid, isAlive: () => isAlive(pid), log: () => readFileSync(logFile, "utf8") }
  }

  /** @returns how many processes of the check were there: until they are gone their ports are taken. */
  #killLeftovers(): number {
    const leftovers = processesIn(this.host).filter((pid) => !this.slot.residents.has(pid))
    leftovers.forEach(kill)
    return leftovers.length
  }

  /** Ends and undoes all that the check has made. Fails if the passt that checks share has ended. */
  async close(): Promise<void> {
    for (const undo of this.#undo.reverse()) {
      try {
        await undo()
      } catch {
        // What a failed check could not make can't be undone.
      }
    }
    await until("the end of what the check has started", 10_000, () => this.#killLeftovers() === 0)
    await Promise.all([this.hostPeer.clear(), this.worldPeer.clear()])
    rmSync(this.folder, { recursive: true, force: true })
    const { shared } = this.slot
    if (shared === undefined || isAlive(shared.process.pid!)) return
    delete this.slot.shared
    throw new Error(`passt has ended: ${shared.log().slice(-300)}`)
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It has just ended.
  }
}

function withDescendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(/\s+/).filter(Boolean)
  return [pid, ...children.map(Number).flatMap(withDescendants)]
}

/** Whether a process runs: one that nobody has waited for yet does not. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1")
    return !"ZX".includes(stat.slice(stat.lastIndexOf(")") + 2)[0]!)
  } catch {
    return false
  }
}
