// What the process is and may do: identity, capabilities, limits, standard streams, and the syslog socket.
//
// Identity and limits belong to a whole process, but Linux keeps capabilities and no_new_privs per thread, and the
// runtime has threads of its own. glibc changes user and group ids on all threads (nptl(7)); for the rest,
// `onEveryThread` runs a function in each thread by a signal.
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include "addon.h"

namespace passt {
namespace {

// ---- every thread -------------------------------------------------------------------------------------------------

// Async-signal-safe work for one thread. @returns 0 or -errno
using ThreadWork = int (*)();

std::atomic_flag broadcastBusy = ATOMIC_FLAG_INIT;
std::atomic<ThreadWork> broadcastWork{nullptr};
std::atomic<int> broadcastDone{0};
std::atomic<int> broadcastError{0};

void onBroadcastSignal(int) {
  int saved = errno;
  ThreadWork work = broadcastWork.load();
  if (work) {
    int result = work();
    if (result < 0) broadcastError.store(result);
    broadcastDone.fetch_add(1);
  }
  errno = saved;
}

// Whether a thread would ever handle a signal: not if it blocks it. Reads SigBlk of its status file.
bool canReceive(pid_t thread, int signal) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
  FILE* file = fopen(path, "re");
  if (!file) return false;
  bool reachable = false;
  char line[256];
  while (fgets(line, sizeof line, file)) {
    unsigned long long blocked;
    if (sscanf(line, "SigBlk: %llx", &blocked) == 1) {
      reachable = !(blocked >> (signal - 1) & 1);
      break;
    }
  }
  fclose(file);
  return reachable;
}

// Runs `work` in the calling thread and in every other one.
// @returns the number of threads that could not be reached (they block the signal), or -errno when `work` failed
int onEveryThread(ThreadWork work) {
  int own = work();
  if (own < 0) return own;
  if (broadcastBusy.test_and_set()) return -EBUSY;

  const int signal = SIGRTMAX - 1;
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = onBroadcastSignal;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  broadcastDone.store(0);
  broadcastError.store(0);
  broadcastWork.store(work);
  sigaction(signal, &action, &before);

  int sent = 0;
  int unreachable = 0;
  pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
  DIR* tasks = opendir("/proc/self/task");
  if (!tasks) unreachable = 1;
  while (dirent* entry = tasks ? readdir(tasks) : nullptr) {
    pid_t thread = static_cast<pid_t>(strtol(entry->d_name, nullptr, 10));
    if (thread <= 0 || thread == self) continue;
    if (!canReceive(thread, signal)) {
      unreachable++;
    } else if (syscall(SYS_tgkill, getpid(), thread, signal) == 0) {
      sent++;
    } else if (errno != ESRCH) {
      unreachable++;
    }
  }
  if (tasks) closedir(tasks);

  // A runnable thread handles a signal at once; a second covers a machine under heavy load.
  for (int i = 0; i < 1000 && broadcastDone.load() < sent; i++) {
    timespec pause = {0, 1000000};
    nanosleep(&pause, nullptr);
  }
  int late = sent - broadcastDone.load();
  broadcastWork.store(nullptr);
  // A late signal must not end the process: the handler then does nothing. So it stays installed in that case.
  if (late == 0) sigaction(signal, &before, nullptr);
  broadcastBusy.clear();
  int error = broadcastError.load();
  return error < 0 ? error : unreachable + late;
}

// ---- privileges ---------------------------------------------------------------------------------------------------

// Capabilities that threads keep, as bits; written before they are asked to drop the others.
std::atomic<uint64_t> keptCapabilities{0};

// Needs CAP_SETPCAP; without it the set stays, and says nothing about what a thread has.
int dropThreadBoundingSet() {
  for (int capability = 0; capability < 64; capability++) {
    int held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
    if (held < 0 || (held == 1 && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)) break;
  }
  return 0;
}

int dropThreadCapabilities() {
  dropThreadBoundingSet();
  // EINVAL: a kernel without ambient capabilities.
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL) return -errno;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct left[2] = {};
  const uint64_t kept = keptCapabilities.load();
  if (kept != 0) {
    __user_cap_data_struct held[2] = {};
    if (syscall(SYS_capget, &header, held) < 0) return -errno;
    for (int half = 0; half < 2; half++) {
      left[half].permitted = held[half].permitted & static_cast<uint32_t>(kept >> (32 * half));
      left[half].effective = left[half].permitted;
    }
  }
  return syscall(SYS_capset, &header, left) < 0 ? -errno : 0;
}

