// What failed in a run of vitest, written down for the program that started it: its screen is long.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import type { Reporter, TestModule, TestSuite } from "vitest/node"
import { ROOT } from "../../tools/world/enter.ts"

/** Names the file that a run writes. */
export const FAILURES_VARIABLE = "PASST_E2E_FAILURES"

export interface Failure {
  /** The test file, from the repository's root; empty for what belongs to none. */
  readonly file: string
  /** The test, or the group whose set-up failed; empty for a file that could not be loaded. */
  readonly name: string
  readonly message: string
  /** Whether a second attempt passed. */
  readonly passedLater: boolean
}

type Errors = readonly { readonly message: string; readonly VITEST_TEST_PATH?: string }[]

function brief(errors: Errors | undefined): string {
  const lines = (errors?.[0]?.message ?? "").split("\n").filter((line) => line.trim() !== "")
  return lines.slice(0, 12).join(" | ").slice(0, 800)
}

/** A reporter that says nothing, and writes its list when the run ends. */
export class FailureList implements Reporter {
  readonly #path: string

  /** @param path where the list goes, as JSON */
  constructor(path: string) {
    this.#path = path
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: Errors): void {
    const failures: Failure[] = unhandled.map((error) => ({
      file: error.VITEST_TEST_PATH === undefined ? "" : relative(ROOT, error.VITEST_TEST_PATH),
      name: "an error outside all tests",
      message: brief([error]),
      passedLater: false,
    }))
    for (const module of modules) {
      const file = relative(ROOT, module.moduleId)
      const add = (name: string, errors: Errors | undefined, passedLater: boolean): void =>
        void failures.push({ file, name, message: brief(errors), passedLater })
      const groups: (TestModule | TestSuite)[] = [module, ...module.children.allSuites()]
      for (const group of groups) {
        const errors = group.errors()
        if (errors.length > 0) add(group.type === "suite" ? group.fullName : "", errors, false)
      }
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result()
        if (state === "failed") add(test.fullName, errors, false)
        // The errors of a test that passed are those of its earlier attempts.
        else if (test.diagnostic()?.flaky) add(test.fullName, errors, true)
      }
    }
    writeFileSync(this.#path, JSON.stringify(failures))
  }
}

/** A list that a run may write, and that is gone when it has been read. */
export class FailureFile {
  readonly path: string = join(ROOT, `.cache/test-e2e/${process.pid}.json`)

  constructor() {
    mkdirSync(dirname(this.path), { recursive: true })
  }

  /** @returns what a run wrote; nothing if it did not come that far */
  take(): readonly Failure[] {
    try {
      return JSON.parse(readFileSync(this.path, "utf8")) as Failure[]
    } catch {
      return []
    } finally {
      rmSync(this.path, { force: true })
    }
  }
}
