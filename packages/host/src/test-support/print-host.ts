/** Prints what readHost says here, addresses as text. Standard input: options as JSON. */
import { readFileSync } from "node:fs"
import { address as ip } from "@passt/core/wire"
import { readHost, readSnapshot } from "../host.ts"
import type { HostFamily, HostOptions } from "../host.ts"
import { macText } from "../summary.ts"

const options = JSON.parse(readFileSync(0, "utf8")) as HostOptions

function print(family: HostFamily | undefined): object | null {
  if (!family) return null
  return {
    local: family.local,
    interface: family.interfaceName,
    mac: macText(family.interfaceMac),
    mtu: family.interfaceMtu,
    address: `${ip.format(family.address)}/${family.prefix}`,
    gateway: ip.format(family.gateway),
    ours: ip.format(family.ourAddress),
  }
}

try {
  const { ipv4, ipv6, notes } = readHost(options)
  const { routes } = readSnapshot()
  console.log(JSON.stringify({ ipv4: print(ipv4), ipv6: print(ipv6), notes, routes: routes.length }))
} catch (error) {
  console.log(JSON.stringify({ error: (error as Error).message }))
}
