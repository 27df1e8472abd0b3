/**
 * The control socket: a UNIX stream socket whose clients write requests as lines of text, and may send an open file along with one
 * (unix(7), SCM_RIGHTS). Everything is non-blocking but the client's own side (passtctl), which has nothing else to do.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "addon.h"
#include "descriptor-message.h"
#include "unix-listener.h"

namespace passt {
namespace {

/** Connections that wait to be accepted. */
constexpr int backlog = 8;

/** Descriptors that one message can bring; all but the first are closed. */
constexpr size_t descriptorMax = 4;

// listenControl(path, mode): see listenOnPath. @returns the descriptor or -errno
napi_value listenControl(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return arguments.result(listenOnPath(arguments.text(0), static_cast<mode_t>(arguments.integer(1)), backlog));
}

// connectControl(path): the client's side, which blocks. @returns the descriptor or -errno
napi_value connectControl(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  return arguments.result(connectToPath(arguments.text(0)));
}

// acceptControl(fd): @returns a connection, or -errno
napi_value acceptControl(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  // seccomp[control]: accept4
  const int fd = accept4(arguments.integer(0), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return arguments.result(fd < 0 ? -errno : fd);
}

// receiveControl(fd, bytes, from, passed): reads into bytes[from …]; passed[0] gets a descriptor that came along, or -1.
// @returns bytes read, 0 at the end, or -errno
napi_value receiveControl(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  size_t length = 0;
  size_t words = 0;
  auto* bytes = static_cast<uint8_t*>(arguments.bytes(1, &length));
  const int32_t from = arguments.integer(2);
  auto* passed = static_cast<int32_t*>(arguments.bytes(3, &words));
  if (!bytes || from < 0 || static_cast<size_t>(from) >= length || !passed || words < sizeof *passed) {
    return arguments.result(-EINVAL);
  }
  *passed = -1;
  iovec piece = {bytes + from, length - static_cast<size_t>(from)};
  alignas(cmsghdr) char control[CMSG_SPACE(descriptorMax * sizeof(int))];
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got;
  do {
    // seccomp[control]: recvmsg
    got = recvmsg(arguments.integer(0), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return arguments.result(-errno);
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      if (*passed < 0) *passed = fd;
      else close(fd);
    }
  }
  return arguments.result(static_cast<int32_t>(got));
}

// sendControl(fd, bytes, from, to, descriptor): writes bytes[from … to-1], and with them a descriptor unless it is negative.
// @returns bytes written or -errno
napi_value sendControl(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  size_t length = 0;
  auto* bytes = static_cast<uint8_t*>(arguments.bytes(1, &length));
  const int32_t from = arguments.integer(2);
  const int32_t to = arguments.integer(3);
  const int descriptor = arguments.integer(4);
  if (!bytes || from < 0 || to < from || static_cast<size_t>(to) > length) return arguments.result(-EINVAL);
  const DescriptorMessage message(bytes + from, static_cast<size_t>(to - from), descriptor);
  ssize_t sent;
  do {
    // seccomp[control]: sendmsg
    sent = sendmsg(arguments.integer(0), message.header(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return arguments.result(sent < 0 ? -errno : static_cast<int32_t>(sent));
}

// isReadableFile(fd): whether it is that of a regular file that is open for reading, which can't hold anybody up.
napi_value isReadableFile(napi_env env, napi_callback_info info) {
  const Arguments arguments(env, info);
  const int fd = arguments.integer(0);
  struct stat file {};
  // seccomp[control]: fstat newfstatat fcntl(_, F_GETFL)
  if (fstat(fd, &file) < 0 || !S_ISREG(file.st_mode)) return arguments.result(0);
  const int flags = fcntl(fd, F_GETFL);
  return arguments.result(flags >= 0 && (flags & O_ACCMODE) != O_WRONLY && !(flags & O_PATH) ? 1 : 0);
}

}  // namespace

void registerControl(napi_env env, napi_value exports) {
  define(env, exports, "listenControl", listenControl);
  define(env, exports, "connectControl", connectControl);
  define(env, exports, "acceptControl", acceptControl);
  define(env, exports, "receiveControl", receiveControl);
  define(env, exports, "sendControl", sendControl);
  define(env, exports, "isReadableFile", isReadableFile);
}

}  // namespace passt
