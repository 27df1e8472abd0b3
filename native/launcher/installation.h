/** Where the files of this installation are: found from the launcher itself, so that the tree can be moved as a whole. */
#pragma once

#include <string>

#include "command.h"

namespace launcher {

struct Installation {
  std::string node;
  std::string program;
};

/** PREFIX/bin/passt finds PREFIX/lib/passt/{node,passt.mjs,pasta.mjs}, through symbolic links too. @returns false with errno set */
bool findInstallation(Program program, Installation& installation);

}  // namespace launcher
