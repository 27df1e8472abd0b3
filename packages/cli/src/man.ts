/** The manual pages passt(1) and pasta(1), as mdoc source (mdoc(7)). What they say of options comes from the option table. */
import { OPTION_GROUPS, type OptionGroup, type OptionSpec } from "./option-spec.ts"
import { optionsOf } from "./options.ts"

const REPEATABLE = { list: "May be repeated.", "per-family": "Once per family, IPv4 and IPv6." } as const

/** `day`: what the page is dated by. */
export function manualPage(version: string, day: Date, program: "passt" | "pasta" = "passt"): string {
  const date = day.toLocaleDateString("en-US", { year: "numeric", month: "long", day: "numeric", timeZone: "UTC" })
  const beginning = program === "pasta" ? PASTA_BEGINNING : PASST_BEGINNING
  const end = program === "pasta" ? PASTA_END : PASST_END
  return `.\\" Generated from the option table of @passt/cli.
.Dd ${date}
.Dt ${program.toUpperCase()} 1
.Os passt ${version}
${beginning}${optionSections(program)}${end}`
}

const OPTIONS_INTRODUCTION = `.Sh OPTIONS
Options end at the first word that isn't one.
Long options may be shortened as long as they are unambiguous.
Of options that can't be repeated, the last one counts.
`

const PASTA_BEGINNING = `.Sh NAME
.Nm pasta
.Nd networking for a network namespace, without privileges
.Sh SYNOPSIS
.Nm
.Op Ar OPTION ...
.Op Ar COMMAND Op Ar ARG ...
.Nm
.Op Ar OPTION ...
.Ar PID
.Nm
.Op Ar OPTION ...
.Fl Fl netns Ar PATH Ns | Ns Ar NAME
.Sh DESCRIPTION
.Nm
connects a network namespace to the network.
It opens a tap interface in the namespace and translates what is sent there to ordinary sockets of the host: each TCP
connection of the namespace becomes a connection of the host, each exchange of UDP datagrams or pings a socket.
It needs neither privileges nor interfaces on the host.
.Pp
The namespace is that of a process, or named by
.Fl Fl netns ;
otherwise a command is run in a user, network, PID, mount, IPC and UTS namespace of its own, with the user as root:
the words after the options, or else the user\\(cqs shell.
.Pp
Unless told otherwise, the namespace gets the addresses and routes of the host: with
.Fl Fl config-net
at once, without it when it asks by DHCP, DHCPv6 or router solicitations.
Its connections seem to come from the host itself.
.Pp
Connections to ports on which somebody listens in the namespace reach it from the host, and those to the
namespace\\(cqs loopback address reach listeners of the host, see
.Fl Fl tcp-ports ,
.Fl Fl udp-ports ,
.Fl Fl tcp-ns
and
.Fl Fl udp-ns .
Where both ends are loopback addresses, the data takes a short cut from socket to socket.
.Pp
With a command,
.Nm
stays in the foreground; otherwise it goes to the background and returns as soon as the namespace is connected.
${OPTIONS_INTRODUCTION}`

const PASST_BEGINNING = `.Sh NAME
.Nm passt
.Nd networking for a virtual machine, without privileges
.Sh SYNOPSIS
.Nm
.Op Ar OPTION ...
.Sh DESCRIPTION
.Nm
connects a virtual machine to the network.
It takes the Ethernet frames of the guest from a UNIX domain socket and translates them to ordinary sockets of the host:
each TCP connection of the guest becomes a connection of the host, each exchange of UDP datagrams or pings a socket.
It needs neither privileges nor network interfaces of its own.
.Pp
Unless told otherwise, the guest gets the addresses, routes and name servers of the host, by DHCP, DHCPv6 and
router advertisements, and its connections seem to come from the host itself.
Connections to the guest reach it through forwarded ports, see
.Fl Fl tcp-ports
and
.Fl Fl udp-ports .
.Pp
.Nm
goes to the background and returns as soon as the guest can connect.
${OPTIONS_INTRODUCTION}`

