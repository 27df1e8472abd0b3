// Starting the program under test as its users do: as an ordinary user, in the host's namespace.
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { randomBytes } from "node:crypto"
import type { ChildProcess } from "node:child_process"
import { ROOT, scratchDirectory } from "./enter.ts"
import type { Namespace } from "./namespace.ts"
import { run, stop, until } from "./process.ts"
import type { Outcome } from "./process.ts"

/** The binary under test: PASST_BINARY, else what the build leaves in dist/. */
export const PASST_BINARY: string = process.env.PASST_BINARY ?? join(ROOT, "dist/bin/passt")

/** Whether the reference implementation stands in for ours, in which case some checks do not apply. */
export const PASST_IS_OURS: boolean = PASST_BINARY === join(ROOT, "dist/bin/passt")

/** How passt's guests are attached: by the stream socket, or all of them by vhost-user (`node test-e2e/main.ts --vhost-user`). */
export const LINK: "unix" | "vhost-user" = process.env.PASST_LINK === "vhost-user" ? "vhost-user" : "unix"

export interface Passt {
  readonly socket: string
  readonly process: ChildProcess
  /** What it wrote to standard error so far. */
  log(): string
  stop(): Promise<void>
}

/** A path for a socket that nobody has used. */
export function freshSocketPath(): string {
  return join(scratchDirectory(), `passt-${randomBytes(4).toString("hex")}.socket`)
}

/** Whether a UNIX socket listens on `path`, without connecting (that would take the place of the guest). */
export function isListening(namespace: Namespace, path: string): boolean {
  // Columns: number, references, protocol, flags (__SO_ACCEPTCON is 0x10000), type, state, inode, path.
  return readFileSync(`/proc/${namespace.pid}/net/unix`, "latin1")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .some((fields) => fields[7] === path && (Number.parseInt(fields[3] ?? "0", 16) & 0x10000) !== 0)
}

/** Start passt in the foreground and wait until its socket listens. */
export async function startPasst(
  host: Namespace,
  args: readonly string[] = [],
  socket: string = freshSocketPath(),
): Promise<Passt> {
  if (!existsSync(PASST_BINARY)) throw new Error(`${PASST_BINARY} is not there: run npm run build`)
  const link = LINK === "vhost-user" && !args.includes("--vhost-user") ? ["--vhost-user"] : []
  const command = [PASST_BINARY, "--foreground", ...link, "--socket", socket, ...args]
  const child = host.startAsUser(command, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  const keep = (chunk: Buffer): void => {
    said = (said + chunk.toString()).slice(-200_000)
  }
  child.stdout?.on("data", keep)
  child.stderr?.on("data", keep)
  await until("passt's socket", 20_000, () => {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`passt ended at once (${child.signalCode ?? `status ${child.exitCode}`}): ${said.trim()}`)
    }
    return isListening(host, socket)
  })
  return { socket, process: child, log: () => said, stop: () => stop(child) }
}

/** Run passt to its end, or to the end of its foreground process: for options that fail, and for the background mode. */
export function runPasst(host: Namespace, args: readonly string[]): Promise<Outcome> {
  return run(host.insideAsUser([PASST_BINARY, ...args]), { timeoutMs: 20_000 })
}
