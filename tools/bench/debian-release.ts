/**
 * The passt of another Debian release, without installing it: its package and the C library of its release are
 * unpacked side by side, and the release's own loader starts it. apt works with state folders of its own, from the
 * mirror that the system already uses.
 */

import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** Which of the two programs is measured. */
export type Program = "passt" | "pasta"

export interface DebianPasst {
  readonly version: string
  readonly command: readonly string[]
}

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

const capture = (command: string, args: string[], folder?: string): string =>
  execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], cwd: folder })

/** The mirror that serves this system's own main archive; undefined on a system without apt. */
const systemMirror = (): string | undefined => {
  try {
    const format = ["--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main"]
    const mirrors = capture("apt-get", ["indextargets", ...format])
      .split("\n")
      .filter(Boolean)
    return mirrors.find((mirror) => !mirror.includes("security"))
  } catch {
    return undefined
  }
}

const download = (release: string, mirror: string, folder: string): void => {
  for (const name of ["lists/partial", "archives/partial", "root"]) mkdirSync(join(folder, name), { recursive: true })
  const sources = join(folder, "sources.list")
  writeFileSync(sources, `deb [signed-by=${KEYRING}] ${mirror} ${release} main\n`)
  writeFileSync(join(folder, "status"), "")
  const settings: Record<string, string> = {
    "Dir::Etc::SourceList": sources,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State::Lists": join(folder, "lists"),
    "Dir::State::Status": join(folder, "status"),
    "Dir::Cache": folder,
    "Dir::Cache::Archives": join(folder, "archives"),
    // A mirror may be a snapshot; its lists have expired then.
    "Acquire::Check-Valid-Until": "false",
    "Acquire::Languages": "none",
    "APT::Sandbox::User": "",
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])
  capture("apt-get", [...options, "-qq", "update"])
  capture("apt-get", [...options, "-qq", "download", "passt", "libc6"], folder)
  for (const name of readdirSync(folder)) {
    if (name.endsWith(".deb")) capture("dpkg-deb", ["-x", name, "root"], folder)
  }
  const version = readdirSync(folder).find((name) => name.startsWith("passt_"))!
  writeFileSync(join(folder, "version"), decodeURIComponent(version.split("_")[1]!))
}

/** The first of these paths that exists below the folder. */
const findBelow = (folder: string, names: readonly string[]): string | undefined =>
  names.map((name) => join(folder, name)).find((path) => existsSync(path))

/** The first entry of a folder, or of a folder in it, with such a name. */
const findNamed = (folder: string, name: RegExp): string | undefined => {
  if (!existsSync(folder)) return undefined
  const entries = readdirSync(folder, { withFileTypes: true })
  const direct = entries.find((entry) => !entry.isDirectory() && name.test(entry.name))
  if (direct !== undefined) return join(folder, direct.name)
  for (const entry of entries) {
    const inner = entry.isDirectory() ? findNamed(join(folder, entry.name), name) : undefined
    if (inner !== undefined) return inner
  }
  return undefined
}

/**
 * @param cache folder where the unpacked packages stay
 * @param program of the package
 * @returns how to run it, or a sentence when it can't be had
 */
export const fetchDebianPasst = (release: string, cache: string, program: Program | "pesto"): DebianPasst | string => {
  if (!/^[a-z]+$/.test(release)) return "not the name of an implementation or of a Debian release"
  const folder = join(cache, release)
  if (!existsSync(folder)) {
    const mirror = systemMirror()
    if (mirror === undefined) return "can't be fetched without Debian's apt"
    const unfinished = `${folder}.${process.pid}`
    try {
      mkdirSync(unfinished, { recursive: true })
      download(release, mirror, unfinished)
      rmSync(join(unfinished, "lists"), { recursive: true })
      renameSync(unfinished, folder)
    } catch (error) {
      rmSync(unfinished, { recursive: true, force: true })
      const said = (error as { stderr?: string }).stderr ?? ""
      return `can't be fetched: ${said.trim().split("\n")[0] || (error as Error).message}`
    }
  }
  const root = join(folder, "root")
  const loader = findNamed(join(root, "usr/lib"), /^ld-linux-.*\.so\.\d+$/)
  const library = findNamed(join(root, "usr/lib"), /^libc\.so\.6$/)
  // The plain binary restarts itself as its AVX2 build where the processor has it, but can't find it behind a loader.
  const hasAvx2 = /\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"))
  const binary = findBelow(join(root, "usr/bin"), hasAvx2 ? [`${program}.avx2`, program] : [program])
  if (loader === undefined || library === undefined || binary === undefined) return `${folder} is incomplete: remove it`
  const libraries = library.slice(0, library.lastIndexOf("/"))
  const version = readFileSync(join(folder, "version"), "utf8")
  return { version, command: [loader, "--library-path", libraries, binary] }
}
