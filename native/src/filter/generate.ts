/** Writes native/build/generated/filter-blocks.h: part of the build of the addon. */
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { readAnnotations } from "./annotations.ts"
import { header } from "./compile.ts"

const native = join(import.meta.dirname, "../..")
const target = join(native, "build/generated/filter-blocks.h")

const files = globSync("cpp/*.{cc,h}", { cwd: native }).toSorted()
const text = header(files.flatMap((file) => readAnnotations(readFileSync(join(native, file), "utf8"), file)))
mkdirSync(dirname(target), { recursive: true })
// Untouched if it is the same: nothing has to be compiled again.
if (!existsSync(target) || readFileSync(target, "utf8") !== text) writeFileSync(target, text)
