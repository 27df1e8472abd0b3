#include "installer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "answer.h"

namespace cni {
namespace {

constexpr char defaultName[] = "passt-kubevirt-cni";

/** Every build has it, and no other program: how an earlier version of ours is told from something else. */
constexpr char marker[] = "passt-kubevirt-cni: this file may be replaced by its installer";

/** Seconds between two looks at the folder: an upgrade of the distribution may have emptied it. */
constexpr time_t lookSeconds = 30;

/** Nothing larger can be ours. */
constexpr off_t programBytesMax = 64 << 20;

constexpr char usage[] =
    "usage: passt-kubevirt-cni --install DIR [--name NAME] [--once]    copy it to DIR, and keep it there until a signal ends it\n"
    "       passt-kubevirt-cni --remove DIR [--name NAME] [--once]     remove it from DIR, and wait for a signal\n"
    "       passt-kubevirt-cni --is-installed DIR [--name NAME]        exit 0 if DIR has this very program\n"
    "       passt-kubevirt-cni --is-removed DIR [--name NAME]          exit 0 if DIR has no such program of ours\n"
    "       passt-kubevirt-cni --help\n"
    "Without arguments it is a CNI plugin: the runtime says by environment variables (CNI_COMMAND, …) what to do.\n";

struct Options {
  std::string action;
  std::string folder;
  std::string name = defaultName;
  bool once = false;
};

int wrong(std::string_view what) {
  log(what);
  return 2;
}

/** The whole file. @returns whether it could be read */
bool readFile(const std::string& path, std::string& bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return false;
  struct stat about;
  bool good = fstat(fd, &about) == 0;
  if (good && (!S_ISREG(about.st_mode) || about.st_size > programBytesMax)) {
    errno = EINVAL;
    good = false;
  }
  bytes.clear();
  if (good) bytes.resize(static_cast<size_t>(about.st_size));
  size_t have = 0;
  while (good && have < bytes.size()) {
    const ssize_t got = read(fd, bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) continue;
    good = got > 0;
    if (good) have += static_cast<size_t>(got);
  }
  const int error = errno;
  close(fd);
  errno = error;
  return good;
}

/** What is run now. /proc/self/exe is a link, which readFile does not follow: by its target. */
bool readSelf(std::string& bytes) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return false;
  return readFile(std::string(path, static_cast<size_t>(length)), bytes);
}

enum class There { nothing, ours, same, another, unknown };

There look(const std::string& path, const std::string& self) {
  struct stat about;
  if (lstat(path.c_str(), &about) != 0) return errno == ENOENT ? There::nothing : There::unknown;
  std::string bytes;
  if (!S_ISREG(about.st_mode)) return There::another;
  if (!readFile(path, bytes)) return about.st_size > programBytesMax ? There::another : There::unknown;
  if (bytes == self) return (about.st_mode & 0111) == 0111 ? There::same : There::ours;
  return bytes.find(marker) == std::string::npos ? There::another : There::ours;
}

bool place(const std::string& folder, const std::string& name, const std::string& bytes) {
  const std::string path = folder + "/" + name;
  // Beside it and then renamed: a runtime that starts it at this moment gets the old one or the new one, whole.
  const std::string fresh = folder + "/." + name + ".new";
  if (unlink(fresh.c_str()) != 0 && errno != ENOENT) return false;
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0755);
  if (fd < 0) return false;
  const bool written = writeAll(fd, bytes) && fchmod(fd, 0755) == 0 && fsync(fd) == 0;
  int error = errno;
  if (close(fd) != 0 && written) error = errno;
  if (written && rename(fresh.c_str(), path.c_str()) == 0) return true;
  if (written) error = errno;
  unlink(fresh.c_str());
  errno = error;
  return false;
}

/** @returns whether the program is there now */
bool install(const Options& options, const std::string& self) {
  const std::string path = options.folder + "/" + options.name;
  switch (look(path, self)) {
    case There::same:
      return true;
    case There::another:
      log("another program's file is in the way, and stays: " + path);
      return false;
    case There::unknown:
      log("cannot look at " + path + ": " + strerror(errno));
      return false;
    case There::nothing:
    case There::ours:
      break;
  }
  if (!place(options.folder, options.name, self)) {
    log("cannot write " + path + ": " + strerror(errno));
    return false;
  }
  log("installed " + path);
  return true;
}

/** @returns whether no program of ours is there now */
bool remove(const Options& options, const std::string& self) {
  const std::string path = options.folder + "/" + options.name;
  switch (look(path, self)) {
    case There::nothing:
      return true;
    case There::another:
      log("another program's file, left alone: " + path);
      return true;
    case There::unknown:
      log("cannot look at " + path + ": " + strerror(errno));
      return false;
    case There::same:
    case There::ours:
      break;
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    log("cannot remove " + path + ": " + strerror(errno));
    return false;
  }
  log("removed " + path);
  return true;
}

/** Does it again and again until a signal comes. @returns the exit status */
int keep(const Options& options, const std::string& self) {
  // Blocked rather than handled: as the first process of a container nothing else would end us by SIGTERM.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  for (;;) {
    if (!(options.action == "--install" ? install(options, self) : remove(options, self))) return 1;
    const timespec pause = {lookSeconds, 0};
    if (options.once || sigtimedwait(&signals, nullptr, &pause) >= 0) return 0;
  }
}

/** @returns -1, or the exit status for arguments that are wrong */
int parse(const std::vector<std::string>& words, Options& options) {
  for (size_t i = 0; i < words.size(); i++) {
    const std::string& word = words[i];
    const bool takesValue = word == "--install" || word == "--remove" || word == "--is-installed" || word == "--is-removed" || word == "--name";
    if (word == "--once") {
      options.once = true;
      continue;
    }
    if (!takesValue) return wrong("unknown argument: " + word + " (see --help)");
    if (i + 1 == words.size()) return wrong(word + " needs a value");
    const std::string& value = words[++i];
    if (word == "--name") {
      options.name = value;
      continue;
    }
    if (!options.action.empty()) return wrong("one of " + options.action + " and " + word + ", not both");
    options.action = word;
    options.folder = value;
  }
  if (options.action.empty()) return wrong("what is to be done? (see --help)");
  if (options.folder.empty() || options.folder[0] != '/') return wrong("the folder has to be an absolute path: " + options.folder);
  if (options.name.empty() || options.name[0] == '.' || options.name.find('/') != std::string::npos) {
    return wrong("this is no name of a file: " + options.name);
  }
  return -1;
}

}  // namespace

int runInstaller(int argumentCount, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + argumentCount);
  if (words.size() == 1 && words[0] == "--help") return writeAll(STDOUT_FILENO, usage) ? 0 : 1;
  Options options;
  if (const int status = parse(words, options); status >= 0) return status;
  std::string self;
  if (!readSelf(self)) {
    log(std::string("cannot read the program itself: ") + strerror(errno));
    return 1;
  }
  if (options.action == "--install" || options.action == "--remove") return keep(options, self);
  const There there = look(options.folder + "/" + options.name, self);
  const bool good = options.action == "--is-installed" ? there == There::same : there == There::nothing || there == There::another;
  return good ? 0 : 1;
}

}  // namespace cni
