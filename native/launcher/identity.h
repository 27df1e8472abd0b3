/** Which user the program runs as, where that has to be decided before the runtime starts: in pasta. */
#pragma once

#include <string>

namespace launcher {

enum class IdentityResult {
  changed,
  kept,
  /** The argument names nobody, or root: the program says so. */
  invalid,
  /** errno tells why. */
  failed,
};

/**
 * Becomes the user of `runas`, or nobody if we are root of the whole machine (root of a user namespace is an ordinary user
 * outside), and keeps the capabilities that we have: what the program needs of them is chosen later.
 */
IdentityResult changeIdentity(const std::string& runas);

}  // namespace launcher
