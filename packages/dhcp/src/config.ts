/**
 * What a guest is told besides its address: the same for both versions of DHCP.
 */
export interface DhcpConfig {
  /** Resolvers of both families, four address words each (IPv4 mapped); each version tells those of its own family, three
   * at most. */
  dns: readonly Int32Array[]
  /** Search domains, the most important first. */
  search: readonly string[]
  advertiseDns: boolean
  advertiseSearch: boolean
  /** Seconds after which clients ask again, so that they learn of changes: half of an IPv4 lease, whole for IPv6, where the address
   * stays valid nevertheless. Absent: never, leases are without end. */
  renewSeconds?: number
  /** Fully qualified domain name of the guest. */
  fqdn?: string
  /** Told about each answer, one line without its end. Guests decide how often that is: whoever listens limits the rate. */
  info?: (line: string) => void
}

/** What of it may change while the program runs. */
export type DhcpUpdate = Pick<DhcpConfig, "dns" | "search" | "renewSeconds">

/** Resolvers told to a guest: what resolvers read (MAXNS of resolv.conf). */
export const SERVER_MAX = 3
