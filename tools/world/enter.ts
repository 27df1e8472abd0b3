// Entering the sandbox: user, network, mount and PID namespaces of our own, in which everything else runs.
//
// The same way for root and for an ordinary user: a user namespace in which the caller is mapped to root may own
// network namespaces, mount file systems and set their sysctls, and can do nothing to the machine. The PID namespace
// makes an end of it all: when its first process ends, the kernel kills every process inside, and with them go the
// network namespaces, mounts and sockets.
//
//   node tools/world/enter.ts PROGRAM [ARGUMENT...]      run one program inside
import { spawn, spawnSync } from "node:child_process"
import { existsSync, realpathSync, statSync, writeFileSync } from "node:fs"
import type { Duplex } from "node:stream"
import { fileURLToPath } from "node:url"
import { join } from "node:path"

/** Set inside the sandbox, so that programs can tell; its value is the scratch directory. */
export const SANDBOX_VARIABLE = "PASST_SANDBOX"

/** The repository this file belongs to. */
export const ROOT: string = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "")

export function insideSandbox(): boolean {
  return process.env[SANDBOX_VARIABLE] !== undefined
}

/** The sandbox's scratch directory: memory only, gone with the sandbox. */
export function scratchDirectory(): string {
  const directory = process.env[SANDBOX_VARIABLE]
  if (directory === undefined) throw new Error("not inside the sandbox: run this through tools/world/enter.ts")
  return directory
}

// First process of the PID namespace. A shell, because it collects orphans (daemons) by itself. Descriptor 3 is a pipe
// that the parent holds: its end means the parent is gone, however it went, and then all goes.
const FIRST_PROCESS = `
(read -r _ <&3; kill -KILL -1) &
exec 3<&-
mount -t tmpfs -o mode=1777 tmpfs "$${SANDBOX_VARIABLE}" || exit 125
ip link set lo up || exit 125
echo "0 0" > /proc/sys/net/ipv4/ping_group_range || exit 125
"$@"
exit $?`

const REST = ["--net", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child"]
const UNSHARE = ["--user", "--map-root-user", ...REST]

/** Ids in a sandbox of many users: those of a system and a range of subordinate ones for a user in it. */
const MANY_IDS = 65_536

// Makes the user namespace and waits until its ids are mapped, which only a process outside may do for more than one of
// them. Executing a program after that makes it root with all capabilities.
const MANY_USERS = `
echo >&4
read -r _ <&4
exec 4<&-
exec unshare "$@"`

/** Why the sandbox cannot be made here, in one sentence; undefined if it can. */
export function sandboxProblem(): string | undefined {
  const probe = spawnSync("unshare", [...UNSHARE, "true"], { encoding: "utf8" })
  if (probe.error !== undefined) return "unshare is missing: install the package util-linux"
  if (probe.status === 0) return undefined
  const said = probe.stderr.trim().split("\n")[0] ?? ""
  return (
    `this system does not let ${process.getuid?.() === 0 ? "this process" : "an ordinary user"} make namespaces ` +
    `(${said}); see kernel.unprivileged_userns_clone, user.max_user_namespaces and ` +
    "kernel.apparmor_restrict_unprivileged_userns"
  )
}

/** Where the private tmpfs is mounted: a directory that exists everywhere and does not hide the repository. */
function mountPoint(): string {
  for (const candidate of ["/tmp", "/mnt", "/media", "/srv"]) {
    if (!existsSync(candidate) || !statSync(candidate).isDirectory()) continue
    const needed = [ROOT, process.execPath, process.cwd(), process.argv[1] ?? "/", process.env.PASST_BINARY ?? "/"]
    if (needed.some((path) => existsSync(path) && `${realpathSync(path)}/`.startsWith(`${candidate}/`))) continue
    return candidate
  }
  throw new Error("no directory is free for the sandbox's scratch space (tried /tmp, /mnt, /media, /srv)")
}

export interface SandboxOptions {
  readonly env?: NodeJS.ProcessEnv
  /** Not only root, but 65,536 ids, the same as outside, and a cgroup namespace: for programs that change users and
   * make user namespaces of several ids. Takes root. */
  readonly manyUsers?: boolean
}

/** Run a program in a new sandbox, with this process's standard streams. Resolves to its exit status. */
export function enterSandbox(command: readonly string[], options: SandboxOptions = {}): Promise<number> {
  const problem = sandboxProblem()
  if (problem !== undefined) throw new Error(problem)
  const mount = mountPoint()
  return new Promise((resolve, reject) => {
    const first = ["bash", "-c", FIRST_PROCESS, "sandbox", ...command]
    const args = options.manyUsers
      ? ["--user", "bash", "-c", MANY_USERS, "sandbox", "--cgroup", ...REST, ...first]
      : [...UNSHARE, ...first]
    const child = spawn("unshare", args, {
      stdio: ["inherit", "inherit", "inherit", "pipe", ...(options.manyUsers ? (["pipe"] as const) : [])],
      env: { ...process.env, ...options.env, [SANDBOX_VARIABLE]: mount, TMPDIR: mount },
    })
    const handshake = child.stdio[4] as Duplex | null | undefined
    handshake?.once("data", () => {
      try {
        for (const kind of ["uid", "gid"]) writeFileSync(`/proc/${child.pid}/${kind}_map`, `0 0 ${MANY_IDS}\n`)
        handshake.end("\n")
      } catch (error) {
        child.kill("SIGKILL")
        reject(error)
      }
    })
    // The terminal sends Ctrl-C to the whole group: the program inside decides, and this process waits for it.
    const ignore = (): void => {}
    const forward = (): void => void child.kill("SIGKILL")
    process.on("SIGINT", ignore)
    process.on("SIGTERM", forward)
    child.on("error", reject)
    child.on("exit", (code, signal) => {
      process.off("SIGINT", ignore)
      process.off("SIGTERM", forward)
      resolve(code ?? (signal === "SIGINT" ? 130 : 143))
    })
  })
}

/** Make sure that the running script is inside: outside, it runs itself again inside and exits with that status. */
export async function ensureSandbox(): Promise<void> {
  if (insideSandbox()) return
  const script = process.argv[1]
  if (script === undefined) throw new Error("no script to run again")
  process.exit(await enterSandbox([process.execPath, ...process.execArgv, script, ...process.argv.slice(2)]))
}

if (import.meta.main) {
  const command = process.argv.slice(2)
  if (command.length === 0) {
    process.stderr.write(`usage: node ${join("tools", "world", "enter.ts")} PROGRAM [ARGUMENT...]\n`)
    process.exit(2)
  }
  try {
    process.exit(await enterSandbox(command))
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exit(1)
  }
}
