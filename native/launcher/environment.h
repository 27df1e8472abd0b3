/** The environment that the program gets: the caller's, less what would change how node runs, plus our own words to it. */
#pragma once

#include <string>
#include <vector>

namespace launcher {

/** @returns "NAME=value" entries. `ready`: whether readyFd is open; `socket`: whether socketFd is the guest's. */
std::vector<std::string> programEnvironment(char** caller, bool ready, bool socket);

}  // namespace launcher
