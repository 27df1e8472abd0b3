#include "helper-seal.h"

#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace launcher {
namespace {

/** malloc gets its memory now, and keeps it. */
void reserveHeap(size_t bytes) {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  // Through a volatile pointer: the compiler would remove both calls.
  void* volatile block = malloc(bytes);
  free(block);
}

void limitResources() {
  constexpr rlimit none = {0, 0};
  constexpr rlimit few = {8, 8};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_NPROC, &none);
  setrlimit(RLIMIT_MSGQUEUE, &none);
  setrlimit(RLIMIT_NOFILE, &few);
}

#ifdef SYS_landlock_create_ruleset
/** Landlock (landlock(7)), of which old headers know only a part. */
constexpr uint32_t landlockVersion = 1;
constexpr uint32_t rulePathBeneath = 1;
constexpr uint64_t readFile = 1 << 2;
constexpr uint64_t readDirectory = 1 << 3;
/** All rights over files of the first version; later ones concern what the filter does not let pass anyway. */
constexpr uint64_t allRights = (1 << 13) - 1;
struct __attribute__((packed)) PathRule {
  uint64_t allowed;
  int32_t parent;
};

void allowReadingOnly() {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, landlockVersion) < 1) return;
  const uint64_t handled = allRights;
  const auto rules = static_cast<int>(syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0u));
  if (rules < 0) return;
  const int root = open("/", O_PATH | O_CLOEXEC);
  const PathRule reading = {readFile | readDirectory, root};
  if (root >= 0 && syscall(SYS_landlock_add_rule, rules, rulePathBeneath, &reading, 0u) == 0) {
    syscall(SYS_landlock_restrict_self, rules, 0u);
  }
  if (root >= 0) close(root);
  close(rules);
}
#else
void allowReadingOnly() {}
#endif

}  // namespace

void sealHelper(size_t heapBytes, sock_filter* filter, size_t length) {
  reserveHeap(heapBytes);
  limitResources();
  // Before the filter: an unprivileged process may have neither without it.
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  allowReadingOnly();
  sock_fprog program{};
  program.len = static_cast<unsigned short>(length);
  program.filter = filter;
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

}  // namespace launcher
