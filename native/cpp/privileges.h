/** Capabilities. They belong to a thread, not to the process. */
#pragma once

#include <cstdint>

namespace passt {

/**
 * Clears the ambient, effective, permitted, inheritable and (where allowed) bounding sets of the calling thread, but for the
 * capabilities in `kept`, in the effective and the permitted set, as far as the thread has them.
 * @returns 0 or -errno
 */
int32_t keepCapabilities(uint64_t kept);

}  // namespace passt
