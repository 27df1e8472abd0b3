// Section 1.2: what is taken from the guest, and what the headers to it look like.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, PORT, ROUTER, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"
import type { Guest } from "../guest.ts"
import type { Stage } from "../stage.ts"
import { ethernet, EtherType, ip, udp } from "../wire/build.ts"
import type { Ip } from "../wire/build.ts"
import { uint32 } from "../wire/bytes.ts"
import { isIcmpAnswer, parseIp } from "../wire/parse.ts"

const WORLD_PORT = 20_001
const ADDRESSES = { 4: [HOST.ipv4, SERVER.ipv4], 6: [HOST.ipv6, SERVER.ipv6] } as const

/** A datagram to the world. */
const datagram = (family: 4 | 6, text: string, more: Partial<Ip> & { readonly udpLength?: number } = {}): Buffer => {
  const [source, destination] = ADDRESSES[family]
  return udp({ source, destination, sourcePort: 30_001, destinationPort: WORLD_PORT, ...more }, text)
}

/** What of these packets the world gets: each one's text, up to the last, which must be good. */
async function arriving(t: Stage, family: 4 | 6, packets: readonly Buffer[]): Promise<string[]> {
  const guest = await t.guest()
  const end = await t.worldPeer.bind(ADDRESSES[family][1], WORLD_PORT)
  guest.sendIp(...packets, datagram(family, "last"))
  const texts: string[] = []
  for (;;) {
    const text = (await end.receive()).data.toString()
    if (text === "last") return texts
    texts.push(text)
  }
}

/** A check that these packets get lost, and no more than they. */
const dropped = (
  id: string,
  title: string,
  family: 4 | 6,
  packets: () => Buffer[],
  more: Partial<Check> = {},
): Check => ({
  id,
  title,
  ...more,
  run: async (t) => deepEqual(await arriving(t, family, packets()), []),
})

/** A check that such a packet, with the text "whole", arrives as that. */
const passed = (id: string, title: string, family: 4 | 6, packet: () => Buffer, more: Partial<Check> = {}): Check => ({
  id,
  title,
  ...more,
  run: async (t) => deepEqual(await arriving(t, family, [packet()]), ["whole"]),
})

const DESTINATION_OPTIONS = (next: number): Buffer => Buffer.from([next, 0, 1, 4, 0, 0, 0, 0])

/** Addresses to which the router would forward, to a cable whose other end nobody holds. */
const BEHIND = { ipv4: "203.0.113.129", ipv6: "2001:db8:beef::1" } as const

async function behindRouter(t: Stage): Promise<void> {
  const up = ["link add hop1 type veth peer name hop2", "link set hop1 up", "link set hop2 up"]
  const routes = [`route add ${BEHIND.ipv4}/32 dev hop1`, `route add ${BEHIND.ipv6}/128 dev hop1`]
  await t.ip(t.world, [...up, ...routes], ["link del hop1"])
}

/** The first address that connections from the world come to. */
async function inboundTarget(t: Stage, guest: Guest, port: number): Promise<string> {
  const end = await t.worldPeer.bind(ROUTER.ipv4)
  await end.send(HOST.ipv4, port, "knock")
  return (await guest.receiveUdp(port)).ip!.destination
}

