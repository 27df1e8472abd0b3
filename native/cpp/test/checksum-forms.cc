/**
 * Compares the forms of the checksum that this processor runs with the definition (RFC 1071 section 1), without Node: so
 * that those of another processor can be tested by an emulator (src/cross-compile.test.ts).
 *
 * usage: checksum-forms ROUNDS SEED. Prints the forms; ends with 1 at the first difference.
 */
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "../checksum.h"

using namespace passt;

static uint32_t state;

/** A xorshift generator: the same numbers everywhere. */
static uint32_t number(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

/** Word by word, carries added at once; in the byte order of checksum.h. */
static uint16_t definition(const uint8_t* bytes, size_t length, uint16_t start) {
  uint32_t sum = start;
  for (size_t i = 0; i < length; i += 2) {
    const uint8_t word[2] = {bytes[i], i + 1 < length ? bytes[i + 1] : uint8_t{0}};
    sum += load16(word);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int rounds = atoi(argv[1]);
  state = static_cast<uint32_t>(strtoul(argv[2], nullptr, 10)) | 1;

  // Memory that ends where reading faults: a form that looks beyond its bytes does not get away with it.
  constexpr size_t pages = 128 << 10, guard = 64 << 10;
  void* const mapped = mmap(nullptr, pages + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return 2;
  auto* const memory = static_cast<uint8_t*>(mapped);
  if (mprotect(memory + pages, guard, PROT_NONE) != 0) return 2;

  ChecksumForm forms[checksumFormMax];
  const size_t count = checksumForms(forms);
  for (int round = 0; round < rounds; round++) {
    // Short ones at every alignment, and now and then the longest frame; ones everywhere make the most carries.
    const size_t length = number(16) == 0 ? number(65536) : number(400);
    const size_t gap = number(4) == 0 ? 0 : number(64);
    uint8_t* const bytes = memory + pages - gap - length;
    const bool ones = number(8) == 0;
    for (size_t i = 0; i < length; i++) bytes[i] = ones ? uint8_t{0xff} : static_cast<uint8_t>(number(256));
    const auto start = static_cast<uint16_t>(number(65536));
    const uint16_t want = definition(bytes, length, start);
    for (size_t i = 0; i < count; i++) {
      const uint16_t got = foldSum(forms[i].sum(bytes, length, start));
      if (got == want) continue;
      printf("%s: %04x instead of %04x, round %d, %zu bytes, %zu before the end\n", forms[i].name, got, want, round,
             length, gap);
      return 1;
    }
  }
  for (size_t i = 0; i < count; i++) printf("%s%s", i > 0 ? " " : "", forms[i].name);
  printf("%s\n", sumBytes == forms[count - 1].sum ? "" : " (chosen: another)");
  return 0;
}
