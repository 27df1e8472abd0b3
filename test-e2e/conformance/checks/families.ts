// The same check for IPv4 and IPv6.
import { HOST, NOBODY, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Check } from "../check.ts"

const FAMILIES = [
  {
    name: "IPv4",
    server: SERVER.ipv4,
    host: HOST.ipv4,
    router: ROUTER.ipv4,
    nobody: NOBODY.ipv4,
    loopback: "127.0.0.1",
  },
  { name: "IPv6", server: SERVER.ipv6, host: HOST.ipv6, router: ROUTER.ipv6, nobody: NOBODY.ipv6, loopback: "::1" },
] as const

export type Family = (typeof FAMILIES)[number]

export function both(make: (family: Family) => Check): Check[] {
  return FAMILIES.map((family) => {
    const check = make(family)
    return { ...check, id: `${check.id}-${family.name.toLowerCase()}`, title: `${family.name}: ${check.title}` }
  })
}
