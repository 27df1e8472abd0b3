/** The seal: from here on no system calls but a few, and no memory. docs/security.md tells what that is against. */
import { elapsedMs, errnoText, type Logger } from "@passt/host"
import { canSeal, seal } from "@passt/native"
import { StartError } from "./error.ts"

type Condition = Parameters<typeof seal>[0][number]

/** To be called while standard error is the caller's. @throws StartError if the kernel lacks what it takes */
export function requireSeal(): void {
  const result = canSeal()
  if (result < 0) {
    throw new StartError(
      `The kernel does not filter system calls (seccomp): ${errnoText(-result)}; --no-seal goes without`,
    )
  }
}

/** @param conditions which calls the program will make @param name of the program @throws StartError */
export function closeSeal(logger: Logger, name: string, conditions: readonly Condition[]): void {
  const result = seal(conditions, { ...logger.witness, name, elapsedMs: elapsedMs() })
  if (result < 0) throw new StartError(`Couldn't seal the process: ${errnoText(-result)}`)
}
