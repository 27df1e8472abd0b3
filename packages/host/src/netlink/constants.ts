/** Numbers of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/neighbour.h that are used here. */

export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const NLM_F_REQUEST = 0x01
export const NLM_F_MULTI = 0x02
export const NLM_F_ACK = 0x04
/** The set changed while the kernel was dumping it: the dump may miss entries or hold them twice. */
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP_FILTERED = 0x20
export const NLM_F_CAPPED = 0x100
export const NLM_F_ACK_TLVS = 0x200
/** NLM_F_ROOT | NLM_F_MATCH. */
export const NLM_F_DUMP = 0x300
/** For requests that make something, whose flags share bits with those of dumps. */
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
/** Extended acknowledgement: a sentence of the kernel, NUL-terminated. */
export const NLMSGERR_ATTR_MSG = 1

export const RTM_NEWLINK = 16
export const RTM_GETLINK = 18
export const RTM_NEWADDR = 20
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30

/** Groups of changes of links, addresses and routes, as bits of sockaddr_nl.nl_groups. */
export const RTMGRP_LINK = 0x1
export const RTMGRP_IPV4_IFADDR = 0x10
export const RTMGRP_IPV4_ROUTE = 0x40
export const RTMGRP_IPV6_IFADDR = 0x100
export const RTMGRP_IPV6_ROUTE = 0x400
/** Group of neighbour changes. */
export const RTMGRP_NEIGH = 0x4

/** The upper bits of an attribute type are flags (nested, byte order). */
export const NLA_TYPE_MASK = 0x3fff

export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_INET6 = 10

export const IFLA_ADDRESS = 1
export const IFLA_IFNAME = 3
export const IFLA_MTU = 4
/** Attributes of protocols, by family; of IPv6, how the link-local address is made (enum in6_addr_gen_mode). */
export const IFLA_AF_SPEC = 26
export const IFLA_INET6_ADDR_GEN_MODE = 8
export const IN6_ADDR_GEN_MODE_EUI64 = 0
export const IN6_ADDR_GEN_MODE_NONE = 1
export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_RUNNING = 0x40

export const IFA_ADDRESS = 1
export const IFA_LOCAL = 2
export const IFA_BROADCAST = 4
export const IFA_CACHEINFO = 6
export const IFA_FLAGS = 8
export const IFA_F_NODAD = 0x02
export const IFA_F_NOPREFIXROUTE = 0x200
export const IFA_F_TEMPORARY = 0x01
export const IFA_F_DADFAILED = 0x08
export const IFA_F_DEPRECATED = 0x20
export const IFA_F_TENTATIVE = 0x40
export const IFA_F_OPTIMISTIC = 0x04

export const RT_SCOPE_UNIVERSE = 0
export const RT_SCOPE_SITE = 200
export const RT_SCOPE_LINK = 253
export const RT_SCOPE_HOST = 254

export const RTA_DST = 1
export const RTA_SRC = 2
export const RTA_OIF = 4
export const RTA_GATEWAY = 5
export const RTA_PRIORITY = 6
export const RTA_METRICS = 8
export const RTA_MULTIPATH = 9
export const RTA_TABLE = 15
export const RTA_VIA = 18
export const RTA_PREF = 20
export const RTA_ENCAP_TYPE = 21
export const RTA_ENCAP = 22
export const RT_TABLE_MAIN = 254
export const RTN_UNICAST = 1
export const RTPROT_STATIC = 4
export const RTM_F_CLONED = 0x200
export const RTNH_F_DEAD = 1
export const RTNH_F_ONLINK = 4
export const RTNH_F_LINKDOWN = 16
/** Bytes of struct rtnexthop. */
export const RTNH_BYTES = 8

export const NDA_DST = 1
export const NDA_LLADDR = 2
export const NUD_REACHABLE = 0x02
export const NUD_STALE = 0x04
export const NUD_DELAY = 0x08
export const NUD_PROBE = 0x10
export const NUD_NOARP = 0x40
export const NUD_PERMANENT = 0x80
/** States in which the link-layer address can be used (NUD_VALID in the kernel), NOARP aside: those need no resolution. */
export const NUD_USABLE: number = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT
