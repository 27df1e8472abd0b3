/**
 * Sockets created ahead of need. Having the namespace's thread create one takes two changes of thread, which costs more
 * than the socket: so it creates some at once, and the next are taken from the shelf.
 */
#pragma once

#include <cstdint>

namespace passt {

struct Engine;

class SpareSockets {
 public:
  /** A new TCP or UDP socket of the namespace, non-blocking, close-on-exec. @returns the descriptor or -errno */
  int32_t take(Engine& engine, int domain, int type, int protocol);
  /** Closes those that nobody took. */
  void close();
  ~SpareSockets() { close(); }

 private:
  static constexpr int32_t shelfMax = 32;
  struct Shelf {
    int domain = 0;
    int type = 0;
    int fds[shelfMax];
    int32_t count = 0;
  };
  /** TCP and UDP, IPv4 and IPv6. */
  static constexpr int shelves = 4;
  Shelf shelves_[shelves];
};

}  // namespace passt
