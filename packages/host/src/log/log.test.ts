import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { LEVEL } from "./levels.ts"
import { singleLine, timestamp } from "./line.ts"
import { LOG_BYTES_MIN, LogFile } from "./log-file.ts"
import { Logger } from "./logger.ts"
import { Syslog } from "./syslog.ts"

let folder: string
let now: number
let lines: string[]
let logger: Logger

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "passt-log-"))
  now = 0
  lines = []
  logger = new Logger({ clock: () => now, stderr: (line) => void lines.push(line) })
})
afterEach(() => rmSync(folder, { recursive: true }))

function open(bytesMax?: number): { path: string; file: LogFile } {
  const path = join(folder, "log")
  const options = { path, name: "passt", version: "1.2.3", executable: "/usr/bin/passt", pid: 4321 }
  return { path, file: new LogFile(bytesMax === undefined ? options : { ...options, bytesMax }) }
}
const read = (path: string): string => readFileSync(path, "utf8")
const HEADER = "passt 1.2.3: /usr/bin/passt (4321)\n"

describe("line", () => {
  it("stamps seconds with four decimals", () => {
    expect([0, 0.05, 12_034.56, 3_600_000].map(timestamp)).toEqual(["0.0000", "0.0000", "12.0345", "3600.0000"])
    expect(timestamp(0.1)).toBe("0.0001")
  })
  it("makes one line of anything, and not a long one", () => {
    expect(singleLine("a\nb\r\n\tc\x1b[31md\n")).toBe("a b c [31md")
    expect(singleLine("x".repeat(5000))).toHaveLength(1000)
    expect(singleLine("héllo")).toBe("héllo")
  })
})

describe("Logger on standard error", () => {
  it("writes up to its level, default info, without level and time", () => {
    logger.error("e")
    logger.warning("w")
    logger.info("i")
    logger.debug("d")
    expect(lines).toEqual(["e\n", "w\n", "i\n"])
    logger.level = LEVEL.warning
    logger.info("i")
    expect(lines).toHaveLength(3)
  })
  it("stamps in debug and trace", () => {
    logger.level = LEVEL.debug
    now = 1500
    logger.info("i")
    logger.trace("t")
    expect(lines).toEqual(["1.5000: i\n"])
    logger.level = LEVEL.trace
    logger.trace("t")
    expect(lines[1]).toBe("1.5000: t\n")
  })
  it("ends with the switch to a daemon; the file goes on", () => {
    const { path, file } = open()
    logger.useFile(file)
    logger.info("before")
    logger.switchToDaemon()
    now = 2000
    logger.warning("after")
    expect(lines).toEqual(["before\n"])
    expect(read(path)).toBe(`${HEADER}0.0000: info: before\n2.0000: warning: after\n`)
  })
})

describe("LimitedSite", () => {
  it("says five, then that it suppresses, then in the next window how many", () => {
    const site = logger.limited(LEVEL.warning)
    for (let i = 1; i <= 8; i++) site.say(`m${i}`)
    now = 1000
    site.say("m9")
    now = 1001
    site.say("m10")
    site.say("m11")
    expect(lines).toEqual([
      "m1\n",
      "m2\n",
      "m3\n",
      "m4\n",
      "m5 (suppressing further similar messages)\n",
      "m10 (suppressed 4 similar messages)\n",
      "m11\n",
    ])
  })
  it("limits each place by itself", () => {
    const [a, b] = [logger.limited(LEVEL.info), logger.limited(LEVEL.info)]
    for (let i = 0; i < 6; i++) a.say("a")
    b.say("b")
    expect(lines.at(-1)).toBe("b\n")
  })
  it("composes only what is written", () => {
    let composed = 0
    const compose = (): string => String(++composed)
    const site = logger.limited(LEVEL.info)
    for (let i = 0; i < 100; i++) site.say(compose)
    logger.limited(LEVEL.debug).say(compose)
    expect(composed).toBe(5)
  })
})

describe("LogFile", () => {
  it("is made for its owner alone, with what the program is in the first line", () => {
    const { path, file } = open()
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(read(path)).toBe(HEADER)
    expect(read(path)).toMatch(/^passt .* [(]4321[)]$/m)
    file.close()
    open()
    expect(read(path)).toBe(HEADER)
  })

  it("stays below its limit, keeps the first line, whole lines and the newest ones", () => {
    const { path, file } = open(LOG_BYTES_MIN)
    let shrunk = 0
    let last = 0
    for (let i = 0; i < 20_000; i++) {
      file.write(LEVEL.info, i, `message ${i} ${"x".repeat(i % 97)}`)
      const size = statSync(path).size
      expect(size).toBeLessThanOrEqual(LOG_BYTES_MIN)
      if (size < last) {
        shrunk++
        // About 30 % have gone, not everything.
        expect(size).toBeGreaterThan(LOG_BYTES_MIN * 0.6)
        expect(size).toBeLessThan(LOG_BYTES_MIN * 0.75)
      }
      last = size
    }
    expect(shrunk).toBeGreaterThan(10)
    const [first, ...rest] = read(path).trimEnd().split("\n")
    expect(`${first}\n`).toBe(HEADER)
    const numbers = rest.map((line) => Number(/^\d+\.\d{4}: info: message (\d+) x*$/.exec(line)![1]))
    expect(numbers.at(-1)).toBe(19_999)
    numbers.forEach((n, i) => expect(n).toBe(numbers[0]! + i))
  })

  it("moves more than its copy buffer holds", () => {
    const { path, file } = open(400_000)
    for (let i = 0; i < 10_000; i++) file.write(LEVEL.info, 0, `message ${i} ${"y".repeat(60)}`)
    const text = read(path)
    expect(text.length).toBeLessThanOrEqual(400_000)
    expect(text.startsWith(HEADER)).toBe(true)
    expect(text.endsWith(`message 9999 ${"y".repeat(60)}\n`)).toBe(true)
    const numbers = [...text.matchAll(/message (\d+) y{60}\n/g)].map((m) => Number(m[1]))
    numbers.forEach((n, i) => expect(n).toBe(numbers[0]! + i))
  })

  it("survives truncation by another program without a hole", () => {
    const { path, file } = open()
    file.write(LEVEL.info, 0, "one")
    truncateSync(path, 0)
    file.write(LEVEL.info, 0, "two")
    expect(read(path)).toBe("0.0000: info: two\n")
  })

  it("cuts nothing off a device", () => {
    const file = new LogFile({
      path: "/dev/null",
      name: "passt",
      version: "1",
      executable: "/x",
      pid: 1,
      bytesMax: LOG_BYTES_MIN,
    })
    for (let i = 0; i < 2000; i++) file.write(LEVEL.info, 0, "z".repeat(100))
    file.close()
    expect(existsSync("/dev/null")).toBe(true)
  })

  it("says why it can't be made", () => {
    const options = { name: "passt", version: "1", executable: "/x", pid: 1 }
    expect(() => new LogFile({ ...options, path: join(folder, "missing", "log") })).toThrow(/ENOENT/)
  })
})

describe("Syslog", () => {
  it("sends severity, facility and name; nothing below info", () => {
    const sent: string[] = []
    const calls = {
      syslogOpen: () => 77,
      syslogSend: (_fd: number, bytes: Uint8Array, length: number) =>
        sent.push(Buffer.from(bytes.subarray(0, length)).toString()),
    }
    logger.level = LEVEL.trace
    logger.useSyslog(new Syslog("passt", "/dev/log", calls))
    logger.error("e")
    logger.info("i")
    logger.debug("d")
    expect(sent).toEqual(["<27>passt: e", "<30>passt: i"])
    const { file } = open()
    logger.useFile(file)
    logger.error("file only")
    expect(sent).toHaveLength(2)
  })
  it("loses messages quietly without a daemon", () => {
    const syslog = new Syslog("passt", join(folder, "nobody-listens"))
    expect(syslog.connected).toBe(false)
    syslog.write(LEVEL.error, "lost")
  })
})
