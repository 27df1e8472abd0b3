/** The opener of the policy's file: a process of its own, because the program itself can't open files once it serves. */
#pragma once

#include "command.h"

namespace launcher {

/**
 * Starts it as a child, as the resolver's watcher: no privilege, no descriptors but what it needs, the user that the program will be. It
 * answers each byte that the program sends by a message (SOCK_SEQPACKET): a byte 1 and the open file (SCM_RIGHTS), or a byte 0 and an
 * error number in decimal. It seals itself (helper-seal.h), and ends when the other end is closed.
 * @returns the program's end, closed on execve; -1 if there can be no opener: the file can't be read again then
 */
int startPolicyOpener(const Command& command, int argc, char** argv);

}  // namespace launcher
