#include "resolver-file.h"

#include <climits>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace launcher {
namespace {

/** As the kernel's own limit is 40 (path_resolution(7)), one that nobody needs. */
constexpr int linksMax = 16;

std::string directoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string nameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool isDirectory(const std::string& path) {
  struct stat status;
  // seccomp: stat@x86-64 newfstatat
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/** Notes the place of an absolute path. */
void notePlace(std::string path, ResolverPlaces& places) {
  // A directory that comes later (that of a resolver service that is not started yet) is an entry of one that is there.
  while (path.size() > 1 && !isDirectory(directoryOf(path))) path = directoryOf(path);
  places.directories.push_back(directoryOf(path));
  places.names.push_back(nameOf(path));
}

}  // namespace

ResolverPlaces findPlaces(const std::string& path) {
  ResolverPlaces places;
  std::string at = path;
  for (int link = 0; link < linksMax; link++) {
    notePlace(at, places);
    char target[PATH_MAX];
    // seccomp: readlink@x86-64 readlinkat
    const ssize_t length = readlink(at.c_str(), target, sizeof target);
    if (length <= 0 || length == sizeof target) break;
    const std::string text(target, static_cast<size_t>(length));
    at = text[0] == '/' ? text : directoryOf(at) + "/" + text;
  }
  return places;
}

ResolverContent readResolvers(const std::string& path) {
  ResolverContent content;
  // What is no plain file must not hold us up.
  // seccomp: openat(_, _, O_ACCMODE+O_CREAT+O_TRUNC:O_RDONLY)
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return content;
  struct stat before, after;
  // seccomp: fstat newfstatat
  if (fstat(fd, &before) == 0 && S_ISREG(before.st_mode)) {
    content.text.resize(resolverBytesMax + 1);
    size_t length = 0;
    while (length < content.text.size()) {
      // seccomp: read
      const ssize_t got = read(fd, content.text.data() + length, content.text.size() - length);
      if (got <= 0) break;
      length += static_cast<size_t>(got);
    }
    content.text.resize(length);
    const bool isQuiet = fstat(fd, &after) == 0 && after.st_size == before.st_size &&
                         after.st_mtim.tv_sec == before.st_mtim.tv_sec && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec;
    content.whole = isQuiet && length > 0 && content.text[length - 1] == '\n';
    if (length > resolverBytesMax) {
      content.text.resize(resolverBytesMax);
      const size_t end = content.text.rfind('\n');
      content.text.resize(end == std::string::npos ? 0 : end + 1);
      content.whole = isQuiet;
    }
  }
  // seccomp: close
  close(fd);
  return content;
}

}  // namespace launcher
