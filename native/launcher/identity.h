/** Which user the program runs as, where that has to be decided before the runtime starts: in pasta. */
#pragma once

#include <string>
#include <sys/types.h>

namespace launcher {

struct Identity {
  uid_t uid;
  gid_t gid;
};

enum class Choice {
  /** As we are. */
  keep,
  change,
  /** The argument names nobody, or root: the program says so. */
  invalid,
};

/**
 * The user of `runas`; without it nobody if we are root of the whole machine (root of a user namespace is an ordinary user
 * outside).
 */
Choice chooseIdentity(const std::string& runas, Identity& identity);

/** Becomes that user, and keeps the capabilities that we have: what the program needs of them is chosen later.
 * @returns 0 or an errno */
int becomeIdentity(const Identity& identity);

}  // namespace launcher
