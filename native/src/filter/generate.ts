/** Writes headers to native/build/generated: part of the build of the addon, and of the launcher. */
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { readAnnotations } from "./annotations.ts"
import { header } from "./compile.ts"

const native = join(import.meta.dirname, "../..")
const folder = join(native, "build/generated")
/** One for each kind of process that seals itself. */
const TARGETS = {
  "filter-blocks.h": "cpp/*.{cc,h}",
  "watcher-blocks.h": "launcher/resolver-*.{cc,h}",
  "opener-blocks.h": "launcher/policy-*.{cc,h}",
}

mkdirSync(folder, { recursive: true })
for (const [name, pattern] of Object.entries(TARGETS)) {
  const files = globSync(pattern, { cwd: native }).toSorted()
  const text = header(files.flatMap((file) => readAnnotations(readFileSync(join(native, file), "utf8"), file)))
  // Untouched if it is the same: nothing has to be compiled again.
  const target = join(folder, name)
  if (!existsSync(target) || readFileSync(target, "utf8") !== text) writeFileSync(target, text)
}
