/**
 * A bit for each page tells whether it is in use; every page that is not is full of zeros, as the kernel's would be.
 * First fit: V8 asks for 256 KiB and as much again less a page, for the sake of alignment, and gives back what it cuts off at both ends,
 * so chunks come to lie side by side.
 *
 * For one thread: the one that runs JavaScript. What the runtime asks for and the reserve can't be, is asked of the kernel, whose
 * filter has the last word: code, files, places that are given.
 */
#include "page-reserve.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "imports.h"

namespace passt {
namespace {

/** Large enough for every processor: a page of the reserve is one of the kernel's, or several. */
constexpr size_t pageBytes = 4096;
constexpr size_t pagesMax = (256 << 20) / pageBytes;
/** What V8 aligns to. */
constexpr size_t alignment = 256 << 10;

uint8_t* base = nullptr;
size_t pageCount = 0;
uint64_t used[pagesMax / 64];
PageUse use = {0, 0};
pid_t ownPid = 0;

bool isUsed(size_t page) { return (used[page / 64] >> (page % 64) & 1) != 0; }

/** @returns the page behind `address`, as if the reserve went on for ever; pageCount and more: outside */
size_t pageAt(const void* address) {
  return (reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(base)) / pageBytes;
}

size_t pagesOf(size_t bytes) { return (bytes + pageBytes - 1) / pageBytes; }

bool contains(const void* address, size_t bytes) {
  const auto from = reinterpret_cast<uintptr_t>(address);
  const auto start = reinterpret_cast<uintptr_t>(base);
  return from >= start && from < start + pageCount * pageBytes && bytes <= start + pageCount * pageBytes - from;
}

void take(size_t first, size_t count) {
  for (size_t page = first; page < first + count; page++) used[page / 64] |= uint64_t{1} << (page % 64);
  use.now += static_cast<int32_t>(count);
  if (use.now > use.most) use.most = use.now;
}

/** A page that is all zeros stays untouched: reading one that nobody has written costs no memory. */
void wipe(uint8_t* page) {
  const auto* const words = reinterpret_cast<const uint64_t*>(page);
  for (size_t i = 0; i < pageBytes / sizeof *words; i++) {
    if (words[i] == 0) continue;
    memset(page, 0, pageBytes);
    return;
  }
}

void giveBack(size_t first, size_t count) {
  for (size_t page = first; page < first + count; page++) {
    if (!isUsed(page)) continue;
    wipe(base + page * pageBytes);
    used[page / 64] &= ~(uint64_t{1} << (page % 64));
    use.now--;
  }
}

/** @returns the first of so many free pages in a row, or pageCount */
size_t findFree(size_t count) {
  size_t run = 0;
  for (size_t page = 0; page < pageCount; page++) {
    run = isUsed(page) ? 0 : run + 1;
    if (run == count) return page + 1 - count;
  }
  return pageCount;
}

void* reserveMmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  const bool plain = (flags & MAP_ANONYMOUS) != 0 && (flags & MAP_SHARED) == 0 && (protection & PROT_EXEC) == 0;
  if (plain && (flags & MAP_FIXED) != 0 && contains(address, bytes)) {
    // Fresh pages in place of those that are there.
    for (size_t page = 0; page < pagesOf(bytes); page++) wipe(static_cast<uint8_t*>(address) + page * pageBytes);
    return address;
  }
  if (!plain || (flags & MAP_FIXED) != 0) return mmap(address, bytes, protection, flags, fd, offset);
  const size_t count = pagesOf(bytes);
  const size_t first = count == 0 || count > pageCount ? pageCount : findFree(count);
  if (first == pageCount) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  take(first, count);
  return base + first * pageBytes;
}

/** What was mapped before the seal stays mapped, and as it is: there is no end to that which the kernel would have to hear of. */
int reserveMunmap(void* address, size_t bytes) {
  if (contains(address, bytes)) giveBack(pageAt(address), pagesOf(bytes));
  return 0;
}

/** Advice may be ignored, but for the promise of zeros. Pages of before the seal are only discarded by those who don't rely on it:
 * V8 leaves undefined what they contain. */
int reserveMadvise(void* address, size_t bytes, int advice) {
  if (advice == MADV_DONTNEED && contains(address, bytes)) {
    for (size_t page = 0; page < pagesOf(bytes); page++) wipe(static_cast<uint8_t*>(address) + page * pageBytes);
  }
  return 0;
}

/** The reserve's pages are readable and writable throughout. */
int reserveMprotect(void* address, size_t bytes, int protection) {
  if ((protection & PROT_EXEC) == 0 && contains(address, bytes)) return 0;
  return mprotect(address, bytes, protection);
}

/** In each collection the runtime asks who it is. */
pid_t knownPid() { return ownPid; }

}  // namespace

int32_t reservePages(size_t bytes) {
  if (base || bytes > pagesMax * pageBytes) return -EINVAL;
  void* const at =
      mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return -errno;
  // Huge pages would make memory of what was never asked for. EINVAL: a kernel without.
  madvise(at, bytes + alignment, MADV_NOHUGEPAGE);
  base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(at) + alignment - 1) & ~(alignment - 1));
  pageCount = bytes / pageBytes;
  return 0;
}

int32_t servePages() {
  if (!base) return -EINVAL;
  ownPid = getpid();
  const Replacement replacements[] = {
      {"mmap64", reinterpret_cast<void*>(reserveMmap), false},
      {"mmap", reinterpret_cast<void*>(reserveMmap), false},
      {"munmap", reinterpret_cast<void*>(reserveMunmap), true},
      {"madvise", reinterpret_cast<void*>(reserveMadvise), true},
      {"mprotect", reinterpret_cast<void*>(reserveMprotect), true},
      {"getpid", reinterpret_cast<void*>(knownPid), true},
  };
  return replaceImports(replacements, sizeof replacements / sizeof *replacements);
}

PageUse pageUse() { return use; }

}  // namespace passt
