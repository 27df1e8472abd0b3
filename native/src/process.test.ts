/** Each call in a process of its own: what it does can't be undone. */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { closeSync, existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { lookupGroup, lookupUser, syslogOpen, syslogSend } from "./process.ts"

const MODULE = fileURLToPath(new URL("./process.ts", import.meta.url))
const ENOENT = -2
const isRoot = process.getuid?.() === 0
if (!isRoot) console.log("skipped, tests that give up root: not root")

/** Runs code with the module as `p` and /proc/self/task as `threads()`: status fields by name, per thread. */
function run(code: string, ...flags: string[]): unknown {
  const program = `
    import * as p from ${JSON.stringify(MODULE)}
    import { readdirSync, readFileSync } from "node:fs"
    const threads = (field) => readdirSync("/proc/self/task").map((id) => {
      const status = readFileSync("/proc/self/task/" + id + "/status", "utf8")
      return new RegExp("^" + field + ":[ \\t]*(.*)$", "m").exec(status)[1]
    })
    const result = (() => { ${code} })()
    console.log(JSON.stringify(result))`
  const output = execFileSync(process.execPath, [...flags, "--input-type=module", "-e", program], { encoding: "utf8" })
  return JSON.parse(output)
}

describe("identity", () => {
  it("finds users and groups by name", () => {
    expect(lookupUser("root")).toEqual({ uid: 0, gid: 0 })
    expect(lookupGroup("root")).toBe(0)
    expect(lookupUser("no such user")).toBeUndefined()
    expect(lookupGroup("")).toBeUndefined()
  })

  it("tells root of a user namespace from root of the machine", () => {
    const program = `import * as p from ${JSON.stringify(MODULE)}; console.log(p.isInitialUserNamespaceRoot())`
    const node = [process.execPath, "--input-type=module", "-e", program]
    const inside = spawnSync("unshare", ["--user", "--map-root-user", ...node], { encoding: "utf8" })
    if (inside.status !== 0) console.log(`skipped, user namespaces: ${inside.stderr.split("\n")[0]}`)
    else expect(inside.stdout).toBe("false\n")
    if (!isRoot) expect(run("return p.isInitialUserNamespaceRoot()")).toBe(false)
  })
})

describe("limits, name and streams", () => {
  it("raises the limit of open files to the hard one", () => {
    const script = `ulimit -Sn 64; exec "$0" "$@"`
    const program = `import * as p from ${JSON.stringify(MODULE)}; console.log(p.raiseFileLimit())`
    const args = ["-c", script, process.execPath, "--input-type=module", "-e", program]
    const hard = Number(execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }))
    expect(Number(execFileSync("sh", args, { encoding: "utf8" }))).toBe(hard)
  })
  it("names the process", () => {
    expect(run(`p.setProcessName("passt-under-test"); return readFileSync("/proc/self/comm", "utf8")`)).toBe(
      "passt-under-tes\n",
    )
  })
  it("lets readers of our output see its end while we live", async () => {
    const program = `
      import * as p from ${JSON.stringify(MODULE)}
      import { openSync } from "node:fs"
      process.stdout.write("ready")
      if (p.redirectStdio(openSync("/dev/null", "r+")) !== 0) process.exit(9)
      console.log("for nobody")
      setTimeout(() => process.exit(0), 60_000)`
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "pipe"] })
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
    expect([out, err]).toEqual(["ready", ""])
    expect(child.exitCode).toBeNull()
    child.kill("SIGKILL")
  })
})

describe("syslog", () => {
  it("sends datagrams, and loses them when nobody listens any more", async () => {
    const folder = mkdtempSync(join(tmpdir(), "passt-syslog-"))
    const path = join(folder, "log")
    const daemon = spawn("socat", ["-u", `UNIX-RECV:${path}`, "-"], { stdio: ["ignore", "pipe", "ignore"] })
    const started = await new Promise<boolean>((resolve) => {
      daemon.on("error", () => resolve(false))
      const poll = setInterval(() => {
        if (!existsSync(path)) return
        clearInterval(poll)
        resolve(true)
      }, 20)
    })
    if (!started) {
      console.log("skipped, syslog over a socket: no socat")
      return
    }
    const fd = syslogOpen(path)
    const message = Buffer.from("<30>passt: hello, and more")
    expect(syslogSend(fd, message, 17)).toBe(17)
    const received = await new Promise<string>((resolve) => daemon.stdout.once("data", (data) => resolve(String(data))))
    expect(received).toBe("<30>passt: hello,")
    const exited = new Promise((resolve) => daemon.once("exit", resolve))
    daemon.kill()
    await exited
    expect(syslogSend(fd, message, 17)).toBeLessThan(0)
    expect(syslogSend(fd, message, message.length + 1)).toBe(-22)
    closeSync(fd)
    rmSync(folder, { recursive: true })
  })
  it("says that nobody listens, and that a path is too long", () => {
    const folder = mkdtempSync(join(tmpdir(), "passt-syslog-"))
    expect(syslogOpen(join(folder, "log"))).toBe(ENOENT)
    expect(syslogOpen("/".padEnd(200, "x"))).toBe(-36)
    rmSync(folder, { recursive: true })
  })
})
