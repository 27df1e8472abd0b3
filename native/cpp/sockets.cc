/**
 * Making, naming and ending sockets.
 *
 * An IPv6 socket takes IPv6 only, unless it is bound or connected to a mapped address: a flow over IPv4 may then use
 * the same local port as one over IPv6.
 */
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "addon.h"
#include "engine.h"
#include "namespace.h"

namespace passt {

/** Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn. */
constexpr int backlog = 4096;

static int32_t option(int32_t fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

static int domain(int32_t family) { return family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNSPEC; }

/** Closes a half-made socket and keeps the error. */
static int32_t abandon(int32_t fd, int32_t error) {
  ::close(fd);
  return error;
}

/** Only its creation ties a socket to a namespace (namespace.h): all other calls work from here. */
static int32_t makeSocket(Engine& engine, int32_t family, int type, int protocol, int32_t place) {
  int32_t fd;
  if (place == placeNamespace) {
    fd = engine.spareSockets.take(engine, domain(family), type, protocol);
    if (fd < 0) return fd;
  } else {
    // seccomp: socket(AF_INET|AF_INET6, 15:SOCK_STREAM|SOCK_DGRAM, IPPROTO_TCP|IPPROTO_UDP|IPPROTO_ICMP|IPPROTO_ICMPV6)
    fd = socket(domain(family), type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd < 0) return -errno;
  }
  if (family == 6) {
    // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_V6ONLY)
    const int32_t error = option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (error) return abandon(fd, error);
  }
  return fd;
}

/** Queues ICMP errors with their details. An IPv6 socket may talk to mapped addresses: both families then. */
static int32_t wantErrors(int32_t fd, int32_t family) {
  if (family == 6) {
    // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_RECVERR) setsockopt(_, IPPROTO_IP, IP_RECVERR)
    const int32_t error = option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (error) return error;
    option(fd, IPPROTO_IP, IP_RECVERR, 1);
    return 0;
  }
  return option(fd, IPPROTO_IP, IP_RECVERR, 1);
}

/** A socket for both families: both, as for errors. */
static int32_t wantHopLimits(Engine&, int32_t fd, int32_t family) {
  // seccomp: setsockopt(_, IPPROTO_IP, IP_RECVTTL) setsockopt(_, IPPROTO_IPV6, IPV6_RECVHOPLIMIT)
  if (family == 4) return option(fd, IPPROTO_IP, IP_RECVTTL, 1);
  const int32_t error = option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  if (!error) option(fd, IPPROTO_IP, IP_RECVTTL, 1);
  return error;
}

static int32_t wantFreebind(int32_t fd, int32_t family) {
  // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_FREEBIND) setsockopt(_, IPPROTO_IP, IP_FREEBIND)
  return family == 6 ? option(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1) : option(fd, IPPROTO_IP, IP_FREEBIND, 1);
}

static int32_t setDevice(int32_t fd, const std::string& name) {
  if (name.size() >= IFNAMSIZ) return -ENODEV;
  // seccomp: setsockopt(_, SOL_SOCKET, SO_BINDTODEVICE)
  return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name.data(), static_cast<socklen_t>(name.size())) == 0 ? 0 : -errno;
}

// seccomp: close
static int32_t close(Engine&, int32_t fd) { return ::close(fd) == 0 ? 0 : -errno; }

static int32_t reset(Engine&, int32_t fd) {
  const linger now = {1, 0};
  // seccomp: setsockopt(_, SOL_SOCKET, SO_LINGER)
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  return ::close(fd) == 0 ? 0 : -errno;
}

static int32_t tcpSocket(Engine& engine, int32_t family, int32_t place) {
  const int32_t fd = makeSocket(engine, family, SOCK_STREAM, IPPROTO_TCP, place);
  if (fd < 0) return fd;
  // seccomp: setsockopt(_, IPPROTO_TCP, TCP_NODELAY) setsockopt(_, SOL_SOCKET, SO_OOBINLINE)
  option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  return fd;
}

static int32_t bindLocal(Engine& engine, int32_t fd, int32_t family) {
  const int32_t* record = engine.address + addressLocal;
  if (family == 6 && isMapped(record)) option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  sockaddr_storage address;
  const socklen_t length = fromRecord(record, family, &address);
  // seccomp: bind
  return ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 ? 0 : -errno;
}

static int32_t connect(Engine& engine, int32_t fd, int32_t family) {
  const int32_t* record = engine.address + addressRemote;
  if (family == 6 && isMapped(record)) option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  sockaddr_storage address;
  const socklen_t length = fromRecord(record, family, &address);
  // seccomp: connect
  return ::connect(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 ? 0 : -errno;
}

static int32_t localAddress(Engine& engine, int32_t fd, int32_t family) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return -errno;
  if (address.ss_family != domain(family)) return -EINVAL;
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressLocal);
  return 0;
}

