#include "threads.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace passt {

/** Long enough for a machine under heavy load. */
constexpr int roundMax = 2000;
constexpr long roundNs = 1'000'000;

// Not pthread_exit, which would run destructors of a thread that waits somewhere in the runtime. The kernel tells whoever
// joins the thread that it has ended (set_tid_address(2)).
static void leave(int) { syscall(SYS_exit, 0); }

/** Sends every other thread a signal. @returns how many there are, or -errno */
static int signalOthers(int signal) {
  DIR* const tasks = opendir("/proc/self/task");
  if (!tasks) return -errno;
  const pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
  int others = 0;
  while (const dirent* entry = readdir(tasks)) {
    const pid_t thread = static_cast<pid_t>(strtol(entry->d_name, nullptr, 10));
    if (thread <= 0 || thread == self) continue;
    others++;
    syscall(SYS_tgkill, getpid(), thread, signal);
  }
  closedir(tasks);
  return others;
}

int32_t endOtherThreads() {
  const int signal = SIGRTMAX - 1;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = leave;
  sigfillset(&action.sa_mask);
  if (sigaction(signal, &action, &before) < 0) return -errno;
  // This thread gets none of these, so its mask need not change.
  int others = signalOthers(signal);
  for (int round = 0; others > 0 && round < roundMax; round++) {
    const timespec pause{0, roundNs};
    nanosleep(&pause, nullptr);
    // Again: one that was being started may have missed the first.
    others = signalOthers(signal);
  }
  // A late signal must not end the process: the handler ends a thread at most, so it stays if one is left.
  if (others == 0) sigaction(signal, &before, nullptr);
  return others > 0 ? -EBUSY : others;
}

static int memoryListFd = -1;
static int64_t notedPages = 0;

int noteMemory() {
  if (memoryListFd >= 0) return 0;
  FILE* const file = fopen("/proc/self/statm", "re");
  long pages = 0;
  if (!file) return errno;
  if (fscanf(file, "%ld", &pages) == 1) notedPages = pages;
  fclose(file);
  memoryListFd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  return memoryListFd < 0 ? errno : 0;
}

int64_t addressSpacePages() { return notedPages; }

int32_t forkWithMemory() {
  if (const int error = noteMemory()) {
    errno = error;
    return -1;
  }
  // Read whole before anything is changed: mappings that become alike are joined.
  std::string list;
  char room[4096];
  ssize_t length;
  while ((length = read(memoryListFd, room, sizeof room)) > 0) list.append(room, static_cast<size_t>(length));
  close(memoryListFd);
  memoryListFd = -1;
  for (size_t at = 0; at < list.size(); at = list.find('\n', at) + 1) {
    char* end;
    const unsigned long first = strtoul(list.c_str() + at, &end, 16);
    const unsigned long last = strtoul(end + 1, nullptr, 16);
    // The kernel's own pages refuse, and are inherited anyway.
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DOFORK);
  }
  return fork();
}

}  // namespace passt
