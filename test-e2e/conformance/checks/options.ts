// Section 1.10: what options do, and which values they refuse. Those of a protocol stand with the protocol.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { HOST, PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import type { Guest } from "../guest.ts"
import { DhcpType } from "../wire/dhcp.ts"

const WORLD_PORT = 20_006

/** The address and port that a server in the world sees of a connection of the guest. */
async function seenBy(guest: Guest, server: string): Promise<string> {
  const connection = await guest.connectTcp(server, PORT.whoami)
  const line = (await connection.next("a line", (segment) => segment.payload.length > 0)).payload.toString()
  return line.split(" ")[0]!
}

/** A check that these values are refused: one line, status 1. */
const refuses = (
  option: string,
  title: string,
  values: readonly (string | readonly string[])[],
  more: Partial<Check> & { readonly pattern?: RegExp } = {},
): Check => ({
  id: `1.10.${option}-refused`,
  title: `--${option} refuses ${title}`,
  ...(more.reference && { reference: more.reference }),
  ...(more.because && { because: more.because }),
  run: (t) =>
    t.refused(
      values.map((value) => [`--${option}`, ...(typeof value === "string" ? [value] : value)]),
      more.pattern,
    ),
})

export const options: Area = {
  title: "Options",
  checks: [
    refuses("address", "what is no unicast address, and lengths that can't be", [
      "300.1.2.3",
      "127.0.0.1",
      "224.0.0.1",
      "0.0.0.0",
      "::",
      "::1",
      "ff02::1",
      "192.0.2.5/33",
      "2001:db8::1/129",
      "192.0.2.5/",
      "localhost",
    ]),
    {
      id: "1.10.address-redundant",
      title: "--address with a length and --netmask are refused together",
      reference: "differs",
      because: "the length came in 2026",
      run: (t) => t.refused([["-a", "192.0.2.5/24", "-n", "24"]], /[Rr]edundant/),
    },
    refuses("netmask", "masks with holes and lengths that can't be", ["255.0.255.0", "33", "-1", "0xff", "wide"], {
      reference: "differs",
      because: "older versions take some of these",
    }),
    refuses("gateway", "what no router can have", ["0.0.0.0", "255.255.255.255", "127.0.0.1", "::1", "::", "router"]),
    refuses(
      "mac-addr",
      "what is no MAC address of one station",
      [
        "02:00:00:00:00",
        "02:00:00:00:00:0g",
        "02-00-00-00-00-01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "0200:0000:0001",
      ],
      {
        reference: "differs",
        because: "the reference takes group addresses and all zeros, from which nothing can be sent",
      },
    ),
    refuses("mtu", "numbers that are too large, or none", ["65522", "70000", "large", "-1", "1500x", ""], {
      reference: "differs",
      because: "older versions allow up to 65,535, which no frame can carry",
    }),
    {
      id: "1.10.mtu-message",
      title: "the message for an MTU that is too large names the largest",
      reference: "differs",
      because: "the limit came in 2025",
      run: (t) => t.refused([["-m", "65522"]], /65521/),
    },
    refuses("dns", "what is no address", ["resolver", "300.1.2.3", "192.0.2.53:53", ""]),
    refuses("dns-forward", "what can't be asked", ["resolver", "0.0.0.0", "127.0.0.1", "::1"], {
      reference: "differs",
      because: "older versions take loopback addresses, which no frame carries",
    }),
    refuses("outbound", "what can't be a source", ["host", "0.0.0.0", "224.0.0.1", "ff02::1"]),
    refuses("interface", "an interface that is not there", ["nowhere0"], { pattern: /nowhere0/ }),
    refuses("outbound-if4", "an interface that is not there", ["nowhere0"], {
      pattern: /nowhere0/,
      reference: "differs",
      because: "older versions start, and nothing gets out",
    }),
    refuses("outbound-if6", "an interface that is not there", ["nowhere0"], {
      pattern: /nowhere0/,
      reference: "differs",
      because: "older versions start, and nothing gets out",
    }),
    refuses("hostname", "names that are too long", ["x".repeat(254)]),
    refuses("fqdn", "names that are too long", ["x".repeat(254)]),
    refuses("search", "names that are too long", [`${"x".repeat(300)}.example`], {
      reference: "differs",
      because: "older versions cut them off",
    }),
    refuses("map-host-loopback", "what can't be mapped", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "host"]),
    refuses("map-guest-addr", "what can't be mapped", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "host"]),
    refuses("runas", "users that are not there, and root by name", ["nosuchuser", "root", "1:nosuchgroup", ""], {
      reference: "differs",
      because: "the version of 2023 takes some",
    }),
    {
      id: "1.10.interface",
      title: "--interface: addresses and routes of that interface are the guest's",
      async run(t) {
        const up = ["link add if1 type veth peer name if2", "link set if1 up", "link set if2 up"]
        const more = ["address add 10.77.0.2/20 dev if1", "route add default via 10.77.0.1 dev if1 metric 500"]
        await t.ip(t.host, [...up, ...more], ["link del if1"])
        const reply = await (await t.guest(["-4", "--interface", "if1"])).dhcp(DhcpType.DISCOVER)
        deepEqual([reply.yiaddr, reply.packet.ip!.source], ["10.77.0.2", "10.77.0.1"])
      },
    },
    {
      id: "1.10.outbound",
      title: "--outbound: connections and datagrams of the guest come from that address",
      async run(t) {
        const added = ["192.0.2.3/24", "2001:db8:1::3/64"]
        const commands = (verb: string): string[] => added.map((address) => `address ${verb} ${address} dev eth0`)
        await t.ip(
          t.host,
          commands("add").map((c) => (c.includes(":") ? `${c} nodad` : c)),
          commands("del"),
        )
        const guest = await t.guest(["--outbound", "192.0.2.3", "--outbound", "2001:db8:1::3"])
        equal(await seenBy(guest, SERVER.ipv4), "192.0.2.3")
        equal(await seenBy(guest, SERVER.ipv6), "2001:db8:1::3")
        const end = await t.worldPeer.bind(SERVER.ipv4, WORLD_PORT)
        guest.sendUdp(SERVER.ipv4, WORLD_PORT, "hello")
        equal((await end.receive()).address, "192.0.2.3")
      },
    },
    {
      id: "1.10.outbound-interface",
      title: "--outbound-if4: traffic of the guest leaves by that interface, whatever routes say",
      reference: "differs",
      because: "in the version of 2023 it holds for connections only",
      async run(t) {
        // The way to the server ends in a cable whose other end nobody holds.
        const up = ["link add if3 type veth peer name if4", "link set if3 up", "link set if4 up"]
        await t.ip(t.host, [...up, `route add ${SERVER.ipv4}/32 dev if3`], ["link del if3"])
        const guest = await t.guest(["--outbound-if4", "eth0"])
        equal(await seenBy(guest, SERVER.ipv4), HOST.ipv4)
        equal((await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")).udp!.payload.toString(), "hello")
        await guest.ping(SERVER.ipv4, 81, 1, "hello")
      },
    },
    {
      id: "1.10.ipv4-only",
      title: "--ipv4-only: no neighbour discovery, no DHCPv6, no IPv6 traffic",
      async run(t) {
        const guest = await t.guest(["--ipv4-only"])
        await guest.resolve(ROUTER.ipv4)
        const silent = [
          guest.solicit(ROUTER.linkLocal),
          guest.advertisement(),
          guest.askUdp(SERVER.ipv6, PORT.echo, "x"),
        ]
        const results = silent.map((promise) =>
          promise.then(
            () => "answered",
            () => "silent",
          ),
        )
        equal((await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")).udp!.payload.toString(), "hello")
        guest.close()
        deepEqual(await Promise.all(results), ["silent", "silent", "silent"])
      },
    },
    {
      id: "1.10.ipv6-only",
      title: "--ipv6-only: no ARP, no DHCP, no IPv4 traffic",
      async run(t) {
        const guest = await t.guest(["--ipv6-only"])
        await guest.solicit(ROUTER.linkLocal)
        const silent = [guest.resolve(ROUTER.ipv4), guest.offer(), guest.askUdp(SERVER.ipv4, PORT.echo, "x")]
        const results = silent.map((promise) =>
          promise.then(
            () => "answered",
            () => "silent",
          ),
        )
        equal((await guest.askUdp(SERVER.ipv6, PORT.echo, "hello")).udp!.payload.toString(), "hello")
        guest.close()
        deepEqual(await Promise.all(results), ["silent", "silent", "silent"])
      },
    },
    {
      id: "1.10.freebind",
      title: "--freebind: ports of addresses that the host doesn't have yet are opened; without it that is refused",
      reference: "differs",
      because: "it came in 2024",
      async run(t) {
        await t.refused([["-t", "192.0.2.77/20007"]])
        await t.guest(["--freebind", "-t", "192.0.2.77/20007"])
        match(await t.host.must(["ss", "-Htln"]), /192\.0\.2\.77:20007/)
      },
    },
    {
      id: "1.10.stderr",
      title: "--stderr does nothing, but is accepted: rootlesskit passes it",
      async run(t) {
        await (await t.guest(["--stderr"])).resolve(ROUTER.ipv4)
      },
    },
    {
      id: "1.10.quiet",
      title: "--quiet: nothing is said as long as nothing is wrong",
      reference: "differs",
      because: "the version of 2023 tells the socket and a command for QEMU",
      async run(t) {
        const { status, stdout, stderr } = await t.run(["--quiet", "-s", t.path("socket")])
        deepEqual([status, stdout, stderr], [0, "", ""])
      },
    },
    {
      id: "1.10.summary",
      title:
        "without --quiet a summary says what the guest gets: address, mask, router, name servers, socket, a command for QEMU",
      async run(t) {
        const { stdout, stderr } = await t.run(["-s", t.path("socket")])
        const said = stdout + stderr
        for (const what of [HOST.ipv4, "255.255.255.0", ROUTER.ipv4, HOST.ipv6, t.path("socket")]) {
          ok(said.includes(what), `${what} is not in: ${said}`)
        }
        match(said, /-netdev stream,id=\w+,server=off,addr\.type=unix,addr\.path=/)
      },
    },
    {
      id: "1.10.debug",
      title: "--debug tells of connections, --trace of more",
      async run(t) {
        const running = await t.start(["--debug"])
        const guest = await t.connect(running)
        await guest.connectTcp(SERVER.ipv4)
        const address = new RegExp(SERVER.ipv4.replaceAll(".", "\\."))
        await running.says(address)
        const traced = await t.start(["--trace"], t.path("traced"))
        await (await t.connect(traced)).connectTcp(SERVER.ipv4)
        await traced.says(address)
        ok(traced.log().split("\n").length > running.log().split("\n").length)
      },
    },
    {
      id: "1.10.stats-needs-foreground",
      title: "--stats without --foreground is refused",
      reference: "differs",
      because: "it came in 2026",
      run: (t) => t.refused([["--stats", "1"]]),
    },
    {
      id: "1.10.repair-path-none",
      title: "--repair-path none is accepted",
      reference: "differs",
      because: "it came in 2025",
      async run(t) {
        await (await t.guest(["--repair-path", "none"])).resolve(ROUTER.ipv4)
      },
    },
  ],
}
