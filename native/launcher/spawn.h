/** The command that pasta runs: a child in namespaces of its own, which waits for the program to be ready. */
#pragma once

#include <sys/types.h>

#include "command.h"
#include "namespaces.h"

namespace launcher {

struct Spawned {
  pid_t pid = -1;
  /** Its network namespace. */
  int netns = -1;
  /** Where the program writes a byte when the command may start; closing it instead ends the child. */
  int go = -1;
};

/**
 * Makes the child and its IPC, PID, UTS, mount and network namespaces. It dies with us as long as it waits; once the
 * command runs it is on its own.
 */
Failure spawnCommand(const Command& command, int argc, char** argv, Spawned& spawned);

}  // namespace launcher
