/**
 * The processor that this machine does not have: everything must compile for it without a warning, and what is written
 * for its instructions alone must be right.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"

const ROOT = join(import.meta.dirname, "..")
const HEADERS = join(ROOT, "node_modules/node-api-headers/include")
// As in CMakeLists.txt.
const FLAGS = ["-std=c++20", "-fno-exceptions", "-fno-rtti", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
/** Seconds of work where nothing else is going on. */
const TIMEOUT_MS = 180_000
const CROSS_COMPILER = "aarch64-linux-gnu-g++"
const PACKAGES = "Debian packages g++-aarch64-linux-gnu and qemu-user-static"

const isThere = (command: string): boolean => spawnSync(command, ["--version"]).status === 0

function sources(folder: string): string[] {
  const files = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".cc"))
  return files.map((name) => join(ROOT, folder, name))
}

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "passt-cross-"))
})
afterAll(() => {
  rmSync(folder, { recursive: true })
})

describe.each([
  ["this processor", "g++", [], ["scalar"]],
  ["aarch64", CROSS_COMPILER, ["qemu-aarch64-static"], ["scalar", "neon"]],
])("%s", (processor, compiler, emulator, forms) => {
  const missing = [compiler, ...emulator].filter((command) => !isThere(command))
  if (missing.length > 0) console.log(`skipped, ${processor}: no ${missing.join(", ")} (${PACKAGES})`)

  test.skipIf(missing.length > 0)("the forms of the checksum agree with its definition, and read nothing else", () => {
    const program = join(folder, "checksum-forms")
    const files = [join(ROOT, "cpp/checksum.cc"), join(ROOT, "cpp/test/checksum-forms.cc")]
    execFileSync(compiler, [...FLAGS, "-O3", "-static", ...files, "-o", program])
    const [command = "", ...args] = [...emulator, program, "20000", "1"]
    const result = spawnSync(command, args, { encoding: "utf8" })
    expect([result.status, result.stdout.trim().split(" ").slice(0, forms.length)]).toEqual([0, forms])
    expect(result.stdout).not.toContain("chosen")
  })
})

// For this processor the build has compiled them.
test.skipIf(!isThere(CROSS_COMPILER))(
  "addon and launcher compile for aarch64 without a warning",
  { timeout: TIMEOUT_MS },
  () => {
    const options = [
      ...FLAGS,
      "-fsyntax-only",
      "-DNAPI_VERSION=9",
      `-I${HEADERS}`,
      `-I${join(ROOT, "build/generated")}`,
    ]
    const inputs = [...sources("cpp"), ...sources("launcher")]
    const result = spawnSync(CROSS_COMPILER, [...options, ...inputs], { encoding: "utf8" })
    expect([result.stderr, result.status]).toEqual(["", 0])
  },
)
