import type { Api } from "../cluster/api.ts"
import type { Options } from "../options.ts"

/** What a command works with. */
export interface Context {
  readonly api: Api
  readonly options: Options
  /** A line of the result. */
  print(line: string): void
  /** A line for whoever is waiting. */
  tell(line: string): void
  /** Milliseconds between two looks at what is waited for. */
  readonly pollMs: number
  /** Given up by the user. */
  readonly signal?: AbortSignal
}
