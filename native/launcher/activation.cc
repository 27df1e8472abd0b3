#include "activation.h"

#include <climits>
#include <cstdlib>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

namespace launcher {
namespace {

/** SD_LISTEN_FDS_START. */
constexpr int firstFd = 3;
constexpr std::string_view wantedName = "passt";

/** @returns the number in a variable, 0 if it is absent or no number */
int numberIn(const char* variable) {
  const char* text = getenv(variable);
  if (!text || *text == '\0') return 0;
  char* end = nullptr;
  const long value = strtol(text, &end, 10);
  return *end == '\0' && value > 0 && value < INT_MAX ? static_cast<int>(value) : 0;
}

/** The place of a name in a list separated by colons; -1: it isn't there. */
int placeOf(std::string_view wanted, std::string_view names) {
  for (int place = 0;; place++) {
    const size_t colon = names.find(':');
    if (names.substr(0, colon) == wanted) return place;
    if (colon == std::string_view::npos) return -1;
    names.remove_prefix(colon + 1);
  }
}

bool hasOption(int fd, int option, int wanted) {
  int value = 0;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

}  // namespace

Failure findActivatedSocket(int& fd) {
  fd = -1;
  // They may have been meant for a process that we descend from.
  if (numberIn("LISTEN_PID") != getpid()) return {};
  const int count = numberIn("LISTEN_FDS");
  if (count == 0) return {};
  int place = 0;
  if (count > 1) {
    const char* names = getenv("LISTEN_FDNAMES");
    place = names ? placeOf(wantedName, names) : -1;
    if (place < 0 || place >= count) {
      return "Of several sockets passed by LISTEN_FDS, the guest's must have the name passt (FileDescriptorName=passt)";
    }
  }
  const int found = firstFd + place;
  if (!hasOption(found, SO_DOMAIN, AF_UNIX) || !hasOption(found, SO_TYPE, SOCK_STREAM) ||
      !hasOption(found, SO_ACCEPTCONN, 1)) {
    return "The socket passed by LISTEN_FDS is no listening UNIX stream socket (ListenStream=/PATH, Accept=no)";
  }
  fd = found;
  return {};
}

}  // namespace launcher
