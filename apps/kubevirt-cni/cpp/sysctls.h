/**
 * The two settings of a pod's network namespace that a process without any privilege needs for what passt does there:
 *
 *   net.ipv4.ip_unprivileged_port_start = 0      listening on ports below 1024 (for IPv6 too; ip-sysctl.txt)
 *   net.ipv4.ping_group_range = GROUP GROUP      ICMP and ICMPv6 echo sockets (ping_group_range(5) in icmp(7))
 *
 * Both end with the namespace, which is why DEL has nothing to do.
 */
#pragma once

#include <cstdint>
#include <string>

#include "answer.h"

namespace cni {

/** Enters the namespace, and the user namespace that it belongs to: the group is one of the pod's. */
Outcome enterNamespace(const std::string& path);

/** Writes both, or leaves both as they were. */
Outcome applySysctls(uint32_t group);

/** Whether both are as ADD has left them. */
Outcome checkSysctls(uint32_t group);

/** Whether this kernel has them at all. */
Outcome findSysctls();

}  // namespace cni
