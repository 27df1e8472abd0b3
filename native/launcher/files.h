/** Files that the program writes in places where only its caller may: opened before the caller's user is given up. */
#pragma once

#include <string>

namespace launcher {

struct Files {
  /** -1: none, or it can't be opened; the program then tries itself, and says why. */
  int pid = -1;
  /** Two views of one file: for moving its contents, and for appending. */
  int logEdit = -1;
  int logAppend = -1;
};

/** Creates or empties them, mode 0600. Empty paths: none. */
Files openFiles(const std::string& pidPath, const std::string& logPath);

}  // namespace launcher
