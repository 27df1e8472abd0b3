#include "policy-opener.h"

#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cpp/descriptor-message.h"
#include "descriptors.h"
#include "helper-seal.h"
#include "helper.h"
#include "namespaces.h"

// The calls that comments in policy-*.cc name.
#define FILTER_BLOCKS "opener-blocks.h"
#include "../cpp/filter.h"

namespace launcher {
namespace {

/** What it takes of the heap once it is sealed: strings of a few bytes. */
constexpr size_t heapBytes = 64 << 10;
sock_filter filter[passt::filterMax + 1];

/** @returns a descriptor of the regular file, or -errno */
int openRegular(const std::string& path) {
  // A named pipe must not hold us up.
  // seccomp: openat(_, _, O_ACCMODE+O_CREAT+O_TRUNC:O_RDONLY)
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return -errno;
  struct stat status {};
  // seccomp: fstat newfstatat
  if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
    // seccomp: close
    close(fd);
    return -EINVAL;
  }
  return fd;
}

/** @param fd to be sent, or -errno */
void answer(int fd) {
  const std::string text = fd >= 0 ? std::string(1, '\1') : std::string(1, '\0') + std::to_string(-fd);
  const passt::DescriptorMessage message(text.data(), text.size(), fd);
  ssize_t sent;
  do {
    // seccomp: sendmsg
    sent = sendmsg(helperPeer, message.header(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  // seccomp: exit_group
  if (sent < 0) _exit(1);
}

[[noreturn]] void serve(const std::string& path) {
  for (;;) {
    char request;
    // seccomp: read
    const ssize_t got = read(helperPeer, &request, 1);
    if (got < 0 && errno == EINTR) continue;
    // The program has ended.
    if (got <= 0) _exit(0);
    const int fd = openRegular(path);
    answer(fd);
    if (fd >= 0) close(fd);
  }
}

/** As the program would find it: it does not leave the caller's directory before it has read the file. */
std::string absolute(const std::string& path) {
  char directory[PATH_MAX];
  if (path.empty() || path[0] == '/' || !getcwd(directory, sizeof directory)) return path;
  return std::string(directory) + "/" + path;
}

}  // namespace

int startPolicyOpener(const Command& command, int argc, char** argv) {
  const std::string path = absolute(command.policyFile);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -1;
  const pid_t pid = fork();
  if (pid == 0) {
    becomeHelper(command, ends[1], command.program == Program::pasta ? "pasta-policy" : "passt-policy", argc, argv);
    sealHelper(heapBytes, filter, passt::assemble(filter, 0));
    serve(path);
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return -1;
  }
  return moveAside(ends[0]);
}

}  // namespace launcher
