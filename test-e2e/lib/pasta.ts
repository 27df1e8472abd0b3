// pasta as its callers run it, and a world with a namespace that it serves.
import { readFileSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { ROOT, scratchDirectory } from "../../tools/world/enter.ts"
import { createNamespace } from "../../tools/world/namespace.ts"
import type { Namespace } from "../../tools/world/namespace.ts"
import { run, until } from "../../tools/world/process.ts"
import type { Outcome, RunOptions } from "../../tools/world/process.ts"
import { createWorld } from "../../tools/world/world.ts"
import type { World, WorldOptions } from "../../tools/world/world.ts"

export const PASTA: string = process.env.PASTA_BINARY ?? join(ROOT, "dist/bin/pasta")

/** Run pasta as an ordinary user, to its end or into the background. */
export function runPasta(host: Namespace, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run(host.insideAsUser([PASTA, ...args]), { timeoutMs: 20_000, ...options })
}

/** The same as root of the namespaces' user namespace, as Podman does. */
export function runPastaAsRoot(host: Namespace, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run(host.inside([PASTA, ...args]), { timeoutMs: 20_000, ...options })
}

export interface Daemon {
  readonly pid: number
  alive(): boolean
  /** What it has logged so far. */
  log(): string
  /** Waits for its end. @returns whether it came in time */
  ended(timeoutMs: number): Promise<boolean>
  stop(): Promise<void>
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

/** Start pasta in the background: it is ready when this resolves. */
export async function startPasta(host: Namespace, args: readonly string[]): Promise<Daemon> {
  const base = join(scratchDirectory(), `pasta-${randomBytes(4).toString("hex")}`)
  const outcome = await runPastaAsRoot(host, ["--pid", `${base}.pid`, "--log-file", `${base}.log`, ...args])
  if (outcome.status !== 0) throw new Error(`pasta failed (status ${outcome.status}): ${outcome.stderr.trim()}`)
  const pid = Number(readFileSync(`${base}.pid`, "utf8"))
  const alive = (): boolean => isAlive(pid)
  const ended = (timeoutMs: number): Promise<boolean> =>
    until("the end of pasta", timeoutMs, () => !alive()).then(
      () => true,
      () => false,
    )
  return {
    pid,
    alive,
    log: () => readFileSync(`${base}.log`, "utf8"),
    ended,
    async stop() {
      if (alive()) process.kill(pid, "SIGTERM")
      if (await ended(2000)) return
      process.kill(pid, "SIGKILL")
      await ended(1000)
    },
  }
}

export interface PastaStage {
  readonly world: World
  readonly pasta: Daemon
  /** The namespace that pasta serves. */
  readonly guest: Namespace
  close(): Promise<void>
}

/** A world, and a namespace that is online through pasta with these arguments. */
export async function createPastaStage(
  args: readonly string[] = ["--config-net"],
  worldOptions: WorldOptions = {},
): Promise<PastaStage> {
  const world = await createWorld(worldOptions)
  const guest = await createNamespace("guest")
  const pasta = await startPasta(world.host, [...args, "--netns", `/proc/${guest.pid}/ns/net`])
  return {
    world,
    pasta,
    guest,
    async close() {
      await pasta.stop()
      await guest.close()
      await world.close()
    },
  }
}
