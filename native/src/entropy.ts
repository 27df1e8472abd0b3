/** Randomness of the kernel's (getrandom(2)), for hash keys and initial sequence numbers. */
import { addon } from "./load.ts"

/** Fills `target`. @throws when the kernel refuses, which it does not after boot */
export function entropy(target: Int32Array | Uint8Array): void {
  const result = addon.entropy(target)
  if (result < 0) throw new Error(`no entropy: errno ${-result}`)
}
