// Section 1.8: TCP, UDP and ICMP between the guest and the host's network.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, PORT, SERVER } from "../../../tools/world/addresses.ts"
import type { Area, Check } from "../check.ts"

const FAMILIES = [
  { name: "IPv4", server: SERVER.ipv4, host: HOST.ipv4 },
  { name: "IPv6", server: SERVER.ipv6, host: HOST.ipv6 },
] as const

/** One check for each family. */
const both = (make: (family: (typeof FAMILIES)[number]) => Omit<Check, "id"> & { readonly id: string }): Check[] =>
  FAMILIES.map((family) => {
    const check = make(family)
    return { ...check, id: `${check.id}-${family.name.toLowerCase()}`, title: `${family.name}: ${check.title}` }
  })

const checks: readonly Check[] = [
  ...both(({ server }) => ({
    id: "1.8.tcp-data",
    title: "a connection of the guest carries data both ways, and ends in order",
    async run(t) {
      const connection = await (await t.guest()).connectTcp(server)
      await connection.write("hello, world")
      equal((await connection.read(12)).toString(), "hello, world")
      connection.end()
      await connection.ended()
    },
  })),
  ...both(({ server }) => ({
    id: "1.8.tcp-refused",
    title: "a refused connection is reset, with the SYN acknowledged",
    reference: "differs",
    because: "the version of 2023 doesn't set ACK, so that guests must ignore it (RFC 9293 section 3.10.7.3)",
    async run(t) {
      const connection = (await t.guest()).tcpTo(server, PORT.closed)
      connection.sendSyn()
      const reset = await connection.reset()
      deepEqual([reset.flags.includes("A"), reset.ack], [true, (connection.seq + 1) >>> 0])
    },
  })),
  ...both(({ server, host }) => ({
    id: "1.8.udp-echo",
    title: "a datagram of the guest arrives with the host's address and the guest's port, and so does the answer",
    async run(t) {
      const guest = await t.guest()
      const end = await t.worldPeer.bind(server, 20_000)
      const port = guest.sendUdp(server, 20_000, "question")
      const { data, address, port: from } = await end.receive()
      deepEqual([data.toString(), address, from], ["question", host, port])
      await end.send(address, from, "answer")
      const packet = await guest.receiveUdp(port)
      deepEqual([packet.udp!.payload.toString(), packet.ip!.source, packet.udp!.sourcePort], ["answer", server, 20_000])
      ok(packet.udp!.checksumIsRight && packet.ip!.checksumIsRight)
    },
  })),
  ...both(({ server }) => ({
    id: "1.8.ping",
    title: "an echo request is answered, with identifier, sequence number and data",
    async run(t) {
      const { icmp, ip } = await (await t.guest()).ping(server, 0x4321, 7, "some data")
      deepEqual([icmp!.body.readUInt16BE(0), icmp!.body.subarray(4).toString()], [0x4321, "some data"])
      ok(icmp!.checksumIsRight && ip!.checksumIsRight)
    },
  })),
]

export const protocols: Area = { title: "TCP, UDP and ping", checks }
