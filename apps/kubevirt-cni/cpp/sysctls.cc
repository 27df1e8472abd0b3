#include "sysctls.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace cni {
namespace {

/** statfs(2) of what setns(2) takes. */
constexpr long namespaceFileSystem = 0x6e736673;

struct Sysctl {
  const char* name;
  const char* path;
  std::string value;
};

std::array<Sysctl, 2> wanted(uint32_t group) {
  const std::string number = std::to_string(group);
  return {{
      {"net.ipv4.ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
      {"net.ipv4.ping_group_range", "/proc/sys/net/ipv4/ping_group_range", number + "\t" + number},
  }};
}

Failure failed(Code code, std::string message) { return {code, std::move(message), strerror(errno)}; }

/** Both numbers are separated by a tab when they are read; written with a space they mean the same. */
bool readSysctl(const Sysctl& sysctl, std::string& value) {
  const int fd = open(sysctl.path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[64];
  const ssize_t got = read(fd, text, sizeof text);
  const int error = errno;
  close(fd);
  errno = error;
  if (got < 0) return false;
  value.assign(text, static_cast<size_t>(got));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return true;
}

bool writeSysctl(const Sysctl& sysctl, std::string_view value) {
  const int fd = open(sysctl.path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  // In one call: what is written piece by piece is read piece by piece.
  const ssize_t wrote = write(fd, value.data(), value.size());
  const int error = errno;
  close(fd);
  errno = error;
  return wrote == static_cast<ssize_t>(value.size());
}

bool isSame(int fd, const char* path) {
  struct stat mine;
  struct stat other;
  return fstat(fd, &other) == 0 && stat(path, &mine) == 0 && mine.st_dev == other.st_dev && mine.st_ino == other.st_ino;
}

/** A pod may have a user namespace: group 107 there is another one here. */
Outcome enterOwner(int netns) {
  const int owner = ioctl(netns, NS_GET_USERNS);
  if (owner < 0) return failed(ioFailure, "the user namespace of CNI_NETNS is out of reach");
  const bool needed = !isSame(owner, "/proc/self/ns/user");
  const bool entered = !needed || setns(owner, CLONE_NEWUSER) == 0;
  const int error = errno;
  close(owner);
  errno = error;
  if (!entered) return failed(ioFailure, "the user namespace of CNI_NETNS cannot be entered");
  return {};
}

}  // namespace

Outcome enterNamespace(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const Code code = errno == ENOENT || errno == ENOTDIR ? unknownContainer : ioFailure;
    return failed(code, "CNI_NETNS cannot be opened: " + path);
  }
  Outcome outcome;
  struct statfs about;
  if (fstatfs(fd, &about) != 0) {
    outcome = failed(ioFailure, "CNI_NETNS cannot be looked at: " + path);
  } else if (static_cast<long>(about.f_type) != namespaceFileSystem) {
    outcome = Failure{invalidEnvironment, "CNI_NETNS is not a network namespace: " + path, ""};
  } else if (isSame(fd, "/proc/self/ns/net")) {
    // The host's settings are nobody's to change here.
    outcome = Failure{invalidNamespace, "CNI_NETNS is the plugin's own network namespace: " + path, ""};
  } else if (setns(fd, CLONE_NEWNET) != 0) {
    const bool otherKind = errno == EINVAL;
    outcome = failed(otherKind ? invalidEnvironment : ioFailure,
                     otherKind ? "CNI_NETNS is not a network namespace: " + path : "CNI_NETNS cannot be entered: " + path);
  } else {
    outcome = enterOwner(fd);
  }
  close(fd);
  return outcome;
}

Outcome applySysctls(uint32_t group) {
  const auto sysctls = wanted(group);
  std::array<std::string, sysctls.size()> before;
  for (size_t i = 0; i < sysctls.size(); i++) {
    if (!readSysctl(sysctls[i], before[i])) return failed(ioFailure, std::string(sysctls[i].name) + " cannot be read");
  }
  for (size_t i = 0; i < sysctls.size(); i++) {
    if (before[i] == sysctls[i].value || writeSysctl(sysctls[i], sysctls[i].value)) continue;
    const Failure failure = failed(ioFailure, std::string(sysctls[i].name) + " cannot be set to " + sysctls[i].value);
    for (size_t done = 0; done < i; done++) writeSysctl(sysctls[done], before[done]);
    return failure;
  }
  return {};
}

Outcome checkSysctls(uint32_t group) {
  for (const Sysctl& sysctl : wanted(group)) {
    std::string value;
    if (!readSysctl(sysctl, value)) return failed(ioFailure, std::string(sysctl.name) + " cannot be read");
    if (value != sysctl.value) {
      return Failure{changedSysctl, std::string(sysctl.name) + " is " + value + " and not " + sysctl.value, ""};
    }
  }
  return {};
}

Outcome findSysctls() {
  for (const Sysctl& sysctl : wanted(0)) {
    if (access(sysctl.path, F_OK) != 0) {
      return Failure{notAvailable, "this kernel has no " + std::string(sysctl.name), strerror(errno)};
    }
  }
  return {};
}

}  // namespace cni
