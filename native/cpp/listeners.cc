/**
 * Who listens: ports of listening TCP and unconnected UDP sockets, as sock_diag(7) tells them. Each place has its own netlink
 * socket: a dump shows the namespace that the socket belongs to. Kernels without the modules for it (tcp_diag, udp_diag) are
 * asked through files of /proc/net, which say the same in many more words; each place has its own of those, too.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
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
  // seccomp[pasta]: sendto
  if (send(fd, &question, sizeof question, 0) < 0) return -errno;
  int32_t sockets = 0;
  alignas(nlmsghdr) uint8_t answer[32 << 10];
  for (;;) {
    // seccomp: recvfrom
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

/** Takes the port of a line of /proc/net/tcp and the like, if the socket is in the state that is looked for:
 * "  12: 0100007F:1F90 00000000:0000 0A ...". @returns whether it was */
static bool takeLine(char* line, uint32_t state, uint8_t* map) {
  char* at = strchr(line, ':');
  // Behind the row's number comes the local address, of 8 or 32 digits.
  at = at ? strchr(at + 1, ':') : nullptr;
  if (!at) return false;
  const unsigned long port = strtoul(at + 1, &at, 16);
  at = strchr(at, ':');
  if (!at || port > 65535) return false;
  strtoul(at + 1, &at, 16);
  if (strtoul(at, nullptr, 16) != state) return false;
  map[port >> 3] = static_cast<uint8_t>(map[port >> 3] | 1 << (port & 7));
  return true;
}

/** Reads one file. @returns the number of sockets, or -errno */
static int32_t readFile(Engine& engine, int32_t place, int32_t which, uint32_t state, uint8_t* map) {
  static constexpr const char* paths[] = {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6",
                                          "/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"};
  int& fd = engine.listenerFiles[place][which];
  if (fd < 0) {
    const int32_t opened = atPlace(engine, place, [which]() -> int32_t {
      const int file = open(paths[which], O_RDONLY | O_CLOEXEC);
      return file < 0 ? -errno : file;
    });
    // A kernel without IPv6 has no file for it.
    if (opened < 0) return opened == -ENOENT && which % 2 == 1 ? 0 : opened;
    fd = opened;
  }
  // seccomp[pasta,no-sock-diag]: lseek
  if (lseek(fd, 0, SEEK_SET) < 0) return -errno;
  char text[8192];
  size_t kept = 0;
  int32_t sockets = 0;
  for (;;) {
    // seccomp: read
    const ssize_t got = read(fd, text + kept, sizeof text - 1 - kept);
    if (got < 0) return -errno;
    if (got == 0) return sockets;
    const size_t have = kept + static_cast<size_t>(got);
    text[have] = 0;
    char* line = text;
    for (char* end; (end = strchr(line, '\n')); line = end + 1) {
      *end = 0;
      if (takeLine(line, state, map)) sockets++;
    }
    kept = have - static_cast<size_t>(line - text);
    if (kept >= sizeof text - 1) return -EIO;
    memmove(text, line, kept);
  }
}

/** scanListeners(place, kind, map, files): `files` 1 reads files, whether or not there is sock_diag. */
static napi_value scanListeners(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  auto& engine = arguments.self<Engine>();
  const int32_t place = arguments.integer(0);
  const int32_t kind = arguments.integer(1);
  size_t length = 0;
  auto* const map = static_cast<uint8_t*>(arguments.bytes(2, &length));
  if (!map || length < portMapBytes || (place != placeHost && place != placeNamespace)) return arguments.result(-EINVAL);
  if (kind != scanTcp && kind != scanUdp) return arguments.result(-EINVAL);
  if (engine.epollFd < 0) return arguments.result(-EBADF);
  memset(map, 0, portMapBytes);
  const uint8_t protocol = kind == scanTcp ? IPPROTO_TCP : IPPROTO_UDP;
  const uint32_t state = kind == scanTcp ? stateListen : stateClose;
  const bool files = arguments.integer(3) == 1 || engine.diagMissing;
  int32_t sockets = 0;
  for (int32_t i = 0; i < 2 && sockets >= 0; i++) {
    int32_t found;
    if (files) {
      found = readFile(engine, place, 2 * kind + i, state, map);
    } else {
      const int32_t fd = diagSocket(engine, place);
      found = fd < 0 ? fd : dump(fd, i == 0 ? AF_INET : AF_INET6, protocol, 1u << state, map);
    }
    sockets = found < 0 ? found : sockets + found;
  }
  if (sockets >= 0 || files) return arguments.result(sockets);
  // Whatever is left of a broken dump must not pass for the next one's.
  if (engine.diagFds[place] >= 0) ::close(engine.diagFds[place]);
  engine.diagFds[place] = -1;
  if (sockets != -ENOENT && sockets != -EPROTONOSUPPORT && sockets != -EINVAL) return arguments.result(sockets);
  engine.diagMissing = true;
  return scanListeners(env, info);
}

void closeListenerScan(Engine& engine) {
  for (int place = 0; place < 2; place++) {
    if (engine.diagFds[place] >= 0) ::close(engine.diagFds[place]);
    engine.diagFds[place] = -1;
    for (int& fd : engine.listenerFiles[place]) {
      if (fd >= 0) ::close(fd);
      fd = -1;
    }
  }
}

void bindListeners(napi_env env, napi_value object, Engine* engine) {
  define(env, object, "scanListeners", scanListeners, engine);
}

}  // namespace passt
