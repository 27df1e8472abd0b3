/** Threads of the runtime, and getting rid of them; and fork, for which there must be no others. */
#pragma once

#include <cstdint>

namespace passt {

/**
 * Ends every thread of the process but the calling one. The runtime starts a few that never have anything to do for a
 * program that runs its own loop, and as long as there is one, the kernel changes neither user nor mount namespace of the
 * whole process, and a process that forks leaves them behind. A thread must not be in the middle of anything: those wait.
 * @returns 0, -ENOENT without /proc, where they are listed, or -EBUSY when one blocks the signal or does not end
 */
int32_t endOtherThreads();

/**
 * Notes what `forkWithMemory` and `addressSpacePages` need to know of our memory; to be called while there is /proc.
 * @returns 0 or an errno
 */
int noteMemory();

/** Size of the address space when it was noted. @returns pages, 0 if it was not */
int64_t addressSpacePages();

/** fork(2), with all memory: V8 excludes its own from what a child gets (MADV_DONTFORK). For a process of one thread.
 * @returns as fork */
int32_t forkWithMemory();

}  // namespace passt
