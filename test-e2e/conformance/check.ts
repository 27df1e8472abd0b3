// What a check is. A check states one behaviour that users or callers rely on, as seen from outside; it runs alone, or in any
// order, against any binary.
import type { Stage } from "./stage.ts"

export interface Check {
  /** The row of the list of behaviours it belongs to, and a name: "1.5.lease-time". Stable: results are kept under it. */
  readonly id: string
  /** What holds, in users' words. */
  readonly title: string
  /** Default: passt. */
  readonly program?: "passt" | "pasta"
  /** The right behaviour, where the title doesn't tell all of it. */
  readonly expect?: string
  /** "differs": at least one reference version does otherwise, and that is no mistake of the check. */
  readonly reference?: "differs"
  /** Why the behaviour that is checked is the right one, or what the reference does instead. */
  readonly because?: string
  /** After this the check has failed. Default 90,000 ms. */
  readonly timeoutMs?: number
  readonly run: (stage: Stage) => Promise<void>
}

/** Checks that belong together in the report. */
export interface Area {
  readonly title: string
  readonly checks: readonly Check[]
}

/** pass; fail; absent: the binary doesn't know an option that the check needs. */
export type Verdict = "pass" | "fail" | "absent"

export interface Result {
  readonly id: string
  readonly verdict: Verdict
  /** Why it failed, in one line. */
  readonly message?: string
  readonly elapsedMs: number
}
