// passt under a service manager: readiness, a socket that was opened before; and what it shows while it runs.
import type { ChildProcess } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { PORT, SERVER } from "../tools/world/addresses.ts"
import { ask } from "../tools/world/ask.ts"
import { scratchDirectory } from "../tools/world/enter.ts"
import { freshSocketPath, isListening, PASST_BINARY, startPasst } from "../tools/world/passt.ts"
import { stop, until } from "../tools/world/process.ts"
import { createWorld } from "../tools/world/world.ts"
import type { World } from "../tools/world/world.ts"
import { createBridgedGuest } from "./lib/bridged-guest.ts"
import { missing, skipNote } from "./lib/needs.ts"

describe.skipIf(missing(["tun", "socat"]).length > 0)(`a service${skipNote("tun", "socat")}`, () => {
  let world: World
  const running: ChildProcess[] = []
  beforeAll(async () => {
    world = await createWorld()
  })
  afterEach(async () => {
    for (const child of running.splice(0)) await stop(child)
  })
  afterAll(() => world?.close())

  /** Keeps what a program says. */
  function heard(child: ChildProcess): () => string {
    running.push(child)
    let text = ""
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (text += chunk.toString()))
    return () => text
  }

  /** A service manager that only listens. @param address for socat */
  async function manager(address: string): Promise<() => string> {
    const child = world.host.start(["socat", "-u", "-d", "-d", address, "-"])
    const said = heard(child)
    await until("the service manager", 10_000, () => said().includes("starting data transfer loop"))
    return said
  }

  /** Starts passt from a shell, whose process it becomes. */
  function passt(shell: string, args: string[], env: NodeJS.ProcessEnv): ChildProcess {
    const script = `${shell} exec "$0" "$@"`
    return world.host.startAsUser(["sh", "-c", script, PASST_BINARY, ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    })
  }

  test.each(["path", "abstract"])("tells that it is ready, and that it ends: %s", async (kind) => {
    const name = join(scratchDirectory(), `notify-${kind}`)
    const said = await manager(kind === "path" ? `UNIX-RECV:${name},mode=666` : `ABSTRACT-RECV:${name}`)
    const socket = freshSocketPath()
    const child = passt("SYSTEMD_EXEC_PID=$$", ["-f", "-s", socket], {
      NOTIFY_SOCKET: kind === "path" ? name : `@${name}`,
      SYSTEMD_EXEC_PID: "",
    })
    const log = heard(child)
    await until("readiness", 15_000, () => said().includes("READY=1"))
    expect(said()).toContain(`STATUS=Ready for the guest on ${socket}\n`)
    const pid = Number(/MAINPID=(\d+)/.exec(said())![1])
    // In this sandbox's numbering that is the process which `exec` made passt.
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8"), log()).toContain(socket)
    process.kill(pid, "SIGTERM")
    await until("the end", 10_000, () => said().includes("STOPPING=1"))
  })

  test("in the background, by its own process; not on behalf of whoever inherited the variable to it", async () => {
    const name = join(scratchDirectory(), "notify-background")
    const said = await manager(`UNIX-RECV:${name},mode=666`)
    const [socket, pidFile] = [freshSocketPath(), `${name}.pid`]
    const foreign = passt("", ["-s", socket, "-P", pidFile], { NOTIFY_SOCKET: name, SYSTEMD_EXEC_PID: "1" })
    heard(foreign)
    await until("readiness", 15_000, () => foreign.exitCode === 0)
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGTERM")
    expect(said()).not.toContain("READY")
    const child = passt("SYSTEMD_EXEC_PID=$$", ["-s", freshSocketPath(), "-P", pidFile], {
      NOTIFY_SOCKET: name,
      SYSTEMD_EXEC_PID: "",
    })
    heard(child)
    await until("readiness", 15_000, () => child.exitCode === 0)
    const pid = readFileSync(pidFile, "utf8").trim()
    await until("a word of it", 2000, () => said().includes("MAINPID="))
    expect(said()).toContain(`MAINPID=${pid}\n`)
    process.kill(Number(pid), "SIGTERM")
  })

  describe("with a socket that was opened before", () => {
    /** Opens sockets as descriptors from 3 on, as a service manager does, and becomes passt. */
    const OPEN = `
      use Socket; $^F = 9; my $kinds = shift; my $path = shift;
      for (split /,/, $kinds) {
        if ($_ eq "unix") { socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($path)); listen($s, 5); push @kept, $s }
        elsif ($_ eq "stranger") { socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0); push @kept, $a; close $b }
        else { socket(my $s, AF_INET, SOCK_STREAM, 0); listen($s, 5); push @kept, $s }
      }
      $ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = scalar @kept; exec @ARGV`
    function activated(kinds: string, path: string, env: NodeJS.ProcessEnv, ...args: string[]): ChildProcess {
      return world.host.startAsUser(["perl", "-e", OPEN, kinds, path, PASST_BINARY, "-f", ...args], {
        env: { ...process.env, ...env },
        stdio: ["ignore", "pipe", "pipe"],
      })
    }

    test("guests connect there", async () => {
      const [path, other] = [freshSocketPath(), freshSocketPath()]
      const child = activated("tcp,unix", path, { LISTEN_FDNAMES: "other:passt" }, "-s", other)
      const log = heard(child)
      await until("the socket", 10_000, () => isListening(world.host, path))
      const guest = await createBridgedGuest(path)
      try {
        await until("the guest", 10_000, () => log().includes("accepted connection from PID"))
        expect((await ask(guest, "tcp", SERVER.ipv4, PORT.echo, "hello")).text).toBe("hello")
        expect(isListening(world.host, other)).toBe(false)
      } finally {
        await guest.close()
      }
    })

    test("one of another kind is refused", async () => {
      for (const [kinds, why] of [
        ["tcp", "is no listening UNIX stream socket"],
        ["stranger", "is no listening UNIX stream socket"],
        ["unix,tcp", "must have the name passt"],
      ] as const) {
        const child = activated(kinds, freshSocketPath(), {})
        const log = heard(child)
        await until("the end", 10_000, () => child.exitCode !== null)
        expect(child.exitCode).toBe(1)
        expect(log()).toContain(why)
      }
    })
  })

  test("--stats: rows of what happened", async () => {
    const passt = await startPasst(world.host, ["--stats", "1"])
    const guest = await createBridgedGuest(passt.socket)
    try {
      await until("the header", 10_000, () => /seconds +TCP +UDP +ping +splice/.test(passt.log()))
      expect((await ask(guest, "download", SERVER.ipv4, PORT.stream, 3_000_000, 7)).count).toBe(3_000_000)
      // More than nothing to the guest, in megabits per second.
      await until("a row", 5000, () => /^ +\d+\.\d( +\d+){7} +\d+\.\d +[1-9]\d*\.\d /m.test(passt.log()))
      await new Promise((done) => setTimeout(done, 2500))
      const rows = passt.log().split("\n").length
      await new Promise((done) => setTimeout(done, 2500))
      expect(passt.log().split("\n").length - rows).toBeLessThanOrEqual(1)
    } finally {
      await guest.close()
      await passt.stop()
    }
  })
})
