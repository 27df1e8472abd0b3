/** The examples, as a reader would run them. */
import { execFile } from "node:child_process"
import { once } from "node:events"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { type AddressInfo } from "node:net"
import { createServer, type Server } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, beforeAll, expect, test } from "vitest"
import { missing } from "./lib/needs.ts"

const EXAMPLES = join(import.meta.dirname, "../examples")
const TIMEOUT_MS = 120_000
const QEMU_TIMEOUT_MS = 400_000
const folder = mkdtempSync(join(tmpdir(), "passt-examples-"))
let server: Server
let port = 0

beforeAll(async () => {
  server = createServer((request, response) => response.end(`page ${request.url}\n`)).listen(0, "127.0.0.1")
  await once(server, "listening")
  port = (server.address() as AddressInfo).port
})
afterAll(() => {
  server.close()
  rmSync(folder, { recursive: true })
})

async function run(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(EXAMPLES, name), ...args])
  return stdout
}

test("are short", () => {
  for (const file of globSync("*.ts", { cwd: EXAMPLES })) {
    expect([file, readFileSync(join(EXAMPLES, file), "utf8").split("\n").length]).toSatisfy(
      ([, lines]: [string, number]) => lines < 80,
    )
  }
})

test("allow-list: what is on the list is reached, and nothing else", { timeout: TIMEOUT_MS }, async () => {
  const script = `curl -s http://10.0.2.2:${port}/a; curl -s http://10.0.2.2:9/ || curl -s http://192.0.2.9/ || true`
  const out = await run("allow-list.ts", `10.0.2.2:${port},192.0.2.7:443`, "--", "sh", "-c", script)
  expect(out).toBe(
    `allow: tcp to 10.0.2.2:${port}\npage /a\nrefuse: tcp to 10.0.2.2:9\nrefuse: tcp to 192.0.2.9:80\n1 allowed, 2 refused\n`,
  )
})

test("service: an HTTP server that is the program, small and large", { timeout: TIMEOUT_MS }, async () => {
  const script = `curl -s http://10.0.2.100/hello; head -c 5000000 /dev/zero | curl -s -T - http://10.0.2.100/put; curl -s http://10.0.2.2:${port}/`
  const out = await run("service.ts", "--", "sh", "-c", `${script}; true`)
  expect(out).toMatch(/^GET \/hello, 0 bytes: answered by process \d+$/m)
  expect(out).toMatch(/^PUT \/put, 5000000 bytes: answered by process \d+$/m)
  expect(out).toMatch(/^10\.0\.2\.100:80: \d+ bytes asked, \d+ bytes answered$/m)
  expect(out).not.toContain("page")
})

test("record and replay: the same frames lead to the same flow", { timeout: TIMEOUT_MS }, async () => {
  const file = join(folder, "guest.pcapng")
  const recorded = await run("record-replay.ts", "record", file, "--", "curl", "-s", `http://10.0.2.2:${port}/b`)
  expect(recorded).toMatch(/^page \/b\nrecorded \d\d+ frames\n$/)
  const replayed = await run("record-replay.ts", "replay", file)
  expect(replayed).toMatch(new RegExp(`^tcp to 10\\.0\\.2\\.2:${port}$`, "m"))
  expect(replayed).toMatch(/^replayed \d+ frames, got \d+$/m)
})

test("switch: guests hear each other, and the world answers each", { timeout: TIMEOUT_MS }, async () => {
  expect(await run("switch.ts")).toBe(
    [
      "anna heard: hello everybody",
      "anna knows who 10.0.2.1 is",
      "berta heard: good morning",
      "berta knows who 10.0.2.1 is",
      "",
    ].join("\n"),
  )
})

test.skipIf(missing(["qemu"]).length > 0)("sandbox: a machine's flows", { timeout: QEMU_TIMEOUT_MS }, async () => {
  const out = await run(
    "sandbox.ts",
    `wget -qO- http://10.0.2.2:${port}/c; hostname -i; ping -c 1 -W 2 10.0.2.1 > /dev/null; sleep 1`,
  )
  expect(out).toMatch(new RegExp(`^\\+ tcp to 10\\.0\\.2\\.2:${port}$`, "m"))
  expect(out).toMatch(new RegExp(`^- tcp to 10\\.0\\.2\\.2:${port}: \\d+ bytes out, \\d+ bytes in, \\d+ ms$`, "m"))
  expect(out).toContain("page /c\n")
})
