// Section 1.15, and 1.10 to 1.16 for pasta: namespaces, commands in them, splicing.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { hostname } from "node:os"
import { HOST, PORT, RESOLVER, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import { until } from "../../../tools/world/process.ts"
import type { Area, Check } from "../check.ts"
import type { Peer } from "../peer.ts"
import type { Stage } from "../stage.ts"
import { isAlive } from "../stage.ts"

const NONE = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"] as const

/** A shell's output in new namespaces. */
async function shell(t: Stage, args: readonly string[], script: string): Promise<string> {
  const { status, stdout, stderr } = await t.pasta([...args, "--", "sh", "-c", script])
  equal(status, 0, stderr)
  return stdout
}

/** An exchange over TCP with the world's echo service. */
async function echoes(peer: Peer, address: string): Promise<void> {
  const connection = await peer.connect(address, PORT.echo)
  await connection.write("hello")
  equal((await connection.read(5)).toString(), "hello")
}

const ended = (pid: number): Promise<boolean> => until("the end of pasta", 20_000, () => !isAlive(pid))

const checks: readonly Omit<Check, "program">[] = [
  {
    id: "1.15.command",
    title: "a command runs in new namespaces, and its exit status is pasta's",
    async run(t) {
      for (const status of [0, 1, 7, 255]) equal((await t.pasta(["--", "sh", "-c", `exit ${status}`])).status, status)
    },
  },
  {
    id: "1.15.killed-command",
    title: "a command that a signal ends: 128 and the signal's number",
    reference: "differs",
    because: "the version of 2023 ends with 1",
    async run(t) {
      // A child of the namespace's first process can be killed; the first is shielded from itself.
      equal((await t.pasta(["--", "sh", "-c", "sh -c 'kill -KILL $$'"])).status, 137)
    },
  },
  {
    id: "1.15.not-found",
    title: "a command that is not there: a message that names it, and no status 0",
    reference: "differs",
    because: "the reference doesn't name it",
    async run(t) {
      const { status, stderr } = await t.pasta(["--", "/nowhere/command"])
      ok(status !== 0)
      match(stderr, /nowhere/)
    },
  },
  {
    id: "1.15.standard-streams",
    title: "standard input, output and error are the command's",
    async run(t) {
      const { stdout } = await t.pasta(["-q", "--", "sh", "-c", "read line; echo got $line"], { input: "this\n" })
      equal(stdout, "got this\n")
    },
  },
  {
    id: "1.15.shell",
    title: "without a command it is $SHELL, as a login shell",
    async run(t) {
      const { status, stdout } = await t.pasta(["-q"], {
        input: "echo $0; exit 5\n",
        env: { ...process.env, SHELL: "/bin/sh" },
      })
      equal(status, 5)
      match(stdout, /^-.*sh\n$/)
    },
  },
  {
    id: "1.15.root",
    title: "the command is root there, has namespaces of its own for processes, mounts and names, and its own /proc",
    reference: "differs",
    because: "the version of 2023 shows the caller's processes",
    async run(t) {
      const said = await shell(t, [], "id -u; cat /proc/1/comm; readlink /proc/self/ns/net")
      const [user, first, net] = said.trim().split("\n")
      deepEqual([user, first], ["0", "sh"])
      ok(net !== (await t.host.must(["readlink", "/proc/self/ns/net"])).trim())
    },
  },
  {
    id: "1.15.hostname",
    title: "the host's name there is pasta-NAME, or --hostname",
    reference: "differs",
    because: "that came in 2025",
    async run(t) {
      equal((await shell(t, [], "hostname")).trim(), `pasta-${hostname()}`)
      equal((await shell(t, ["--hostname", "machine"], "hostname")).trim(), "machine")
    },
  },
  {
    id: "1.15.loopback-up",
    title: "the loopback interface is up; without --config-net the other one is there, but down and without addresses",
    async run(t) {
      const said = await shell(t, ["-I", "tap7"], "ip -o link; ip -o address show tap7")
      match(said, /lo: <LOOPBACK,UP/)
      match(said, /tap7: <BROADCAST,MULTICAST> /)
      ok(!/inet/.test(said))
    },
  },
  {
    id: "1.15.config-net",
    title: "--config-net: addresses, routes and MTU are there when the command starts",
    reference: "differs",
    because: "the version of 2026 leaves some to be checked for duplicates first",
    async run(t) {
      const said = await shell(t, ["--config-net"], "ip -o address show; ip route; ip -6 route; ip -o link show eth0")
      ok(said.includes(`inet ${HOST.ipv4}/24 `) && said.includes(`inet6 ${HOST.ipv6}/64 `), said)
      ok(!said.includes("tentative"))
      ok(
        said.includes(`default via ${ROUTER.ipv4} dev eth0`) && said.includes(`default via ${ROUTER.ipv6} dev eth0`),
        said,
      )
      match(said, /mtu 65520/)
    },
  },
  {
    id: "1.15.config-net-routes",
    title: "--config-net: the other routes of the interface are there, too",
    reference: "differs",
    because: "that came in 2023, after the version of that year",
    async run(t) {
      const route = (verb: string): string => `route ${verb} 10.20.0.0/16 via ${ROUTER.ipv4} dev eth0`
      await t.ip(t.host, [route("add")], [route("del")])
      match(await shell(t, ["--config-net"], "ip route"), /10\.20\.0\.0\/16 via 192\.0\.2\.1/)
    },
  },
  {
    id: "1.15.config-net-addresses",
    title: "--config-net: all addresses of the interface are there",
    reference: "differs",
    because: "that came in 2023, after the version of that year",
    async run(t) {
      const address = (verb: string): string => `address ${verb} 192.0.2.45/24 dev eth0`
      await t.ip(t.host, [address("add")], [address("del")])
      match(await shell(t, ["--config-net"], "ip -o address"), /inet 192\.0\.2\.45\/24/)
    },
  },
  {
    id: "1.15.chosen-addresses",
    title: "--config-net with --address, --netmask, --gateway, --mtu and --ns-ifname, as rootlesskit calls it",
    async run(t) {
      const args = "--config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --ns-ifname=tap0 --mtu=1400"
      const said = await shell(
        t,
        [...args.split(" "), "-4"],
        "ip -o -4 address show tap0; ip route; ip -o link show tap0",
      )
      ok(said.includes("inet 10.0.2.100/24 ") && said.includes("default via 10.0.2.2 dev tap0"), said)
      match(said, /mtu 1400/)
    },
  },
  {
    id: "1.15.mac",
    title: "--ns-mac-addr is the interface's address",
    async run(t) {
      match(await shell(t, ["-I", "tap7", "--ns-mac-addr", "02:00:00:00:00:07"], "ip -o link"), /02:00:00:00:00:07/)
    },
  },
  {
    id: "1.15.copy-refused",
    title: "--no-copy-routes and --no-copy-addrs need --config-net",
    reference: "differs",
    because: "they came in 2023, after the version of that year",
    async run(t) {
      for (const option of ["--no-copy-routes", "--no-copy-addrs"]) equal((await t.pasta([option, "true"])).status, 1)
    },
  },
  {
    id: "1.15.online",
    title: "a namespace is online: TCP, UDP and ping, in both families",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer, guest } = await t.serve(["--config-net", ...NONE])
      for (const server of [SERVER.ipv4, SERVER.ipv6]) {
        await echoes(peer, server)
        const end = await peer.bind(server.includes(":") ? "::" : "0.0.0.0")
        await end.send(server, PORT.echo, "hello")
        equal((await end.receive()).data.toString(), "hello")
        const { status, stdout } = await guest.run(["ping", "-c", "1", "-W", "10", server])
        if (status !== 127) equal(status, 0, stdout)
      }
    },
  },
  {
    id: "1.15.pid",
    title: "a process's number says which namespace to join",
    async run(t) {
      const guest = await t.container()
      const { status, stderr } = await t.asRoot("pasta", [
        "--config-net",
        ...NONE,
        "-P",
        t.path("pid"),
        String(guest.pid),
      ])
      equal(status, 0, stderr)
      match(await guest.must(["ip", "route"]), /default via 192\.0\.2\.1/)
    },
  },
  {
    id: "1.15.ready",
    title: "status 0 means ready: interface, addresses and ports are there, and the caller's pipes at their end",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { guest, pid } = await t.serve(["--config-net", "-t", "20060", "-u", "none", "-T", "none", "-U", "none"])
      match(await guest.must(["ip", "-4", "route"]), /default via/)
      match(await t.host.must(["ss", "-Htln"]), /:20060/)
      ok(isAlive(pid))
    },
  },
  {
    id: "1.15.quit",
    title: "it ends when the namespace's last process has gone",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { guest, pid } = await t.serve(["--config-net", ...NONE])
      await guest.close()
      await ended(pid)
    },
  },
  {
    id: "1.15.file-removed",
    title: "it ends when the file that names the namespace is removed, as Podman does; not with --no-netns-quit",
    async run(t) {
      const guest = await t.namespace()
      for (const [name, stays] of [
        ["quits", false],
        ["stays", true],
      ] as const) {
        const file = t.path(name)
        await t.host.must(["sh", "-c", `touch ${file} && mount --bind /proc/${guest.pid}/ns/net ${file}`])
        const option = stays ? ["--no-netns-quit"] : []
        const files = ["-P", t.path(`${name}.pid`), "-l", t.path(`${name}.log`)]
        const { status, stderr } = await t.asRoot("pasta", [...NONE, ...files, ...option, "-I", name, "--netns", file])
        equal(status, 0, stderr)
        const pid = Number(t.read(`${name}.pid`))
        await t.host.must(["sh", "-c", `umount -l ${file} && rm ${file}`])
        if (!stays) await ended(pid)
        else {
          await new Promise((resolve) => setTimeout(resolve, 1500))
          ok(isAlive(pid))
        }
      }
    },
  },
  {
    id: "1.15.netns-refused",
    title: "a namespace that is not there is refused; so is one together with a command",
    async run(t) {
      await t.refused([["--netns", "/nowhere/netns"], ["--netns", "nosuchname"], ["99999999"]], /./, "pasta")
      const { status } = await t.pasta(["--netns", "/proc/self/ns/net", "true"])
      equal(status, 1)
    },
  },
  {
    id: "1.15.quiet",
    title: "with a command nothing is said but what the command says",
    async run(t) {
      const { stdout, stderr } = await t.pasta(["--config-net", "--", "true"])
      deepEqual([stdout, stderr], ["", ""])
    },
  },
  {
    id: "1.15.sigterm",
    title: "SIGTERM ends it with status 0, in the background and with its namespace",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { pid } = await t.serve(["--config-net", ...NONE])
      process.kill(pid, "SIGTERM")
      await ended(pid)
    },
  },
  {
    id: "1.15.log",
    title: "the log's first line tells version and process",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { log } = await t.serve(["--config-net", ...NONE])
      match(log().split("\n")[0]!, /^pasta .*\(\d+\)$/)
    },
  },
  {
    id: "1.15.dns",
    title: "--dns-forward leads to the host's name server; --dhcp-dns isn't needed for it",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve(["--config-net", "--dns-forward", "169.254.1.1", ...NONE])
      const question = Buffer.from(
        "abcd01000001000000000000037777770577 6f726c64076578616d706c650000010001".replace(" ", ""),
        "hex",
      )
      const end = await peer.bind("0.0.0.0")
      await end.send("169.254.1.1", 53, question)
      const answer = await end.receive()
      deepEqual([answer.address, answer.data.subarray(-4).join(".")], ["169.254.1.1", SERVER.ipv4])
      ok(RESOLVER.ipv4 !== answer.address)
    },
  },
  {
    id: "1.15.map-host-loopback",
    title: "the gateway leads to the host's loopback address; --no-map-gw: it doesn't",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      await t.hostPeer.listen("127.0.0.1", 20_061)
      const { peer } = await t.serve(["--config-net", ...NONE])
      equal(await peer.connectError(ROUTER.ipv4, 20_061), undefined)
    },
  },
  {
    id: "1.15.inbound-splice",
    title: "a connection from the host's loopback address reaches a server in the namespace",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve(["--config-net", "-t", "20062:30062", "-u", "none", "-T", "none", "-U", "none"])
      for (const [wildcard, loopback] of [
        ["0.0.0.0", "127.0.0.1"],
        ["::", "::1"],
      ] as const) {
        const listener = await peer.listen(wildcard, 30_062)
        const client = await t.hostPeer.connect(loopback, 20_062)
        const server = await listener.accept()
        await client.write("hello")
        equal((await server.read(5)).toString(), "hello")
        await server.write("world")
        equal((await client.read(5)).toString(), "world")
        await client.end()
        equal(await server.finish(), "ended")
        await peer.clear()
      }
    },
  },
  {
    id: "1.15.inbound-splice-udp",
    title: "a datagram from the host's loopback address reaches a server in the namespace, and the answer comes back",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve(["--config-net", "-u", "20062:30062", "-t", "none", "-T", "none", "-U", "none"])
      const server = await peer.bind("0.0.0.0", 30_062)
      const client = await t.hostPeer.bind("127.0.0.1")
      await client.send("127.0.0.1", 20_062, "hello")
      const { data, address, port } = await server.receive()
      equal(data.toString(), "hello")
      await server.send(address, port, "world")
      equal((await client.receive()).data.toString(), "world")
    },
  },
  {
    id: "1.15.inbound-world",
    title: "a connection from elsewhere reaches a server in the namespace, with its source address",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve(["--config-net", "-t", "20063", "-u", "none", "-T", "none", "-U", "none"])
      const listener = await peer.listen("0.0.0.0", 20_063)
      const client = await t.worldPeer.connect(HOST.ipv4, 20_063)
      const server = await listener.accept()
      equal(server.remoteAddress, ROUTER.ipv4)
      await server.write("hello")
      equal((await client.read(5)).toString(), "hello")
    },
  },
  {
    id: "1.15.outbound-splice",
    title: "--tcp-ns and --udp-ns: the namespace's loopback address leads to the host's",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve([
        "--config-net",
        "-T",
        "20064:30064",
        "-U",
        "20064:30064",
        "-t",
        "none",
        "-u",
        "none",
      ])
      const listener = await t.hostPeer.listen("127.0.0.1", 30_064)
      const client = await peer.connect("127.0.0.1", 20_064)
      await client.write("hello")
      equal((await (await listener.accept()).read(5)).toString(), "hello")
      const server = await t.hostPeer.bind("127.0.0.1", 30_064)
      const end = await peer.bind("127.0.0.1")
      await end.send("127.0.0.1", 20_064, "datagram")
      equal((await server.receive()).data.toString(), "datagram")
    },
  },
  {
    id: "1.15.auto",
    title: "without --tcp-ports, ports open as soon as a server in the namespace listens, and close with it",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      const { peer } = await t.serve(["--config-net"])
      await peer.listen("0.0.0.0", 20_065)
      const open = async (): Promise<boolean> => (await t.host.must(["ss", "-Htln"])).includes(":20065")
      await until("the port on the host", 15_000, open, 100)
      equal(await t.hostPeer.connectError("127.0.0.1", 20_065), undefined)
      await peer.clear()
      await until("its end", 15_000, async () => !(await open()), 100)
    },
  },
  {
    id: "1.15.auto-outward",
    title: "without --tcp-ns, the host's servers are reached at the namespace's loopback address",
    reference: "differs",
    because: "the version of 2023 joins namespaces of user namespaces below its own only",
    async run(t) {
      await t.hostPeer.listen("127.0.0.1", 20_066)
      const { peer } = await t.serve(["--config-net"])
      await until("the port", 15_000, async () => (await peer.connectError("127.0.0.1", 20_066)) === undefined, 200)
    },
  },
  {
    id: "1.15.host-lo-to-ns-lo",
    title: "--host-lo-to-ns-lo: connections from the host's loopback address go to the namespace's",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      const { peer } = await t.serve([
        "--config-net",
        "--host-lo-to-ns-lo",
        "-t",
        "20067",
        "-u",
        "none",
        "-T",
        "none",
        "-U",
        "none",
      ])
      const listener = await peer.listen("127.0.0.1", 20_067)
      const client = await t.hostPeer.connect("127.0.0.1", 20_067)
      await client.write("hello")
      equal((await (await listener.accept()).read(5)).toString(), "hello")
    },
  },
  {
    id: "1.15.no-splice",
    title: "--no-splice: connections from the host's loopback address take the interface, and come from the gateway",
    reference: "differs",
    because: "it came in 2025",
    async run(t) {
      const { peer } = await t.serve([
        "--config-net",
        "--no-splice",
        "-t",
        "20068",
        "-u",
        "none",
        "-T",
        "none",
        "-U",
        "none",
      ])
      const listener = await peer.listen("0.0.0.0", 20_068)
      await t.hostPeer.connect("127.0.0.1", 20_068)
      equal((await listener.accept()).remoteAddress, ROUTER.ipv4)
    },
  },
  {
    id: "1.15.splice-only",
    title: "--splice-only: no interface but loopback",
    reference: "differs",
    because: "it came in 2026",
    async run(t) {
      match(await shell(t, ["--splice-only"], "ip -o link"), /^1: lo: <LOOPBACK,UP[^\n]*\n$/)
    },
  },
  {
    id: "1.15.splice-refused",
    title: "--no-splice with --splice-only or --host-lo-to-ns-lo, and addresses in --tcp-ns, are refused",
    reference: "differs",
    because: "the options came in 2024 to 2026",
    async run(t) {
      for (const args of [
        ["--no-splice", "--splice-only"],
        ["--no-splice", "--host-lo-to-ns-lo"],
        ["-T", "127.0.0.1/20069"],
      ]) {
        const { status, stderr } = await t.pasta([...args, "true"])
        deepEqual([status, stderr.trim() !== ""], [1, true], args.join(" "))
      }
    },
  },
  {
    id: "1.15.no-pidns",
    title: "--no-pidns: the command stays in the caller's process namespace",
    reference: "differs",
    because: "it came in October 2026",
    async run(t) {
      const link = (await t.host.must(["readlink", "/proc/self/ns/pid"])).trim()
      equal((await shell(t, ["--no-pidns"], "readlink /proc/self/ns/pid")).trim(), link)
    },
  },
  {
    id: "1.15.netns-only",
    title: "--netns-only: no user namespace is made",
    async run(t) {
      const own = (await t.host.must(["readlink", "/proc/self/ns/user"])).trim()
      const { stdout } = await t.asRoot("pasta", ["--netns-only", "--", "readlink", "/proc/self/ns/user"])
      equal(stdout.trim(), own)
    },
  },
]

export const namespaces: Area = {
  title: "pasta: namespaces",
  checks: checks.map((check): Check => ({ program: "pasta", ...check })),
}
