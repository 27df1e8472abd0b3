/** The environment that the program gets: the caller's, less what would change how node runs, plus our own words to it. */
#pragma once

#include <string>
#include <vector>

namespace launcher {

/** What the launcher has done, as the program is to know it. */
struct Report {
  /** Whether readyFd is open. */
  bool ready = false;
  /** Whether socketFd is the guest's. */
  bool socket = false;
  /** Whether socketFd is a listening socket for guests. */
  bool listener = false;
  /** Whether netnsFd is the target's network namespace. */
  bool netns = false;
  /** Whether netnsDirectoryFd is the directory of the file that names it. */
  bool netnsDirectory = false;
  /** Whether pidFileFd, and logEditFd and logAppendFd, are open. */
  bool pidFile = false;
  bool logFile = false;
  /** Whether resolversFd is the watcher's. */
  bool resolvers = false;
  bool policy = false;
  /** The spawned command's process, which waits for goFd; -1: none. */
  int child = -1;
  /** Lines for the user. */
  std::vector<std::string> warnings;
};

/** @returns "NAME=value" entries. */
std::vector<std::string> programEnvironment(char** caller, const Report& report);

}  // namespace launcher
