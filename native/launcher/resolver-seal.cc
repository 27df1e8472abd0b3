#include "resolver-seal.h"

#include "helper-seal.h"

#define FILTER_BLOCKS "watcher-blocks.h"
#include "../cpp/filter.h"

namespace launcher {

void sealWatcher() {
  // Two contents of the largest size, the message, and what strings leave behind as they grow.
  constexpr size_t heapBytes = 2 << 20;
  static sock_filter filter[passt::filterMax + 1];
  sealHelper(heapBytes, filter, passt::assemble(filter, 0));
}

}  // namespace launcher
