/** The payload checksum's variants by name, for tests and benchmarks that compare them. */
import { addon } from "./load.ts"

/** Names of the variants that this processor runs; the last is the one in use. */
export function checksumVariants(): readonly string[] {
  return addon.checksumVariants()
}

/** Folded one's-complement sum (RFC 1071), not complemented, of `length` bytes at `from`, on top of `start` (a folded
 * sum). @returns 0…0xffff, or -EINVAL outside of `bytes` or without such a variant */
export function checksum(variant: string, bytes: Uint8Array, from: number, length: number, start: number): number {
  return addon.checksum(variant, bytes, from, length, start)
}
