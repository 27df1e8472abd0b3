// Route netlink sockets (rtnetlink(7)). Messages are built and read in TypeScript; here are only the calls.
#include <cerrno>
#include <cstdint>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "addon.h"
#include "engine.h"
#include "namespace.h"

namespace passt {
namespace {

// Room for bursts of notifications; the kernel clamps it to net.core.rmem_max.
constexpr int RECEIVE_BUFFER_BYTES = 1 << 20;
// A dump is served by the kernel within the very call; a second means that something is badly wrong.
constexpr time_t DUMP_TIMEOUT_SECONDS = 5;

// @returns the descriptor or -errno
int32_t openRouteSocket(uint32_t groups, bool nonBlocking) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0), NETLINK_ROUTE);
  if (fd < 0) return -errno;

  int one = 1;
  int room = RECEIVE_BUFFER_BYTES;
  timeval limit = {DUMP_TIMEOUT_SECONDS, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  // Both may be missing on old kernels: then error texts are absent and dumps come unfiltered, which callers allow for.
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one);
  if (!nonBlocking) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);

  sockaddr_nl self = {};
  self.nl_family = AF_NETLINK;
  self.nl_groups = groups;
  if (bind(fd, reinterpret_cast<sockaddr*>(&self), sizeof self) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

// netlinkOpen(groups, nonBlocking 0 or 1): a socket bound to the RTMGRP_* groups, for the calling thread's network namespace.
// @returns the descriptor or -errno
napi_value netlinkOpen(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  return in.result(openRouteSocket(static_cast<uint32_t>(in.integer(0)), in.integer(1) != 0));
}

// netlinkOpenInNamespace(groups, nonBlocking 0 or 1): as netlinkOpen, for the network namespace that the engine has entered.
int32_t netlinkOpenInNamespace(Engine& engine, int32_t groups, int32_t nonBlocking) {
  return atPlace(engine, placeNamespace,
                 [=] { return openRouteSocket(static_cast<uint32_t>(groups), nonBlocking != 0); });
}

// netlinkSend(fd, bytes, length): one request to the kernel. @returns bytes sent or -errno
napi_value netlinkSend(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  size_t size;
  void* data = in.bytes(1, &size);
  if (!data) return in.result(-EINVAL);
  size_t length = static_cast<uint32_t>(in.integer(2));
  if (length > size) return in.result(-EINVAL);

  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  iovec piece = {data, length};
  msghdr message{};
  message.msg_name = &kernel;
  message.msg_namelen = sizeof kernel;
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ssize_t sent;
  do {
    // seccomp: sendmsg
    sent = sendmsg(in.integer(0), &message, 0);
  } while (sent < 0 && errno == EINTR);
  return in.result(sent < 0 ? -errno : static_cast<int32_t>(sent));
}

// netlinkReceive(fd, bytes, peek 0 or 1): one datagram from the kernel; datagrams of other senders are thrown away. With peek
// it stays in the queue.
// @returns its whole length, which may exceed the room (then the rest is cut off), or -errno
napi_value netlinkReceive(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  int fd = in.integer(0);
  size_t size;
  void* data = in.bytes(1, &size);
  if (!data) return in.result(-EINVAL);
  int flags = MSG_TRUNC | (in.integer(2) != 0 ? MSG_PEEK : 0);

  for (;;) {
    sockaddr_nl from = {};
    socklen_t fromLength = sizeof from;
    // seccomp: recvfrom
    ssize_t got = recvfrom(fd, data, size, flags, reinterpret_cast<sockaddr*>(&from), &fromLength);
    if (got < 0) {
      if (errno == EINTR) continue;
      return in.result(-errno);
    }
    if (fromLength == sizeof from && from.nl_pid == 0) return in.result(static_cast<int32_t>(got));
    // Any process may send to our port: only the kernel (port 0) is believed. A peeked one must leave the queue.
    if (flags & MSG_PEEK) recv(fd, data, size, MSG_DONTWAIT);
  }
}

}  // namespace

void bindNetlink(napi_env env, napi_value object, Engine* engine) {
  defineHot<netlinkOpenInNamespace>(env, object, "netlinkOpenInNamespace", engine);
}

void registerNetlink(napi_env env, napi_value exports) {
  define(env, exports, "netlinkOpen", netlinkOpen);
  define(env, exports, "netlinkSend", netlinkSend);
  define(env, exports, "netlinkReceive", netlinkReceive);
}

}  // namespace passt
