/**
 * Who listens: ports of listening TCP and unconnected UDP sockets, as sock_diag(7) tells them. Each place has its own netlink
 * socket, opened at start: a dump shows the namespace that the socket belongs to.
 */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "addon.h"
#include "engine.h"
#include "namespace.h"

namespace passt {

/** Equal to packages/core/src/kernel.ts. */
constexpr int32_t scanTcp = 0;
constexpr int32_t scanUdp = 1;
constexpr size_t portMapBytes = 8192;

/** States of the kernel's include/net/tcp_states.h; a UDP socket without a peer is in the latter. */
constexpr uint32_t stateListen = 10;
constexpr uint32_t stateClose = 7;

static int32_t diagSocket(Engine& engine, int32_t place) {
  int& fd = engine.diagFds[place];
  if (fd >= 0) return fd;
  const int32_t made = atPlace(engine, place, []() -> int32_t {
    const int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    return s < 0 ? -errno : s;
  });
  if (made >= 0) fd = made;
  return made;
}

/** Reads one family's dump. @returns the number of sockets, or -errno */
static int32_t dump(int fd, uint8_t family, uint8_t protocol, uint32_t states, uint8_t* map) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  question.request.sdiag_family = family;
  question.request.sdiag_protocol = protocol;
  question.request.idiag_states = states;
  if (send(fd, &question, sizeof question, 0) < 0) return -errno;
  int32_t sockets = 0;
  alignas(nlmsghdr) uint8_t answer[32 << 10];
  for (;;) {
    const ssize_t got = recv(fd, answer, sizeof answer, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    int left = static_cast<int>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(answer); NLMSG_OK(h, static_cast<unsigned>(left));
         h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_type == NLMSG_DONE) return sockets;
      if (h->nlmsg_type == NLMSG_ERROR) {
        const auto* error = static_cast<nlmsgerr*>(NLMSG_DATA(h));
        return error->error < 0 ? error->error : -EIO;
      }
      if (h->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) continue;
      const auto* message = static_cast<inet_diag_msg*>(NLMSG_DATA(h));
      const uint16_t port = ntohs(message->id.idiag_sport);
      map[port >> 3] = static_cast<uint8_t>(map[port >> 3] | 1 << (port & 7));
      sockets++;
    }
  }
}

/** scanListeners(place, kind, map) */
static napi_value scanListeners(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  const int32_t place = arguments.integer(0);
  const int32_t kind = arguments.integer(1);
  size_t length = 0;
  auto* const map = static_cast<uint8_t*>(arguments.bytes(2, &length));
  if (!map || length < portMapBytes || (place != placeHost && place != placeNamespace)) return arguments.result(-EINVAL);
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  const int32_t fd = diagSocket(engine, place);
  if (fd < 0) return arguments.result(fd);
  memset(map, 0, portMapBytes);
  const uint8_t protocol = kind == scanTcp ? IPPROTO_TCP : IPPROTO_UDP;
  const uint32_t states = 1u << (kind == scanTcp ? stateListen : stateClose);
  const int32_t v4 = dump(fd, AF_INET, protocol, states, map);
  const int32_t v6 = v4 < 0 ? v4 : dump(fd, AF_INET6, protocol, states, map);
  if (v6 < 0) {
    // Whatever is left of a broken dump must not pass for the next one's.
    ::close(engine.diagFds[place]);
    engine.diagFds[place] = -1;
    return arguments.result(v6);
  }
  return arguments.result(v4 + v6);
}

void bindListeners(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "scanListeners", scanListeners, engine);
}

}  // namespace passt
