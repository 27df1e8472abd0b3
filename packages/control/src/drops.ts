/** Reasons of drops, by the names that they have in statistics and metrics. */
import { COUNTER } from "@passt/core"

export type CounterName = keyof typeof COUNTER

/** "dropTcpSequence" as "tcp-sequence". */
function reason(name: CounterName): string {
  return name
    .slice(4)
    .replace(/(?<=.)[A-Z]/g, "-$&")
    .toLowerCase()
}

export const DROPS: readonly { readonly name: CounterName; readonly reason: string }[] = (
  Object.keys(COUNTER) as CounterName[]
)
  .filter((name) => name.startsWith("drop"))
  .map((name) => ({ name, reason: reason(name) }))
