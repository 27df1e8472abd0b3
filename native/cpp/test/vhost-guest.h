/** What the tests of vhost-user's native code share: a guest's memory, random numbers, and what must hold. */
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../vhost-memory.h"
#include "../vhost-ring.h"

extern uint32_t state;
inline uint32_t number(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % below;
}

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) {                                              \
      printf("line %d: %s\n", __LINE__, #condition);                 \
      exit(1);                                                       \
    }                                                                \
  } while (0)

constexpr size_t memoryBytes = 1 << 20;
constexpr uint64_t guestAt = 0x10000, userAt = 0x7f0000000000;
constexpr uint32_t size = 64;
constexpr uint64_t descriptors = 0, available = 4096, used = 8192, buffers = 16384;

struct Guest {
  int fd = memfd_create("guest", MFD_CLOEXEC);
  uint8_t* memory = nullptr;
  Guest() {
    CHECK(fd >= 0 && ftruncate(fd, memoryBytes) == 0);
    memory = static_cast<uint8_t*>(mmap(nullptr, memoryBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CHECK(memory != MAP_FAILED);
  }
  ~Guest() {
    munmap(memory, memoryBytes);
    close(fd);
  }
  void put16(uint64_t at, uint32_t value) {
    const auto word = static_cast<uint16_t>(value);
    memcpy(memory + at, &word, 2);
  }
  void descriptor(uint64_t table, uint32_t index, uint64_t address, uint32_t length, uint32_t flags, uint32_t next) {
    uint8_t* const to = memory + table + 16 * index;
    memcpy(to, &address, 8);
    memcpy(to + 8, &length, 4);
    put16(table + 16 * index + 12, flags);
    put16(table + 16 * index + 14, next);
  }
  void offer(uint16_t index, uint32_t head) {
    put16(available + 4 + 2 * (index % size), head);
    put16(available + 2, static_cast<uint32_t>(index) + 1);
  }
};

/** Where a piece lies must be memory of the guest's. */
inline void checkPieces(const passt::GuestMemory& memory, const passt::Chain& chain, const iovec* pieces, int32_t most) {
  CHECK(chain.readable >= 0 && chain.writable >= 0 && chain.readable + chain.writable <= most);
  uint64_t first = memoryBytes;
  const uint8_t* const begin = memory.userAt(userAt, memoryBytes);
  CHECK(begin && memory.guestAt(guestAt, &first) == begin && first == memoryBytes);
  uint64_t bytes = 0;
  for (int32_t i = 0; i < chain.readable + chain.writable; i++) {
    const auto* const at = static_cast<const uint8_t*>(pieces[i].iov_base);
    CHECK(pieces[i].iov_len > 0 && at >= begin && at + pieces[i].iov_len <= begin + memoryBytes);
    bytes += pieces[i].iov_len;
  }
  CHECK(bytes == chain.readableBytes + chain.writableBytes);
}

/** Packed rings (vhost-packed-test.cc). */
void packedRings(uint32_t rounds);
