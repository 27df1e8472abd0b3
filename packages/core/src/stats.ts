/**
 * Counters. Every frame that is dropped is counted under a reason; nothing is dropped silently.
 */
export const COUNTER = {
  framesFromGuest: 0,
  framesToGuest: 1,
  turns: 2,
  /** Shorter than an Ethernet header, or an EtherType that is not ARP, IPv4 or IPv6. */
  dropEthernet: 3,
  /** Lengths or version of an IP header do not fit the frame, or the family is off. */
  dropIp: 4,
  /** IP fragments: there is no reassembly. */
  dropFragment: 5,
  /** Loopback source or destination on the wire. */
  dropLoopback: 6,
  /** A transport protocol other than TCP, UDP, ICMP echo, or one that is switched off. */
  dropProtocol: 7,
  /** A transport header that does not fit its packet. */
  dropTransport: 8,
  /** Addresses that can't be an end of a flow (multicast source, port 0, …). */
  dropAddress: 9,
  /** The flow table was full or the process had no descriptor left. */
  dropNoFlow: 10,
  /** No room for a frame to the guest; what is owed is sent later, or is not worth keeping (an answer without a flow). */
  dropNoRoom: 11,
  /** TCP segments outside the window, resets with a wrong sequence number. */
  dropTcpSequence: 12,
  /** Payload beyond a hole that found no room in the hold pool. */
  dropTcpHold: 13,
  /** Datagrams that a socket refused. */
  dropDatagram: 14,
  /** No answer because echo sockets can't be opened (net.ipv4.ping_group_range). */
  dropPing: 15,
  /** Connections that no guest address or translation exists for. */
  dropNoGuest: 16,
  tcpFlows: 17,
  udpFlows: 18,
  pingFlows: 19,
  tcpRetransmits: 20,
  tcpFastRetransmits: 21,
  tcpResets: 22,
  /** Payload bytes to the guest, and from it. */
  bytesToGuest: 23,
  bytesFromGuest: 24,
  tcpSpliceFlows: 25,
  udpSpliceFlows: 26,
  /** Payload bytes from socket to socket: to the namespace, and from it. */
  bytesSplicedIn: 27,
  bytesSplicedOut: 28,
  /** Flows of datagrams that ended because the host's addresses or routes changed. */
  movedFlows: 29,
  /** Flows to multicast and broadcast addresses, and groups that the guest has joined. */
  groupFlows: 30,
  memberships: 31,
  /** IGMP or MLD messages that are malformed, and groups and ports that found no room or that the host refused. */
  dropMembership: 32,
  /** Datagrams to groups that were the guest's own, brought back by the host. */
  groupEchoes: 33,
  /** Datagrams of flows that the policy has not allowed, or not yet, and found no room while they waited. */
  dropPolicy: 34,
  /** Decisions of the policy, one per flow. */
  policyAllowed: 35,
  policyRefused: 36,
  policyDropped: 37,
  policyRedirected: 38,
  /** Times that the policy's function threw, answered with nonsense, or did not answer in time. */
  policyFailures: 39,
  /** Datagrams of the guest beyond their flow's rate limit. */
  dropRateLimit: 40,
  /** Queries of the guest for names that it must not ask for, and answers that led to private addresses. */
  policyNamesRefused: 41,
  policyAnswersRefused: 42,
  /** Flows that had begun and were ended because new rules don't allow them. */
  policyEnded: 43,
  /** Connections to resolvers: overheard; refused because there were too many; given up, because the resolver's end failed or nothing
   * was said for too long. */
  policyStreams: 44,
  policyStreamsRefused: 45,
  policyStreamsGivenUp: 46,
} as const
export const COUNTER_COUNT = 47

/** Counters as doubles, exact to 2^53: writing one allocates nothing. */
export type Counters = Float64Array
