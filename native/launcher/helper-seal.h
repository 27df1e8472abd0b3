/** The walls around a process beside the program (helper.h). */
#pragma once

#include <linux/filter.h>

#include <cstddef>

namespace launcher {

/**
 * From here on: no other system calls than the filter's, no memory from the kernel, and of file systems only reading. Where the kernel
 * lacks one of these, the others hold. Any other call ends the process.
 * @param heapBytes what malloc gets now, to last for ever
 * @param filter the helper's own calls (native/cpp/filter.h), as many instructions as `length`
 */
void sealHelper(size_t heapBytes, sock_filter* filter, size_t length);

}  // namespace launcher
