/**
 * What the filter says of each system call: runs its instructions as the kernel would. For a test.
 *
 *   filter-verdicts CONDITIONS             numbers of all calls that are allowed with some arguments
 *   filter-verdicts CONDITIONS NR ARG...   "allow", "errno N" or "forbid" for one call
 */
#include "../filter.h"

#include <cstdio>
#include <cstdlib>
#include <set>
#include <vector>

using namespace passt;

static uint32_t run(const std::vector<sock_filter>& filter, const seccomp_data& data) {
  uint32_t accumulator = 0;
  for (size_t at = 0;; at++) {
    if (at >= filter.size()) abort();
    const sock_filter& line = filter[at];
    switch (line.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (line.k + 4 > sizeof data) abort();
        memcpy(&accumulator, reinterpret_cast<const char*>(&data) + line.k, 4);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= line.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += accumulator == line.k ? line.jt : line.jf;
        break;
      case BPF_RET | BPF_K:
        return line.k;
      default:
        abort();
    }
  }
}

/** Whether any way through the instructions that are about one call ends in a permission: arguments are tried from the values that
 * the filter itself compares with. */
static bool allowedSomehow(const std::vector<sock_filter>& filter, int number) {
  std::set<uint32_t> values = {0};
  for (size_t at = 0; at < filter.size(); at++) {
    if (filter[at].code != (BPF_JMP | BPF_JEQ | BPF_K) || filter[at].k != static_cast<uint32_t>(number)) continue;
    for (size_t i = at + 1; i <= at + filter[at].jf && i < filter.size(); i++) {
      if (filter[i].code == (BPF_JMP | BPF_JEQ | BPF_K)) values.insert(filter[i].k);
    }
  }
  seccomp_data data{};
  data.arch = filterArchitecture;
  data.nr = number;
  for (const uint32_t a : values) {
    for (const uint32_t b : values) {
      for (const uint32_t c : values) {
        for (const uint32_t d : values) {
          const uint64_t arguments[6] = {a, b, c, d, 0, 0};
          memcpy(data.args, arguments, sizeof arguments);
          if (run(filter, data) == SECCOMP_RET_ALLOW) return true;
          if (values.size() > 12) break;
        }
      }
    }
  }
  return false;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  static sock_filter room[filterMax + 64];
  const size_t length = assemble(room, static_cast<uint32_t>(strtoul(argv[1], nullptr, 0)));
  const std::vector<sock_filter> filter(room, room + length);
  if (argc == 2) {
    for (int number = 0; number < 600; number++) {
      if (allowedSomehow(filter, number)) printf("%d\n", number);
    }
    printf("length %zu\n", length);
    return 0;
  }
  seccomp_data data{};
  data.arch = filterArchitecture;
  data.nr = atoi(argv[2]);
  for (int i = 3; i < argc && i < 9; i++) data.args[i - 3] = strtoull(argv[i], nullptr, 0);
  const uint32_t verdict = run(filter, data);
  if (verdict == SECCOMP_RET_ALLOW) puts("allow");
  else if ((verdict & 0xffff0000u) == SECCOMP_RET_ERRNO) printf("errno %u\n", verdict & 0xffffu);
  else puts("forbid");
  return 0;
}
