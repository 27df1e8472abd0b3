// The command line of the suite.
import { availableParallelism } from "node:os"
import { dirname, join, resolve } from "node:path"
import { existsSync } from "node:fs"
import { parseArgs } from "node:util"

export const HELP = `usage: node test-e2e/conformance/main.ts [options]
Checks what passt and pasta do, as seen by a guest, a namespace, the host's network and whoever calls them.

  --binary PATH     passt (default: dist/bin/passt)
  --pasta PATH      pasta (default: beside --binary)
  --release NAME    in place of both: those of another Debian release, such as trixie, whose package is fetched once
  --only NAME       checks of this id, of ids that begin so (1.5), of a program, or of an area; repeatable
  --jobs N          how many at a time
  --json FILE       write results there
  --list            show the checks, run none
  --record NAME     keep the results as those of NAME, and write docs/conformance.md
  --document        write docs/conformance.md from the results that are kept, run none
`

export class UsageError extends Error {}

export interface SuiteOptions {
  readonly help: boolean
  readonly list: boolean
  readonly document: boolean
  readonly binary: string | undefined
  readonly pasta: string | undefined
  readonly release: string | undefined
  readonly only: readonly string[]
  readonly jobs: number
  readonly json: string | undefined
  readonly record: string | undefined
}

export function suiteOptions(args: readonly string[]): SuiteOptions {
  const options = {
    binary: { type: "string" },
    pasta: { type: "string" },
    release: { type: "string" },
    only: { type: "string", multiple: true },
    jobs: { type: "string" },
    json: { type: "string" },
    record: { type: "string" },
    list: { type: "boolean", default: false },
    document: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  } as const
  const { values } = (() => {
    try {
      return parseArgs({ args: [...args], options })
    } catch (error) {
      throw new UsageError((error as Error).message)
    }
  })()
  const jobs = Number(values.jobs ?? Math.min(4, availableParallelism() + 1))
  if (!Number.isInteger(jobs) || jobs < 1 || jobs > 64)
    throw new UsageError(`--jobs: from 1 to 64, not "${values.jobs}"`)
  if (values.release !== undefined && (values.binary ?? values.pasta) !== undefined) {
    throw new UsageError("--release names both programs: leave --binary and --pasta out")
  }
  const binary = values.binary && resolve(values.binary)
  const beside = binary && join(dirname(binary), "pasta")
  const pasta = values.pasta ? resolve(values.pasta) : beside && existsSync(beside) ? beside : undefined
  for (const path of [binary, pasta]) if (path && !existsSync(path)) throw new UsageError(`${path}: not there`)
  return {
    ...values,
    only: values.only ?? [],
    jobs,
    binary,
    pasta,
    json: values.json && resolve(values.json),
    release: values.release,
    record: values.record,
  }
}
