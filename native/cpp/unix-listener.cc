#include "unix-listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace passt {

pid_t peerPid(int fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  // seccomp[passt]: getsockopt(_, SOL_SOCKET, SO_PEERCRED)
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 ? credentials.pid : 0;
}

bool peerGone(int fd) {
  pollfd look = {fd, POLLRDHUP, 0};
  // seccomp: poll@x86-64 ppoll@aarch64
  return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

int32_t prepareStream(int fd) {
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) return -errno;
  if (type != SOCK_STREAM) return -EPROTOTYPE;
  sockaddr_storage peer;
  length = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) < 0) return -errno;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  return 0;
}

int32_t prepareListener(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length) < 0) return -errno;
  if (value != AF_UNIX) return -EAFNOSUPPORT;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) < 0) return -errno;
  if (value != SOCK_STREAM) return -EPROTOTYPE;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) < 0) return -errno;
  if (value == 0) return -EINVAL;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
  return 0;
}

static int32_t addressOf(const std::string& path, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  if (path.empty()) return -ENOENT;
  if (path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  return 0;
}

int32_t connectToPath(const std::string& path, int flags) {
  sockaddr_un address{};
  const int32_t wrong = addressOf(path, address);
  if (wrong) return wrong;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) return -errno;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  ::close(fd);
  return -error;
}

/** Whether somebody listens on a path. */
static bool inUse(const std::string& path) {
  const int32_t fd = connectToPath(path, SOCK_NONBLOCK);
  if (fd >= 0) ::close(fd);
  // EAGAIN: somebody listens and has no time.
  return fd >= 0 || fd == -EAGAIN;
}

int32_t listenOnPath(const std::string& path, mode_t mode, int backlog) {
  sockaddr_un address{};
  const int32_t wrong = addressOf(path, address);
  if (wrong) return wrong;
  struct stat file;
  if (lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode)) {
    if (inUse(path)) return -EADDRINUSE;
    if (unlink(path.c_str()) < 0 && errno != ENOENT) return -errno;
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  // The mode of the socket becomes that of the file.
  if (fchmod(fd, mode) < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(fd, backlog) < 0) {
    const int error = errno;
    ::close(fd);
    return -error;
  }
  return fd;
}

}  // namespace passt
