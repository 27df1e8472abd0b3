/** The programs that are compared: ours, as it was built, and reference binaries. */

import { accessSync, constants, existsSync } from "node:fs"
import { delimiter, join, resolve } from "node:path"
import { fetchDebianPasst, type Program } from "./debian-release.ts"
import { runtimeEnvironment, runtimeFlags } from "../runtime.ts"

/** How an implementation is started, and what stands between the two ends. */
export type Kind = Program | "slirp4netns" | "veth"

export interface Implementation {
  readonly name: string
  readonly kind: Kind
  /** What it is, for the head of the report. */
  readonly origin: string
  readonly command: readonly string[]
  readonly isOurs: boolean
}

/** What is watched in our own program, at some cost in speed. */
export type Observation = "none" | "profile" | "collections"

const ROOT: string = resolve(import.meta.dirname, "../..")
const DIST: string = join(ROOT, "dist")

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const onPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(isExecutable)

const ours = (program: Program): Implementation | string => {
  const path = join(DIST, "bin", program)
  if (!isExecutable(path)) return "ours: not built (npm run build)"
  return { name: "ours", kind: program, origin: `dist/bin/${program}`, command: [path], isOurs: true }
}

const installed = (name: string, program: Program | "slirp4netns"): Implementation | string => {
  const path = onPath(program)
  if (path === undefined) return `${name}: no ${program} on the PATH (apt install ${program.replace("pasta", "passt")})`
  return { name, kind: program, origin: path, command: [path], isOurs: false }
}

const newer = (release: string, program: Program): Implementation | string => {
  const found = fetchDebianPasst(release, join(ROOT, ".cache/bench"), program)
  if (typeof found === "string") return `${release}: ${found}`
  const origin = `Debian package, version ${found.version}`
  return { name: release, kind: program, origin, command: found.command, isOurs: false }
}

/**
 * Finds an implementation by its name: `ours`; `debian`, the one that is installed; the name of a newer Debian
 * release, whose package is fetched once; or `NAME=PATH` for any other binary. Beside pasta also `slirp4netns`, and `veth`:
 * no program at all.
 *
 * @returns a sentence when it is not there
 */
export const findImplementation = (name: string, program: Program): Implementation | string => {
  if (name === "ours") return ours(program)
  if (name === "debian") return installed(name, program)
  if (program === "pasta" && name === "slirp4netns") return installed(name, name)
  if (program === "pasta" && name === "veth") {
    return { name, kind: "veth", origin: "the kernel alone", command: [], isOurs: false }
  }
  const equals = name.indexOf("=")
  if (equals < 0) return newer(name, program)
  const path = resolve(name.slice(equals + 1))
  if (!isExecutable(path)) return `${name}: not a program`
  return { name: name.slice(0, equals), kind: program, origin: path, command: [path], isOurs: false }
}

const OBSERVATION_FLAGS: Record<Observation, readonly string[]> = {
  none: [],
  profile: ["--perf-basic-prof"],
  collections: ["--trace-gc"],
}

/**
 * The command line up to passt's own options. To watch our program, the launcher is left out, since it takes no flags
 * for the runtime.
 */
export const commandOf = (implementation: Implementation, observation: Observation): readonly string[] => {
  if (observation === "none") return implementation.command
  const library = join(DIST, "lib/passt")
  const node = join(library, "node")
  if (!existsSync(node)) throw new Error(`no runtime at ${node}: the program can't be watched`)
  // As the launcher does.
  const environment = ["env", ...Object.entries(runtimeEnvironment()).map(([name, value]) => `${name}=${value}`)]
  return [...environment, node, ...runtimeFlags(), ...OBSERVATION_FLAGS[observation], join(library, "passt.mjs")]
}
