#include "capabilities.h"

#include <cerrno>
#include <cstdint>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace launcher {
namespace {

constexpr uint64_t bit(int capability) { return uint64_t{1} << capability; }

/** Kept as far as we have them. A caller's user namespace or container may have taken some already. */
constexpr uint64_t kept =
    // Forwarded ports below ip_unprivileged_port_start.
    bit(CAP_NET_BIND_SERVICE) |
    // Root can create its PID file and socket in directories of other users, as callers expect.
    bit(CAP_DAC_OVERRIDE) |
    // Namespaces and an empty root, where user namespaces are not for everybody.
    bit(CAP_SYS_ADMIN) | bit(CAP_SYS_CHROOT);

/** passt, started as root, becomes another user when all that is open. */
constexpr uint64_t keptByPasst = bit(CAP_SETUID) | bit(CAP_SETGID);

/** pasta has done so already. It sets the network namespace up. */
constexpr uint64_t keptByPasta = bit(CAP_NET_ADMIN);

/** The kernel takes each set as two words. */
void setHalves(__user_cap_data_struct (&data)[2], uint32_t __user_cap_data_struct::*set, uint64_t value) {
  data[0].*set = static_cast<uint32_t>(value);
  data[1].*set = static_cast<uint32_t>(value >> 32);
}

}  // namespace

/**
 * What a program may do after execve is (capabilities(7)): for root, the inheritable and the bounding set together; for
 * others, the ambient set, which must be inheritable and permitted. So what is kept becomes inheritable and ambient
 * (this also carries the file capabilities of an installed launcher, `setcap cap_net_bind_service=ep`, over to
 * node, which has none), and the bounding set is emptied while CAP_SETPCAP is still there.
 */
int restrictCapabilities(Program program) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) < 0) return errno;
  const uint64_t permitted = data[0].permitted | uint64_t{data[1].permitted} << 32;
  const uint64_t wanted = permitted & (kept | (program == Program::pasta ? keptByPasta : keptByPasst));

  // Inheritable first: the kernel lets nothing become so that the bounding set lacks.
  setHalves(data, &__user_cap_data_struct::inheritable, wanted);
  if (syscall(SYS_capset, &header, data) < 0) return errno;
  // EINVAL: past the last one that this kernel knows. EPERM: ordinary users may not, but neither do they gain anything
  // by execve once no_new_privs is set.
  for (int capability = 0; capability < 64; capability++) {
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) break;
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return errno;
  setHalves(data, &__user_cap_data_struct::effective, wanted);
  setHalves(data, &__user_cap_data_struct::permitted, wanted);
  if (syscall(SYS_capset, &header, data) < 0) return errno;
  for (int capability = 0; capability < 64; capability++) {
    if (!(wanted & bit(capability))) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0) return errno;
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno;
  return 0;
}

}  // namespace launcher
