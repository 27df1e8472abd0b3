// Who has which address in the small world. All are documentation prefixes (RFC 5737, RFC 3849).

/** The host, which runs passt; the guest is given the same addresses. */
export const HOST = { ipv4: "192.0.2.2", prefix4: 24, ipv6: "2001:db8:1::2", prefix6: 64 } as const

/** The router between host and world: the host's default route in both families. */
export const ROUTER = { ipv4: "192.0.2.1", ipv6: "2001:db8:1::1", linkLocal: "fe80::1" } as const

/** The server behind the router: everything but DNS. */
export const SERVER = { ipv4: "198.51.100.10", ipv6: "2001:db8:2::10", name: "www.world.example" } as const

/** The DNS server, an address of its own, so that resolvers are told apart from everything else. */
export const RESOLVER = { ipv4: "198.51.100.53", ipv6: "2001:db8:2::53" } as const

/** Routed, but nobody answers there: for connections that must fail. */
export const NOBODY = { ipv4: "203.0.113.9", ipv6: "2001:db8:dead::9" } as const

/** Ports of the server, in both families. */
export const PORT = {
  /** TCP and UDP: sends back what it gets. */
  echo: 7,
  http: 80,
  iperf3: 5201,
  /** TCP: reads to the end of the stream, then answers with one line: byte count and SHA-256. */
  digest: 9000,
  /** TCP: reads one line "COUNT SEED", answers with COUNT bytes of the deterministic stream, then closes. */
  stream: 9001,
  /** TCP: as `stream`, but the answer only starts when the client has closed its side. */
  streamAfterEnd: 9002,
  /** TCP: answers with one line, the client's address and port, and closes. */
  whoami: 9003,
  /** TCP: accepts, reads and never answers. */
  silent: 9004,
  /** Nothing listens here, TCP and UDP. */
  closed: 9999,
} as const

/** The search domain in the host's resolv.conf. */
export const SEARCH_DOMAIN = "world.example"

/** The HTTP server's page. */
export const PAGE = "It works: this page came from the world behind the host.\n"
