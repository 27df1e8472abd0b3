/** Fills shelves of sockets in the namespace, and takes from them. */
#include "spare-sockets.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "engine.h"
#include "namespace.h"

namespace passt {

int32_t SpareSockets::take(Engine& engine, int domain, int type, int protocol) {
  Shelf* shelf = nullptr;
  for (Shelf& candidate : shelves_) {
    if (candidate.domain == 0) {
      candidate.domain = domain;
      candidate.type = type;
    }
    if (candidate.domain == domain && candidate.type == type) {
      shelf = &candidate;
      break;
    }
  }
  if (!shelf) return -EINVAL;
  if (shelf->count == 0) {
    const int32_t result = atPlace(engine, placeNamespace, [&]() -> int32_t {
      while (shelf->count < shelfMax) {
        // seccomp[pasta]: socket(AF_INET|AF_INET6, 15:SOCK_STREAM|SOCK_DGRAM, IPPROTO_TCP|IPPROTO_UDP)
        const int fd = socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        // Whatever kept the others away, one is enough for now.
        if (fd < 0) return shelf->count > 0 ? 0 : -errno;
        shelf->fds[shelf->count++] = fd;
      }
      return 0;
    });
    if (result < 0) return result;
  }
  return shelf->fds[--shelf->count];
}

void SpareSockets::close() {
  for (Shelf& shelf : shelves_) {
    while (shelf.count > 0) ::close(shelf.fds[--shelf.count]);
  }
}

}  // namespace passt
