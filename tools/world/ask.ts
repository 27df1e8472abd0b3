// Run the client inside a namespace.
import { join } from "node:path"
import type { ClientResult } from "./client.ts"
import type { Namespace } from "./namespace.ts"

const CLIENT: string = join(import.meta.dirname, "client.ts")

export type Job = "http" | "tcp" | "udp" | "upload" | "download" | "downloadAfterEnd" | "many" | "short" | "hold"

/** The command line of a client's job. */
export function clientCommand(job: Job, ...rest: readonly (string | number)[]): string[] {
  return [process.execPath, "--disable-warning=ExperimentalWarning", CLIENT, job, ...rest.map(String)]
}

/** Run one job (see client.ts) in the namespace, for at most 50 s. */
export async function ask(
  from: Pick<Namespace, "name" | "run">,
  job: Job,
  ...rest: readonly (string | number)[]
): Promise<ClientResult> {
  const outcome = await from.run(clientCommand(job, ...rest), { timeoutMs: 50_000 })
  const line = outcome.stdout.trim().split("\n").at(-1) ?? ""
  if (outcome.status === 0 && line.startsWith("{")) return JSON.parse(line) as ClientResult
  if (outcome.timedOut) return { error: "ETIMEDOUT", elapsedMs: outcome.elapsedMs }
  throw new Error(`the client "${job}" in ${from.name} ended with status ${outcome.status}: ${outcome.stderr.trim()}`)
}
