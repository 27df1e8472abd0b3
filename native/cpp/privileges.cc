/** What the process may do: gives up what is left of privileges and of what others may do to it. For one thread, once. */
#include "privileges.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "addon.h"

namespace passt {

int32_t keepCapabilities(uint64_t kept) {
  // Needs CAP_SETPCAP, which a new user namespace brings along. Without it the set stays, and says nothing about what a
  // thread has. EINVAL: past the last one that this kernel knows.
  for (int capability = 0; capability < 64; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) break;
  }
  // EINVAL: a kernel without ambient capabilities.
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL) return -errno;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct held[2] = {};
  __user_cap_data_struct left[2] = {};
  if (syscall(SYS_capget, &header, held) < 0) return -errno;
  for (int half = 0; half < 2; half++) {
    left[half].permitted = held[half].permitted & static_cast<uint32_t>(kept >> (32 * half));
    left[half].effective = left[half].permitted;
  }
  return syscall(SYS_capset, &header, left) < 0 ? -errno : 0;
}

namespace {

/** Landlock (landlock(7)), of which old headers know only a part. */
constexpr uint32_t landlockVersion = 1;
constexpr int fsRightsByAbi[] = {0, 13, 14, 15, 15, 16};
constexpr uint64_t scopeAbstractSocket = 1;
constexpr uint64_t scopeSignal = 2;
struct Ruleset {
  uint64_t fs;
  uint64_t net;
  uint64_t scoped;
};

/** Nothing in any file system can be opened, made, removed or executed any more; what is open stays. No abstract UNIX socket of
 * others can be reached, and no other process be signalled, unless `signals`. @returns 0 or -errno */
int32_t closeFileSystem(bool signals) {
#ifdef SYS_landlock_create_ruleset
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, landlockVersion);
  if (abi < 1) return -(abi < 0 ? errno : ENOSYS);
  Ruleset rules{};
  rules.fs = (uint64_t{1} << fsRightsByAbi[abi < 5 ? abi : 5]) - 1;
  if (abi >= 6) rules.scoped = scopeAbstractSocket | (signals ? 0 : scopeSignal);
  const size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const long fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0u);
  if (fd < 0) return -errno;
  const int32_t result = syscall(SYS_landlock_restrict_self, fd, 0u) < 0 ? -errno : 0;
  close(static_cast<int>(fd));
  return result;
#else
  (void)signals;
  return -ENOSYS;
#endif
}

/** @param resource RLIMIT_…, whose type differs between C libraries */
template <typename Resource>
void limit(Resource resource, bool toCurrent) {
  rlimit value{};
  if (getrlimit(resource, &value) < 0) return;
  value.rlim_max = value.rlim_cur = toCurrent ? value.rlim_cur : 0;
  setrlimit(resource, &value);
}

/**
 * giveUp(kept, signals, report): capabilities but one (`kept`; -1: all), core files and tracing by the same user, new
 * privileges by execve, new processes, and all file systems. `signals` 1: may signal processes. `report` (Int32Array of 1)
 * gets an errno if Landlock could not be had. @returns 0 or -errno
 */
napi_value giveUp(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  const int32_t kept = in.integer(0);
  size_t size;
  auto* const report = static_cast<int32_t*>(in.bytes(2, &size));
  if (!report || size < sizeof(int32_t) || kept >= 64) return in.result(-EINVAL);
  const int32_t dropped = keepCapabilities(kept < 0 ? 0 : uint64_t{1} << kept);
  if (dropped < 0) return in.result(dropped);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return in.result(-errno);
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return in.result(-errno);
  limit(RLIMIT_CORE, false);
  limit(RLIMIT_NPROC, false);
  limit(RLIMIT_MSGQUEUE, false);
  limit(RLIMIT_NOFILE, true);
  *report = -closeFileSystem(in.integer(1) == 1);
  return in.result(0);
}

}  // namespace

void registerPrivileges(napi_env env, napi_value exports) { define(env, exports, "giveUp", giveUp); }

}  // namespace passt