/** What both kinds of listening socket need before they are bound to the record ADDRESS_LOCAL. */
static int32_t prepareListener(int32_t fd, int32_t family, bool dualStack, const std::string& device, bool freebind) {
  int32_t error = 0;
  if (family == 6) error = option(fd, IPPROTO_IPV6, IPV6_V6ONLY, dualStack ? 0 : 1);
  if (!error && !device.empty()) error = setDevice(fd, device);
  if (!error && freebind) error = wantFreebind(fd, family);
  return error;
}

/** bindToDevice(fd, name) */
static napi_value bindToDevice(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return arguments.result(setDevice(arguments.integer(0), arguments.text(1)));
}

/** listenTcp(family, dualStack, device, freebind, place) */
static napi_value listenTcp(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  const int32_t family = arguments.integer(0);
  const int32_t fd = makeSocket(engine, family, SOCK_STREAM, IPPROTO_TCP, arguments.integer(4));
  if (fd < 0) return arguments.result(fd);
  int32_t error = prepareListener(fd, family, arguments.integer(1) != 0, arguments.text(2), arguments.integer(3) != 0);
  // Connections of an earlier instance in TIME_WAIT must not keep the port from us.
  if (!error) error = option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  // Linux hands both down to accepted sockets, which saves two calls on each.
  if (!error) error = option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (!error) error = option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  if (!error) error = bindLocal(engine, fd, family);
  // seccomp: setsockopt(_, SOL_SOCKET, SO_REUSEADDR)
  // seccomp[pasta]: listen
  // seccomp[control]: listen
  if (!error && listen(fd, backlog) < 0) error = -errno;
  return arguments.result(error ? abandon(fd, error) : fd);
}

static int32_t accept(Engine& engine, int32_t listener) {
  sockaddr_storage address;
  socklen_t length = sizeof address;
  // seccomp: accept4
  const int fd = accept4(listener, reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return -errno;
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  length = sizeof address;
  // seccomp: getsockname
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return abandon(fd, -errno);
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressLocal);
  return fd;
}

static int32_t socketError(Engine&, int32_t fd) {
  int value = 0;
  socklen_t length = sizeof value;
  // seccomp: getsockopt(_, SOL_SOCKET, SO_ERROR)
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == 0 ? value : -errno;
}

// seccomp: shutdown
static int32_t shutdownWrite(Engine&, int32_t fd) { return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno; }

// seccomp: setsockopt(_, IPPROTO_TCP, TCP_MAXSEG)
static int32_t setMss(Engine&, int32_t fd, int32_t mss) { return option(fd, IPPROTO_TCP, TCP_MAXSEG, mss); }

// seccomp: setsockopt(_, SOL_SOCKET, SO_KEEPALIVE)
static int32_t setKeepalive(Engine&, int32_t fd) { return option(fd, SOL_SOCKET, SO_KEEPALIVE, 1); }

static int32_t setHopLimit(Engine&, int32_t fd, int32_t family, int32_t hopLimit) {
  // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_UNICAST_HOPS) setsockopt(_, IPPROTO_IP, IP_TTL)
  return family == 6 ? option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, hopLimit)
                     : option(fd, IPPROTO_IP, IP_TTL, hopLimit);
}

static int32_t queueErrors(Engine&, int32_t fd, int32_t family, int32_t on) {
  return family == 6 ? option(fd, IPPROTO_IPV6, IPV6_RECVERR, on) : option(fd, IPPROTO_IP, IP_RECVERR, on);
}

static int32_t setReuseAddress(Engine&, int32_t fd) { return option(fd, SOL_SOCKET, SO_REUSEADDR, 1); }

static int32_t setPeekOffset(Engine&, int32_t fd, int32_t offset) {
  // seccomp: setsockopt(_, SOL_SOCKET, SO_PEEK_OFF)
  return option(fd, SOL_SOCKET, SO_PEEK_OFF, offset);
}

/** Whether TCP sockets of a family keep a peek offset: Linux 6.9 for IPv4, 6.11 for IPv6; 1 or 0. */
static int32_t probePeekOffset(Engine&, int32_t family) {
  const int fd = socket(domain(family), SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0) return 0;
  const int32_t result = option(fd, SOL_SOCKET, SO_PEEK_OFF, 0);
  ::close(fd);
  return result == 0;
}

