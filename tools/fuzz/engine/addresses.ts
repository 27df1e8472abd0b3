/** Who is who in the engine's world, and addresses that nobody should use. */
import { address } from "../../../packages/core/src/wire/index.ts"

export const GUEST_MAC: readonly number[] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56]
export const GUEST4 = "192.0.2.15"
export const GATEWAY4 = "192.0.2.1"
export const GUEST6 = "2001:db8:1:2::15"
export const GUEST_LINK_LOCAL = "fe80::5054:ff:fe12:3456"
export const GATEWAY6 = "fe80::1"
/** Stand for the host's loopback, the guest's own address, and the resolver. */
export const MAPPED4 = "192.0.2.2"
export const MAPPED6 = "2001:db8:1:2::2"
export const MAP_GUEST4 = "192.0.2.3"
export const MAP_GUEST6 = "2001:db8:1:2::3"
export const DNS4 = "192.0.2.53"
export const DNS6 = "2001:db8:1:2::53"

export const PEERS4: readonly string[] = [
  "198.51.100.1",
  "198.51.100.2",
  "192.0.2.77",
  MAPPED4,
  MAP_GUEST4,
  DNS4,
  GATEWAY4,
]
export const PEERS6: readonly string[] = [
  "2001:db8:2::1",
  "2001:db8:2::2",
  "fe80::77",
  MAPPED6,
  MAP_GUEST6,
  DNS6,
  GATEWAY6,
]
/** Groups that somebody may be in, or that nobody should join. */
export const GROUPS4: readonly string[] = [
  "224.0.0.251",
  "239.255.255.250",
  "239.1.2.3",
  "224.0.0.1",
  "224.0.0.22",
  "255.255.255.255",
  "192.0.2.255",
]
export const GROUPS6: readonly string[] = ["ff02::fb", "ff05::c", "ff0e::1234", "ff02::1", "ff02::1:ff00:15", "ff01::1"]
export const ODD4: readonly string[] = [
  "0.0.0.0",
  "255.255.255.255",
  "224.0.0.251",
  "239.255.255.250",
  "127.0.0.1",
  "240.0.0.1",
  "192.0.2.255",
  "169.254.1.1",
  GUEST4,
]
export const ODD6: readonly string[] = [
  "::",
  "::1",
  "ff02::1",
  "ff02::1:2",
  "ff02::16",
  "ff02::1:ff00:15",
  "::ffff:198.51.100.1",
  "::ffff:127.0.0.1",
  "::198.51.100.1",
  "64:ff9b::c633:6401",
  "fe80::1",
  GUEST6,
]

/** Four words. */
export function words(text: string): Int32Array {
  const parsed = address.parse(text)
  if (parsed === undefined) throw new Error(`not an address: ${text}`)
  return parsed
}

/** 4 or 16 bytes. */
export function bytesOf(text: string): Uint8Array {
  const w = words(text)
  const out = new Uint8Array(16)
  const view = new DataView(out.buffer)
  for (let i = 0; i < 4; i++) view.setInt32(4 * i, w[i]!)
  return text.includes(":") ? out : out.slice(12)
}
