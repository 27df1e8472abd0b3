// All checks, in the order of the report.
import type { Area, Check } from "./check.ts"
import { arp } from "./checks/arp.ts"
import { dhcp } from "./checks/dhcp.ts"
import { dhcpv6 } from "./checks/dhcpv6.ts"
import { ndp } from "./checks/ndp.ts"
import { programs } from "./checks/programs.ts"
import { datagrams } from "./checks/datagrams.ts"
import { callers } from "./checks/callers.ts"
import { template } from "./checks/ipv6.ts"
import { namespaces } from "./checks/pasta.ts"
import { pesto } from "./checks/pesto.ts"
import { multicast } from "./checks/multicast.ts"
import { translation } from "./checks/translation.ts"
import { life } from "./checks/life.ts"
import { options } from "./checks/options.ts"
import { forwarding } from "./checks/ports.ts"
import { internet } from "./checks/ip.ts"
import { tcpArea } from "./checks/tcp.ts"
import { transports } from "./checks/transports.ts"

export const AREAS: readonly Area[] = [
  programs,
  transports,
  internet,
  arp,
  ndp,
  dhcp,
  dhcpv6,
  multicast,
  tcpArea,
  datagrams,
  translation,
  template,
  options,
  forwarding,
  pesto,
  life,
  namespaces,
  callers,
]

export const CHECKS: readonly Check[] = AREAS.flatMap((area) => area.checks)

/** The checks that a name stands for: an id or the beginning of one, a program, or a part of an area's title. */
export function named(name: string): readonly Check[] {
  const isRow = (id: string): boolean => id === name || id.startsWith(`${name}.`) || id.startsWith(`${name}-`)
  return AREAS.flatMap((area) =>
    area.checks.filter(
      (check) =>
        isRow(check.id) || (check.program ?? "passt") === name || area.title.toLowerCase().includes(name.toLowerCase()),
    ),
  )
}

/** Whether ids are there once each: results are kept under them. */
export function duplicateIds(): string[] {
  const seen = new Set<string>()
  return CHECKS.map((check) => check.id).filter((id) => seen.has(id) || !seen.add(id))
}
