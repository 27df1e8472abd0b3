#include "identity.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace launcher {
namespace {

constexpr uint32_t idMax = 0xfffffffe;
/** Where there is no user "nobody": what the kernel shows for users that it can't (/proc/sys/kernel/overflowuid). */
constexpr uid_t nobodyDefault = 65534;

/** Decimal digits, as far as they are an id. @returns whether `text` is a number */
bool parseId(const std::string& text, uint64_t& id) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos || text.size() > 10) return false;
  id = 0;
  for (const char digit : text) id = id * 10 + static_cast<unsigned>(digit - '0');
  return true;
}

/** UID[:GID] or LOGIN[:GROUP], mixed as well. */
bool parseIdentity(const std::string& text, Identity& identity) {
  const size_t colon = text.find(':');
  const std::string user = text.substr(0, colon);
  uint64_t id = 0;
  if (parseId(user, id)) {
    if (id > idMax) return false;
    identity = {static_cast<uid_t>(id), static_cast<gid_t>(id)};
  } else {
    const passwd* entry = getpwnam(user.c_str());
    if (!entry || entry->pw_uid == 0) return false;
    identity = {entry->pw_uid, entry->pw_gid};
  }
  if (colon == std::string::npos) return true;
  const std::string group = text.substr(colon + 1);
  if (parseId(group, id)) {
    if (id > idMax) return false;
    identity.gid = static_cast<gid_t>(id);
    return true;
  }
  const struct group* entry = getgrnam(group.c_str());
  if (!entry) return false;
  identity.gid = entry->gr_gid;
  return true;
}

/** The initial user namespace maps all ids to themselves in a single line (user_namespaces(7)). */
bool isInitialRoot() {
  if (geteuid() != 0) return false;
  FILE* file = fopen("/proc/self/uid_map", "re");
  // Without the file there are no user namespaces in this kernel (or no /proc): root is root.
  if (!file) return true;
  unsigned long inside = 1, outside = 1, count = 0;
  const int fields = fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
  fclose(file);
  return fields == 3 && inside == 0 && outside == 0 && count == 4294967295UL;
}

/** Leaving root clears the effective set, PR_SET_KEEPCAPS keeps the permitted one (capabilities(7)). */
bool raisePermitted() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) < 0) return false;
  for (__user_cap_data_struct& half : data) half.effective = half.permitted;
  return syscall(SYS_capset, &header, data) == 0;
}

}  // namespace

Choice chooseIdentity(const std::string& runas, Identity& identity) {
  identity = {nobodyDefault, nobodyDefault};
  if (!runas.empty()) {
    if (!parseIdentity(runas, identity)) return Choice::invalid;
  } else if (!isInitialRoot()) {
    return Choice::keep;
  } else if (const passwd* nobody = getpwnam("nobody")) {
    identity = {nobody->pw_uid, nobody->pw_gid};
  }
  return identity.uid == geteuid() && identity.gid == getegid() ? Choice::keep : Choice::change;
}

int becomeIdentity(const Identity& identity) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return errno;
  // In a user namespace setgroups may be denied for good (user_namespaces(7)): then there is nothing to drop.
  if (setgroups(0, nullptr) < 0 && errno != EPERM) return errno;
  if (setresgid(identity.gid, identity.gid, identity.gid) < 0) return errno;
  if (setresuid(identity.uid, identity.uid, identity.uid) < 0) return errno;
  // /proc/self belongs to root otherwise, and with it the files that map the ids of a new user namespace.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return raisePermitted() ? 0 : errno;
}

}  // namespace launcher
