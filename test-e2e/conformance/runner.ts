// Runs checks, a few at a time, each in a world of its own.
import { AssertionError } from "node:assert"
import type { Check, Result } from "./check.ts"
import { createSlot, Stage } from "./stage.ts"
import type { Commands } from "./stage.ts"

const TIMEOUT_MS = 90_000

function described(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const lines = error.message.split("\n").filter((line) => line.trim() !== "")
  // What an assertion compares stands in the lines below its title.
  return (error instanceof AssertionError ? lines.slice(0, 12).join(" | ") : lines.slice(0, 3).join(" | ")).slice(
    0,
    600,
  )
}

async function runOne(check: Check, stage: Stage): Promise<Result> {
  const began = performance.now()
  const timeoutMs = check.timeoutMs ?? TIMEOUT_MS
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over within ${timeoutMs} ms`)), timeoutMs)
  })
  const elapsed = (): number => Math.round(performance.now() - began)
  try {
    const running = check.run(stage)
    // After a time-out it ends some time, when nobody listens any more.
    running.catch(() => {})
    await Promise.race([running, late])
    return { id: check.id, verdict: "pass", elapsedMs: elapsed() }
  } catch (error) {
    const { unknownOption } = stage
    if (unknownOption !== undefined) {
      return { id: check.id, verdict: "absent", message: `no option "${unknownOption}"`, elapsedMs: elapsed() }
    }
    return { id: check.id, verdict: "fail", message: described(error), elapsedMs: elapsed() }
  } finally {
    clearTimeout(timer)
  }
}

/** The check, and the clean-up after it, which can find that the program is gone. */
async function runWhole(check: Check, stage: Stage): Promise<Result> {
  const result = await runOne(check, stage)
  if (result.verdict === "fail") stage.renewShared()
  try {
    await stage.close()
    return result
  } catch (error) {
    return { ...result, verdict: "fail", message: result.message ?? described(error) }
  }
}

/**
 * Runs checks, several at a time. One that fails among others gets another attempt when all are over, alone: on a busy
 * machine what the suite itself does beside it can be why.
 * @param jobs how many at a time
 * @param tell called with each result as it comes
 * @returns each check's last result, in the order of the checks
 */
export async function runChecks(
  checks: readonly Check[],
  commands: Commands,
  jobs: number,
  tell: (check: Check, result: Result) => void,
): Promise<Result[]> {
  const last = new Map<Check, Result>()
  const note = (check: Check, result: Result): void => {
    last.set(check, result)
    tell(check, result)
  }
  await runAll(checks, commands, jobs, note)
  const failed = checks.filter((check) => last.get(check)!.verdict === "fail")
  if (failed.length < checks.length) await runAll(failed, commands, 1, note)
  return checks.map((check) => last.get(check)!)
}

async function runAll(
  checks: readonly Check[],
  commands: Commands,
  jobs: number,
  tell: (check: Check, result: Result) => void,
): Promise<void> {
  const queue = [...checks]
  let made = Promise.resolve()
  const worker = async (): Promise<void> => {
    // One after the other: both ends of a cable have a name here until they are where they belong.
    const making = made.then(createSlot)
    made = making.then(() => {})
    const slot = await making
    for (let check = queue.shift(); check !== undefined; check = queue.shift()) {
      tell(check, await runWhole(check, new Stage(slot, commands)))
    }
    await slot.close()
  }
  await Promise.all(Array.from({ length: Math.min(jobs, checks.length) }, worker))
}
