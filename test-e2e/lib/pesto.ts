// The reference's client for running programs, from Debian's package of it; main.ts fetches it where there is a network.
import { join } from "node:path"
import { fetchDebianPasst } from "../../tools/bench/debian-release.ts"
import { ROOT } from "../../tools/world/enter.ts"

/** The environment variable that tells tests its command line, as JSON. */
const VARIABLE = "PASST_PESTO"
/** The first release whose passt has it. */
const RELEASE = "testing"

/** Fetches it, once. @returns the environment for tests, or why it can't be had */
export function fetchPesto(): Readonly<Record<string, string>> | string {
  const found = fetchDebianPasst(RELEASE, join(ROOT, ".cache/bench"), "pesto")
  return typeof found === "string"
    ? `pesto of Debian ${RELEASE} ${found}`
    : { [VARIABLE]: JSON.stringify(found.command) }
}

/** How to run it; undefined: it is not there. */
export function givenPesto(): readonly string[] | undefined {
  const given = process.env[VARIABLE]
  return given === undefined ? undefined : (JSON.parse(given) as string[])
}
