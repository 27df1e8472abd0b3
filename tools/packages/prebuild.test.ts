import { readdirSync } from "node:fs"
import { join } from "node:path"
import { expect, test } from "vitest"
import { prebuild, problemsOf } from "./prebuild.ts"

const TIMEOUT_MS = 900_000
const OUT = join(import.meta.dirname, "../../native/prebuilds")

// A minute of compiling on an idle machine: where everything is tested anyway.
test.skipIf(!process.env["CI"])(
  "addons for other machines are made, and need nothing that these lack",
  {
    timeout: TIMEOUT_MS,
  },
  async () => {
    const { there, missing } = await prebuild()
    expect([...there, ...missing.map((reason) => reason.split(":")[0])].toSorted()).toEqual([
      "linux-arm64-glibc",
      "linux-x64-glibc",
      "linux-x64-musl",
    ])
    if (missing.length > 0) console.log(`not made: ${missing.join("; ")}`)
    expect(readdirSync(OUT)).toEqual(expect.arrayContaining(there.map((name) => `${name}.node`)))
  },
)

test("an addon that needs what a platform lacks is told apart", () => {
  // This machine's own is no musl addon: glibc's own symbols show.
  const own = join(import.meta.dirname, "../../native/build/Release/passt.node")
  expect(problemsOf(`linux-${process.arch}-glibc`, own)).toEqual([])
  if (readdirSync("/usr/lib").includes("x86_64-linux-musl")) {
    expect(problemsOf("linux-x64-musl", own).some((line) => /is neither musl's nor node's/.test(line))).toBe(true)
  }
})
