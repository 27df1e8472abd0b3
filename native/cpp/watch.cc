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

// watchDirectory(path): a non-blocking descriptor that is readable once entries of a directory were removed, or the directory
// itself (inotify(7)). What was removed is not told: look. @returns it or -errno
napi_value watchDirectory(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  const std::string path = in.text(0);
  const int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return in.result(-errno);
  const uint32_t mask = IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  if (inotify_add_watch(fd, path.c_str(), mask) < 0) {
    const int error = errno;
    close(fd);
    return in.result(-error);
  }
  return in.result(fd);
}

// drain(fd): reads and forgets what a non-blocking descriptor has to say. @returns 0 or -errno
napi_value drain(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  char room[4096];
  for (;;) {
    const ssize_t length = read(in.integer(0), room, sizeof room);
    if (length > 0 || (length < 0 && errno == EINTR)) continue;
    return in.result(length == 0 || errno == EAGAIN ? 0 : -errno);
  }
}

}  // namespace

void registerWatch(napi_env env, napi_value exports) {
  define(env, exports, "takeChild", takeChild);
  define(env, exports, "openProcess", openProcess);
  define(env, exports, "watchDirectory", watchDirectory);
  define(env, exports, "drain", drain);
}

}  // namespace passt
