/**
 * Finds the addon: beside the bundled program (`passt.node` next to the file that this code ended up in), or where the
 * build of this package leaves it. Nothing is downloaded and nothing is compiled here.
 */
import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"

import type { Addon } from "./addon.ts"

const CANDIDATES: readonly URL[] = [
  new URL("./passt.node", import.meta.url),
  new URL("../build/Release/passt.node", import.meta.url),
]

function load(): Addon {
  const paths = CANDIDATES.map((url) => fileURLToPath(url))
  const found = paths.find((path) => existsSync(path))
  if (found === undefined) throw new Error(`native addon not found, looked for ${paths.join(" and ")}`)
  return createRequire(import.meta.url)(found) as Addon
}

export const addon: Addon = load()
