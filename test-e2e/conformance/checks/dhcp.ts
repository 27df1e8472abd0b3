// Section 1.5: DHCP for IPv4.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { addressBytes, macText, nameBytes, names } from "../wire/bytes.ts"
import { udp } from "../wire/build.ts"
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
    {
      id: "1.5.fields",
      title: "hardware address, transaction and relay's address come back; no boot server, name or file is given",
      async run(t) {
        const reply = await (await t.guest()).dhcp(DhcpType.DISCOVER, { giaddr: addressBytes("192.0.2.9") })
        equal(macText(reply.chaddr), "02:00:00:00:00:0a")
        deepEqual([reply.giaddr, reply.siaddr, reply.cookie], ["192.0.2.9", "0.0.0.0", 0x63825363])
        ok(reply.names.every((byte) => byte === 0))
      },
    },
    {
      id: "1.5.length",
      title: "replies have the 300 bytes that old clients insist on, and right checksums",
      async run(t) {
        const { packet } = await (await t.guest()).dhcp(DhcpType.DISCOVER)
        ok(packet.udp!.payload.length >= 300, `${packet.udp!.payload.length} bytes`)
        ok(packet.ip!.checksumIsRight && packet.udp!.checksumIsRight)
      },
    },
    {
      id: "1.5.rapid-commit",
      title: "Rapid Commit: a DHCPDISCOVER that asks for it is acknowledged at once",
      reference: "differs",
      because: "versions before 2025 answer by an offer",
      async run(t) {
        const extra = [[DhcpOption.RAPID_COMMIT, Buffer.alloc(0)]] as const
        const guest = await t.guest()
        const { type, options } = await guest.dhcp(DhcpType.DISCOVER, { extra })
        deepEqual([type, options.has(DhcpOption.RAPID_COMMIT)], [DhcpType.ACK, true])
        equal((await guest.offer()).has(DhcpOption.RAPID_COMMIT), false)
      },
    },
    {
      id: "1.5.to-server",
      title: "a client that renews at the server's address is acknowledged, too",
      async run(t) {
        const more = { source: HOST.ipv4, destination: ROUTER.ipv4, ciaddr: addressBytes(HOST.ipv4) }
        const reply = await (await t.guest()).dhcp(DhcpType.REQUEST, more)
        deepEqual([reply.type, reply.yiaddr, reply.ciaddr], [DhcpType.ACK, HOST.ipv4, HOST.ipv4])
      },
    },
    {
      id: "1.5.address",
      title: "--address with a prefix length: that address and mask",
      reference: "differs",
      because: "the prefix length in --address came in 2026",
      async run(t) {
        const reply = await (await t.guest(["-a", "192.0.2.130/26", "-g", "192.0.2.129"])).dhcp(DhcpType.DISCOVER)
        equal(reply.yiaddr, "192.0.2.130")
        deepEqual(addressList(reply.options.get(DhcpOption.MASK)), ["255.255.255.192"])
        deepEqual(addressList(reply.options.get(DhcpOption.ROUTER)), ["192.0.2.129"])
      },
    },
    {
      id: "1.5.netmask",
      title: "--netmask, dotted or as a length, is announced",
      async run(t) {
        const dotted = await t.guest(["-a", "10.0.2.15", "-n", "255.255.240.0", "-g", "10.0.2.2"])
        deepEqual(addressList((await dotted.offer()).get(DhcpOption.MASK)), ["255.255.240.0"])
        const length = await t.connect(
          await t.start(["-a", "10.0.2.15", "-n", "20", "-g", "10.0.2.2"], t.path("other")),
        )
        deepEqual(addressList((await length.offer()).get(DhcpOption.MASK)), ["255.255.240.0"])
      },
    },
    {
      id: "1.5.class",
      title: "--address alone: the mask of its class",
      async run(t) {
        const guest = await t.guest(["-a", "172.16.5.1", "-g", "172.16.0.1"])
        deepEqual(addressList((await guest.offer()).get(DhcpOption.MASK)), ["255.255.0.0"])
      },
    },
    {
      id: "1.5.router-elsewhere",
      title: "a router outside the subnet is made reachable by static routes (RFC 3442)",
      async run(t) {
        const options = await (await t.guest(["-a", "10.0.2.15", "-n", "24", "-g", "192.168.9.1"])).offer()
        const gateway = addressBytes("192.168.9.1")
        const wanted = [Buffer.from([32]), gateway, Buffer.alloc(4), Buffer.from([0]), gateway]
        deepEqual(options.get(DhcpOption.ROUTES), Buffer.concat(wanted))
      },
    },
    {
      id: "1.5.mtu-option",
      title: "--mtu says what is announced; 0: nothing",
      async run(t) {
        equal((await (await t.guest(["--mtu", "1400"])).offer()).get(DhcpOption.MTU)?.readUInt16BE(0), 1400)
        const none = await t.connect(await t.start(["--mtu", "0"], t.path("none")))
        equal((await none.offer()).has(DhcpOption.MTU), false)
      },
    },
    {
      id: "1.5.hostname",
      title: "--hostname and --fqdn are sent",
      reference: "differs",
      because: "both came in 2025",
      async run(t) {
        const options = await (await t.guest(["--hostname", "machine", "--fqdn", "machine.corp.example"])).offer()
        equal(options.get(DhcpOption.HOST_NAME)?.toString(), "machine")
        const fqdn = options.get(DhcpOption.FQDN)!
        // Names as on the wire (RFC 4702 section 2.1), response codes that mean nothing any more.
        deepEqual([fqdn[0]! & 4, fqdn[1], fqdn[2]], [4, 255, 255])
        deepEqual(fqdn.subarray(3), nameBytes("machine.corp.example"))
      },
    },
    {
      id: "1.5.no-names",
      title: "--no-dhcp-dns and --no-dhcp-search: neither is sent",
      async run(t) {
        const options = await (await t.guest(["--no-dhcp-dns", "--no-dhcp-search"])).offer()
        deepEqual([options.has(DhcpOption.DNS), options.has(DhcpOption.SEARCH)], [false, false])
      },
    },
    {
      id: "1.5.dns-option",
      title: "--dns replaces the host's name servers, in the order given",
      async run(t) {
        const guest = await t.guest(["-D", "192.0.2.8", "-D", "2001:db8::8", "-D", "192.0.2.9"])
        deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), ["192.0.2.8", "192.0.2.9"])
        deepEqual((await guest.advertisement()).dns?.servers, ["2001:db8::8"])
      },
    },
    {
      id: "1.5.dns-none",
      title: "--dns none: no name servers; --search none: no search domains",
      async run(t) {
        const options = await (await t.guest(["-D", "none", "-S", "none"])).offer()
        deepEqual([options.has(DhcpOption.DNS), options.has(DhcpOption.SEARCH)], [false, false])
      },
    },
    {
      id: "1.5.search-option",
      title: "--search replaces the host's search domains; it may be repeated",
      async run(t) {
        const value = (await (await t.guest(["-S", "a.example", "-S", "b.example"])).offer()).get(DhcpOption.SEARCH)
        deepEqual(names(value!), ["a.example", "b.example"])
      },
    },
    {
      id: "1.5.search-list",
      title: "--search with several domains in one argument, as QEMU passes them",
      reference: "differs",
      because: "the manual page promises it, but older versions make one name of it",
      async run(t) {
        const value = (await (await t.guest(["-S", "a.example b.example"])).offer()).get(DhcpOption.SEARCH)
        deepEqual(names(value!), ["a.example", "b.example"])
      },
    },
    {
      id: "1.5.garbage",
      title: "cut messages, replies and wrong hardware types get no answer, and do no harm",
      async run(t) {
        const guest = await t.guest()
        const whole = guest.dhcpPacket([[DhcpOption.TYPE, Buffer.from([DhcpType.DISCOVER])]]).subarray(28)
        const addresses = { source: "0.0.0.0", destination: "255.255.255.255", sourcePort: 68, destinationPort: 67 }
        const changed = (at: number, value: number): Buffer => {
          const copy = Buffer.from(whole)
          copy[at] = value
          return copy
        }
        for (const message of [whole.subarray(0, 0), whole.subarray(0, 100), whole.subarray(0, 239), changed(0, 2)]) {
          guest.sendIp(udp(addresses, message))
        }
        deepEqual((await guest.fence()).filter((packet) => packet.udp?.destinationPort === 68).length, 0)
      },
    },
    {
      id: "1.5.log",
      title: "what was given is logged, with the guest's hardware address",
      reference: "differs",
      because: "the version of 2023 writes the message without an address",
      async run(t) {
        const running = await t.start()
        const guest = await t.connect(running)
        await guest.offer()
        await guest.fence()
        await running.says(/DHCP: offer to discover[^]*02:00:00:00:00:0a/)
      },
    },
  ],
}
