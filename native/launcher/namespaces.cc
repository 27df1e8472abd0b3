#include "namespaces.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace launcher {
namespace {

/** Above all fixed numbers of options.h. */
constexpr int asideFirst = 16;

Failure openNamespace(const std::string& path, int type, const char* what, int& fd) {
  const int opened = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (opened < 0) return failure(std::string("Couldn't open ") + what + " " + path);
  fd = moveAside(opened);
  if (fd < 0) return failure(std::string("Couldn't open ") + what + " " + path);
  // Old kernels don't tell what they have: then setns does.
  const int found = ioctl(fd, NS_GET_NSTYPE);
  if ((found < 0 && errno == ENOTTY) || (found >= 0 && found != type)) return path + " is no " + what;
  return {};
}

/**
 * The program watches the file. It may have no way there any more: it has fewer capabilities, which closes
 * /proc/PID/root to it (ptrace(2), "access mode checking"), it may be another user, and paths may be relative.
 * @returns -1 if it can't be had
 */
int openDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? -1 : moveAside(fd);
}

bool isOwnUserNamespace(int fd) {
  struct stat target, own;
  return fstat(fd, &target) == 0 && stat("/proc/self/ns/user", &own) == 0 && target.st_dev == own.st_dev &&
         target.st_ino == own.st_ino;
}

bool writeFile(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t written = write(fd, text.data(), text.size());
  const int error = errno;
  close(fd);
  errno = error;
  return written == static_cast<ssize_t>(text.size());
}

/** Our user becomes root of the namespace, and the only one in it (user_namespaces(7)). */
void mapIds(uid_t uid, gid_t gid, std::vector<std::string>& warnings) {
  const auto put = [&warnings](const char* path, const std::string& text) {
    if (!writeFile(path, text)) warnings.push_back(failure(std::string("Couldn't write to ") + path));
  };
  put("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1\n");
  // Before the groups can be mapped, nobody in the namespace may be able to drop one (CVE-2014-8989).
  put("/proc/self/setgroups", "deny");
  put("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1\n");
}

}  // namespace

Failure failure(const std::string& what) { return what + ": " + strerror(errno); }

int moveAside(int fd) {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, asideFirst);
  const int error = errno;
  close(fd);
  errno = error;
  return moved;
}

Failure openTargets(const Command& command, Targets& targets) {
  if (!command.usernsPath.empty()) {
    Failure failed = openNamespace(command.usernsPath, CLONE_NEWUSER, "user namespace", targets.userns);
    if (!failed.empty()) return failed;
  }
  if (command.target == Command::Target::spawn) return {};
  Failure failed = openNamespace(command.netnsPath, CLONE_NEWNET, "network namespace", targets.netns);
  if (failed.empty() && command.target == Command::Target::file) {
    targets.netnsDirectory = openDirectoryOf(command.netnsPath);
  }
  return failed;
}

Failure enterUserNamespace(const Command& command, const Targets& targets, std::vector<std::string>& warnings) {
  if (targets.userns >= 0) {
    // Entering the one where we are is an error to the kernel, and needless.
    if (isOwnUserNamespace(targets.userns)) return {};
    if (setns(targets.userns, CLONE_NEWUSER) < 0) {
      return failure("Couldn't enter user namespace " + command.usernsPath);
    }
    return {};
  }
  if (command.sameUser) return {};
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER) < 0) return failure("Couldn't create user namespace");
  mapIds(uid, gid, warnings);
  return {};
}

}  // namespace launcher
