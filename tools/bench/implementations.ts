/** The programs that are compared: ours, as it was built, and reference binaries. */

import { accessSync, constants, existsSync } from "node:fs"
import { delimiter, join, resolve } from "node:path"
import { fetchDebianPasst } from "./debian-release.ts"

export interface Implementation {
  readonly name: string
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

const ours = (): Implementation | string => {
  const path = join(DIST, "bin/passt")
  if (!isExecutable(path)) return "ours: not built (npm run build)"
  return { name: "ours", origin: "dist/bin/passt", command: [path], isOurs: true }
}

const installed = (): Implementation | string => {
  const path = onPath("passt")
  if (path === undefined) return "debian: no passt on the PATH (apt install passt)"
  return { name: "debian", origin: path, command: [path], isOurs: false }
}

const newer = (release: string): Implementation | string => {
  const found = fetchDebianPasst(release, join(ROOT, ".cache/bench"))
  if (typeof found === "string") return `${release}: ${found}`
  return { name: release, origin: `Debian package, version ${found.version}`, command: found.command, isOurs: false }
}

/**
 * Finds an implementation by its name: `ours`; `debian`, the passt that is installed; the name of a newer Debian
 * release, whose package is fetched once; or `NAME=PATH` for any other binary.
 *
 * @returns a sentence when it is not there
 */
export const findImplementation = (name: string): Implementation | string => {
  if (name === "ours") return ours()
  if (name === "debian") return installed()
  const equals = name.indexOf("=")
  if (equals < 0) return newer(name)
  const path = resolve(name.slice(equals + 1))
  if (!isExecutable(path)) return `${name}: not a program`
  return { name: name.slice(0, equals), origin: path, command: [path], isOurs: false }
}

/**
 * Flags that the installed launcher gives the runtime (docs/design.md): one thread, small semi-spaces. Started without the
 * launcher, to be watched, the program must run with the same.
 */
const NODE_FLAGS: readonly string[] = [
  "--single-threaded",
  "--v8-pool-size=0",
  "--min-semi-space-size=2",
  "--max-semi-space-size=2",
  "--no-memory-reducer",
]

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
  return [node, ...NODE_FLAGS, ...OBSERVATION_FLAGS[observation], join(library, "passt.mjs")]
}
