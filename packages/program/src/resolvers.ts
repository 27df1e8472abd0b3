/** Whose word about names is taken. */
import type { GuestConfig } from "./guest.ts"

/** Resolvers that the guest is told: what they say about names is believed. */
export function trustedResolvers({ resolvers }: GuestConfig): Int32Array[] {
  const { advertised4, advertised6, forward4, forward6 } = resolvers
  const given = [forward4, forward6].filter((address) => address.some((word) => word !== 0))
  return [...advertised4, ...advertised6, ...given]
}
