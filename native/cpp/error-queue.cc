/** The error queue of datagram sockets: ICMP errors with their origin and the start of the datagram they are about. */
#include <ctime>

// Needs timespec, and does not say so.
#include <linux/errqueue.h>
#include <netinet/in.h>

#include "address.h"
#include "addon.h"
#include "engine.h"

namespace passt {

enum ErrorWord : int32_t { errorErrno, errorOrigin, errorType, errorCode, errorInfo, errorPayload };

static int32_t readError(Engine& engine, int32_t fd, int32_t row, int32_t bytes) {
  if (bytes < 0) return -EINVAL;
  uint8_t* const room = engine.rowRoom(row, bytes);
  if (!room) return -EINVAL;

  sockaddr_storage address{};
  alignas(cmsghdr) uint8_t control[256];
  iovec vector = {room, static_cast<size_t>(bytes)};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  // seccomp: recvmsg
  const ssize_t got = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN ? 0 : -errno;

  memset(engine.error, 0, errorWords * sizeof *engine.error);
  memset(engine.address + addressOffender, 0, addressWords * sizeof *engine.address);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    const bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
    const bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
    if (!v4 && !v6) continue;
    if (c->cmsg_len < CMSG_LEN(sizeof(sock_extended_err))) continue;
    sock_extended_err what;
    memcpy(&what, CMSG_DATA(c), sizeof what);
    engine.error[errorErrno] = static_cast<int32_t>(what.ee_errno);
    engine.error[errorOrigin] = what.ee_origin;
    engine.error[errorType] = what.ee_type;
    engine.error[errorCode] = what.ee_code;
    engine.error[errorInfo] = static_cast<int32_t>(what.ee_info);
    // The offender's address follows the structure (ip(7), SO_EE_OFFENDER).
    const size_t have = c->cmsg_len - CMSG_LEN(sizeof(sock_extended_err));
    sockaddr_storage offender{};
    memcpy(&offender, CMSG_DATA(c) + sizeof what, have < sizeof(sockaddr_in6) ? have : sizeof(sockaddr_in6));
    toRecord(reinterpret_cast<sockaddr*>(&offender), engine.address + addressOffender);
  }
  engine.error[errorPayload] = static_cast<int32_t>(got);
  toRecord(reinterpret_cast<sockaddr*>(&address), engine.address + addressRemote);
  return 1;
}

void bindErrorQueue(napi_env env, napi_value object, Engine* engine) {
  defineHot<readError>(env, object, "readError", engine);
}

}  // namespace passt