const PORT_SPECIFICATIONS = `.Sh PORT SPECIFICATIONS
The argument of
.Fl Fl tcp-ports
and
.Fl Fl udp-ports
is
.Cm none
or
.Pp
.D1 Oo Oo Ar ADDR Oc Ns Oo Li % Ns Ar INTERFACE Oc Ns Li / Oc Ns Ar PORTS
.Pp
Before the slash stands where to listen: an address of the host, or
.Li *
or nothing for any; and an interface.
Without an address, IPv4 and IPv6 are served alike.
An IPv6 address may stand in brackets.
.Pp
.Ar PORTS
is a list, separated by commas, of
.Bl -tag -width Ds
.It Ar FIRST Ns Oo Li \\- Ns Ar LAST Oc
A port or a range, from 1 to 65535.
It leads to the same ports of the guest.
.It Ar RANGE Ns Li \\&: Ns Ar RANGE
To other ports of the guest; both ranges are of one length.
.It Ar RANGE Ns Li \\&: Ns Ar ADDR Ns Oo Li / Ns Ar RANGE Oc
To another address in the guest's network.
The listening address must be given, and of the same family.
IPv6 addresses should stand in brackets.
.It Li ~ Ns Ar RANGE
Not these ports, wherever in the list it stands.
.It Cm all Ns Oo Li \\&: Ns Ar ADDR Oc
All ports but the excluded ones and those that the host gives to outgoing connections
.Pq Va net.ipv4.ip_local_port_range .
A list of nothing but exclusions means that, too.
Of these ports, those that are taken are passed over, with a warning.
@AUTO@.El
.Pp
@LOOPBACK@Ports that are named must be free:
.Nm
does not start otherwise.
Two rules must not claim the same port of the same address and interface.
Ports below
.Va net.ipv4.ip_unprivileged_port_start
need the capability
.Dv CAP_NET_BIND_SERVICE ,
which may be given to the executable, see
.Xr setcap 8 .
`

const AUTO = `.It Cm auto
Of the ports that the list stands for, at any time those on which somebody listens on the other side.
Without any range in the list, that is all ports but the excluded and ephemeral ones.
For UDP, ports with a TCP listener count, too.
`

const LOOPBACK = `.Fl Fl tcp-ns
and
.Fl Fl udp-ns
listen on the loopback interface of the namespace and lead to the loopback addresses of the host: they take no addresses,
neither to listen on nor as targets.
.Pp
`

const PASST_END = `${portSpecifications("passt")}.Sh SIGNALS
.Bl -tag -width Ds
.It Dv SIGTERM , SIGQUIT
Finish the capture file and exit with status 0.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /tmp/passt_1.socket No to Pa /tmp/passt_99.socket
Default sockets: the first one that is free.
.It Pa /etc/resolv.conf
Where name servers and search domains are read from, once, at start.
.El
.Sh EXIT STATUS
In the background, the command returns 0 once
.Nm
is ready.
In the foreground, 0 is returned at its end: by a signal above, or when the guest's machine has disconnected and
.Fl Fl one-off
or
.Fl Fl fd
was given.
Errors return 1, with one line on standard error; nothing is left behind then.
.Sh EXAMPLES
A guest in QEMU, with SSH to it on port 2222 of the host's loopback address:
.Bd -literal -offset indent
$ passt --one-off --socket /tmp/vm.socket -t 127.0.0.1/2222:22
$ qemu-system-x86_64 ... -device virtio-net-pci,netdev=n \\e
    -netdev stream,id=n,addr.type=unix,addr.path=/tmp/vm.socket
.Ed
.Pp
All ports but 22 lead to the guest, from one interface only:
.Bd -literal -offset indent
$ passt -t '%eth0/~22' -u %eth0/all
.Ed
.Pp
A network of its own, instead of the host's addresses:
.Bd -literal -offset indent
$ passt -4 -a 10.0.2.15/24 -g 10.0.2.2 -D 10.0.2.3 \\e
    --dns-forward 10.0.2.3
.Ed
.Sh SEE ALSO
.Xr qemu 1 ,
.Xr resolv.conf 5 ,
.Xr capabilities 7
.Sh CAVEATS
With
.Fl Fl no-icmp ,
neighbour discovery is off, too, so that a guest can't use IPv6 but with fixed neighbours.
.Pp
By default, the guest reaches services on the host's loopback address at the address of its gateway.
.Fl Fl no-map-gw
ends that.
`

