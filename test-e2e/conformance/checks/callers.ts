// Section 1.19: the command lines of programs that call passt and pasta, and what they depend on.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { writeFileSync } from "node:fs"
import { HOST, PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import { until } from "../../../tools/world/process.ts"
import type { Area } from "../check.ts"
import { Guest } from "../guest.ts"
import { isAlive } from "../stage.ts"
import { names } from "../wire/bytes.ts"
import { DhcpOption } from "../wire/dhcp.ts"

const ended = (pid: number): Promise<boolean> => until("its end", 20_000, () => !isAlive(pid))

export const callers: Area = {
  title: "Programs that call passt and pasta",
  checks: [
    {
      id: "1.19.libvirt",
      title:
        "libvirt: `--one-off --socket --pid --mtu --interface --log-file --address --netmask --tcp-ports`, ready at status 0",
      async run(t) {
        const args = [
          "--one-off",
          "--socket",
          t.path("socket"),
          "--pid",
          t.path("pid"),
          "--mtu",
          "1500",
          "--interface",
          "eth0",
        ]
        const more = [
          "--log-file",
          t.path("log"),
          "--address",
          "192.0.2.40",
          "--netmask",
          "24",
          "--tcp-ports",
          "20070-20072:30070-30072,~20071",
        ]
        const { status, stderr, timedOut } = await t.run([...args, ...more])
        deepEqual([status, timedOut], [0, false], stderr)
        const pid = Number(t.read("pid"))
        ok(isAlive(pid))
        const guest = await Guest.connect(t.path("socket"))
        equal((await guest.offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 1500)
        guest.close()
        await ended(pid)
      },
    },
    {
      id: "1.19.libvirt-again",
      title: "libvirt: the same command line again after a crash, with the files that are there",
      async run(t) {
        const args = ["--one-off", "--socket", t.path("socket"), "--pid", t.path("pid")]
        equal((await t.run(args)).status, 0)
        const first = Number(t.read("pid"))
        process.kill(first, "SIGKILL")
        await ended(first)
        const { status, stderr } = await t.run(args)
        equal(status, 0, stderr)
        const guest = await Guest.connect(t.path("socket"))
        await guest.resolve(ROUTER.ipv4)
        guest.close()
      },
    },
    {
      id: "1.19.libvirt-ports",
      title: "libvirt: `--tcp-ports 192.0.2.2%eth0/…`, and exclusions as for Istio",
      async run(t) {
        const { status, stderr } = await t.run([
          "-s",
          t.path("socket"),
          "--tcp-ports",
          "192.0.2.2%eth0/20070-20079,~20075",
        ])
        equal(status, 0, stderr)
        const ports = await t.host.must(["ss", "-Htln"])
        ok(ports.includes("192.0.2.2%eth0:20074") && !ports.includes(":20075"), ports)
      },
    },
    {
      id: "1.19.qemu",
      title:
        "QEMU's `-netdev passt`: `--quiet … --search 'a b' --tcp-ports a,b --pid FILE --fd 3`, with a PID file that is there and empty",
      reference: "differs",
      because: "QEMU passes all domains in one argument, which the reference takes for one name",
      async run(t) {
        writeFileSync(t.path("pid"), "")
        const options = ["--quiet", "--mtu", "1400", "--search", "a.example b.example", "--tcp-ports", "20073:22,20074"]
        const { guest } = await t.inherited([...options, "--pid", t.path("pid")])
        const offered = await guest.offer()
        equal(offered.get(DhcpOption.MTU)?.readUInt16BE(0), 1400)
        deepEqual(names(offered.get(DhcpOption.SEARCH)!), ["a.example", "b.example"])
        match(t.read("pid"), /^\d+\n$/)
      },
    },
    {
      id: "1.19.qemu-all",
      title: "QEMU's `-netdev passt`: every option that it can pass is accepted together",
      reference: "differs",
      because: "the options came one by one, up to 2025",
      async run(t) {
        const options = [
          [
            "--quiet",
            "--mtu",
            "1500",
            "--address",
            "192.0.2.41",
            "--netmask",
            "255.255.255.0",
            "--mac-addr",
            "02:00:00:00:00:77",
          ],
          ["--gateway", "192.0.2.1", "--interface", "eth0", "--outbound", "192.0.2.2", "--outbound-if4", "eth0"],
          [
            "--dns",
            "192.0.2.53",
            "--fqdn",
            "m.example",
            "--no-dhcp-dns",
            "--no-dhcp-search",
            "--map-host-loopback",
            "192.0.2.201",
          ],
          [
            "--map-guest-addr",
            "192.0.2.202",
            "--dns-forward",
            "192.0.2.203",
            "--dns-host",
            "192.0.2.54",
            "--no-udp",
            "--no-dhcpv6",
          ],
          ["--no-ra", "--freebind", "--ipv4-only", "--search", "a.example", "--tcp-ports", "20075"],
        ].flat()
        const { guest } = await t.inherited(options)
        equal((await guest.resolve("192.0.2.1")).source, "02:00:00:00:00:77")
      },
    },
    {
      id: "1.19.podman",
      program: "pasta",
      title: "Podman: `--config-net --dns-forward … -t none … --no-map-gw --quiet --netns PATH --map-guest-addr …`",
      reference: "differs",
      because: "--map-guest-addr came in 2024",
      async run(t) {
        const guest = await t.namespace()
        const ports = ["-t", "20076-20076:80-80", "-u", "none", "-T", "none", "-U", "none"]
        const rest = [
          "--no-map-gw",
          "--quiet",
          "--netns",
          `/proc/${guest.pid}/ns/net`,
          "--map-guest-addr",
          "169.254.1.2",
        ]
        const { status, stdout, stderr } = await t.asRoot("pasta", [
          "--config-net",
          "--dns-forward",
          "169.254.1.1",
          ...ports,
          ...rest,
        ])
        deepEqual([status, stdout, stderr], [0, "", ""])
        match(await guest.must(["ip", "route"]), /default via 192\.0\.2\.1/)
        match(await t.host.must(["ss", "-Htln"]), /:20076/)
      },
    },
    {
      id: "1.19.podman-old",
      program: "pasta",
      title: "Podman: an option that is not known is told in getopt's words, status 1",
      async run(t) {
        const { status, stderr } = await t.pasta(["--map-something", "x", "true"])
        t.unknownOption = undefined
        equal(status, 1)
        match(stderr, /unrecognized option '--map-something/)
      },
    },
    {
      id: "1.19.rootlesskit",
      program: "pasta",
      title:
        "rootlesskit: `--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=… --netmask=24 --gateway=… --dns-forward=… PID`",
      async run(t) {
        const guest = await t.container()
        const args =
          "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2"
        const more = "--dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto"
        const { status, stderr } = await t.asRoot("pasta", [...args.split(" "), ...more.split(" "), String(guest.pid)])
        equal(status, 0, stderr)
        match(await guest.must(["ip", "-o", "-4", "address", "show", "tap0"]), /10\.0\.2\.100\/24/)
      },
    },
    {
      id: "1.19.container",
      program: "pasta",
      title: "a command in a sandbox: `pasta --config-net -- COMMAND`, online at once",
      async run(t) {
        const script = `const s = require("net").connect(${PORT.whoami}, "${SERVER.ipv4}"); s.on("data", (d) => process.stdout.write(d))`
        const { status, stdout, stderr } = await t.pasta(["--config-net", "--", process.execPath, "-e", script])
        equal(status, 0, stderr)
        equal(stdout.split(" ")[0], HOST.ipv4)
      },
    },
  ],
}