// dropCapabilities(kept, or -1 for none): clears the ambient, effective, permitted, inheritable and (where allowed) bounding
// sets of all threads, but for one capability in the effective and the permitted set, as far as a thread has it.
// @returns the number of threads that could not be reached, or -errno
napi_value dropCapabilities(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  const int32_t kept = in.integer(0);
  if (kept >= 64) return in.result(-EINVAL);
  keptCapabilities.store(kept < 0 ? 0 : uint64_t{1} << kept);
  return in.result(onEveryThread(dropThreadCapabilities));
}

int setThreadNoNewPrivs() { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0; }

// setNoNewPrivs(): as dropCapabilities, for the no_new_privs bit.
napi_value setNoNewPrivs(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  return in.result(onEveryThread(setThreadNoNewPrivs));
}

// setDumpable(0 or 1): whether others of the same user may trace us, and core files are written. @returns 0 or -errno
napi_value setDumpable(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  return in.result(prctl(PR_SET_DUMPABLE, in.integer(0) != 0 ? 1 : 0, 0, 0, 0) < 0 ? -errno : 0);
}

// ---- identity -----------------------------------------------------------------------------------------------------

// dropRoot(uid, gid): no supplementary groups, then all group ids, then all user ids; with them the capabilities go,
// and before them, while it is allowed, the bounding set. @returns 0 or -errno
napi_value dropRoot(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  uid_t uid = static_cast<uid_t>(in.integer(0));
  gid_t gid = static_cast<gid_t>(in.integer(1));
  if (uid == static_cast<uid_t>(-1) || gid == static_cast<gid_t>(-1)) return in.result(-EINVAL);
  onEveryThread(dropThreadBoundingSet);
  // In a user namespace setgroups may be denied for good (user_namespaces(7)): then there is nothing to drop.
  if (setgroups(0, nullptr) < 0 && errno != EPERM) return in.result(-errno);
  if (setresgid(gid, gid, gid) < 0) return in.result(-errno);
  if (setresuid(uid, uid, uid) < 0) return in.result(-errno);
  return in.result(0);
}

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

// redirectStdio(): descriptors 0 to 2 become /dev/null, so that whoever reads our output sees its end. @returns 0 or -errno
napi_value redirectStdio(napi_env env, napi_callback_info info) {
  Arguments in(env, info);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return in.result(-errno);
  for (int fd = 0; fd <= 2; fd++) {
    if (null == fd) {
      // It took the place of a closed one: then it is that stream, and must not be closed below.
      fcntl(fd, F_SETFD, 0);
    } else if (dup2(null, fd) < 0) {
      int error = errno;
      if (null > 2) close(null);
      return in.result(-error);
    }
  }
  if (null > 2) close(null);
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
  ssize_t sent = send(in.integer(0), data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  return in.result(sent < 0 ? -errno : static_cast<int32_t>(sent));
}

}  // namespace

void registerProcess(napi_env env, napi_value exports) {
  define(env, exports, "dropRoot", dropRoot);
  define(env, exports, "isInitialUserNamespaceRoot", isInitialUserNamespaceRoot);
  define(env, exports, "lookupUser", lookupUser);
  define(env, exports, "lookupGroup", lookupGroup);
  define(env, exports, "dropCapabilities", dropCapabilities);
  define(env, exports, "setNoNewPrivs", setNoNewPrivs);
  define(env, exports, "setDumpable", setDumpable);
  define(env, exports, "raiseFileLimit", raiseFileLimit);
  define(env, exports, "setProcessName", setProcessName);
  define(env, exports, "redirectStdio", redirectStdio);
  define(env, exports, "syslogOpen", syslogOpen);
  define(env, exports, "syslogSend", syslogSend);
}

}  // namespace passt
