#include "files.h"

#include <fcntl.h>
#include <unistd.h>

#include "namespaces.h"

namespace launcher {
namespace {

int openAside(const std::string& path, int flags) {
  if (path.empty()) return -1;
  const int fd = open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0600);
  return fd < 0 ? -1 : moveAside(fd);
}

}  // namespace

Files openFiles(const std::string& pidPath, const std::string& logPath) {
  Files files;
  files.pid = openAside(pidPath, O_WRONLY | O_TRUNC);
  files.logEdit = openAside(logPath, O_RDWR | O_TRUNC);
  if (files.logEdit >= 0) files.logAppend = openAside(logPath, O_WRONLY | O_APPEND);
  return files;
}

}  // namespace launcher
