/** The watcher of resolv.conf: a process of its own, because the program itself can't open files once it serves. */
#pragma once

#include "command.h"

namespace launcher {

/**
 * Starts it as a child, which has no privilege, no descriptors but what it needs, and is the user that the program will be. It
 * sends the content of /etc/resolv.conf at once, and whenever that has changed and has settled: messages of a byte 1
 * and the content (SOCK_SEQPACKET). It ends when the other end is closed.
 * @returns the program's end, closed on execve; -1 if there can be no watcher, which is no reason not to start
 */
int startResolverWatch(const Command& command, int argc, char** argv);

}  // namespace launcher
