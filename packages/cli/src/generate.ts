/** Writes what is made from the option table: the launcher's header, and the manual page when a path for it is given. */
import { writeFileSync } from "node:fs"
import { launcherHeader } from "./launcher-options.ts"

writeFileSync(new URL("../../../native/launcher/options.h", import.meta.url), launcherHeader())
