#include "descriptors.h"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "options.h"

namespace launcher {

int arrangeDescriptors(int descriptor) {
  if (descriptor >= 0) {
    // Looked at before /dev/null is opened below: a closed standard stream is no socket.
    if (fcntl(descriptor, F_GETFD) < 0) return errno;
    if (descriptor == socketFd) {
      if (fcntl(socketFd, F_SETFD, 0) < 0) return errno;
    } else {
      if (dup2(descriptor, socketFd) < 0) return errno;
      close(descriptor);
    }
  }
  for (int fd = 0; fd <= 2; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // Takes the lowest free number, which is this one.
    if (open("/dev/null", O_RDWR) < 0) return errno;
  }
  closeFrom(descriptor >= 0 ? socketFd + 1 : socketFd);
  return 0;
}

void closeFrom(int first) {
  if (syscall(SYS_close_range, static_cast<unsigned>(first), UINT_MAX, 0u) == 0) return;
  // Linux before 5.9, or a filter that doesn't know the call.
  DIR* directory = opendir("/proc/self/fd");
  if (!directory) {
    for (int fd = first; fd < sysconf(_SC_OPEN_MAX); fd++) close(fd);
    return;
  }
  while (const dirent* entry = readdir(directory)) {
    const int fd = atoi(entry->d_name);
    if (fd >= first && fd != dirfd(directory)) close(fd);
  }
  closedir(directory);
}

}  // namespace launcher
