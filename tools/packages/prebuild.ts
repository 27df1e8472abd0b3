/**
 * The addon for each platform that the package serves, without a download: native/prebuilds/linux-ARCH-LIBC.node.
 *
 *   node tools/packages/prebuild.ts [TARGET …]       all that this machine has compilers for, unless told
 *
 * - linux-x64-glibc is the addon of the build; linux-arm64-glibc takes Debian's g++-aarch64-linux-gnu.
 * - linux-x64-musl takes musl-dev: the compiler's C++ headers in front of musl's C headers. Nothing of glibc or of the C++ library is
 *   linked; what stays undefined must be musl's, node's, or one of the few symbols of libstdc++ that node brings along.
 */
import { execFile, execFileSync, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { promisify } from "node:util"

const ROOT = join(import.meta.dirname, "../..")
const NATIVE = join(ROOT, "native")
const OUT = join(NATIVE, "prebuilds")
const HEADERS = join(NATIVE, "node_modules/node-api-headers/include")
/** As in CMakeLists.txt. */
const FLAGS: readonly string[] = [
  ..."-std=c++20 -O3 -fPIC -fno-exceptions -fno-rtti -fvisibility=hidden -fvisibility-inlines-hidden".split(" "),
  // gcc 12 takes some appending to strings for overlapping copies (its bug 105651).
  ..."-Wall -Wextra -Werror -Wno-restrict -DNAPI_VERSION=9 -D_GNU_SOURCE".split(" "),
  `-I${join(NATIVE, "build/generated")}`,
]
/** Compilers at a time. */
const JOBS = 2
const MUSL = "/usr/include/x86_64-linux-musl"
const MUSL_LIBC = "/usr/lib/x86_64-linux-musl/libc.so"
/** Oldest glibc that the addon of this machine's compiler may need. */
const GLIBC_MAX: readonly [number, number] = [2, 34]

interface Target {
  readonly name: string
  readonly compiler: string
  readonly machine: RegExp
  /** What is missing here, a Debian package; undefined: nothing. */
  readonly missing: () => string | undefined
  readonly flags: (folder: string) => readonly string[]
  readonly link: readonly string[]
}

function has(command: string): boolean {
  return spawnSync(command, ["--version"]).status === 0
}

const TARGETS: readonly Target[] = [
  {
    name: "linux-arm64-glibc",
    compiler: "aarch64-linux-gnu-g++",
    machine: /AArch64/,
    missing: () => (has("aarch64-linux-gnu-g++") ? undefined : "g++-aarch64-linux-gnu"),
    flags: () => [`-I${HEADERS}`],
    link: [],
  },
  {
    name: "linux-x64-musl",
    compiler: "g++",
    machine: /X86-64/,
    missing: () => (existsSync(MUSL) ? (process.arch === "x64" ? undefined : "an x64 machine") : "musl-dev"),
    flags: muslFlags,
    link: ["-nostdlib", "-Wl,--no-as-needed", "-l:libstdc++.so.6", "-lgcc"],
  },
]

/** The C++ headers of the compiler, the C headers of musl, and of the system's the kernel's alone. */
function muslFlags(folder: string): readonly string[] {
  const print = (args: string[]): string => spawnSync("g++", args, { input: "", encoding: "utf8" }).stderr
  const searched = /search starts here:\n([^]*?)\nEnd of search/.exec(print(["-E", "-v", "-x", "c++", "-"]))![1]!
  const cpp = searched.split("\n").map((line) => line.trim())
  const ours = cpp.filter((path) => path.includes("c++") || /lib\/gcc\/[^/]+\/\d+\/include$/.test(path))
  const kernel = join(folder, "kernel")
  mkdirSync(kernel, { recursive: true })
  symlinkSync("/usr/include/linux", join(kernel, "linux"))
  symlinkSync("/usr/include/asm-generic", join(kernel, "asm-generic"))
  symlinkSync("/usr/include/x86_64-linux-gnu/asm", join(kernel, "asm"))
  // Directories of the system, so that warnings about them are nobody's.
  const system = [...ours, MUSL, kernel, HEADERS].flatMap((path) => ["-isystem", path])
  return ["-nostdinc", ...system, "-include", join(import.meta.dirname, "musl.h")]
}

async function compile(target: Target): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "passt-prebuild-"))
  try {
    const flags = [...FLAGS, ...target.flags(folder)]
    const sources = globSync("cpp/*.cc", { cwd: NATIVE }).map((file) => join(NATIVE, file))
    const waiting = [...sources]
    const work = async (): Promise<void> => {
      for (let source = waiting.pop(); source !== undefined; source = waiting.pop()) {
        const object = join(folder, `${basename(source, ".cc")}.o`)
        await promisify(execFile)(target.compiler, [...flags, "-c", source, "-o", object])
      }
    }
    await Promise.all(Array.from({ length: JOBS }, work))
    const objects = globSync("*.o", { cwd: folder }).map((file) => join(folder, file))
    const file = join(OUT, `${target.name}.node`)
    execFileSync(target.compiler, ["-shared", "-s", ...objects, ...target.link, "-o", file])
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Symbols that a file needs from others, without their versions. */
function undefinedSymbols(file: string): { readonly name: string; readonly version: string }[] {
  const text = execFileSync("readelf", ["-W", "--dyn-syms", file], { encoding: "utf8" })
  return [...text.matchAll(/ (GLOBAL|WEAK) +DEFAULT +UND (\S+?)(?:@(\S+))?(?: \(\d+\))?$/gm)]
    .filter(([, binding, name]) => binding === "GLOBAL" && name !== "")
    .map(([, , name, version]) => ({ name: name!, version: version ?? "" }))
}

/** @returns what is wrong with a prebuilt addon, a line each */
export function problemsOf(name: string, file: string): string[] {
  const problems: string[] = []
  const symbols = undefinedSymbols(file)
  for (const { name: symbol, version } of symbols) {
    const found = /^GLIBC_(\d+)\.(\d+)/.exec(version)
    if (found && (Number(found[1]) > GLIBC_MAX[0] || Number(found[2]) > GLIBC_MAX[1])) {
      problems.push(`${name}: ${symbol} needs ${version}`)
    }
  }
  if (name.endsWith("musl")) {
    const text = execFileSync("readelf", ["-W", "--dyn-syms", MUSL_LIBC], { encoding: "utf8" })
    const musl = new Set([...text.matchAll(/ DEFAULT +\d+ (\S+)$/gm)].map(([, symbol]) => symbol))
    for (const { name: symbol } of symbols) {
      if (!musl.has(symbol) && !/^(napi|node_api)_/.test(symbol) && !/^_Z(nwm|nam|dlPv|daPv|St)/.test(symbol)) {
        problems.push(`${name}: ${symbol} is neither musl's nor node's`)
      }
    }
  }
  return problems
}

/** What an addon is made of: when that is what it was, there is nothing to do. */
function fingerprint(target: Target): string {
  const hash = createHash("sha256").update(execFileSync(target.compiler, ["--version"]))
  const inputs = ["cpp/*.cc", "cpp/*.h", "build/generated/*"].flatMap((pattern) => globSync(pattern, { cwd: NATIVE }))
  for (const file of inputs.sort()) hash.update(readFileSync(join(NATIVE, file)))
  return hash.update(readFileSync(import.meta.filename)).digest("hex")
}

/** Makes what is missing or old. @returns names of what is there now; of others, why not */
export async function prebuild(only: readonly string[] = []): Promise<{ there: string[]; missing: string[] }> {
  mkdirSync(OUT, { recursive: true })
  const there: string[] = []
  const missing: string[] = []
  const built = join(NATIVE, "build/Release/passt.node")
  const own = `linux-${process.arch}-glibc`
  if (only.length === 0 || only.includes(own)) {
    copyFileSync(built, join(OUT, `${own}.node`))
    there.push(own)
  }
  for (const target of TARGETS) {
    if (target.name === own || (only.length > 0 && !only.includes(target.name))) continue
    const lack = target.missing()
    if (lack !== undefined) {
      missing.push(`${target.name}: no ${lack}`)
      continue
    }
    const stamp = join(OUT, `${target.name}.stamp`)
    const print = fingerprint(target)
    if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== print) {
      await compile(target)
      writeFileSync(stamp, print)
    }
    there.push(target.name)
  }
  for (const name of there) {
    const problems = problemsOf(name, join(OUT, `${name}.node`))
    if (problems.length > 0) throw new Error(problems.join("\n"))
  }
  return { there, missing }
}

if (import.meta.main) {
  const { there, missing } = await prebuild(process.argv.slice(2))
  for (const name of there) console.log(`native/prebuilds/${name}.node`)
  for (const reason of missing) console.log(`not made, ${reason}`)
}
