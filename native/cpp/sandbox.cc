/**
 * What the process can see: namespaces of its own, and an empty file system. For one thread, once, when every file is
 * open that will ever be needed.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string>

#include "addon.h"
#include "threads.h"

namespace passt {
namespace {

/** Equal to native/src/sandbox.ts. */
enum Flag : int32_t { flagIdentity = 1, flagUser = 2, flagPid = 4, flagChroot = 8 };
enum Step : int32_t { stepThreads, stepIdentity, stepUser, stepMap, stepNamespaces, stepRoot, stepChroot, stepCount };

/** Leaving root clears the effective set; PR_SET_KEEPCAPS keeps the permitted one (capabilities(7)). */
bool raisePermitted() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) < 0) return false;
  for (__user_cap_data_struct& half : data) half.effective = half.permitted;
  return syscall(SYS_capset, &header, data) == 0;
}

/** No supplementary groups, then all group ids, then all user ids. System calls rather than glibc's functions, which look
 * for threads that are gone. Capabilities stay: what follows may need them. @returns 0 or an errno */
int become(uid_t uid, gid_t gid) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return errno;
  // In a user namespace setgroups may be denied for good (user_namespaces(7)): then there is nothing to drop.
  if (syscall(SYS_setgroups, 0, nullptr) < 0 && errno != EPERM) return errno;
  if (syscall(SYS_setresgid, gid, gid, gid) < 0) return errno;
  if (syscall(SYS_setresuid, uid, uid, uid) < 0) return errno;
  // /proc/self belongs to root otherwise, and with it the files that map the ids of a new user namespace.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return raisePermitted() ? 0 : errno;
}

int writeFile(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, text.data(), text.size()) < 0 ? errno : 0;
  close(fd);
  return error;
}

/** Our user keeps its number, and is the only one in the namespace. @returns 0 or an errno */
int mapIds(uid_t uid, gid_t gid) {
  const auto line = [](unsigned id) { return std::to_string(id) + " " + std::to_string(id) + " 1\n"; };
  int error = writeFile("/proc/self/uid_map", line(uid));
  // Before the groups can be mapped, nobody in the namespace may be able to drop one (CVE-2014-8989).
  if (!error) error = writeFile("/proc/self/setgroups", "deny");
  if (error == ENOENT) error = 0;
  if (!error) error = writeFile("/proc/self/gid_map", line(gid));
  return error;
}

/** A place to put the new root on. Which one does not matter: nobody sees it but us, for a moment. */
const char* mountEmpty() {
  for (const char* place : {"/tmp", "/run", "/proc", "/dev", "/etc"}) {
    constexpr unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
    if (mount("tmpfs", place, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") == 0) return place;
  }
  return nullptr;
}

/**
 * Changes the root to an empty, read-only file system, and forgets the old one.
 * @param chrooted gets whether that took chroot(2): pivot_root(2) does not work where the root is the initial one (initramfs)
 * @returns 0 or an errno
 */
int emptyRoot(bool chrootFallback, bool& chrooted) {
  // Nothing that happens here may show outside. What is no mount point (after chroot) can't be changed: then neither works
  // what follows.
  if (mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return errno;
  const char* const place = mountEmpty();
  if (!place) return errno;
  if (chdir(place) < 0) return errno;
  // Old and new root in one place, one on top of the other (pivot_root(2), NOTES).
  if (syscall(SYS_pivot_root, ".", ".") == 0) {
    if (umount2(".", MNT_DETACH) < 0) return errno;
    return chdir("/") < 0 ? errno : 0;
  }
  const int error = errno;
  if (chrootFallback && mount(".", "/", nullptr, MS_MOVE, nullptr) == 0 && chroot(".") == 0) {
    chrooted = true;
    return chdir("/") < 0 ? errno : 0;
  }
  if (chdir("/") < 0 || umount2(place, MNT_DETACH) < 0) return error;
  return error;
}

/** The runtime's loops made rings (io_uring(7)), and won't run any more. What can be asked of a ring, no filter of system calls sees. */
void closeRings() {
  DIR* const directory = opendir("/proc/self/fd");
  if (!directory) return;
  while (const dirent* entry = readdir(directory)) {
    char path[64];
    char target[64] = {};
    snprintf(path, sizeof path, "/proc/self/fd/%.20s", entry->d_name);
    if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "[io_uring]")) close(atoi(entry->d_name));
  }
  closedir(directory);
}

/**
 * enterSandbox(flags, uid, gid, report): ends other threads, becomes the user (flagIdentity), enters a user namespace
 * (flagUser), mount, IPC and UTS namespaces, and a PID namespace (flagPid: for the next child), and empties the root. `report`
 * (Int32Array) gets an errno per step that failed. Goes on after a failure as far as that makes sense, but for threads and
 * user. @returns 0 or -errno
 */
napi_value enterSandbox(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  const int32_t flags = in.integer(0);
  const auto uid = static_cast<uid_t>(in.integer(1));
  const auto gid = static_cast<gid_t>(in.integer(2));
  size_t size;
  auto* const report = static_cast<int32_t*>(in.bytes(3, &size));
  if (!report || size < stepCount * sizeof(int32_t)) return in.result(-EINVAL);
  memset(report, 0, stepCount * sizeof(int32_t));

  report[stepThreads] = -endOtherThreads();
  if (report[stepThreads]) return in.result(-report[stepThreads]);
  closeRings();
  if (const int error = noteMemory()) report[stepThreads] = error;
  if (report[stepThreads]) return in.result(-report[stepThreads]);
  if (flags & flagIdentity) report[stepIdentity] = become(uid, gid);
  if (report[stepIdentity]) return in.result(-report[stepIdentity]);
  if (flags & flagUser) {
    const uid_t ownUid = geteuid();
    const gid_t ownGid = getegid();
    if (unshare(CLONE_NEWUSER) < 0) {
      report[stepUser] = errno;
    } else {
      report[stepMap] = mapIds(ownUid, ownGid);
    }
  }
  const int pid = flags & flagPid ? CLONE_NEWPID : 0;
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | pid) < 0) {
    report[stepNamespaces] = errno;
    return in.result(0);
  }
  bool chrooted = false;
  report[stepRoot] = emptyRoot(flags & flagChroot, chrooted);
  report[stepChroot] = chrooted;
  return in.result(0);
}

}  // namespace

void registerSandbox(napi_env env, napi_value exports) { define(env, exports, "enterSandbox", enterSandbox); }

}  // namespace passt
