// Where something is missing that the walls are made of: it is said, and what can be had is had.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { ROOT, scratchDirectory } from "../tools/world/enter.ts"
import { PASST_IS_OURS } from "../tools/world/passt.ts"
import { run, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"

const PASST = join(ROOT, "dist/bin/passt")
const EPERM = 1
const ENOSYS = 38
const number = (x64: number, arm64: number): number => (process.arch === "x64" ? x64 : arm64)
const UNSHARE = number(272, 97)
const PIVOT_ROOT = number(155, 41)
const MOUNT = number(165, 40)
const SECCOMP = number(317, 277)
const LANDLOCK_CREATE_RULESET = 444

describe.runIf(PASST_IS_OURS)("where something is missing", () => {
  let world: World
  let folder: string
  let deny: string
  beforeAll(async () => {
    world = await createWorld({ servers: false })
    folder = mkdtempSync(join(scratchDirectory(), "missing-"))
    deny = join(folder, "deny-calls")
    execFileSync("g++", ["-std=c++20", "-O1", "-static", join(import.meta.dirname, "lib/deny-calls.cc"), "-o", deny])
  })
  afterAll(() => world?.close())

  let sockets = 0
  /** How many filters a sealed process has. */
  let filters = 2
  /** A command that runs passt where calls fail. */
  const without = (calls: Record<number, number>, ...options: string[]): string[] => {
    const list = Object.entries(calls).map(([call, error]) => `${call}=${error}`)
    return [deny, list.join(","), PASST, "-f", "-s", join(folder, `socket-${sockets++}`), ...options]
  }

  /** Starts it, and looks at it once it is sealed and has said what is wanted. @returns what its root contains */
  async function start(command: readonly string[], ...wanted: RegExp[]): Promise<string[]> {
    const passt = world.host.start(command)
    let said = ""
    passt.stderr!.on("data", (text: Buffer) => (said += text.toString()))
    const path = `/proc/${passt.pid}`
    try {
      await until("the seal", 20_000, () => {
        if (passt.exitCode !== null) throw new Error(`it ended: ${said}`)
        const status = readFileSync(`${path}/status`, "latin1")
        return status.startsWith("Name:\tpasst") && sealed(status)
      })
      await until("its warnings", 5000, () => wanted.every((line) => line.test(said))).catch(() => {})
      for (const line of wanted) expect(said).toMatch(line)
      return readdirSync(`${path}/root`)
    } finally {
      passt.kill("SIGTERM")
    }
  }
  /** What denies calls is a filter as well. */
  const sealed = (status: string): boolean => Number(/^Seccomp_filters:\s+(\d+)/m.exec(status)?.[1] ?? 2) >= filters

  test("unshare: a warning for each kind, and Landlock instead of an empty root", async () => {
    const user = /^No user namespace of our own: Operation not permitted$/m
    const others =
      /^No mount, IPC, UTS and PID namespaces of our own: Operation not permitted; (files are out of reach by Landlock alone|and no Landlock .*)$/m
    expect(await start(without({ [UNSHARE]: EPERM }), user, others)).not.toEqual([])
  })

  test("unshare and Landlock: it is said that files are in reach", async () => {
    const calls = { [UNSHARE]: EPERM, [LANDLOCK_CREATE_RULESET]: ENOSYS }
    await start(
      without(calls),
      /; and no Landlock \(Function not implemented\): files that our user may open are in reach$/m,
    )
  })

  test.each([
    ["pivot_root", PIVOT_ROOT],
    ["mount", MOUNT],
  ])("%s: the root is not empty, which is said", async (_name, call) => {
    const line = /^Couldn't empty our root directory: Operation not permitted; /m
    expect(await start(without({ [call]: EPERM }), line)).not.toEqual([])
  })

  test("pivot_root, with --chroot-fallback: chroot does", async () => {
    const line = /^Couldn't pivot_root, used chroot as --chroot-fallback allows$/m
    expect(await start(without({ [PIVOT_ROOT]: EPERM }, "--chroot-fallback"), line)).toEqual([])
  })

  test("seccomp: it does not start, but with --no-seal", async () => {
    const outcome = await run(world.host.inside(without({ [SECCOMP]: ENOSYS })))
    expect(outcome.status).toBe(1)
    expect(outcome.stderr).toContain(
      "The kernel does not filter system calls (seccomp): Function not implemented; --no-seal goes without\n",
    )
  })

  test("/proc: it does not start", async () => {
    const script = 'mount -t tmpfs none /proc && exec "$@"'
    const command = ["unshare", "--mount", "sh", "-c", script, "sh", PASST, "-f", "-s", join(folder, "no-proc")]
    const outcome = await run(world.host.inside(command))
    expect(outcome.status).toBe(1)
    expect(outcome.stderr).toMatch(/proc/)
  })

  test("a /tmp to write to: only a socket without a name needs that, and it is said", async () => {
    const script = `
      mount --rbind /tmp /tmp && mount --bind "$0" "$0" && mount -o remount,bind,ro /tmp || exit 125
      exec "$@"`
    const inside = (...options: string[]): string[] => [
      "unshare",
      "--mount",
      "sh",
      "-c",
      script,
      folder,
      PASST,
      "-f",
      ...options,
    ]
    const refused = await run(world.host.inside(inside()))
    expect(refused).toMatchObject({ status: 1 })
    expect(refused.stderr).toMatch(/^Failed to bind UNIX domain socket \/tmp\/passt_N\.socket: Read-only file system$/m)
    filters = 1
    expect(await start(inside("-s", join(folder, "read-only-tmp")))).toEqual([])
  })
})
