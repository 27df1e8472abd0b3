/** The parser of the plugin, beside Node's. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, beforeAll, expect, test } from "vitest"

const CPP = join(import.meta.dirname, "../cpp")
const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O0"]

let folder: string
let program: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "passt-cni-json-"))
  program = join(folder, "json-verdicts")
  const sources = [join(CPP, "test/json-verdicts.cc"), join(CPP, "json.cc")]
  execFileSync("g++", ["-std=c++20", "-Wall", "-Wextra", "-Werror", ...SANITIZERS, ...sources, "-o", program])
}, 120_000)
afterAll(() => rmSync(folder, { recursive: true }))

function verdicts(texts: readonly Buffer[]): string[] {
  const input = Buffer.concat(texts.flatMap((text) => [Buffer.from(`${text.length}\n`), text]))
  return execFileSync(program, { input, encoding: "utf8", maxBuffer: 1 << 28 })
    .trimEnd()
    .split("\n")
}

/** What Node makes of it. Its decoder is told to refuse what is no UTF-8. */
function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes))
    return true
  } catch {
    return false
  }
}

/** Texts that are nearly JSON: a value's text with a few bytes changed. */
const nearly = fc
  .tuple(
    fc.json({ depthSize: "medium" }),
    fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }),
  )
  .map(([text, changes]) => {
    const bytes = Buffer.from(text)
    for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte
    return bytes
  })

test("takes what Node takes, and nothing else", () => {
  const texts = fc.sample(
    fc.oneof(
      nearly,
      fc.json().map((text) => Buffer.from(text)),
    ),
    4000,
  )
  const got = verdicts(texts).map((line) => line.startsWith("yes"))
  expect(got.length).toBe(texts.length)
  texts.forEach((text, i) => expect([text.toString("latin1"), got[i]]).toEqual([text.toString("latin1"), isJson(text)]))
  expect(got.filter(Boolean).length).toBeGreaterThan(400)
  expect(got.filter((good) => !good).length).toBeGreaterThan(400)
})

test("cases that parsers get wrong", () => {
  const good = ["0", "-0", "1e9", '"\\ud800"', ' {"a" : 1 } ', "[]", '"\u{10ffff}"', "1.0E-2"]
  const bad = [
    "",
    " ",
    "01",
    "+1",
    "1.",
    ".5",
    "1e",
    "[1,]",
    '{"a":1,}',
    "{a:1}",
    "'a'",
    '"\t"',
    '"\\x"',
    '"\\u12g4"',
    "nul",
    "NaN",
    "1 2",
  ]
  const bytes = ["c080", "eda080", "f4908080", "ff", "c3"].map((hex) => Buffer.from(`22${hex}22`, "hex"))
  const texts = [...good, ...bad].map((text) => Buffer.from(text))
  expect(verdicts([...texts, ...bytes]).map((line) => line.slice(0, 3).trim())).toEqual([
    ...good.map(() => "yes"),
    ...bad.map(() => "no"),
    ...bytes.map(() => "no"),
  ])
})

test("reads names and values as Node does", () => {
  const objects = fc.sample(fc.dictionary(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })), 200)
  const lines = verdicts(objects.map((object) => Buffer.from(JSON.stringify(object))))
  objects.forEach((object, i) => {
    const expected = Object.entries(object).map(([name, value]) => [name, value])
    const found = [...lines[i]!.matchAll(/ ("(?:[^"\\]|\\.)*")=("(?:[^"\\]|\\.)*")/gs)]
    expect(found.map((match) => [JSON.parse(match[1]!), JSON.parse(match[2]!)])).toEqual(expected)
  })
})

test("depth is bounded", () => {
  const nested = (depth: number): Buffer => Buffer.from("[".repeat(depth) + "]".repeat(depth))
  expect(verdicts([nested(64), nested(65), nested(100_000)])).toEqual(["yes", "no", "no"])
})

test("texts changed at random are read within their bounds", () => {
  expect(execFileSync(program, ["100000", "1"], { encoding: "utf8" })).toMatch(/^\d+ of 100000 are JSON\n$/)
})
