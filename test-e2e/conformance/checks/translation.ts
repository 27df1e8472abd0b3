// Sections 1.16 and 1.17: addresses that stand for others, and name servers.
import { deepEqual, equal } from "node:assert/strict"
import { HOST, PORT, RESOLVER, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import type { Guest } from "../guest.ts"
import type { Stage } from "../stage.ts"
import { addressText, nameBytes, names, uint16 } from "../wire/bytes.ts"
import { addressList, DhcpOption } from "../wire/dhcp.ts"
import { both } from "./families.ts"

const OURS = 20_040

/** Where a datagram of the guest to an address arrives in the host, if at all: what it comes from. */
async function toHost(t: Stage, guest: Guest, destination: string, listen: string): Promise<string> {
  const end = await t.hostPeer.bind(listen, OURS)
  const port = guest.sendUdp(destination, OURS, "to the host")
  const { address, port: from } = await end.receive()
  await end.send(address, from, "from the host")
  const packet = await guest.receiveUdp(port)
  equal(packet.ip!.source, destination)
  return address
}

/** That a connection of the guest to an address doesn't reach a listener on the host's loopback address. */
async function notToHost(t: Stage, guest: Guest, destination: string, listen: string): Promise<void> {
  const end = await t.hostPeer.bind(listen, OURS)
  guest.sendUdp(destination, OURS, "to the host")
  await guest.askUdp(destination.includes(":") ? SERVER.ipv6 : SERVER.ipv4, PORT.echo, "later")
  const got = await end.receive(200).then(
    ({ data }) => data.toString(),
    () => "nothing",
  )
  equal(got, "nothing")
}

/** A question for www.world.example's address. */
function query(type: number = 1): Buffer {
  const header = Buffer.concat([uint16(0xabcd), uint16(0x0100), uint16(1), Buffer.alloc(6)])
  return Buffer.concat([header, nameBytes(SERVER.name), uint16(type), uint16(1)])
}

/** Asks a name server over UDP; the address in the answer. */
async function lookUp(guest: Guest, server: string): Promise<string> {
  const { udp } = await guest.askUdp(server, 53, query())
  return addressText(udp!.payload.subarray(-4))
}

const checks: readonly Check[] = [
  ...both(({ router, loopback }) => ({
    id: "1.16.gateway",
    title: "the gateway's address leads to the host's loopback address, and answers come from the gateway",
    reference: "differs",
    because: "the version of 2023 answers from a link-local address",
    async run(t) {
      equal(await toHost(t, await t.guest(), router, loopback), loopback)
    },
  })),
  {
    id: "1.16.gateway-tcp",
    title: "the same for connections",
    async run(t) {
      const listener = await t.hostPeer.listen("127.0.0.1", OURS)
      const connection = await (await t.guest()).connectTcp(ROUTER.ipv4, OURS)
      const peer = await listener.accept()
      equal(peer.remoteAddress, "127.0.0.1")
      await connection.write("hello")
      equal((await peer.read(5)).toString(), "hello")
    },
  },
  ...both(({ router, loopback }) => ({
    id: "1.16.no-map-gw",
    title: "--no-map-gw: it doesn't",
    async run(t) {
      await notToHost(t, await t.guest(["--no-map-gw"]), router, loopback)
    },
  })),
  {
    id: "1.16.map-host-loopback",
    title: "--map-host-loopback: another address leads there, and the gateway doesn't",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      const guest = await t.guest(["--map-host-loopback", "192.0.2.200", "--map-host-loopback", "2001:db8:1::200"])
      await toHost(t, guest, "192.0.2.200", "127.0.0.1")
      await toHost(t, guest, "2001:db8:1::200", "::1")
      await t.hostPeer.clear()
      await notToHost(t, guest, ROUTER.ipv4, "127.0.0.1")
    },
  },
  {
    id: "1.16.map-host-loopback-none",
    title: "--map-host-loopback none: no address leads there",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      await notToHost(t, await t.guest(["--map-host-loopback", "none"]), ROUTER.ipv4, "127.0.0.1")
    },
  },
  {
    id: "1.16.map-guest-addr",
    title: "--map-guest-addr: an address leads to the host's own, which the guest has, too",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      const guest = await t.guest(["--map-guest-addr", "169.254.1.2"])
      await toHost(t, guest, "169.254.1.2", HOST.ipv4)
    },
  },
  {
    id: "1.16.map-guest-addr-reverse",
    title: "--map-guest-addr: connections from the host's own address come from the other one",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      const guest = await t.guest(["--map-guest-addr", "169.254.1.2", "-u", "20041"])
      const end = await t.hostPeer.bind(HOST.ipv4)
      await end.send(HOST.ipv4, 20_041, "knock")
      equal((await guest.receiveUdp(20_041)).ip!.source, "169.254.1.2")
    },
  },
  ...both(({ loopback, host, router }) => ({
    id: "1.16.inbound-loopback",
    title: "what comes from the host's loopback address comes from the gateway's for the guest, and answers go back",
    reference: "differs",
    because: "in the version of 2023 it comes from a link-local address",
    async run(t) {
      const guest = await t.guest(["-u", "20041"])
      const end = await t.hostPeer.bind(loopback)
      await end.send(loopback, 20_041, "knock")
      const { ip, udp } = await guest.receiveUdp(20_041)
      deepEqual([ip!.source, ip!.destination], [router, host])
      guest.sendUdp(ip!.source, udp!.sourcePort, "who is there", { sourcePort: 20_041 })
      const { data, address } = await end.receive()
      deepEqual([data.toString(), address], ["who is there", loopback])
    },
  })),
  {
    id: "1.16.inbound-own",
    title: "what comes from the host's own address, which the guest has, too, comes from the gateway's",
    async run(t) {
      const guest = await t.guest(["-u", "20041"])
      const end = await t.hostPeer.bind(HOST.ipv4)
      await end.send(HOST.ipv4, 20_041, "knock")
      equal((await guest.receiveUdp(20_041)).ip!.source, ROUTER.ipv4)
    },
  },
  {
    id: "1.16.inbound-source",
    title: "what comes from elsewhere keeps its source address and port",
    async run(t) {
      const guest = await t.guest(["-u", "20041"])
      const end = await t.worldPeer.bind(SERVER.ipv4)
      await end.send(HOST.ipv4, 20_041, "knock")
      const { ip, udp } = await guest.receiveUdp(20_041)
      deepEqual([ip!.source, udp!.sourcePort], [SERVER.ipv4, end.port])
    },
  },
  {
    id: "1.17.forward",
    title: "--dns-forward: questions to that address go to the host's name server, over UDP and TCP",
    reference: "differs",
    because: "the version of 2023 forwards datagrams only",
    async run(t) {
      const guest = await t.guest(["--dns-forward", "192.0.2.253"])
      equal(await lookUp(guest, "192.0.2.253"), SERVER.ipv4)
      const connection = await guest.connectTcp("192.0.2.253", 53)
      const question = query()
      await connection.write(Buffer.concat([uint16(question.length), question]))
      const answer = await connection.read(2 + question.length + 16)
      equal(addressText(answer.subarray(-4)), SERVER.ipv4)
    },
  },
  {
    id: "1.17.forward-ipv6",
    title: "--dns-forward with an IPv6 address",
    async run(t) {
      const guest = await t.guest(["--dns-forward", "2001:db8:1::253"])
      equal(await lookUp(guest, "2001:db8:1::253"), SERVER.ipv4)
    },
  },
  {
    id: "1.17.forward-port",
    title: "--dns-forward: only ports 53 and 853 go there",
    async run(t) {
      const guest = await t.guest(["--dns-forward", "192.0.2.253"])
      const end = await t.worldPeer.bind(RESOLVER.ipv4, 20_042)
      guest.sendUdp("192.0.2.253", 20_042, "not a question")
      await guest.askUdp(SERVER.ipv4, PORT.echo, "later")
      equal(
        await end.receive(200).then(
          () => "arrived",
          () => "lost",
        ),
        "lost",
      )
    },
  },
  {
    id: "1.17.host",
    title: "--dns-host: questions to --dns-forward go to that name server",
    reference: "differs",
    because: "it came in 2024",
    async run(t) {
      const guest = await t.guest(["--dns-forward", "192.0.2.253", "--dns-host", SERVER.ipv4])
      const end = await t.worldPeer.bind(SERVER.ipv4, 53)
      guest.sendUdp("192.0.2.253", 53, query())
      equal((await end.receive()).data.length, query().length)
    },
  },
  {
    id: "1.17.forward-other-family",
    title: "--dns-forward may lead to a name server of the other family",
    reference: "differs",
    because: "the reference translates addresses of the same family only",
    async run(t) {
      await t.resolvConf(`nameserver ${RESOLVER.ipv4}\n`)
      const guest = await t.guest(["--dns-forward", "2001:db8:1::253"])
      equal(await lookUp(guest, "2001:db8:1::253"), SERVER.ipv4)
    },
  },
  {
    id: "1.17.loopback-forward",
    title: "a name server on the host's loopback address is announced as --dns-forward",
    reference: "differs",
    because: "the version of 2023 announces the gateway",
    async run(t) {
      await t.resolvConf("nameserver 127.0.0.53\n")
      const guest = await t.guest(["--dns-forward", "192.0.2.253"])
      deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), ["192.0.2.253"])
      const end = await t.hostPeer.bind("127.0.0.53", 53)
      guest.sendUdp("192.0.2.253", 53, query())
      equal((await end.receive()).data.length, query().length)
    },
  },
  {
    id: "1.17.loopback-gateway",
    title: "a name server on the host's loopback address is announced as the gateway, which leads to it",
    async run(t) {
      await t.resolvConf("nameserver 127.0.0.1\n")
      const guest = await t.guest(["-q"])
      deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), [ROUTER.ipv4])
      const end = await t.hostPeer.bind("127.0.0.1", 53)
      guest.sendUdp(ROUTER.ipv4, 53, query())
      equal((await end.receive()).data.length, query().length)
    },
  },
  {
    id: "1.17.loopback-unmapped",
    title: "a name server on the host's loopback address that nothing leads to is not announced",
    async run(t) {
      await t.resolvConf("nameserver 127.0.0.1\nnameserver 192.0.2.54\n")
      const guest = await t.guest(["--no-map-gw"])
      deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), ["192.0.2.54"])
    },
  },
  {
    id: "1.17.servers",
    title: "resolv.conf: three name servers of each family are announced",
    async run(t) {
      const list = [1, 2, 3, 4].flatMap((n) => [`nameserver 192.0.2.6${n}`, `nameserver 2001:db8::6${n}`])
      await t.resolvConf(`${list.join("\n")}\n`)
      const guest = await t.guest(["-q"])
      deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), ["192.0.2.61", "192.0.2.62", "192.0.2.63"])
      deepEqual((await guest.advertisement()).dns?.servers, ["2001:db8::61", "2001:db8::62", "2001:db8::63"])
    },
  },
  {
    id: "1.17.spelling",
    title: "resolv.conf: tabs, comments and Windows line ends are read as the C library reads them",
    reference: "differs",
    because: "the reference takes lines only that begin with the word and one space, and comments for addresses",
    async run(t) {
      await t.resolvConf(
        "# comment\nnameserver\t192.0.2.61\r\nnameserver 192.0.2.62 # second\nsearch\ta.example  b.example\noptions ndots:2\n",
      )
      const options = await (await t.guest(["-q"])).offer()
      deepEqual(addressList(options.get(DhcpOption.DNS)), ["192.0.2.61", "192.0.2.62"])
      deepEqual(names(options.get(DhcpOption.SEARCH) ?? Buffer.alloc(0)), ["a.example", "b.example"])
    },
  },
  {
    id: "1.17.domain",
    title: "resolv.conf: `domain` is a search list of one, and the last of several counts",
    reference: "differs",
    because: "the reference passes over it, and takes the first of several",
    async run(t) {
      await t.resolvConf("nameserver 192.0.2.61\nsearch a.example\ndomain b.example\n")
      const options = await (await t.guest(["-q"])).offer()
      deepEqual(names(options.get(DhcpOption.SEARCH) ?? Buffer.alloc(0)), ["b.example"])
    },
  },
  {
    id: "1.17.long-list",
    title: "search lists of ten domains are announced whole",
    reference: "differs",
    because: "the reference takes six at most",
    async run(t) {
      const list = Array.from({ length: 10 }, (_, index) => `department${index}.corp.example`)
      await t.resolvConf(`nameserver 192.0.2.61\nsearch ${list.join(" ")}\n`)
      const options = await (await t.guest(["-q"])).offer()
      deepEqual(names(options.get(DhcpOption.SEARCH) ?? Buffer.alloc(0)), list)
    },
  },
  {
    id: "1.17.none",
    title: "without a name server there is a warning, and none is announced",
    async run(t) {
      await t.resolvConf("# empty\n")
      const guest = await t.guest(["-q"])
      const options = await guest.offer()
      deepEqual([options.has(DhcpOption.DNS), options.has(DhcpOption.SEARCH)], [false, false])
    },
  },
  {
    id: "1.17.dns-none-cancels",
    title: "--dns none forgets servers that were named before it, and a later --dns counts",
    reference: "differs",
    because: "the version of 2023 refuses that",
    async run(t) {
      const guest = await t.guest(["-D", "192.0.2.61", "-D", "none", "-D", "192.0.2.62"])
      deepEqual(addressList((await guest.offer()).get(DhcpOption.DNS)), ["192.0.2.62"])
    },
  },
  {
    id: "1.17.search-none",
    title: "--search none: no search domains, name servers are announced",
    async run(t) {
      const { search, dns } = await (await t.guest(["-S", "none"])).advertisement()
      deepEqual([search, dns?.servers], [undefined, [RESOLVER.ipv6]])
    },
  },
]

export const translation: Area = { title: "Address translation and name servers", checks }
