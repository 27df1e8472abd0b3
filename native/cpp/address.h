/**
 * Address records (packages/core/src/kernel.ts) to and from the kernel's socket addresses. A record is four words, each
 * the big-endian value of four bytes, a port and a scope; IPv4 travels mapped (RFC 4291 section 2.5.5.2).
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>

namespace passt {

inline bool isMapped(const int32_t* record) {
  return record[0] == 0 && record[1] == 0 && static_cast<uint32_t>(record[2]) == 0xffff;
}

/** @returns the length of the address, 0 for a family that is neither 4 nor 6. */
inline socklen_t fromRecord(const int32_t* record, int32_t family, sockaddr_storage* out) {
  memset(out, 0, sizeof(sockaddr_in6));
  if (family == 4) {
    auto* in = reinterpret_cast<sockaddr_in*>(out);
    in->sin_family = AF_INET;
    in->sin_port = htons(static_cast<uint16_t>(record[4]));
    in->sin_addr.s_addr = htonl(static_cast<uint32_t>(record[3]));
    return sizeof *in;
  }
  if (family != 6) return 0;
  auto* in6 = reinterpret_cast<sockaddr_in6*>(out);
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(static_cast<uint16_t>(record[4]));
  in6->sin6_scope_id = static_cast<uint32_t>(record[5]);
  for (int i = 0; i < 4; i++) {
    const uint32_t word = htonl(static_cast<uint32_t>(record[i]));
    memcpy(&in6->sin6_addr.s6_addr[4 * i], &word, 4);
  }
  return sizeof *in6;
}

inline void recordAddress4(int32_t* record, in_addr address) {
  record[0] = record[1] = 0;
  record[2] = 0xffff;
  record[3] = static_cast<int32_t>(ntohl(address.s_addr));
}

inline void recordAddress6(int32_t* record, const in6_addr& address) {
  for (int i = 0; i < 4; i++) {
    uint32_t word;
    memcpy(&word, &address.s6_addr[4 * i], 4);
    record[i] = static_cast<int32_t>(ntohl(word));
  }
}

/** An address of another family, or none, becomes all zeros. */
inline void toRecord(const sockaddr* from, int32_t* record) {
  if (from->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(from);
    recordAddress4(record, in->sin_addr);
    record[4] = ntohs(in->sin_port);
    record[5] = 0;
  } else if (from->sa_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(from);
    recordAddress6(record, in6->sin6_addr);
    record[4] = ntohs(in6->sin6_port);
    record[5] = static_cast<int32_t>(in6->sin6_scope_id);
  } else {
    memset(record, 0, 6 * sizeof *record);
  }
}

/** The hop limit (TTL) that a datagram arrived with; 0 if the kernel did not say. */
inline int32_t hopLimitOf(const msghdr& message) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    const bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL;
    const bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT;
    if (!v4 && !v6) continue;
    int value;
    memcpy(&value, CMSG_DATA(c), sizeof value);
    return value & 0xff;
  }
  return 0;
}

/** Which of our addresses a datagram was sent to; false if the kernel did not say. */
inline bool destinationOf(const msghdr& message, int32_t* record) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      recordAddress4(record, info.ipi_addr);
      record[5] = 0;
      return true;
    }
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      recordAddress6(record, info.ipi6_addr);
      record[5] = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? static_cast<int32_t>(info.ipi6_ifindex) : 0;
      return true;
    }
  }
  return false;
}

}  // namespace passt
