/** Ends of children, processes and files, as events. */
import { spawnSync } from "node:child_process"
import { closeSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it, test } from "vitest"
import { runChild } from "./test-support/child.ts"
import { bench } from "./test-support/loopback.ts"
import { entryGone, openProcess, takeChild, watchDirectory } from "./watch.ts"

const EAGAIN = -11
const ENOENT = -2
const ESRCH = -3
const ECHILD = -10
const ENOTDIR = -20

describe("watchDirectory", () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "passt-watch-"))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it.each<[string, number, () => void]>([
    ["the file is removed", 1, () => rmSync(join(folder, "dir/file"))],
    ["the file is renamed", 1, () => renameSync(join(folder, "dir/file"), join(folder, "dir/elsewhere"))],
    ["the file is replaced", 1, () => renameSync(join(folder, "dir/other"), join(folder, "dir/file"))],
    ["the directory is removed", 1, () => rmSync(join(folder, "dir"), { recursive: true })],
    ["another file is removed", 0, () => rmSync(join(folder, "dir/other"))],
  ])("tells when %s: %i", (_what, gone, act) => {
    mkdirSync(join(folder, "dir"))
    writeFileSync(join(folder, "dir/file"), "")
    writeFileSync(join(folder, "dir/other"), "")
    const { kernel } = bench()
    const fd = watchDirectory(join(folder, "dir"))
    kernel.watchLevel(fd, 5)
    writeFileSync(join(folder, "dir/new"), "")
    expect([kernel.wait(0), entryGone(fd, "file")]).toEqual([0, 0])
    act()
    expect([kernel.wait(1000), kernel.events[0]]).toEqual([1, 5])
    expect([entryGone(fd, "file"), kernel.wait(0)]).toEqual([gone, 0])
    closeSync(fd)
    kernel.destroy()
  })

  it("takes directories that are there", () => {
    writeFileSync(join(folder, "file"), "")
    expect(watchDirectory(join(folder, "none"))).toBe(ENOENT)
    expect(watchDirectory(join(folder, "file"))).toBe(ENOTDIR)
  })
})

test("openProcess tells the end of any process", () => {
  const { kernel } = bench()
  const { stdout } = spawnSync("sh", ["-c", "sleep 0.2 >/dev/null 2>&1 & echo $!"], { encoding: "utf8" })
  const fd = openProcess(Number(stdout))
  kernel.watchLevel(fd, 6)
  expect(kernel.wait(0)).toBe(0)
  // A signal for this process may end a wait early.
  let ready = 0
  for (let i = 0; i < 100 && ready === 0; i++) ready = kernel.wait(5000)
  expect([ready, kernel.events[0]]).toEqual([1, 6])
  closeSync(fd)
  kernel.destroy()
  expect(openProcess(4_194_303)).toBe(ESRCH)
})

test("takeChild tells how a child ended, once", () => {
  const out = runChild(`
    const { spawn } = await import("node:child_process")
    const { takeChild } = await import("../../watch.ts")
    const sleep = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    for (const script of ["exit 7", "kill -9 $$"]) {
      const { pid } = spawn("sh", ["-c", "sleep 0.1; " + script])
      console.log(takeChild(pid))
      let result
      // Node takes its children in its loop, which does not run meanwhile.
      while ((result = takeChild(pid)) === ${EAGAIN}) sleep()
      console.log(result, takeChild(pid))
    }
    process.exit(0)
  `)
  expect(out.trim().split("\n")).toEqual([`${EAGAIN}`, `7 ${ECHILD}`, `${EAGAIN}`, `137 ${ECHILD}`])
  expect(takeChild(1)).toBe(ECHILD)
})