/** Room for datagrams that arrive while this process waits for its processor: the usual buffer holds less than 300, which a
 * sender makes in a fraction of a millisecond. The kernel grants as much as net.core.rmem_max. */
// seccomp: setsockopt(_, SOL_SOCKET, SO_RCVBUF)
static int32_t wantBursts(int fd) { return option(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20); }

static int32_t udpSocket(Engine& engine, int32_t family, int32_t freebind, int32_t place) {
  const int32_t fd = makeSocket(engine, family, SOCK_DGRAM, IPPROTO_UDP, place);
  if (fd < 0) return fd;
  int32_t error = wantErrors(fd, family);
  if (!error) error = wantBursts(fd);
  if (!error && freebind) error = wantFreebind(fd, family);
  return error ? abandon(fd, error) : fd;
}

/** listenUdp(family, dualStack, device, freebind, place) */
static napi_value listenUdp(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  const int32_t family = arguments.integer(0);
  const bool dualStack = arguments.integer(1) != 0;
  const int32_t fd = makeSocket(engine, family, SOCK_DGRAM, IPPROTO_UDP, arguments.integer(4));
  if (fd < 0) return arguments.result(fd);
  int32_t error = prepareListener(fd, family, dualStack, arguments.text(2), arguments.integer(3) != 0);
  if (!error) error = wantBursts(fd);
  // seccomp: setsockopt(_, IPPROTO_IPV6, IPV6_RECVPKTINFO) setsockopt(_, IPPROTO_IP, IP_PKTINFO)
  if (!error && family == 6) error = option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  if (!error && family == 4) error = option(fd, IPPROTO_IP, IP_PKTINFO, 1);
  if (!error) error = wantHopLimits(engine, fd, family);
  // Groups that the host is in (groups.cc) reach the port; an IPv6 socket hears those of IPv4 only if told so.
  // seccomp: setsockopt(_, IPPROTO_IP, IP_MULTICAST_ALL)
  if (!error) option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 1);
  if (!error) error = bindLocal(engine, fd, family);
  // Only now: bound without it, so that a port in use is noticed; with it from here on, so that the sockets of flows
  // can be bound to the same address beside this one.
  if (!error) error = option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return arguments.result(error ? abandon(fd, error) : fd);
}

static int32_t pingSocket(Engine& engine, int32_t family) {
  const int protocol = family == 6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
  const int32_t fd = makeSocket(engine, family, SOCK_DGRAM, protocol, placeHost);
  if (fd < 0) return fd;
  int32_t error = wantErrors(fd, family);
  // Linux makes ping sockets with it set (INET_PROTOSW_REUSE): two could have one identifier, and each steal the other's
  // replies.
  if (!error) error = option(fd, SOL_SOCKET, SO_REUSEADDR, 0);
  return error ? abandon(fd, error) : fd;
}

void bindSockets(napi_env env, napi_value object, Engine* engine) {
  defineHot<close>(env, object, "closeFd", engine);
  defineHot<reset>(env, object, "reset", engine);
  defineHot<tcpSocket>(env, object, "tcpSocket", engine);
  defineHot<bindLocal>(env, object, "bind", engine);
  defineHot<connect>(env, object, "connect", engine);
  defineHot<localAddress>(env, object, "localAddress", engine);
  defineHot<accept>(env, object, "accept", engine);
  defineHot<socketError>(env, object, "socketError", engine);
  defineHot<shutdownWrite>(env, object, "shutdownWrite", engine);
  defineHot<setMss>(env, object, "setMss", engine);
  defineHot<setKeepalive>(env, object, "setKeepalive", engine);
  defineHot<setHopLimit>(env, object, "setHopLimit", engine);
  defineHot<queueErrors>(env, object, "queueErrors", engine);
  defineHot<wantHopLimits>(env, object, "wantHopLimits", engine);
  defineHot<setReuseAddress>(env, object, "setReuseAddress", engine);
  defineHot<setPeekOffset>(env, object, "setPeekOffset", engine);
  defineHot<probePeekOffset>(env, object, "probePeekOffset", engine);
  defineHot<udpSocket>(env, object, "udpSocket", engine);
  defineHot<pingSocket>(env, object, "pingSocket", engine);
  define(env, object, "bindToDevice", bindToDevice, engine);
  define(env, object, "listenTcp", listenTcp, engine);
  define(env, object, "listenUdp", listenUdp, engine);
}

}  // namespace passt
