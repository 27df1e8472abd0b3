// What the process is: who is who, limits, name, standard streams, and the syslog socket. What it may do is in privileges.cc,
// what it can see in sandbox.cc.
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include "addon.h"

namespace passt {
namespace {

// ---- identity -----------------------------------------------------------------------------------------------------

// isInitialUserNamespaceRoot(): 1 when we are root of the whole machine, not of a user namespace, else 0. The initial
// namespace maps all 2^32 - 1 ids to themselves in a single line (user_namespaces(7)).
napi_value isInitialUserNamespaceRoot(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  if (geteuid() != 0) return in.result(0);
  FILE* file = fopen("/proc/self/uid_map", "re");
  // Without the file there are no user namespaces in this kernel (or no /proc): root is root.
  if (!file) return in.result(1);
  unsigned long inside = 1, outside = 1, count = 0;
  int fields = fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
  fclose(file);
  return in.result(fields == 3 && inside == 0 && outside == 0 && count == 4294967295UL ? 1 : 0);
}

// socketPair(ends): two connected UNIX stream sockets (Int32Array of 2), closed on exec. @returns 0 or -errno
napi_value socketPair(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  size_t size;
  void* ends = in.bytes(0, &size);
  int pair[2];
  if (!ends || size < sizeof pair) return in.result(-EINVAL);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return in.result(-errno);
  memcpy(ends, pair, sizeof pair);
  return in.result(0);
}

// closeDescriptor(fd): one that this addon has opened; node:fs would wonder, in a worker. @returns 0 or -errno
napi_value closeDescriptor(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  return in.result(::close(in.integer(0)) < 0 ? -errno : 0);
}

// lookupUser(name, ids): writes user id and primary group id (Uint32Array of 2). @returns 0, -ENOENT or another -errno
napi_value lookupUser(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  std::string name = in.text(0);
  size_t size;
  void* ids = in.bytes(1, &size);
  if (!ids || size < 8) return in.result(-EINVAL);
  std::vector<char> room(16384);
  passwd entry;
  passwd* found = nullptr;
  int error = getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
  if (error != 0) return in.result(-error);
  if (!found) return in.result(-ENOENT);
  uint32_t values[2] = {entry.pw_uid, entry.pw_gid};
  memcpy(ids, values, sizeof values);
  return in.result(0);
}

// lookupGroup(name, ids): writes the group id (Uint32Array of 1). @returns as lookupUser
napi_value lookupGroup(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  std::string name = in.text(0);
  size_t size;
  void* ids = in.bytes(1, &size);
  if (!ids || size < 4) return in.result(-EINVAL);
  // Groups list their members: large ones need room.
  std::vector<char> room(1 << 20);
  group entry;
  group* found = nullptr;
  int error = getgrnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
  if (error != 0) return in.result(-error);
  if (!found) return in.result(-ENOENT);
  uint32_t gid = entry.gr_gid;
  memcpy(ids, &gid, sizeof gid);
  return in.result(0);
}

// ---- limits, name, streams ----------------------------------------------------------------------------------------

// raiseFileLimit(): the soft limit of open files becomes the hard one. @returns the limit now in force or -errno
napi_value raiseFileLimit(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return in.result(-errno);
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) return in.result(-errno);
  }
  return in.result(limit.rlim_cur > INT_MAX ? INT_MAX : static_cast<int32_t>(limit.rlim_cur));
}

// setProcessName(name): what ps and top show; cut to 15 bytes. Only on the main thread it names the process.
napi_value setProcessName(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  std::string name = in.text(0);
  return in.result(prctl(PR_SET_NAME, name.c_str(), 0, 0, 0) < 0 ? -errno : 0);
}

// redirectStdio(null): descriptors 0 to 2 become copies of `null`, so that whoever reads our output sees its end; `null` is closed.
// @returns 0 or -errno
napi_value redirectStdio(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  const int null = in.integer(0);
  if (null <= 2) return in.result(-EBADF);
  for (int fd = 0; fd <= 2; fd++) {
    if (dup2(null, fd) < 0) return in.result(-errno);
  }
  close(null);
  return in.result(0);
}

// ---- syslog -------------------------------------------------------------------------------------------------------

// syslogOpen(path): a non-blocking datagram socket, connected to the log daemon or service manager. A path that begins with "@" is
// an abstract address (unix(7)). @returns the descriptor or -errno
napi_value syslogOpen(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  std::string path = in.text(0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return in.result(-ENAMETOOLONG);
  memcpy(address.sun_path, path.data(), path.size());
  socklen_t length = sizeof address;
  if (path[0] == '@') {
    address.sun_path[0] = '\0';
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  }
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return in.result(-errno);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), length) < 0) {
    int error = errno;
    close(fd);
    return in.result(-error);
  }
  return in.result(fd);
}

// syslogSend(fd, bytes, length): one message. Never waits: a full queue loses it. @returns bytes sent or -errno
napi_value syslogSend(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  size_t size;
  void* data = in.bytes(1, &size);
  if (!data) return in.result(-EINVAL);
  size_t length = static_cast<uint32_t>(in.integer(2));
  if (length > size) return in.result(-EINVAL);
  iovec piece = {data, length};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  // seccomp: sendmsg
  ssize_t sent = sendmsg(in.integer(0), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return in.result(sent < 0 ? -errno : static_cast<int32_t>(sent));
}

}  // namespace

void registerProcess(napi_env env, napi_value exports) {
  define(env, exports, "isInitialUserNamespaceRoot", isInitialUserNamespaceRoot);
  define(env, exports, "lookupUser", lookupUser);
  define(env, exports, "socketPair", socketPair);
  define(env, exports, "closeDescriptor", closeDescriptor);
  define(env, exports, "lookupGroup", lookupGroup);
  define(env, exports, "raiseFileLimit", raiseFileLimit);
  define(env, exports, "setProcessName", setProcessName);
  define(env, exports, "redirectStdio", redirectStdio);
  define(env, exports, "syslogOpen", syslogOpen);
  define(env, exports, "syslogSend", syslogSend);
}

}  // namespace passt
