// Both address families, for tests that hold for each.
import { HOST, NOBODY, RESOLVER, SERVER } from "../../tools/world/addresses.ts"

export const FAMILIES = [
  { family: "IPv4", server: SERVER.ipv4, host: HOST.ipv4, resolver: RESOLVER.ipv4, nobody: NOBODY.ipv4 },
  { family: "IPv6", server: SERVER.ipv6, host: HOST.ipv6, resolver: RESOLVER.ipv6, nobody: NOBODY.ipv6 },
] as const

/** An address as it stands in a URL. */
export function inUrl(address: string): string {
  return address.includes(":") ? `[${address}]` : address
}
