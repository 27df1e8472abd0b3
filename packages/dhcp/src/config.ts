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
  /** Fully qualified domain name of the guest. */
  fqdn?: string
  /** Told about each answer, one line without its end. Guests decide how often that is: whoever listens limits the rate. */
  info?: (line: string) => void
}

/** Resolvers told to a guest: what resolvers read (MAXNS of resolv.conf). */
export const SERVER_MAX = 3
