/**
 * Writes what is made from the option table.
 *
 *   node src/generate.ts                      the launcher's header and docs/options.md, in their places
 *   node src/generate.ts man PATH VERSION     the manual page of passt, or pasta if PATH says so; dated by
 *                                             SOURCE_DATE_EPOCH, else today
 *   node src/generate.ts completions FOLDER   shell completions, where shells look for them below PREFIX/share
 */
import { writeFileSync } from "node:fs"
import { basename } from "node:path"
import { writeCompletions } from "./completions.ts"
import { launcherHeader } from "./launcher-options.ts"
import { manualPage } from "./man.ts"
import { optionsPage } from "./options-page.ts"

const [what, path, version] = process.argv.slice(2)
if (what === undefined) {
  writeFileSync(new URL("../../../native/launcher/options.h", import.meta.url), launcherHeader())
  writeFileSync(new URL("../../../docs/options.md", import.meta.url), optionsPage())
} else if (what === "man" && path !== undefined && version !== undefined) {
  const epoch = process.env["SOURCE_DATE_EPOCH"]
  const day = epoch === undefined ? new Date() : new Date(Number(epoch) * 1000)
  writeFileSync(path, manualPage(version, day, basename(path).startsWith("pasta") ? "pasta" : "passt"))
} else if (what === "completions" && path !== undefined) {
  writeCompletions(path)
} else {
  process.stderr.write("Usage: generate.ts [man PATH VERSION | completions FOLDER]\n")
  process.exitCode = 1
}
