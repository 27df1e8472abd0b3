/** Namespaces that exist already, and the user namespace: entered here, because that takes a process of one thread. */
#pragma once

#include <string>
#include <vector>

#include "command.h"

namespace launcher {

/** A step that failed: one line for the user. Empty: none did. */
using Failure = std::string;

/** Descriptors of the namespaces to join, and of the directory of the network namespace's file; -1: none. Closed on execve. */
struct Targets {
  int netns = -1;
  int userns = -1;
  int netnsDirectory = -1;
};

/** Opens the files that the command line names, as the caller's user. */
Failure openTargets(const Command& command, Targets& targets);

/**
 * Joins the target's user namespace, or makes one in which the caller's user is root, if the command line asks for one.
 * @param warnings gets a line for what went wrong without being fatal
 */
Failure enterUserNamespace(const Command& command, const Targets& targets, std::vector<std::string>& warnings);

/** @returns the descriptor under a number that no fixed one can be, closed on execve; -1 with errno set */
int moveAside(int fd);

/** `what`: errno's text. */
Failure failure(const std::string& what);

}  // namespace launcher
