/**
 * Runs the tests that reach native code with an addon and a launcher that notice what goes wrong in memory and
 * arithmetic: AddressSanitizer and UndefinedBehaviorSanitizer. `npm run check -- --sanitize [vitest filters]`
 *
 * Node itself is as ever, so the sanitizer's runtime must be loaded before it, and a hook puts the other addon in the
 * place of the one that was built.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const ROOT = join(import.meta.dirname, "..")
const SOURCES = join(ROOT, "native/cpp")
/** What is native, and what drives it. */
const FILTERS = ["native", "packages/transport-unix", "packages/transport-vhost"]
/** Compilers gain nothing from it. */
const EXCLUDED = "native/src/cross-compile.test.ts"
/** Longer than the tests of speed and garbage need without sanitizers. */
const TEST_TIMEOUT_MS = 120_000

/** The launcher's tests build it themselves. */
const LAUNCHER_TEST = "packages/cli/src/launcher.test.ts"
/** A member call through a wrong type can't be looked for without run-time type information. */
const SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all"]

function vitest(filters: readonly string[], env: Record<string, string>): void {
  const args = ["run", `--testTimeout=${TEST_TIMEOUT_MS}`, `--exclude=${EXCLUDED}`, ...filters]
  const result = spawnSync("vitest", args, { cwd: ROOT, stdio: "inherit", env: { ...process.env, ...env } })
  if (result.status !== 0) process.exitCode = 1
}

const folder = mkdtempSync(join(tmpdir(), "passt-sanitize-"))
try {
  const addon = join(folder, "passt.node")
  const flags = [
    "-std=c++20",
    "-O1",
    "-g",
    "-fPIC",
    "-shared",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-omit-frame-pointer",
  ]
  const defines = [
    "-D_GNU_SOURCE",
    "-DNAPI_VERSION=9",
    `-I${join(ROOT, "native/node_modules/node-api-headers/include")}`,
    `-I${join(ROOT, "native/build/generated")}`,
  ]
  const files = readdirSync(SOURCES).filter((name) => name.endsWith(".cc"))
  const inputs = files.map((name) => join(SOURCES, name))
  execFileSync("g++", [...flags, ...SANITIZE, ...defines, ...inputs, "-o", addon], { stdio: "inherit" })

  const hook = join(folder, "hook.mjs")
  writeFileSync(
    hook,
    `const open = process.dlopen
    process.dlopen = (module, path, ...rest) =>
      open(module, path.endsWith("/passt.node") ? ${JSON.stringify(addon)} : path, ...rest)\n`,
  )
  const filters = process.argv.slice(2)
  vitest(filters.length > 0 ? filters : FILTERS, {
    LD_PRELOAD: execFileSync("g++", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim(),
    NODE_OPTIONS: `${process.env["NODE_OPTIONS"] ?? ""} --import=${hook}`,
    // What V8 leaves at the end of a process is no leak of ours, and can't be told from one.
    ASAN_OPTIONS: "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
    UBSAN_OPTIONS: "print_stacktrace=1",
  })
  if (filters.length === 0) vitest([LAUNCHER_TEST], { CXXFLAGS: SANITIZE.join(" "), LDFLAGS: SANITIZE.join(" ") })
} finally {
  rmSync(folder, { recursive: true })
}
