#include "spawn.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptors.h"
#include "options.h"

namespace launcher {
namespace {

constexpr int hostNameMax = 64;

void warn(const char* name, const std::string& what) {
  fprintf(stderr, "%s: %s: %s\n", name, what.c_str(), strerror(errno));
}

/** "pasta-" and the host's own name, so that prompts and logs tell the two apart. */
std::string defaultHostName() {
  char own[hostNameMax + 1] = {};
  if (gethostname(own, hostNameMax) < 0 || *own == '\0') return "pasta";
  return (std::string("pasta-") + own).substr(0, hostNameMax);
}

/** The processes of a PID namespace are those that its /proc shows. */
void mountProc(const char* name) {
  // In a user namespace of our own that is so already; elsewhere the mount would show on the host.
  mount("", "/", nullptr, MS_SLAVE | MS_REC, nullptr);
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) < 0) warn(name, "Couldn't mount /proc");
}

/** Lets root of the namespace ping without CAP_NET_RAW (icmp(7)). */
void allowPing(const char* name) {
  const char* path = "/proc/sys/net/ipv4/ping_group_range";
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0 0", 3) < 0) warn(name, std::string("Couldn't write to ") + path);
  if (fd >= 0) close(fd);
}

/** Until the program says go. A program that ends instead, in whatever way, leaves nobody to run for. */
void awaitGo(int fd) {
  char byte;
  ssize_t length;
  do {
    length = read(fd, &byte, 1);
  } while (length < 0 && errno == EINTR);
  if (length != 1) _exit(1);
}

[[noreturn]] void runShell(const char* name) {
  const char* shell = getenv("SHELL");
  if (!shell || *shell == '\0') shell = "/bin/sh";
  const char* slash = strrchr(shell, '/');
  // A login shell is told so by its own name (bash(1), INVOCATION).
  std::string self = std::string("-") + (slash ? slash + 1 : shell);
  char* arguments[] = {self.data(), nullptr};
  execvp(shell, arguments);
  fprintf(stderr, "%s: Couldn't start shell %s: %s\n", name, shell, strerror(errno));
  _exit(1);
}

[[noreturn]] void runCommand(const char* name, char** words) {
  execvp(words[0], words);
  fprintf(stderr, "%s: Couldn't start command %s: %s\n", name, words[0], strerror(errno));
  _exit(1);
}

[[noreturn]] void beChild(const Command& command, int argc, char** argv, int go, pid_t parent) {
  const char* name = argv[0];
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // It may have gone before that. In a PID namespace of our own, parents outside have no number.
  if (getppid() != (command.ownPids ? 0 : parent)) _exit(1);
  if (command.ownPids) mountProc(name);
  allowPing(name);
  const std::string host = command.hostName.empty() ? defaultHostName() : command.hostName;
  if (sethostname(host.data(), host.size()) < 0) warn(name, "Couldn't set host name");
  awaitGo(go);
  prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
  if (command.operand >= argc) runShell(name);
  runCommand(name, argv + command.operand);
}

}  // namespace

Failure spawnCommand(const Command& command, int argc, char** argv, Spawned& spawned) {
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) < 0) return failure("Couldn't create a pipe");
  const int wait = moveAside(pipe[0]);
  spawned.go = moveAside(pipe[1]);
  if (wait < 0 || spawned.go < 0) return failure("Couldn't create a pipe");

  unsigned long flags = CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWNS | SIGCHLD;
  if (command.ownPids) flags |= CLONE_NEWPID;
  const pid_t self = getpid();
  // As fork, but for the namespaces: without a stack of its own the child goes on here, on a copy of ours.
  spawned.pid = static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, nullptr, nullptr, nullptr));
  if (spawned.pid < 0) return failure("Couldn't create namespaces for the command");
  if (spawned.pid == 0) {
    // Nothing but the standard streams is the command's.
    const int go = dup2(wait, socketFd);
    fcntl(go, F_SETFD, FD_CLOEXEC);
    closeFrom(go + 1);
    beChild(command, argc, argv, go, self);
  }
  close(wait);

  const std::string path = "/proc/" + std::to_string(spawned.pid) + "/ns/net";
  const int opened = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  spawned.netns = opened < 0 ? -1 : moveAside(opened);
  if (spawned.netns < 0) return failure("Couldn't open network namespace " + path);
  return {};
}

}  // namespace launcher
