/**
 * Sockets for groups: multicast and broadcast. What they send goes out by one interface, what they hear is what they joined
 * there, and each datagram tells its hop limit, which decides for some protocols whether its sender is near (RFC 6762 section 11).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "address.h"
#include "addon.h"
#include "engine.h"

namespace passt {

/** linux/in6.h, Linux 4.20; asm-generic/socket.h, Linux 5.0. */
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

static int32_t option(int32_t fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

/** Readies a UDP socket. `scope`: index of the interface, 0 for the kernel's choice, which it also gets when it does not take
 * ours. The record ADDRESS_LOCAL may name a source for multicast over IPv4. */
static int32_t prepareGroups(Engine& engine, int32_t fd, int32_t family, int32_t scope) {
  if (family == 6) {
    // Where the kernel does not know it, groups that others joined are heard as well, which is the lesser evil.
    // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_MULTICAST_ALL|IPV6_MULTICAST_IF|IPV6_RECVHOPLIMIT)
    option(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
    if (scope > 0) option(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, scope);
    return option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  }
  if (family != 4) return -EINVAL;
  ip_mreqn out{};
  out.imr_address.s_addr = htonl(static_cast<uint32_t>(engine.address[addressLocal + 3]));
  out.imr_ifindex = scope;
  // seccomp: setsockopt(_, IPPROTO_IP, IP_MULTICAST_IF|IP_UNICAST_IF|IP_MULTICAST_ALL|IP_RECVTTL) setsockopt(_, SOL_SOCKET, SO_BROADCAST)
  if (scope > 0 || out.imr_address.s_addr != 0) setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out);
  // The limited broadcast has no interface by itself either.
  if (scope > 0) option(fd, IPPROTO_IP, IP_UNICAST_IF, static_cast<int>(htonl(static_cast<uint32_t>(scope))));
  int32_t error = option(fd, SOL_SOCKET, SO_BROADCAST, 1);
  if (!error) error = option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  if (!error) error = option(fd, IPPROTO_IP, IP_RECVTTL, 1);
  return error;
}

/** Joins the group in the record ADDRESS_LOCAL, from any source; without a scope on the interface that the socket is bound to. */
static int32_t joinGroup(Engine& engine, int32_t fd, int32_t family, int32_t scope) {
  group_req request{};
  if (scope == 0) {
    // seccomp: getsockopt(_, SOL_SOCKET, SO_BINDTOIFINDEX)
    socklen_t length = sizeof scope;
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &scope, &length) < 0) scope = 0;
  }
  request.gr_interface = static_cast<uint32_t>(scope);
  if (fromRecord(engine.address + addressLocal, family, &request.gr_group) == 0) return -EINVAL;
  const int level = family == 6 ? int{IPPROTO_IPV6} : int{IPPROTO_IP};
  // seccomp: setsockopt(_, IPPROTO_IPV6|IPPROTO_IP, MCAST_JOIN_GROUP)
  return setsockopt(fd, level, MCAST_JOIN_GROUP, &request, sizeof request) == 0 ? 0 : -errno;
}

/** Of what goes to groups and of what goes to broadcast addresses, which counts as unicast here. */
static int32_t setGroupHopLimit(Engine&, int32_t fd, int32_t family, int32_t hopLimit) {
  // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_MULTICAST_HOPS) setsockopt(_, IPPROTO_IP, IP_MULTICAST_TTL|IP_TTL)
  if (family == 6) return option(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hopLimit);
  const int32_t error = option(fd, IPPROTO_IP, IP_MULTICAST_TTL, hopLimit);
  return error ? error : option(fd, IPPROTO_IP, IP_TTL, hopLimit);
}

/** Reads one datagram into a row. Its source goes to the record ADDRESS_REMOTE.
 * @returns its length, or -errno: EMSGSIZE for one that did not fit */
static int32_t receiveGroup(Engine& engine, int32_t fd, int32_t row) {
  if (!engine.arena || row < 0 || row >= frameMax) return -EINVAL;
  const int32_t payload = engine.column(columnPayload)[row];
  const int32_t room = (row < rxFrameMax ? frameLengthMax : engine.column(columnWindow)[row]) - payload;
  uint8_t* const at = room < 0 ? nullptr : engine.rowRoom(row, room);
  if (!at) return -EINVAL;
  sockaddr_storage address{};
  alignas(cmsghdr) uint8_t control[256];
  iovec vector = {at, static_cast<size_t>(room)};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // seccomp: recvmsg
  const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0) return -errno;
  if (got > room || got > frameLengthMax) return -EMSGSIZE;
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  engine.column(columnPayloadLength)[row] = static_cast<int32_t>(got);
  engine.column(columnHopLimit)[row] = hopLimitOf(message);
  return static_cast<int32_t>(got);
}

void bindGroups(napi_env env, napi_value object, Engine* engine) {
  defineHot<prepareGroups>(env, object, "prepareGroups", engine);
  defineHot<joinGroup>(env, object, "joinGroup", engine);
  defineHot<setGroupHopLimit>(env, object, "setGroupHopLimit", engine);
  defineHot<receiveGroup>(env, object, "receiveGroup", engine);
}

}  // namespace passt
