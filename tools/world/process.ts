// Running programs from tools and tests: one way to start, wait, bound in time and collect output.
import { spawn } from "node:child_process"
import type { ChildProcess, SpawnOptions } from "node:child_process"

/** What became of a finished program. */
export interface Outcome {
  /** Exit status; 128 + signal number is not used: a killed program has status -1 and `signal` set. */
  readonly status: number
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  /** Standard output as it came, for programs that write bytes instead of text. */
  readonly bytes: Buffer
  readonly elapsedMs: number
  readonly timedOut: boolean
}

export interface RunOptions {
  /** Written to the program's standard input, which is then closed. Default: nothing. */
  readonly input?: string | Buffer
  /** After this the program gets SIGKILL. Default 60,000 ms. */
  readonly timeoutMs?: number
  readonly env?: NodeJS.ProcessEnv
}

/** Start a program without waiting. Output is piped unless `options.stdio` says otherwise. */
export function start(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const [file, ...args] = command
  if (file === undefined) throw new Error("an empty command")
  return spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], ...options })
}

/** Run a program to its end and collect what it printed. A program that cannot be started has status 127. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const began = performance.now()
  return new Promise((resolve) => {
    const child = start(command, {
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.env === undefined ? {} : { env: options.env }),
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill("SIGKILL")
      // A grandchild may hold the pipes open; the program itself is gone, so nothing more is worth waiting for.
      setTimeout(() => finish(-1, "SIGKILL"), 500).unref()
    }, options.timeoutMs ?? 60_000)
    let finished = false
    function finish(status: number, signal: NodeJS.Signals | null): void {
      if (finished) return
      finished = true
      clearTimeout(timer)
      const bytes = Buffer.concat(out)
      resolve({
        status,
        signal,
        bytes,
        stdout: bytes.toString(),
        stderr: Buffer.concat(err).toString(),
        elapsedMs: performance.now() - began,
        timedOut,
      })
    }
    child.stdout?.on("data", (chunk: Buffer) => out.push(chunk))
    child.stderr?.on("data", (chunk: Buffer) => err.push(chunk))
    child.on("error", (error) => {
      err.push(Buffer.from(`${error.message}\n`))
      finish(127, null)
    })
    child.on("close", (code, signal) => finish(code ?? -1, signal))
    // A program that ends without reading its input breaks the pipe: its status tells the story.
    child.stdin?.on("error", () => {})
    child.stdin?.end(options.input ?? "")
  })
}

/** Like `run`, for programs that must succeed: a failure throws with the command and what it said. */
export async function must(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const outcome = await run(command, options)
  if (outcome.status === 0) return outcome.stdout
  const why = outcome.timedOut ? "timed out" : `ended with status ${outcome.status}`
  throw new Error(`${command.join(" ")}: ${why}\n${(outcome.stderr || outcome.stdout).trim()}`)
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Ask `probe` every `everyMs` until it gives something other than undefined or false; throws after `timeoutMs`. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  everyMs: number = 20,
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const answer = await probe()
    if (answer !== undefined && answer !== false) return answer
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await sleep(everyMs)
  }
}

/** Wait until a started program has ended; true if it did within `timeoutMs`. */
export function ended(child: ChildProcess, timeoutMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(true)
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), timeoutMs)
    child.once("exit", () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

/** SIGTERM, then SIGKILL after a second; resolves when the program is gone. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill("SIGTERM")
  if (await ended(child, 1000)) return
  child.kill("SIGKILL")
  await ended(child, 1000)
}
