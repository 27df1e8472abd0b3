/**
 * Options as getopt_long finds them, and the numbers that launcher and program agree on.
 * Generated from the option table of @passt/cli: run `pnpm --filter @passt/cli generate` after changing it.
 */
#pragma once

#include <getopt.h>

namespace launcher {

inline constexpr const char* shortOptions = "+hfdqel:P:p:c:s:F:1i:a:n:g:M:m:o:46D:S:H:t:u:T:U:I:";

inline constexpr option longOptions[] = {
    {"help", no_argument, nullptr, 'h'},
    {"version", no_argument, nullptr, 257},
    {"foreground", no_argument, nullptr, 'f'},
    {"debug", no_argument, nullptr, 'd'},
    {"trace", no_argument, nullptr, 260},
    {"quiet", no_argument, nullptr, 'q'},
    {"stderr", no_argument, nullptr, 'e'},
    {"log-file", required_argument, nullptr, 'l'},
    {"log-size", required_argument, nullptr, 264},
    {"runas", required_argument, nullptr, 265},
    {"pid", required_argument, nullptr, 'P'},
    {"pcap", required_argument, nullptr, 'p'},
    {"stats", required_argument, nullptr, 268},
    {"control", required_argument, nullptr, 269},
    {"metrics", required_argument, nullptr, 270},
    {"policy", required_argument, nullptr, 271},
    {"conf-path", required_argument, nullptr, 'c'},
    {"chroot-fallback", no_argument, nullptr, 273},
    {"no-seal", no_argument, nullptr, 274},
    {"no-jit", no_argument, nullptr, 275},
    {"socket", required_argument, nullptr, 's'},
    {"socket-path", required_argument, nullptr, 's'},
    {"fd", required_argument, nullptr, 'F'},
    {"one-off", no_argument, nullptr, '1'},
    {"vhost-user", no_argument, nullptr, 279},
    {"print-capabilities", no_argument, nullptr, 280},
    {"interface", required_argument, nullptr, 'i'},
    {"address", required_argument, nullptr, 'a'},
    {"netmask", required_argument, nullptr, 'n'},
    {"gateway", required_argument, nullptr, 'g'},
    {"mac-addr", required_argument, nullptr, 'M'},
    {"mtu", required_argument, nullptr, 'm'},
    {"outbound", required_argument, nullptr, 'o'},
    {"outbound-if4", required_argument, nullptr, 288},
    {"outbound-if6", required_argument, nullptr, 289},
    {"no-follow-host", no_argument, nullptr, 290},
    {"ipv4-only", no_argument, nullptr, '4'},
    {"ipv6-only", no_argument, nullptr, '6'},
    {"dns", required_argument, nullptr, 'D'},
    {"dns-forward", required_argument, nullptr, 294},
    {"dns-host", required_argument, nullptr, 295},
    {"search", required_argument, nullptr, 'S'},
    {"no-dhcp-dns", no_argument, nullptr, 297},
    {"no-dhcp-search", no_argument, nullptr, 298},
    {"dhcp-dns", no_argument, nullptr, 299},
    {"dhcp-search", no_argument, nullptr, 300},
    {"hostname", required_argument, nullptr, 'H'},
    {"fqdn", required_argument, nullptr, 302},
    {"no-tcp", no_argument, nullptr, 303},
    {"no-udp", no_argument, nullptr, 304},
    {"no-icmp", no_argument, nullptr, 305},
    {"no-dhcp", no_argument, nullptr, 306},
    {"no-dhcpv6", no_argument, nullptr, 307},
    {"no-ndp", no_argument, nullptr, 308},
    {"no-ra", no_argument, nullptr, 309},
    {"map-host-loopback", required_argument, nullptr, 310},
    {"no-map-gw", no_argument, nullptr, 311},
    {"map-guest-addr", required_argument, nullptr, 312},
    {"tcp-ports", required_argument, nullptr, 't'},
    {"udp-ports", required_argument, nullptr, 'u'},
    {"freebind", no_argument, nullptr, 315},
    {"tcp-ns", required_argument, nullptr, 'T'},
    {"udp-ns", required_argument, nullptr, 'U'},
    {"host-lo-to-ns-lo", no_argument, nullptr, 318},
    {"no-splice", no_argument, nullptr, 319},
    {"splice-only", no_argument, nullptr, 320},
    {"repair-path", required_argument, nullptr, 321},
    {"migrate-exit", no_argument, nullptr, 322},
    {"migrate-no-linger", no_argument, nullptr, 323},
    {"ns-ifname", required_argument, nullptr, 'I'},
    {"ns-mac-addr", required_argument, nullptr, 325},
    {"userns", required_argument, nullptr, 326},
    {"netns", required_argument, nullptr, 327},
    {"netns-only", no_argument, nullptr, 328},
    {"no-netns-quit", no_argument, nullptr, 329},
    {"no-pidns", no_argument, nullptr, 330},
    {"config-net", no_argument, nullptr, 331},
    {"no-copy-routes", no_argument, nullptr, 332},
    {"no-copy-addrs", no_argument, nullptr, 333},
    {nullptr, 0, nullptr, 0},
};

/** Stay in the foreground. */
inline constexpr int foregroundOption = 'f';
/** Its argument is the number of the guest's connected socket. */
inline constexpr int descriptorOption = 'F';
/** Serve without the seal. */
inline constexpr int noSealOption = 274;
/** Interpret the program, never compile it to machine code. */
inline constexpr int noJitOption = 275;
/** Whom to become, UID[:GID] or LOGIN[:GROUP]. */
inline constexpr int userOption = 265;
/** Network namespace to join. */
inline constexpr int netnsOption = 327;
/** User namespace to join. */
inline constexpr int usernsOption = 326;
/** Stay in the user namespace. */
inline constexpr int netnsOnlyOption = 328;
/** No PID namespace for the command to spawn. */
inline constexpr int noPidnsOption = 330;
/** File to write the process ID to. */
inline constexpr int pidFileOption = 'P';
/** File to write messages to. */
inline constexpr int logFileOption = 'l';
/** File of rules, to be opened again on SIGHUP. */
inline constexpr int policyFileOption = 271;
/** Don't watch the host's resolver configuration. */
inline constexpr int noFollowOption = 290;
/** Host name in the command's UTS namespace. */
inline constexpr int hostNameOption = 'H';
/** Whether the program only shows a text and exits. */
constexpr bool isInquiry(int option) {
  return option == 'h' || option == 257 || option == 280;
}

/** Where the program finds the guest's socket, the readiness pipe, the target network namespace and the pipe to the
 * command that is to be spawned, and which variables say so. */
inline constexpr int socketFd = 3;
inline constexpr char socketVariable[] = "PASST_SOCKET_FD";
inline constexpr char listenerVariable[] = "PASST_LISTENER_FD";
inline constexpr int readyFd = 4;
inline constexpr char readyVariable[] = "PASST_READY_FD";
inline constexpr int netnsFd = 5;
inline constexpr char netnsVariable[] = "PASST_NETNS_FD";
/** Where it finds the directory of the file that names that namespace. */
inline constexpr int netnsDirectoryFd = 10;
inline constexpr char netnsDirectoryVariable[] = "PASST_NETNS_DIRECTORY_FD";
inline constexpr int goFd = 6;
inline constexpr char goVariable[] = "PASST_GO_FD";
/** Where it finds files that were opened before the user changed. */
inline constexpr int pidFileFd = 7;
inline constexpr char pidFileVariable[] = "PASST_PID_FILE_FD";
inline constexpr int logEditFd = 8;
inline constexpr int logAppendFd = 9;
inline constexpr char logFileVariable[] = "PASST_LOG_FILE_FD";
/** Where it finds the socket on which the watcher of resolv.conf sends. */
inline constexpr int resolversFd = 11;
inline constexpr char resolversVariable[] = "PASST_RESOLVERS_FD";
/** Where it asks for the policy's file. */
inline constexpr int policyFd = 12;
inline constexpr char policyVariable[] = "PASST_POLICY_FD";
/** The command's process. */
inline constexpr char childVariable[] = "PASST_CHILD_PID";
/** Lines for the user. */
inline constexpr char warningsVariable[] = "PASST_WARNINGS";

}  // namespace launcher
