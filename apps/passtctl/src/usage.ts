/** The help text. */
export const USAGE = `Usage: passtctl [--socket PATH] COMMAND

Shows and changes what a running passt or pasta does that was started with --control PATH.

  flows [--protocol tcp|udp|icmp]   List flows: ends, state, age, bytes
  forwards [list]                   List forwarding rules
  forwards add tcp|udp SPEC         Add a rule; SPEC is that of --tcp-ports and --udp-ports
  forwards remove tcp|udp SPEC      Remove a rule
  forwards remove NUMBER            Remove the rule of that number
  top                               Rates per flow, the busiest first, with small graphs
  policy [show]                     List the policy's rules, and how often each has decided
  policy reload FILE                Load other rules; if one is wrong the old ones stay
  policy test [out|in] tcp|udp|icmp ADDRESS:PORT [as NAME] | NAME:PORT
                                    Would this be allowed, and by which rule? Status 1: no
  policy check FILE                 Look for mistakes in a file; needs no running program
  stats                             Counters
  metrics                           The same in the text format of OpenMetrics
  capture start FILE                Capture the guest's traffic in pcap format
  capture stop
  version                           What runs at the other end

Options:
  -s, --socket PATH   Control socket (default: the variable PASST_CONTROL)
      --json          A JSON object per line
      --watch         With flows: again every second
      --once          With top: one table, over one second
      --namespace     With forwards add and remove: listen in the namespace (as --tcp-ns, --udp-ns)
  -h, --help
      --version
`
