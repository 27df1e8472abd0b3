// Whose end pasta waits for: a spawned command, a process, a file that names a namespace. Descriptors for an epoll set, since
// no other loop runs.
#include <cerrno>
#include <cstdint>
#include <string>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "addon.h"

namespace passt {
namespace {

// takeChild(pid): whether a child has ended, and how. Never waits. @returns -EAGAIN while it runs, else its exit status, or 128
// plus the number of the signal that ended it, as a shell tells it
napi_value takeChild(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  int status = 0;
  pid_t ended;
  do {
    // seccomp[pasta,command]: wait4
    ended = waitpid(in.integer(0), &status, WNOHANG);
  } while (ended < 0 && errno == EINTR);
  if (ended < 0) return in.result(-errno);
  if (ended == 0) return in.result(-EAGAIN);
  return in.result(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

// openProcess(pid): a descriptor that is readable once the process has ended (pidfd_open(2), Linux 5.3). @returns it or -errno
napi_value openProcess(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  // Closed on execve by nature.
  const long fd = syscall(SYS_pidfd_open, in.integer(0), 0u);
  return in.result(fd < 0 ? -errno : static_cast<int32_t>(fd));
}

// watchDirectory(path): a non-blocking descriptor that is readable once something happened to entries of a directory, or to the
// directory itself (inotify(7)); `entryGone` tells what. @returns it or -errno
napi_value watchDirectory(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  const std::string path = in.text(0);
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return in.result(-errno);
  const uint32_t mask = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR;
  if (inotify_add_watch(fd, path.c_str(), mask) < 0) {
    const int error = errno;
    close(fd);
    return in.result(-error);
  }
  return in.result(fd);
}

// entryGone(fd, name): reads what a descriptor of watchDirectory has to say. No file is looked at: there may be no way there any
// more. @returns 1 when the entry was removed, renamed or replaced, or the directory is gone, else 0; or -errno
napi_value entryGone(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  const std::string name = in.text(1);
  alignas(inotify_event) char room[4096];
  int32_t gone = 0;
  for (;;) {
    // seccomp: read
    const ssize_t length = read(in.integer(0), room, sizeof room);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return in.result(length < 0 && errno != EAGAIN ? -errno : gone);
    for (ssize_t at = 0; at + static_cast<ssize_t>(sizeof(inotify_event)) <= length;) {
      const auto* const event = reinterpret_cast<const inotify_event*>(room + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      if (event->mask & (IN_DELETE_SELF | IN_UNMOUNT)) gone = 1;
      // Padded with zeros, absent for the directory itself.
      if (event->len > 0 && name == event->name) gone = 1;
    }
  }
}

}  // namespace

void registerWatch(napi_env env, napi_value exports) {
  define(env, exports, "takeChild", takeChild);
  define(env, exports, "openProcess", openProcess);
  define(env, exports, "watchDirectory", watchDirectory);
  define(env, exports, "entryGone", entryGone);
}

}  // namespace passt
