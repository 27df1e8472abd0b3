/** The walls around the watcher of resolv.conf. */
#pragma once

namespace launcher {

/**
 * From here on: no other system calls than those that the comments beside them name, no memory from the kernel, and of file systems only
 * reading. Where the kernel lacks one of these, the others hold. Any other call ends the process.
 */
void sealWatcher();

}  // namespace launcher
