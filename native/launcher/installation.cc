#include "installation.h"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <sys/auxv.h>
#include <unistd.h>

namespace launcher {

bool findInstallation(Program program, Installation& installation) {
  char path[PATH_MAX];
  // Not argv[0]: callers put there what they like.
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length >= 0) {
    path[length] = '\0';
  } else {
    // No /proc: the path that we were executed by, with symbolic links resolved.
    const char* executed = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
    if (!executed || !realpath(executed, path)) return false;
  }
  std::string directory(path);
  for (int level = 0; level < 2; level++) {
    const size_t slash = directory.rfind('/');
    if (slash == std::string::npos) {
      errno = ENOENT;
      return false;
    }
    directory.resize(slash);
  }
  installation.node = directory + "/lib/passt/node";
  installation.program = directory + (program == Program::pasta ? "/lib/passt/pasta.mjs" : "/lib/passt/passt.mjs");
  return true;
}

}  // namespace launcher
