import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, test } from "vitest"
import { cpioArchive } from "./cpio.ts"

const text = (content: string): Buffer => Buffer.from(content)

test("members begin with the magic and end with the trailer, at multiples of four bytes", () => {
  const archive = cpioArchive([{ kind: "file", path: "a", content: text("five5") }])
  expect(archive.toString("latin1", 0, 6)).toBe("070701")
  expect(archive.toString("latin1")).toContain("TRAILER!!!\0")
  expect(archive.length % 4).toBe(0)
})

test("file size and mode stand in the header, in hex", () => {
  const archive = cpioArchive([{ kind: "file", path: "a", content: text("five5"), executable: true }])
  const field = (index: number): number =>
    Number.parseInt(archive.toString("latin1", 6 + index * 8, 14 + index * 8), 16)
  expect(field(1)).toBe(0o100755)
  expect(field(6)).toBe(5)
  expect(field(11)).toBe(2)
})

test("parent directories come once, before what is in them", () => {
  const archive = cpioArchive([
    { kind: "file", path: "etc/one", content: text("") },
    { kind: "file", path: "etc/two", content: text("") },
  ]).toString("latin1")
  expect(archive.split("etc\0")).toHaveLength(2)
  expect(archive.indexOf("etc\0")).toBeLessThan(archive.indexOf("etc/one\0"))
})

const unpacker = [["busybox", "cpio"], ["cpio"]].find(([file, ...args]) => {
  return spawnSync(file ?? "", [...args, "--help"]).error === undefined
})

test.skipIf(unpacker === undefined)("another program unpacks it (skipped without cpio or busybox)", () => {
  const folder = mkdtempSync(join(tmpdir(), "cpio-"))
  try {
    const archive = cpioArchive([
      { kind: "file", path: "bin/tool", content: text("#!/bin/sh\n"), executable: true },
      { kind: "link", path: "bin/alias", target: "tool" },
      { kind: "directory", path: "empty/folder" },
    ])
    writeFileSync(join(folder, "archive"), archive)
    const [file = "", ...args] = unpacker ?? []
    const result = spawnSync(file, [...args, "-i", "-d"], { cwd: folder, input: archive })
    expect(result.status).toBe(0)
    expect(readFileSync(join(folder, "bin/tool"), "utf8")).toBe("#!/bin/sh\n")
    expect(statSync(join(folder, "bin/tool")).mode & 0o777).toBe(0o755)
    expect(readlinkSync(join(folder, "bin/alias"))).toBe("tool")
    expect(statSync(join(folder, "empty/folder")).isDirectory()).toBe(true)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
