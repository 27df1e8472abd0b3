/**
 * The front door: `npm run demo`, `npm test`, `npm run build` … on a machine that has only Node (20 or newer) and npm.
 * Plain JavaScript without dependencies. Gets what is missing (system packages where it may, the workspace's own by
 * pnpm), builds, and runs the task with the workspace's Node.
 */
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const pnpmVersion = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).packageManager
const env = { ...process.env, PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env.PATH ?? ""}` }

/** Commands that the build needs, and the Debian packages that have them. */
const BUILD_NEEDS = { cmake: "cmake", "g++": "g++", make: "make" }
/** What the end-to-end tests and the demo need besides. */
const GUEST_NEEDS = {
  "qemu-system-x86_64": "qemu-system-x86",
  busybox: "busybox-static",
  iperf3: "iperf3",
  ip: "iproute2",
  unshare: "util-linux",
}

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, env, stdio: "inherit", ...options })
  if (result.error) fail(`${command}: ${result.error.message}`)
  if (result.status !== 0) process.exit(result.status ?? 1)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

function isThere(command) {
  return `${process.env.PATH ?? ""}:/usr/sbin:/sbin`
    .split(":")
    .some((folder) => folder !== "" && existsSync(join(folder, command)))
}

/** Sees to it that commands exist: installs them as root, else says how. */
function need(commands) {
  const missing = Object.keys(commands).filter((command) => !isThere(command))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((command) => commands[command]))]
  if (process.getuid() !== 0 || !isThere("apt-get")) {
    fail(`Missing: ${missing.join(", ")}. On Debian or Ubuntu: sudo apt-get install ${packages.join(" ")}`)
  }
  console.log(`Installing ${packages.join(", ")}`)
  const aptEnv = { ...env, DEBIAN_FRONTEND: "noninteractive" }
  run("apt-get", ["-qq", "update"], { env: aptEnv })
  run("apt-get", ["-qq", "install", "-y", "--no-install-recommends", ...packages], { env: aptEnv })
}

/** Installs the workspace's packages, unless that has been done for this lock file. */
function install() {
  const lock = createHash("sha256")
    .update(readFileSync(join(root, "pnpm-lock.yaml")))
    .digest("hex")
  const stamp = join(root, "node_modules/.installed")
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return
  // npx has chosen the version that package.json pins; pnpm need not look for itself in the registry once more.
  const pnpmEnv = { ...env, pnpm_config_pm_on_fail: "ignore" }
  run("npx", ["--yes", pnpmVersion, "install", "--frozen-lockfile"], { env: pnpmEnv })
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, lock)
}

function build() {
  need(BUILD_NEEDS)
  install()
  // Through npx, because turbo looks for a pnpm of its own accord.
  run("npx", ["--yes", pnpmVersion, "exec", "turbo", "run", "build", "--output-logs=errors-only"], {
    env: { ...env, TURBO_TELEMETRY_DISABLED: "1" },
  })
  run("node", ["tools/bundle.ts"])
  run("node", ["tools/api/generate.ts", "dist/share/doc/passt/api"])
}

const [task, ...args] = process.argv.slice(2)
switch (task) {
  case "build":
    build()
    break
  case "demo":
    need(GUEST_NEEDS)
    build()
    run("node", ["tools/demo/main.ts", ...args])
    break
  case "test":
    need(GUEST_NEEDS)
    build()
    run("vitest", ["run", ...args])
    if (args.length === 0) {
      run("node", ["test-e2e/conformance/main.ts"])
      run("node", ["test-e2e/main.ts"])
    }
    break
  case "bench":
    build()
    run("node", ["tools/bench/run.ts", ...args])
    break
  case "fuzz":
    build()
    run("node", ["tools/fuzz/main.ts", ...args])
    break
  case "check":
    if (args[0] === "--sanitize") {
      build()
      run("node", ["tools/sanitize.ts", ...args.slice(1)])
      break
    }
    install()
    run("oxfmt", ["--check", "."])
    run("oxlint", ["--deny-warnings"])
    run("tsc", ["-b"])
    for (const project of ["tools", "test-e2e", "examples", "tsconfig.tests.json"]) run("tsc", ["-p", project])
    run("node", ["tools/check-layers.ts"])
    run("node", ["tools/check-hot-path.ts"])
    break
  case "format":
    install()
    run("oxfmt", ["."])
    break
  default:
    fail("usage: node tools/task.mjs demo|test|build|bench|fuzz|check|format [arguments]")
}
