/**
 * The two native programs of the benchmark, built with one compiler call each into a folder that git ignores. The
 * end-to-end tests use the bridge too.
 */

import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from "node:fs"
import { join } from "node:path"

const HERE: string = import.meta.dirname
const BUILD: string = join(HERE, "build")

/** The driver's side of virtqueues, which the bridge has in common with the front-end of the tests. */
const FRONT_END: string = join(HERE, "../vhost-frontend")

/** Which programs there are; each is a folder of C++ files beside this file. */
export type NativeTool = "bridge" | "traffic"

const filesOf = (folder: string): string[] => readdirSync(folder).map((name) => join(folder, name))

const isStale = (program: string, sources: string[]): boolean => {
  if (!existsSync(program)) return true
  const built = statSync(program).mtimeMs
  return sources.some((source) => statSync(source).mtimeMs > built)
}

/**
 * Compiles the program unless it is newer than its sources.
 *
 * @returns the path of the program
 * @throws if the compiler (`CXX`, or g++) is missing or fails
 */
export const buildNativeTool = (tool: NativeTool): string => {
  const program = join(BUILD, tool)
  const shared = tool === "bridge" ? filesOf(FRONT_END).filter((name) => !name.endsWith("main.cc")) : []
  const files = [...filesOf(join(HERE, tool)), ...shared]
  if (!isStale(program, files)) return program
  mkdirSync(BUILD, { recursive: true })
  // Renamed at the end, so that two builds at once never leave half a file under the name that is run.
  const unfinished = `${program}.${process.pid}`
  const sources = files.filter((name) => name.endsWith(".cc"))
  const compiler = process.env["CXX"] ?? "g++"
  const flags = ["-O2", "-std=c++20", "-Wall", "-Wextra", "-pthread"]
  execFileSync(compiler, [...flags, "-o", unfinished, ...sources], { stdio: ["ignore", "inherit", "inherit"] })
  renameSync(unfinished, program)
  return program
}
