/** Which descriptors the program starts with: standard streams, the guest's socket, and no others. */
#pragma once

namespace launcher {

/**
 * Moves `descriptor` (the guest's socket, or -1) to socketFd, closes everything else above the standard streams, and opens /dev/null
 * for each standard stream that is closed, so that no later file takes its number.
 * @returns 0, or an errno: EBADF when `descriptor` is not open.
 */
int arrangeDescriptors(int descriptor);

/** Closes `first` and all above. */
void closeFrom(int first);

}  // namespace launcher
