// Section 1.5: DHCP for IPv4.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { addressBytes, names } from "../wire/bytes.ts"
import { addressList, DhcpOption, DhcpType } from "../wire/dhcp.ts"

export const dhcp: Area = {
  title: "DHCP",
  checks: [
    {
      id: "1.5.discover",
      title: "DHCPDISCOVER is answered by an offer of the host's own address",
      async run(t) {
        const reply = await (await t.guest()).dhcp(DhcpType.DISCOVER)
        deepEqual([reply.op, reply.type, reply.yiaddr, reply.xid], [2, DhcpType.OFFER, HOST.ipv4, 0x12345678])
      },
    },
    {
      id: "1.5.request",
      title: "DHCPREQUEST is acknowledged",
      async run(t) {
        const reply = await (await t.guest()).dhcp(DhcpType.REQUEST)
        deepEqual([reply.type, reply.yiaddr], [DhcpType.ACK, HOST.ipv4])
      },
    },
    {
      id: "1.5.bootp",
      title: "a BOOTP request, without a message type, gets a reply",
      async run(t) {
        const reply = await (await t.guest()).dhcp(undefined)
        equal(reply.yiaddr, HOST.ipv4)
      },
    },
    {
      id: "1.5.lease-time",
      title: "the lease never ends, or is long enough to be renewed in peace",
      expect:
        "infinite, or an hour where changes of the host's network are followed: guests learn of them when they renew",
      async run(t) {
        const lease = (await (await t.guest()).offer()).get(DhcpOption.LEASE)?.readUInt32BE(0)
        equal(lease === 0xffffffff || lease === 3600, true)
      },
    },
    {
      id: "1.5.mask",
      title: "the netmask is that of the host's address",
      async run(t) {
        deepEqual(addressList((await (await t.guest()).offer()).get(DhcpOption.MASK)), ["255.255.255.0"])
      },
    },
    {
      id: "1.5.router",
      title: "the router is the host's own, and no static routes are sent where it is in the subnet",
      async run(t) {
        const options = await (await t.guest()).offer()
        deepEqual(addressList(options.get(DhcpOption.ROUTER)), [ROUTER.ipv4])
        equal(options.has(DhcpOption.ROUTES), false)
      },
    },
    {
      id: "1.5.server-id",
      title: "the server identifier is the address that the reply comes from",
      async run(t) {
        const { packet, options } = await (await t.guest()).dhcp(DhcpType.DISCOVER)
        deepEqual(addressList(options.get(DhcpOption.SERVER)), [packet.ip!.source])
        equal(packet.ip!.source, ROUTER.ipv4)
        equal(packet.udp!.sourcePort, 67)
      },
    },
    {
      id: "1.5.dns",
      title: "name servers are those of the host's resolv.conf",
      async run(t) {
        deepEqual(addressList((await (await t.guest()).offer()).get(DhcpOption.DNS)), [RESOLVER.ipv4])
      },
    },
    {
      id: "1.5.search",
      title: "search domains are those of the host's resolv.conf",
      async run(t) {
        const value = (await (await t.guest()).offer()).get(DhcpOption.SEARCH)
        deepEqual(names(value ?? Buffer.alloc(0)), [SEARCH_DOMAIN])
      },
    },
    {
      id: "1.5.mtu",
      title: "an MTU of 65520 is announced by default",
      async run(t) {
        equal((await (await t.guest()).offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 65_520)
      },
    },
    {
      id: "1.5.broadcast-flag",
      title: "a client that asks for a broadcast gets one, others an answer to their address",
      reference: "differs",
      because: "versions before 2025 always answer to the address",
      async run(t) {
        const guest = await t.guest()
        const broadcast = await guest.dhcp(DhcpType.DISCOVER, { broadcast: true })
        deepEqual([broadcast.packet.ip!.destination, broadcast.flags], ["255.255.255.255", 0x8000])
        const unicast = await guest.dhcp(DhcpType.DISCOVER)
        deepEqual([unicast.packet.ip!.destination, unicast.flags], [HOST.ipv4, 0])
      },
    },
    {
      id: "1.5.wrong-subnet",
      title: "a client that asks for another address is given the right one, and not refused",
      async run(t) {
        const extra = [[DhcpOption.REQUESTED, addressBytes("10.99.0.5")]] as const
        const reply = await (await t.guest()).dhcp(DhcpType.REQUEST, { extra })
        deepEqual([reply.type, reply.yiaddr], [DhcpType.ACK, HOST.ipv4])
      },
    },
    {
      id: "1.5.ignored",
      title: "DECLINE and RELEASE get no answer",
      async run(t) {
        const guest = await t.guest()
        for (const type of [DhcpType.DECLINE, DhcpType.RELEASE]) {
          guest.sendIp(guest.dhcpPacket([[DhcpOption.TYPE, Buffer.from([type])]]))
          const replies = (await guest.fence()).filter((packet) => packet.udp?.destinationPort === 68)
          deepEqual(replies.length, 0, `type ${type}`)
        }
      },
    },
    {
      id: "1.5.no-dhcp",
      title: "--no-dhcp: no answer, and nothing is sent to the host's network",
      async run(t) {
        const guest = await t.guest(["--no-dhcp"])
        guest.sendIp(guest.dhcpPacket([[DhcpOption.TYPE, Buffer.from([DhcpType.DISCOVER])]]))
        ok((await guest.fence()).every((packet) => packet.udp === undefined))
      },
    },
  ],
}
