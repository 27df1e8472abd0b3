// Sections 1.15 and 1.18: what the host's configuration makes of the guest's; IPv6 in particular.
import { deepEqual, equal, match, ok } from "node:assert/strict"
import { HOST, PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { DhcpOption, DhcpType, addressList } from "../wire/dhcp.ts"

export const template: Area = {
  title: "What the guest gets of the host's network",
  checks: [
    {
      id: "1.15.first-route",
      title: "addresses are those of the interface with the first default route, not of another",
      async run(t) {
        const up = ["link add if5 type veth peer name if6", "link set if5 up", "link set if6 up"]
        const more = ["address add 10.78.0.2/20 dev if5", "route add default via 10.78.0.1 dev if5 metric 500"]
        await t.ip(t.host, [...up, ...more], ["link del if5"])
        equal((await (await t.guest(["-q"])).dhcp(DhcpType.DISCOVER)).yiaddr, HOST.ipv4)
      },
    },
    {
      id: "1.15.local-mode",
      title: "a host without a network: the guest gets link-local addresses, and reaches the host",
      reference: "differs",
      because: "versions before 2025 don't start",
      async run(t) {
        const routes = (verb: string): string[] => [
          `route ${verb} default via ${ROUTER.ipv4} dev eth0`,
          `route ${verb} default via ${ROUTER.ipv6} dev eth0`,
        ]
        // Without the interface nothing is left that could be a template.
        const addresses = [`address add ${HOST.ipv4}/24 dev eth0`, `address add ${HOST.ipv6}/64 dev eth0 nodad`]
        await t.ip(
          t.host,
          ["link set eth0 down", "address flush dev eth0"],
          ["link set eth0 up", ...addresses, ...routes("add")],
        )
        const guest = await t.guest(["-q"])
        const reply = await guest.dhcp(DhcpType.DISCOVER)
        deepEqual([reply.yiaddr, addressList(reply.options.get(DhcpOption.ROUTER))], ["169.254.2.1", ["169.254.2.2"]])
        guest.ip4 = "169.254.2.1"
        const end = await t.hostPeer.bind("127.0.0.1", 20_050)
        guest.sendUdp("169.254.2.2", 20_050, "hello")
        equal((await end.receive()).data.toString(), "hello")
      },
    },
    {
      id: "1.18.link-local",
      title: "the guest's router in IPv6 is a link-local address, at which advertisements and DHCPv6 come from",
      async run(t) {
        const guest = await t.guest()
        const { packet } = await guest.advertisement()
        match(packet.ip!.source, /^fe80:/)
        ok((await guest.solicit(packet.ip!.source)).source === packet.source)
      },
    },
    {
      id: "1.18.gateway-link-local",
      title: "a link-local router of the host is the guest's, too",
      async run(t) {
        await t.ip(
          t.host,
          [`route replace default via ${ROUTER.linkLocal} dev eth0`],
          [`route del default via ${ROUTER.linkLocal} dev eth0`, `route replace default via ${ROUTER.ipv6} dev eth0`],
        )
        const guest = await t.guest(["-q"])
        equal((await guest.advertisement()).packet.ip!.source, ROUTER.linkLocal)
      },
    },
    {
      id: "1.18.privacy-addresses",
      title: "the guest may use other addresses of its prefix than the one that it was given",
      async run(t) {
        const guest = await t.guest(["-q"])
        guest.ip6 = "2001:db8:1:0:1:2:3:4"
        equal((await guest.askUdp(SERVER.ipv6, PORT.echo, "hello")).ip!.destination, "2001:db8:1:0:1:2:3:4")
      },
    },
    {
      id: "1.18.longest-prefix",
      title: "prefixes of the host that are longer than 64 bits are announced as 64",
      async run(t) {
        const guest = await t.guest(["-a", "2001:db8:1::77"])
        const { prefix } = await guest.advertisement()
        deepEqual([prefix?.length, prefix?.address.startsWith("2001:db8:1:")], [64, true])
      },
    },
  ],
}
