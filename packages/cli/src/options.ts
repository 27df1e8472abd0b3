/**
 * The one table of options, of all modes. Its order is that of help text and manual page within each group.
 */
import type { Mode, OptionSpec } from "./option-spec.ts"

const PASTA: readonly Mode[] = ["pasta"]
/** Modes with a virtual machine behind them. */
const MACHINE: readonly Mode[] = ["passt", "vhost-user"]

/** "auto" is pasta's, see offersOf. */
const PORTS: NonNullable<OptionSpec["offers"]> = [{ word: "none" }, { word: "all" }, { word: "auto" }]

export const OPTIONS: readonly OptionSpec[] = [
  {
    name: "help",
    short: "h",
    group: "general",
    help: "Show this text and exit",
    status: "built",
    launcher: "inquiry",
  },
  { name: "version", group: "general", help: "Show the version and exit", status: "built", launcher: "inquiry" },
  {
    name: "foreground",
    short: "f",
    group: "general",
    help: "Stay in the foreground",
    standard: "go to the background once ready",
    man: `Without it, the command returns with status 0 as soon as the guest can connect: the socket exists, all
forwarded ports are listening and the PID file is written.
With it, messages keep going to standard error.`,
    manInPasta: `Without it, the command returns with status 0 as soon as the namespace is connected: the interface exists,
all forwarded ports are listening and the PID file is written.
With it, and with a command to spawn, messages keep going to standard error.`,
    status: "built",
    launcher: "foreground",
  },
  {
    name: "debug",
    short: "d",
    group: "general",
    help: "Show what happens to connections",
    man: `Cancels
.Fl Fl quiet .
These messages go to standard error or to the log file, not to the system log.`,
    status: "built",
  },
  {
    name: "trace",
    group: "general",
    help: "Show what happens to every packet; implies --debug",
    status: "built",
  },
  {
    name: "quiet",
    short: "q",
    group: "general",
    help: "Show only warnings and errors",
    man: `Cancels
.Fl Fl debug
and
.Fl Fl trace .`,
    status: "built",
  },
  {
    name: "stderr",
    short: "e",
    group: "general",
    help: "Has no effect: errors always go to standard error until the program is ready",
    status: "built",
    deprecated: true,
  },
  {
    name: "log-file",
    short: "l",
    argument: "PATH",
    offers: ["files"],
    group: "general",
    help: "Write messages to a file",
    standard: "system log, or standard error in the foreground",
    man: "The file is created with mode 0600. Its first line tells version, executable and PID.",
    status: "built",
    launcher: "logFile",
  },
  {
    name: "log-size",
    argument: "BYTES",
    group: "general",
    help: "Largest size of the log file; the oldest messages are cut off beyond it",
    standard: "1048576",
    man: "At least 40960.",
    status: "built",
  },
  {
    name: "runas",
    argument: "USER",
    offers: ["users"],
    group: "general",
    help: "Run as UID[:GID] or LOGIN[:GROUP]",
    standard: "nobody, if started as root",
    man: `Names and numbers may be mixed.
Without a group, a number stands for user and group of that number, and a name for the user with its primary group.
Root is refused by name; the number 0 keeps it.`,
    status: "built",
    launcher: "user",
  },
  {
    name: "pid",
    short: "P",
    argument: "PATH",
    offers: ["files"],
    group: "general",
    help: "Write the process ID to a file",
    man: "The file is created with mode 0600 or overwritten. It is not removed at exit.",
    status: "built",
    launcher: "pidFile",
  },
  {
    name: "pcap",
    short: "p",
    argument: "PATH",
    offers: ["files"],
    group: "general",
    help: "Capture the guest's traffic to a file in pcap format",
    man: "Both directions, as seen on the guest's side. The file is created with mode 0600 or truncated.",
    status: "built",
  },
  {
    name: "stats",
    argument: "SECONDS",
    group: "general",
    help: "Show what is alive, what passes and what is dropped, at most that often; needs --foreground before it",
    man: `A row on standard error when something has happened: seconds since the start; flows that are alive; what has come since
the last row of new flows, frames, megabits per second from the guest (<) and to it (>), retransmissions and resets; and what
was dropped, by reason. 0: none.`,
    status: "built",
  },
  {
    name: "control",
    argument: "PATH",
    offers: ["files"],
    group: "general",
    help: "Socket on which passtctl shows and changes what the running program does",
    man: `Lists flows, statistics and metrics, adds and removes port forwarding rules, starts and stops captures.
The socket is created with mode 0600: who may open it may do all of that.
It is not removed at exit.`,
    status: "built",
  },
  {
    name: "metrics",
    argument: "[ADDRESS:]PORT",
    group: "general",
    help: "Serve metrics in the text format of OpenMetrics over HTTP, at /metrics",
    standard: "they are not served",
    man: `Without an address, on 127.0.0.1.
There is no encryption, and no question who asks: another address than a loopback address tells everybody who can reach it what
the guest does, as numbers.
An IPv6 address is written in brackets.`,
    status: "built",
  },
  {
    name: "policy",
    argument: "FILE",
    offers: ["files"],
    group: "general",
    help: "What may begin: rules for connections and datagrams of and to the guest, in JSON",
    standard: "everything may",
    man: `Flows are allowed, refused, dropped, redirected or limited in rate by direction, protocol, address, port, and by the name that
the guest has found an address by.
The format is described in docs/policy.md.
The file is read at the start, where a mistake in it is an error, and again on SIGHUP, where the old rules stay if there is a mistake; for
that it must be readable by the user that the program runs as.
Without the option, rules can be loaded by passtctl if there is a control socket.`,
    status: "built",
    launcher: "policyFile",
  },
  {
    name: "conf-path",
    short: "c",
    argument: "PATH",
    offers: ["files"],
    group: "general",
    help: "Socket on which pesto shows and changes the port forwarding rules of the running program",
    man: `Speaks the protocol of the reference implementation's client, in its version 2.
Whoever may write to the socket, as the umask says, may forward any port: usually its owner alone.
It is not removed at exit.`,
    status: "built",
  },
  {
    name: "chroot-fallback",
    group: "general",
    help: "Use chroot where the root file system can't be pivoted",
    man: "In an initial RAM file system, for one. A process with the capability to do so leaves a chroot, but none is left.",
    status: "built",
  },
  {
    name: "no-seal",
    group: "general",
    help: "For debugging: let the running program ask for memory and make any system call",
    man: "Namespaces and the empty root stay. Started as root, it needs\n.Fl Fl foreground .",
    status: "built",
    launcher: "noSeal",
  },
  {
    name: "no-jit",
    group: "general",
    help: "Never compile the program to machine code: no memory is both writable and executable",
    man: "What that costs is in docs/security.md.",
    status: "built",
    launcher: "noJit",
  },

  {
    name: "socket",
    short: "s",
    aliases: ["socket-path"],
    argument: "PATH",
    offers: ["files"],
    modes: MACHINE,
    group: "transport",
    help: "UNIX domain socket that the guest's machine connects to",
    standard: "the first free one of /tmp/passt_1.socket to /tmp/passt_99.socket",
    man: "A socket that nobody listens on is replaced.",
    status: "built",
  },
  {
    name: "fd",
    short: "F",
    argument: "FD",
    group: "transport",
    help: "Use an inherited, connected socket; implies --one-off",
    modes: MACHINE,
    status: "built",
    launcher: "descriptor",
  },
  {
    name: "one-off",
    short: "1",
    modes: MACHINE,
    group: "transport",
    help: "Exit when the guest's machine disconnects",
    standard: "wait for the next one",
    status: "built",
  },
  {
    name: "vhost-user",
    modes: MACHINE,
    group: "transport",
    help: "Speak vhost-user on the socket instead of frames",
    man: "The guest's memory must be shared (in QEMU a memory-backend-memfd with share=on), its network card a virtio one.",
    status: "built",
  },
  {
    name: "print-capabilities",
    modes: MACHINE,
    group: "transport",
    help: "Show the vhost-user back-end's capabilities and exit",
    man: "JSON on standard output, as machine monitors look for it.",
    status: "built",
    launcher: "inquiry",
  },

  {
    name: "interface",
    short: "i",
    argument: "NAME",
    offers: ["interfaces"],
    group: "network",
    help: "Host interface whose addresses and routes the guest gets",
    standard: "that of --outbound-if4 or --outbound-if6, else of the first default route",
    status: "built",
  },
  {
    name: "address",
    short: "a",
    argument: "ADDR[/LEN]",
    group: "network",
    help: "Address of the guest",
    standard: "the host's",
    man: `Without a length,
.Fl Fl netmask
or the address class gives it; IPv6 prefixes are always 64 bits long.
With this option, addresses that appear in the guest's traffic are not taken for its own.`,
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "netmask",
    short: "n",
    argument: "MASK",
    group: "network",
    help: "IPv4 netmask of the guest: dotted, or a prefix length",
    standard: "the host's, or by class with --address",
    status: "built",
  },
  {
    name: "gateway",
    short: "g",
    argument: "ADDR",
    group: "network",
    help: "Default gateway of the guest, IPv4 or IPv6",
    standard: "the host's",
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "mac-addr",
    short: "M",
    argument: "MAC",
    group: "network",
    help: "MAC address at which the guest sees its gateway",
    standard: "9a:55:9a:55:9a:55",
    man: "Not the address of the guest's own interface: that one is the machine's to choose.",
    manInPasta: `Not the address of the namespace's own interface, see
.Fl Fl ns-mac-addr .`,
    status: "built",
  },
  {
    name: "mtu",
    short: "m",
    argument: "MTU",
    group: "network",
    help: "Largest IP packet announced to the guest, in bytes; 0: announce none",
    standard: "65520",
    man: "At most 65521. Announced by DHCP, by router advertisement and in the segment size of TCP connections.",
    status: "built",
  },
  {
    name: "outbound",
    short: "o",
    argument: "ADDR",
    group: "network",
    help: "Source address of the host for the guest's connections, IPv4 or IPv6",
    standard: "as the host's routes say",
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "outbound-if4",
    argument: "NAME",
    offers: ["interfaces"],
    group: "network",
    help: "Host interface that the guest's IPv4 traffic must use",
    standard: "as the host's routes say",
    status: "built",
  },
  {
    name: "outbound-if6",
    argument: "NAME",
    offers: ["interfaces"],
    group: "network",
    help: "Host interface that the guest's IPv6 traffic must use",
    standard: "as the host's routes say",
    status: "built",
  },
  {
    name: "no-follow-host",
    group: "network",
    help: "Keep addresses, routes and resolvers as they were at the start, whatever becomes of the host's",
    standard: "changes of the host's network are followed",
    man: `Without it, the guest is told by router advertisements, and by DHCP and DHCPv6 when it renews its leases, and queries to
resolvers that it was told before go to those that the host has by then.
What is given by other options stays in any case.`,
    manInPasta: `Without it, what begins in the namespace leaves the host by the addresses and routes that the host has by then, and
queries to resolvers that the namespace was told go to the host's present ones.
What
.Fl Fl config-net
has set up in the namespace stays: nothing is left of the privilege to change it, and nothing depends on it.
What is given by other options stays in any case.`,
    status: "built",
    launcher: "noFollow",
  },
  {
    name: "ipv4-only",
    short: "4",
    group: "network",
    help: "No IPv6; of -4 and -6 the last one counts",
    status: "built",
  },
  {
    name: "ipv6-only",
    short: "6",
    group: "network",
    help: "No IPv4; of -4 and -6 the last one counts",
    status: "built",
  },

  {
    name: "dns",
    short: "D",
    argument: "ADDR",
    offers: [{ word: "none" }],
    group: "dns",
    help: "Name server announced to the guest, or 'none'",
    standard: "those of /etc/resolv.conf",
    man: `Up to three per family, announced as they are.
.Cm none
announces no server and forgets all servers given before, those of
.Fl Fl dns-forward
and
.Fl Fl dns-host
included.`,
    repeatable: "list",
    status: "built",
  },
  {
    name: "dns-forward",
    argument: "ADDR",
    group: "dns",
    help: "Address in the guest's network whose DNS traffic goes to --dns-host",
    man: "TCP and UDP, ports 53 and 853.",
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "dns-host",
    argument: "ADDR",
    group: "dns",
    help: "Name server that DNS traffic to --dns-forward is sent to",
    standard: "the first of /etc/resolv.conf",
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "search",
    short: "S",
    argument: "DOMAINS",
    offers: [{ word: "none" }],
    group: "dns",
    help: "Search domains announced to the guest, separated by spaces, or 'none'",
    standard: "those of /etc/resolv.conf",
    man: `As many as fit: what a client takes by DHCP is 240 bytes at least, with common endings counted once, 1,000 by router
advertisements. The first ones go first.`,
    repeatable: "list",
    status: "built",
  },
  {
    name: "no-dhcp-dns",
    modes: MACHINE,
    group: "dns",
    help: "Announce no name servers",
    status: "built",
  },
  {
    name: "no-dhcp-search",
    modes: MACHINE,
    group: "dns",
    help: "Announce no search domains",
    status: "built",
  },
  {
    name: "dhcp-dns",
    modes: PASTA,
    group: "dns",
    help: "Announce name servers",
    man: "By DHCP, DHCPv6 and router advertisements.",
    status: "built",
  },
  {
    name: "dhcp-search",
    modes: PASTA,
    group: "dns",
    help: "Announce search domains",
    man: "By DHCP, DHCPv6 and router advertisements.",
    status: "built",
  },
  {
    name: "hostname",
    short: "H",
    argument: "NAME",
    group: "dns",
    help: "Host name given to the guest by DHCP",
    man: "In pasta, the host name of the UTS namespace of a spawned command, too: pasta-NAME without it, NAME being the host's.",
    status: "built",
    launcher: "hostName",
  },
  {
    name: "fqdn",
    argument: "NAME",
    group: "dns",
    help: "Fully qualified name given to the guest by DHCP and DHCPv6",
    status: "built",
  },

  { name: "no-tcp", group: "services", help: "No TCP", status: "built" },
  { name: "no-udp", group: "services", help: "No UDP", status: "built" },
  {
    name: "no-icmp",
    group: "services",
    help: "No ICMP and ICMPv6: neither ping nor neighbour discovery",
    status: "built",
  },
  { name: "no-dhcp", group: "services", help: "No DHCP server", status: "built" },
  { name: "no-dhcpv6", group: "services", help: "No DHCPv6 server", status: "built" },
  { name: "no-ndp", group: "services", help: "No answers to neighbour discovery", status: "built" },
  { name: "no-ra", group: "services", help: "No router advertisements", status: "built" },

  {
    name: "map-host-loopback",
    argument: "ADDR",
    offers: [{ word: "none" }],
    group: "translation",
    help: "Address at which the guest reaches the host's loopback address, or 'none'",
    standard: "the guest's gateway",
    man: `.Cm none
implies
.Fl Fl no-map-gw .`,
    repeatable: "per-family",
    status: "built",
  },
  {
    name: "no-map-gw",
    group: "translation",
    help: "Don't let the gateway address lead to the host's loopback address",
    status: "built",
  },
  {
    name: "map-guest-addr",
    argument: "ADDR",
    offers: [{ word: "none" }],
    group: "translation",
    help: "Address at which the guest reaches the host by the address that both have, or 'none'",
    standard: "none",
    repeatable: "per-family",
    status: "built",
  },

  {
    name: "tcp-ports",
    short: "t",
    argument: "SPEC",
    offers: PORTS,
    group: "forwarding",
    help: "TCP ports of the host that lead to the guest",
    standard: "none",
    man: `See
.Sx PORT SPECIFICATIONS .`,
    repeatable: "list",
    standardInPasta: "auto",
    status: "built",
  },
  {
    name: "udp-ports",
    short: "u",
    argument: "SPEC",
    offers: PORTS,
    group: "forwarding",
    help: "UDP ports of the host that lead to the guest",
    standard: "none",
    man: `See
.Sx PORT SPECIFICATIONS .`,
    repeatable: "list",
    standardInPasta: "auto",
    status: "built",
  },
  {
    name: "freebind",
    group: "forwarding",
    help: "Allow listening on addresses that the host doesn't have yet",
    status: "built",
  },
  {
    name: "tcp-ns",
    short: "T",
    argument: "SPEC",
    offers: PORTS,
    modes: PASTA,
    group: "forwarding",
    help: "TCP ports of the namespace's loopback that lead to the host's",
    standard: "auto",
    repeatable: "list",
    man: `The same forms as for
.Fl Fl tcp-ports ,
but without addresses.`,
    status: "built",
  },
  {
    name: "udp-ns",
    short: "U",
    argument: "SPEC",
    offers: PORTS,
    modes: PASTA,
    group: "forwarding",
    help: "UDP ports of the namespace's loopback that lead to the host's",
    standard: "auto",
    repeatable: "list",
    man: `The same forms as for
.Fl Fl udp-ports ,
but without addresses.`,
    status: "built",
  },
  {
    name: "host-lo-to-ns-lo",
    modes: PASTA,
    group: "forwarding",
    help: "Forward the host's loopback connections to the namespace's loopback",
    man: "Without it they lead to the address that the namespace has on its interface.",
    status: "built",
  },
  {
    name: "no-splice",
    modes: PASTA,
    group: "forwarding",
    help: "Send all connections to forwarded ports through the namespace's interface",
    man: "Without it, those of the host itself take a short cut, from socket to socket.",
    status: "built",
  },
  {
    name: "splice-only",
    modes: PASTA,
    group: "forwarding",
    help: "No interface in the namespace, only loopback forwarding",
    man: `Implies
.Fl Fl host-lo-to-ns-lo
and
.Fl Fl no-icmp .
No name servers and search domains are announced.`,
    status: "built",
  },

  {
    name: "repair-path",
    argument: "PATH",
    offers: [{ word: "none" }],
    // Built as far as "none" goes, which callers may pass in any mode.
    modes: ["vhost-user"],
    group: "migration",
    help: "Socket of the helper that moves connections, or 'none'",
    standard: "none",
    status: "built",
  },
  {
    name: "migrate-exit",
    modes: ["vhost-user"],
    group: "migration",
    help: "Exit after the guest has moved away",
    status: "planned",
  },
  {
    name: "migrate-no-linger",
    modes: ["vhost-user"],
    group: "migration",
    help: "Close the guest's connections as soon as it has moved away",
    status: "planned",
  },

  {
    name: "ns-ifname",
    short: "I",
    argument: "NAME",
    modes: PASTA,
    group: "namespace",
    help: "Name of the interface in the namespace",
    standard: "that of the template interface, or tap0",
    status: "built",
  },
  {
    name: "ns-mac-addr",
    argument: "MAC",
    modes: PASTA,
    group: "namespace",
    help: "MAC address of the interface in the namespace",
    standard: "chosen by the kernel",
    status: "built",
  },
  {
    name: "userns",
    argument: "PATH",
    offers: ["files"],
    modes: PASTA,
    group: "namespace",
    help: "User namespace to join",
    man: `Cancels
.Fl Fl netns-only .`,
    status: "built",
    launcher: "userns",
  },
  {
    name: "netns",
    argument: "PATH|NAME",
    offers: ["namespaces", "files"],
    modes: PASTA,
    group: "namespace",
    help: "Network namespace to join: a path, or a name of ip-netns(8)",
    man: `A name without slash stands for a file in /run/netns.
Without
.Fl Fl userns
the user namespace stays as it is.`,
    status: "built",
    launcher: "netns",
  },
  {
    name: "netns-only",
    modes: PASTA,
    group: "namespace",
    help: "Neither create nor join a user namespace",
    man: `Cancels
.Fl Fl userns .`,
    status: "built",
    launcher: "netnsOnly",
  },
  {
    name: "no-netns-quit",
    modes: PASTA,
    group: "namespace",
    help: "Stay when the network namespace is removed",
    status: "built",
  },
  {
    name: "no-pidns",
    modes: PASTA,
    group: "namespace",
    help: "Keep the command in the caller's PID namespace",
    man: "Processes that it leaves behind are not ended then.",
    status: "built",
    launcher: "noPidns",
  },
  {
    name: "config-net",
    modes: PASTA,
    group: "namespace",
    help: "Set up the interface in the namespace: addresses, routes, link",
    man: `Addresses and routes are those of the host's template interface, or what
.Fl Fl address
and
.Fl Fl gateway
say.
No router advertisements are sent then.
Without it, the interface is there but down, and DHCP, DHCPv6 and router advertisements answer its clients.`,
    status: "built",
  },
  {
    name: "no-copy-routes",
    modes: PASTA,
    group: "namespace",
    help: "Give the namespace a default route only; needs --config-net",
    status: "built",
    deprecated: true,
  },
  {
    name: "no-copy-addrs",
    modes: PASTA,
    group: "namespace",
    help: "Give the namespace one address per family only; needs --config-net",
    status: "built",
    deprecated: true,
  },
]

/** The options that help text and manual page of a mode show, as they are there. */
export function optionsOf(mode: Mode): OptionSpec[] {
  const options = OPTIONS.filter((option) => option.status === "built" && (option.modes?.includes(mode) ?? true))
  return mode === "pasta" ? options.map(inPasta) : options
}

/** The guest of pasta is a namespace. */
function inPasta(option: OptionSpec): OptionSpec {
  // Not in names of options.
  const word = (text: string): string => text.replaceAll(/(?<![-\w])guest(?![-\w])/g, "namespace")
  const standard = option.standardInPasta ?? option.standard
  const man = option.manInPasta ?? option.man
  return {
    ...option,
    help: word(option.help),
    ...(man === undefined ? {} : { man: word(man) }),
    ...(standard === undefined ? {} : { standard: word(standard) }),
  }
}
