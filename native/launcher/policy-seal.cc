#include "policy-seal.h"

#include "helper-seal.h"

#define FILTER_BLOCKS "opener-blocks.h"
#include "../cpp/filter.h"

namespace launcher {

void sealOpener() {
  // Strings of a few bytes.
  constexpr size_t heapBytes = 64 << 10;
  static sock_filter filter[passt::filterMax + 1];
  sealHelper(heapBytes, filter, passt::assemble(filter, 0));
}

}  // namespace launcher
