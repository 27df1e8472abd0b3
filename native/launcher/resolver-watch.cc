#include "resolver-watch.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptors.h"
#include "helper-seal.h"
#include "helper.h"
#include "namespaces.h"
#include "resolver-file.h"

// The calls that comments in resolver-*.cc name.
#define FILTER_BLOCKS "watcher-blocks.h"
#include "../cpp/filter.h"

namespace launcher {
namespace {

/** What it takes of the heap once it is sealed: two contents of the largest size, the message, and what strings leave behind as they grow. */
constexpr size_t heapBytes = 2 << 20;
sock_filter filter[passt::filterMax + 1];

constexpr char path[] = "/etc/resolv.conf";
constexpr int peer = helperPeer;

/** Without a sign for that long, a change has settled: editors write, rename and set modes in one go. Milliseconds. */
constexpr int quietMs = 150;
/** For one that never does. */
constexpr int quietRounds = 10;
/** How often, and how long apart, a file that does not look whole is read again before it is taken as it is. */
constexpr int retries = 10;
constexpr int retryMs = 100;
/** What inotify does not tell (another file mounted over this one; a network file system) is noticed nevertheless. */
constexpr int lookMs = 60'000;

/** Watches the places where the file is, and the file. @returns an inotify descriptor, -1 if there can be none */
int watchPlaces(const ResolverPlaces& places) {
  // seccomp: inotify_init1
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return -1;
  constexpr uint32_t ofDirectory = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE |
                                   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  // seccomp: inotify_add_watch
  for (const std::string& directory : places.directories) inotify_add_watch(fd, directory.c_str(), ofDirectory);
  // A file that is mounted there changes without its directory.
  inotify_add_watch(fd, path, IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF);
  return fd;
}

/** Takes what has been told. @returns whether any of it is about one of the names */
bool takeEvents(int fd, const ResolverPlaces& places) {
  alignas(inotify_event) char room[sizeof(inotify_event) * 16 + NAME_MAX + 1];
  bool concerns = false;
  for (;;) {
    // seccomp: read
    const ssize_t length = read(fd, room, sizeof room);
    if (length <= 0) return concerns;
    for (ssize_t at = 0; at < length;) {
      const auto* event = reinterpret_cast<const inotify_event*>(room + at);
      const std::string name(event->len > 0 ? event->name : "");
      // Without a name: the file or a directory itself, or lost events.
      if (name.empty() || std::find(places.names.begin(), places.names.end(), name) != places.names.end()) concerns = true;
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

/** Waits for a sign. @returns whether there was one @param timeoutMs longest time */
bool await(int inotify, int timeoutMs) {
  pollfd both[2] = {{peer, POLLIN, 0}, {inotify, POLLIN, 0}};
  // One that was stopped goes on by restart_syscall (signal(7)).
  // seccomp: poll@x86-64 ppoll@aarch64 restart_syscall
  const int ready = poll(both, inotify < 0 ? 1 : 2, timeoutMs);
  // Nothing is ever sent to us: this is the end.
  // seccomp: exit_group
  if (both[0].revents != 0) _exit(0);
  return ready > 0;
}

/** Until nothing has happened for a while. */
void settle(int inotify, const ResolverPlaces& places) {
  for (int round = 0; round < quietRounds && await(inotify, quietMs); round++) takeEvents(inotify, places);
}

std::string readSettled() {
  ResolverContent content = readResolvers(path);
  for (int i = 0; i < retries && !content.whole; i++) {
    await(-1, retryMs);
    content = readResolvers(path);
  }
  return content.text;
}

void sendContent(const std::string& text) {
  const std::string message = std::string(1, '\1') + text;
  ssize_t sent;
  do {
    // seccomp: sendto
    sent = send(peer, message.data(), message.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) _exit(1);
}

[[noreturn]] void watch() {
  std::string known;
  bool isFirst = true;
  for (;;) {
    // Watched before it is read: what changes in between is told.
    const ResolverPlaces places = findPlaces(path);
    const int inotify = watchPlaces(places);
    const std::string text = readSettled();
    if (isFirst || text != known) sendContent(text);
    known = text;
    isFirst = false;
    bool concerns = false;
    while (!concerns) {
      const bool told = await(inotify, lookMs);
      concerns = !told || takeEvents(inotify, places);
    }
    settle(inotify, places);
    // seccomp: close
    if (inotify >= 0) close(inotify);
  }
}

}  // namespace

int startResolverWatch(const Command& command, int argc, char** argv) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -1;
  const int room = 4 * static_cast<int>(resolverBytesMax);
  setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  const pid_t pid = fork();
  if (pid == 0) {
    becomeHelper(command, ends[1], command.program == Program::pasta ? "pasta-resolv" : "passt-resolv", argc, argv);
    sealHelper(heapBytes, filter, passt::assemble(filter, 0));
    // Until the other end of the socket is closed: the program may go on in a child of the process that started us.
    watch();
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return -1;
  }
  return moveAside(ends[0]);
}

}  // namespace launcher
