/**
 * Pages for the time when the kernel gives none. V8 takes memory for its old generation, for what it knows of compiled code and for large
 * objects page by page, and gives it back: `mmap`, `munmap`, `madvise` and `mprotect`. Once the process is sealed these calls of the
 * runtime's end here (imports.h), and are served from a reserve that was mapped before. Pages of it that nobody has touched cost
 * nothing; those that come back are wiped, and wait for the next who asks.
 */
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace passt {

/** Maps the reserve. @param bytes at most 256 MiB @returns 0 or -errno */
int32_t reservePages(size_t bytes);

/** From here on the runtime takes its pages from the reserve. @returns 0, or -errno: then nothing can be relied on */
int32_t servePages();

/** Pages of the reserve that are in use, and the most that have been. */
struct PageUse {
  int32_t now;
  int32_t most;
};
PageUse pageUse();

}  // namespace passt
