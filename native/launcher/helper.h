/** What processes beside the program have in common. */
#pragma once

#include "command.h"

namespace launcher {

/** The only descriptor of such a process, besides the standard three, which lead nowhere. */
inline constexpr int helperPeer = 3;

/** Makes the calling process one that has nothing but `end`, as helperPeer: no privilege, no terminal, the user that the program will be.
 * @param name what ps shows */
void becomeHelper(const Command& command, int end, const char* name, int argc, char** argv);

}  // namespace launcher
