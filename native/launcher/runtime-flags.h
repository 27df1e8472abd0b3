/**
 * How node is started: for a process that serves traffic from one thread and that can later be forbidden to take memory
 * from the kernel.
 */
#pragma once

namespace launcher {

inline constexpr const char* runtimeFlags[] = {
    // No helper threads for garbage collection and compilation: what they do is done on the one thread, at times
    // that we choose.
    "--single-threaded",
    "--v8-pool-size=0",
    // A fixed young generation, so that it neither grows nor shrinks once the program runs.
    "--min-semi-space-size=2",
    "--max-semi-space-size=2",
    // No garbage collections just because the program is idle.
    "--no-memory-reducer",
#if defined(__x86_64__)
    // Where the processor has protection keys, new pages for code would be given theirs by pkey_mprotect(2), which the seal
    // does not let pass: whoever may call it can make any memory executable.
    "--no-memory-protection-keys",
#endif
    // Nobody but the user's own debugger has business here, and the thread that listens for SIGUSR1 would be one
    // more: it blocks all signals, so it can't take part in changes of privileges.
    "--disable-sigusr1",
    // Callers show our standard error to their users as it is: only our own messages belong there.
    "--no-warnings",
};

/** One heap that only grows. A block that is mapped on its own would have to be unmapped once it is freed, perhaps when the program
 * makes no such calls any more. */
inline constexpr const char* mallocSettings =
    "GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1073741824:glibc.malloc.arena_max=1";

/** For --no-jit. */
inline constexpr const char* noJitFlag = "--jitless";

}  // namespace launcher
