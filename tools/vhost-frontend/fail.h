#pragma once

#include <cerrno>
#include <string>

/** Tells what did not work, and why if `errno` says so, and ends the process. Each program has its own. */
[[noreturn]] void fail(const std::string& what);
/** The same, of what no system call has to do with. */
[[noreturn]] inline void refuse(const std::string& what) {
  errno = 0;
  fail(what);
}
