/**
 * The seal: from here on the process makes only the system calls that the comments beside them name (native/src/filter).
 * Anything else ends it, with one line in the log.
 *
 * Memory
 * ------
 * None is asked of the kernel any more. V8 compiles and collects garbage with what is there: its young generation is committed, its
 * compilers and everything else that uses malloc draw from a heap that was made large once, and its old generation and what it knows of
 * compiled code from a reserve of pages (page-reserve.h). When one of these is used up, that is what it is.
 */
// node:process and node:fs end a spawned command that an interrupt would have ended, which its status file tells.
// seccomp[pasta,command]: kill(_, SIGKILL) pread64
// node:fs writes to standard error and to the log file, and moves the contents of one that is full.
// seccomp: write
// seccomp[log-file]: pread64 pwrite64 ftruncate
#include <malloc.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "addon.h"
#include "engine.h"
#include "filter.h"
#include "page-reserve.h"
#include "threads.h"

namespace passt {
namespace {

// ---- violations ---------------------------------------------------------------------------------------------------

/** Equal to native/src/seal.ts. */
enum Sink : int32_t { sinkStderr, sinkFile, sinkSyslog };
struct Witness {
  int fd = 2;
  int32_t sink = sinkStderr;
  char name[16] = "passt";
  timespec start{};
} witness;

/** Tells of the call, and ends: SIGSYS is blocked here, so that the next forbidden call can't be survived (seccomp(2)). */
void onViolation(int, siginfo_t* info, void*) {
  char text[200];
  int length = 0;
  if (witness.sink == sinkSyslog) length = snprintf(text, sizeof text, "<27>%s: ", witness.name);
  if (witness.sink == sinkFile) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const long ticks = (now.tv_sec - witness.start.tv_sec) * 10000 + (now.tv_nsec - witness.start.tv_nsec) / 100000;
    length = snprintf(text, sizeof text, "%ld.%04ld: error: ", ticks / 10000, ticks % 10000);
  }
  length += snprintf(text + length, sizeof text - length, "System call %d is forbidden once sealed: ending\n",
                     info->si_syscall);
  if (write(witness.fd, text, static_cast<size_t>(length)) < 0) {
    // There is nobody to tell.
  }
  for (;;) syscall(-1);
}

// ---- memory -------------------------------------------------------------------------------------------------------

/** reserveMemory(heapBytes, pageBytes): malloc gets that much from the kernel, once, and gives none back; and the runtime's own
 * pages will come from a reserve of so many bytes. @returns 0 or -errno */
napi_value reserveMemory(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
#ifndef M_ARENA_MAX
  // Another C library than glibc: its malloc can't be kept from mapping memory, so there is no seal.
  return in.result(-ENOSYS);
#else
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_ARENA_MAX, 1);
  // Through a volatile pointer: the compiler would remove both calls. The memory is not touched, so it costs no pages.
  void* volatile block = malloc(static_cast<size_t>(in.integer(0)));
  if (!block) return in.result(-ENOMEM);
  free(block);
  return in.result(reservePages(static_cast<size_t>(in.integer(1))));
#endif
}

/** Whether malloc has mapped blocks on their own, by number: freeing one is a system call. The launcher sees to it that it does not. */
bool hasMappedBlocks() {
  // mallinfo2 is not there before glibc 2.33; a number of blocks fits into an int.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#ifdef M_ARENA_MAX
  return mallinfo().hblks != 0;
#else
  return false;
#endif
#pragma GCC diagnostic pop
}

/** The main thread's stack grows by page faults, which count as well, but not one by one: who touches a page far down gets all of it.
 * V8 uses just under 1 MiB. */
__attribute__((noinline)) void touchStack() {
  char room[1280 << 10];
  volatile char* const lowest = room;
  *lowest = 0;
}

/** The filter lets nothing grow; this is for the case that it is wrong. A limit that is below what is in use would refuse changes in
 * place as well, and something may have been taken since the last look. */
constexpr int64_t addressSlack = 8 << 20;

/** @returns 0 or -errno */
int32_t limitAddressSpace() {
  touchStack();
  const int64_t pages = addressSpacePages();
  if (pages <= 0) return -EINVAL;
  const auto most = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + addressSlack);
  const rlimit limit = {most, most};
  return setrlimit(RLIMIT_AS, &limit) < 0 ? -errno : 0;
}

// ---- the filter ---------------------------------------------------------------------------------------------------

/** canSeal(): whether this kernel has what it takes. @returns 0 or -errno */
napi_value canSeal(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  const uint32_t action = forbidden;
  return in.result(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0);
}

/**
 * seal(conditions, fd, sink, name, elapsedMs): no other system calls than those of the conditions, and no more memory than there is.
 * Violations are told on `fd`. @returns 0 or -errno; -ENOENT: a runtime whose calls can't be served; -EBUSY:
 * malloc has been started with other settings than the launcher's
 */
napi_value seal(napi_env env, napi_callback_info info) {
  const Arguments in(env, info);
  witness.fd = in.integer(1);
  witness.sink = in.integer(2);
  snprintf(witness.name, sizeof witness.name, "%s", in.text(3).c_str());
  clock_gettime(CLOCK_MONOTONIC, &witness.start);
  const int32_t elapsedMs = in.integer(4);
  witness.start.tv_sec -= elapsedMs / 1000;
  witness.start.tv_nsec -= long{elapsedMs % 1000} * 1'000'000;

  struct sigaction action {};
  action.sa_sigaction = onViolation;
  action.sa_flags = SA_SIGINFO;
  sigfillset(&action.sa_mask);
  if (sigaction(SIGSYS, &action, nullptr) < 0) return in.result(-errno);
  restoreSignals();
  if (hasMappedBlocks()) return in.result(-EBUSY);
  if (const int32_t error = servePages()) return in.result(error);
  if (const int32_t error = limitAddressSpace()) return in.result(error);

  static sock_filter filter[filterMax + 1];
  sock_fprog program{};
  program.len = static_cast<unsigned short>(assemble(filter, static_cast<uint32_t>(in.integer(0))));
  program.filter = filter;
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
  return in.result(result < 0 ? -errno : result > 0 ? -ESRCH : 0);
}

}  // namespace

void registerSeal(napi_env env, napi_value exports) {
  define(env, exports, "reserveMemory", reserveMemory);
  define(env, exports, "canSeal", canSeal);
  define(env, exports, "seal", seal);
}

}  // namespace passt