const PASTA_END = `${portSpecifications("pasta")}.Sh SIGNALS
.Bl -tag -width Ds
.It Dv SIGTERM , SIGQUIT
Finish the capture file and exit with status 0.
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /dev/net/tun
Where the interface is made; the user must be allowed to read and write it.
.It Pa /run/netns
Where namespaces named without a slash are.
.It Pa /etc/resolv.conf
Where name servers and search domains are read from, once, at start.
.El
.Sh EXIT STATUS
With a command, that of the command, or 128 plus the number of the signal that has ended it.
Otherwise, in the background, the command returns 0 once
.Nm
is ready.
In the foreground, 0 is returned at its end: by a signal above, or when the network namespace is gone.
Errors return 1, with one line on standard error; nothing is left behind then.
.Sh EXAMPLES
A shell in a network of its own:
.Bd -literal -offset indent
$ pasta --config-net
.Ed
.Pp
A command that reaches the world, but nothing on the host, and that nobody reaches:
.Bd -literal -offset indent
$ pasta --config-net --no-map-gw -t none -u none -T none -U none -- command
.Ed
.Pp
Port 8080 of the host for port 80 of a process\\(cq namespace:
.Bd -literal -offset indent
$ pasta --config-net -t 8080:80 1234
.Ed
.Sh SEE ALSO
.Xr unshare 1 ,
.Xr resolv.conf 5 ,
.Xr capabilities 7 ,
.Xr network_namespaces 7 ,
.Xr user_namespaces 7 ,
.Xr ip-netns 8
.Sh CAVEATS
A spawned command is process 1 of its PID namespace: signals that it doesn\\(cqt handle don\\(cqt reach it, and when
it ends, so do all processes that it has left behind.
.Pp
By default, the namespace reaches services on the host\\(cqs loopback address at the address of its gateway.
.Fl Fl no-map-gw
ends that.
`

/** The section of both pages. */
function portSpecifications(program: "passt" | "pasta"): string {
  const text = PORT_SPECIFICATIONS.replace("@AUTO@", program === "pasta" ? AUTO : "").replace(
    "@LOOPBACK@",
    program === "pasta" ? LOOPBACK : "",
  )
  return program === "pasta" ? text.replaceAll(/(?<![-\w])guest(?![-\w])/g, "namespace") : text
}

function optionSections(program: "passt" | "pasta"): string {
  const options = optionsOf(program)
  let text = ""
  for (const group of Object.keys(OPTION_GROUPS) as OptionGroup[]) {
    const members = options.filter((option) => option.group === group)
    if (members.length === 0) continue
    text += `.Ss ${OPTION_GROUPS[group]}\n.Bl -tag -width Ds\n${members.map(describe).join("")}.El\n`
  }
  return text
}

function describe(option: OptionSpec): string {
  const names = [option.name, ...(option.aliases ?? [])].map((name) => `Fl Fl ${name}`)
  if (option.short !== undefined) names.unshift(`Fl ${option.short}`)
  const argument = option.argument === undefined ? "" : ` Ar ${option.argument}`
  const lines = [`.It ${names.join(" , ")}${argument}`, `${prose(option.help)}.`]
  if (option.repeatable) lines.push(REPEATABLE[option.repeatable])
  // A sentence a line: mdoc knows where sentences end only by the ends of lines.
  if (option.man !== undefined) lines.push(option.man.replaceAll(/\. (?=[A-Z])/g, ".\n"))
  if (option.standard !== undefined) lines.push(`Default: ${prose(option.standard)}.`)
  if (option.deprecated) lines.push("Deprecated.")
  return `${lines.join("\n")}\n`
}

/** Plain text as roff text: dashes of options stay dashes, quotes stay quotes. */
function prose(text: string): string {
  return text.replaceAll("-", "\\-").replaceAll("'", "\\(aq")
}