export const internet: Area = {
  title: "IP",
  checks: [
    passed(
      "1.2.trailing-bytes",
      "IPv4: bytes behind the packet's end, as in padded frames, are cut off",
      4,
      () => Buffer.concat([datagram(4, "whole"), Buffer.alloc(10)]),
      { reference: "differs", because: "the version of 2023 drops such packets" },
    ),
    passed(
      "1.2.trailing-bytes-ipv6",
      "IPv6: bytes behind the packet's end, as in padded frames, are cut off",
      6,
      () => Buffer.concat([datagram(6, "whole"), Buffer.alloc(10)]),
      {
        reference: "differs",
        because: "the reference drops such packets, though an adapter that pads frames to 60 bytes makes them",
      },
    ),
    dropped("1.2.cut-off", "packets that are shorter than they say are dropped", 4, () => [
      datagram(4, "longer", { length: 20 + 8 + 7 }),
      datagram(4, "much", { length: 65_535 }),
      datagram(4, "header").subarray(0, 19),
    ]),
    dropped("1.2.cut-off-ipv6", "IPv6 packets that are shorter than they say are dropped", 6, () => [
      datagram(6, "longer", { length: 8 + 7 }),
      datagram(6, "header").subarray(0, 39),
    ]),
    dropped("1.2.bad-header", "header lengths and versions that can't be are dropped", 4, () => {
      const short = datagram(4, "short")
      short[0] = 0x44
      const long = datagram(4, "long")
      long[0] = 0x4f
      const total = datagram(4, "total", { length: 10 })
      return [short, long, total]
    }),
    dropped(
      "1.2.udp-length",
      "datagrams that are longer than their packet are dropped",
      4,
      () => [datagram(4, "long", { udpLength: 500 }), datagram(4, "none", { udpLength: 7 })],
      { reference: "differs", because: "the reference sends them on, with the length of the packet" },
    ),
    dropped(
      "1.2.fragments",
      "IPv4 fragments are dropped, the first ones too",
      4,
      () => [
        datagram(4, "first", { fragment: 0x2000 }),
        datagram(4, "middle", { fragment: 0x2001 }),
        datagram(4, "final", { fragment: 0x0001 }),
      ],
      { reference: "differs", because: "the version of 2023 sends each fragment on as a datagram" },
    ),
    dropped("1.2.fragments-ipv6", "IPv6 fragments are dropped", 6, () => [
      datagram(6, "first", { extensions: { first: 44, bytes: Buffer.from([17, 0, 0, 1, 0, 0, 0, 1]) } }),
      datagram(6, "final", { extensions: { first: 44, bytes: Buffer.from([17, 0, 0, 8, 0, 0, 0, 1]) } }),
    ]),
    passed("1.2.options", "IPv4: packets with options arrive", 4, () =>
      datagram(4, "whole", { options: Buffer.from([0x94, 4, 0, 0]) }),
    ),
    passed(
      "1.2.extension-headers",
      "IPv6: packets with extension headers arrive",
      6,
      () => {
        const bytes = Buffer.concat([DESTINATION_OPTIONS(60), DESTINATION_OPTIONS(17)])
        return datagram(6, "whole", { extensions: { first: 0, bytes } })
      },
      {
        reference: "differs",
        because:
          "the reference takes the last extension header for the transport header: the datagram goes to a wrong port",
      },
    ),
    {
      id: "1.2.loopback",
      title: "loopback addresses on the wire are dropped: the guest doesn't reach the host's services by them",
      reference: "differs",
      because: "the version of 2023 lets guests reach the host's services that way",
      async run(t) {
        const guest = await t.guest()
        const [v4, v6] = [await t.hostPeer.bind("127.0.0.1", WORLD_PORT), await t.hostPeer.bind("::1", WORLD_PORT)]
        guest.sendIp(datagram(4, "in", { destination: "127.0.0.1" }), datagram(4, "in", { destination: "127.1.2.3" }))
        guest.sendIp(datagram(6, "in", { destination: "::1" }))
        await guest.fence()
        for (const end of [v4, v6]) {
          const got = await end.receive(300).then(
            ({ data }) => data.toString(),
            () => "nothing",
          )
          equal(got, "nothing")
        }
      },
    },
    dropped(
      "1.2.loopback-source",
      "packets from a loopback address are dropped",
      4,
      () => [datagram(4, "loopback", { source: "127.0.0.1" }), datagram(4, "more", { source: "127.8.8.8" })],
      { reference: "differs", because: "the version of 2023 sends them on" },
    ),
    dropped(
      "1.2.loopback-source-ipv6",
      "packets from ::1 are dropped",
      6,
      () => [datagram(6, "loopback", { source: "::1" })],
      { reference: "differs", because: "the version of 2023 sends them on" },
    ),
    {
      id: "1.2.unknown-protocol",
      title: "protocols other than TCP, UDP and ICMP are dropped, silently",
      async run(t) {
        const guest = await t.guest()
        await guest.fence()
        const protocols = [132, 47, 255]
        for (const [source, destination] of [ADDRESSES[4], ADDRESSES[6]]) {
          for (const protocol of protocols) guest.sendIp(ip({ source, destination }, protocol, Buffer.alloc(40)))
        }
        const answers = (await guest.fence()).filter(
          (packet) => protocols.includes(packet.ip?.protocol ?? 0) || isIcmpAnswer(packet),
        )
        deepEqual(answers.length, 0)
      },
    },
    {
      id: "1.2.headers",
      title: "IPv4 headers to the guest: not to be fragmented, no identification, right checksum",
      reference: "differs",
      because: "the version of 2023 lets routers in the guest fragment",
      async run(t) {
        const { ip: header } = await (await t.guest()).askUdp(SERVER.ipv4, PORT.echo, "hello")
        deepEqual([header!.fragment, header!.id, header!.tos], [0x4000, 0, 0])
        ok(header!.checksumIsRight && header!.ttl >= 32)
      },
    },
    {
      id: "1.2.version-mismatch",
      title: "an IPv6 packet in an IPv4 frame, and the reverse, are dropped",
      async run(t) {
        const guest = await t.guest()
        const end = await t.worldPeer.bind(SERVER.ipv4, WORLD_PORT)
        guest.send(ethernet(guest.routerMac, guest.mac, EtherType.IPV6, datagram(4, "wrong")))
        guest.send(ethernet(guest.routerMac, guest.mac, EtherType.IPV4, datagram(6, "wrong")))
        guest.sendIp(datagram(4, "last"))
        equal((await end.receive()).data.toString(), "last")
      },
    },
    {
      id: "1.2.observed-address",
      title: "a guest that uses another address than it was given gets connections there",
      async run(t) {
        const guest = await t.guest(["-u", "20010"])
        guest.ip4 = "192.0.2.99"
        await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")
        equal(await inboundTarget(t, guest, 20_010), "192.0.2.99")
      },
    },
    {
      id: "1.2.fixed-address",
      title: "--address fixes where connections go, whatever addresses the guest uses",
      reference: "differs",
      because: "older versions follow the guest all the same",
      async run(t) {
        const guest = await t.guest(["-u", "20010", "-a", "192.0.2.55"])
        guest.ip4 = "192.0.2.99"
        await guest.askUdp(SERVER.ipv4, PORT.echo, "hello")
        equal(await inboundTarget(t, guest, 20_010), "192.0.2.55")
      },
    },
    {
      id: "1.2.ttl",
      title: "the TTL of datagrams counts, and the guest gets the router's answer: traceroute with UDP shows the way",
      reference: "differs",
      because: "that came in 2025",
      async run(t) {
        await behindRouter(t)
        const guest = await t.guest()
        const port = guest.sendUdp(BEHIND.ipv4, 33_434, "probe", { ttl: 1 })
        const { ip: header, icmp } = await guest.find("time exceeded", (p) => p.icmp?.type === 11 && p)
        equal(header!.source, ROUTER.ipv4)
        const quoted = parseIp(icmp!.body.subarray(4))!
        deepEqual([quoted.destination, quoted.payload.readUInt16BE(0)], [BEHIND.ipv4, port])
      },
    },
    {
      id: "1.2.hop-limit",
      title: "the hop limit of datagrams counts, and the guest gets the router's answer",
      reference: "differs",
      because: "that came in 2025",
      async run(t) {
        await behindRouter(t)
        const guest = await t.guest()
        guest.sendUdp(BEHIND.ipv6, 33_434, "probe", { ttl: 1 })
        const { ip: header } = await guest.find("time exceeded", (p) => p.icmp?.type === 3 && p)
        equal(header!.source, ROUTER.ipv6)
      },
    },
    {
      id: "1.2.garbage",
      title: "arbitrary bytes in frames do no harm",
      async run(t) {
        const guest = await t.guest()
        // A generator that gives the same bytes each time (xorshift).
        let state = 0x1234_5678
        const random = (): number => {
          state ^= state << 13
          state ^= state >>> 17
          state ^= state << 5
          return state >>> 0
        }
        for (let round = 0; round < 300; round++) {
          const frame = Buffer.concat(Array.from({ length: 4 + (random() % 60) }, () => uint32(random())))
          const type = [EtherType.IPV4, EtherType.IPV6, EtherType.ARP][round % 3]!
          if (type === EtherType.IPV4) frame[0] = 0x45
          if (type === EtherType.IPV6) frame[0] = 0x60
          guest.send(ethernet(guest.routerMac, guest.mac, type, frame))
        }
        await guest.fence()
        equal((await guest.askUdp(SERVER.ipv4, PORT.echo, "still there")).udp!.payload.toString(), "still there")
      },
    },
  ],
}
