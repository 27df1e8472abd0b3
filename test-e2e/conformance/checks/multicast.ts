// Section 1.7: broadcast, multicast, and memberships that the guest announces.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, ROUTER } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { ip, Protocol } from "../wire/build.ts"
import { addressBytes, checksum } from "../wire/bytes.ts"
import type { Stage } from "../stage.ts"

const DISCOVERY = { ipv4: "239.255.255.250", ipv6: "ff05::c", port: 1900 } as const
const MDNS = { group: "224.0.0.251", port: 5353 } as const
const ANSWER_PORT = 20_006
const ALL = "255.255.255.255"

const IGMP_REPORT_V2 = 0x16
const IGMP_LEAVE = 0x17

/** The world behind the host sends to groups and to all on its link with the host. */
async function reachGroups(t: Stage): Promise<void> {
  const routes = ["224.0.0.0/4", `${ALL}/32`]
  const change = (verb: string): string[] => routes.map((to) => `route ${verb} ${to} dev eth0`)
  await t.ip(t.world, change("add"), change("del"))
}

function igmp(type: number, group: string, source: string, destination: string = group): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), addressBytes(group)])
  message.writeUInt16BE(checksum(message), 2)
  // A router alert, as RFC 2236 section 2 has it.
  return ip({ source, destination, ttl: 1, options: Buffer.from([0x94, 4, 0, 0]) }, Protocol.IGMP, message)
}

const because = "no version has it: questions leave from a connected socket, and groups are not joined"

export const multicast: Area = {
  title: "Multicast and broadcast",
  checks: [
    ...[ALL, HOST.ipv4.replace(/\d+$/, "255")].map((destination, index) => ({
      id: ["1.7.broadcast", "1.7.subnet-broadcast"][index]!,
      title: `a datagram to ${index === 0 ? "all (255.255.255.255)" : "the broadcast address of the subnet"} goes out, and who answers is heard`,
      reference: "differs" as const,
      because: "sending to a broadcast address needs an option of the socket that it does not set",
      async run(t: Stage): Promise<void> {
        const end = await t.worldPeer.bind("0.0.0.0", ANSWER_PORT)
        const guest = await t.guest()
        const port = guest.sendUdp(destination, ANSWER_PORT, "who is there?")
        const { data, address, port: from } = await end.receive()
        deepEqual([data.toString(), address], ["who is there?", HOST.ipv4])
        await end.send(address, from, "I am")
        const { ip: head, udp } = await guest.receiveUdp(port)
        deepEqual([head!.source, udp!.sourcePort, udp!.payload.toString()], [ROUTER.ipv4, ANSWER_PORT, "I am"])
      },
    })),
    ...(["ipv4", "ipv6"] as const).map((family) => ({
      id: `1.7.discovery-${family}`,
      title: `${family === "ipv4" ? "IPv4" : "IPv6"}: a question to a group reaches its members; an answer from another address and port reaches the guest`,
      reference: "differs" as const,
      because: "answers don't come from the group, so that a socket connected to it does not take them",
      async run(t: Stage): Promise<void> {
        await reachGroups(t)
        const any = family === "ipv4" ? "0.0.0.0" : "::"
        const member = await t.worldPeer.bind(any, DISCOVERY.port, DISCOVERY[family])
        const answering = await t.worldPeer.bind(ROUTER[family], ANSWER_PORT)
        const guest = await t.guest()
        const port = guest.sendUdp(DISCOVERY[family], DISCOVERY.port, "M-SEARCH", { ttl: 2 })
        const { data, address, port: from } = await member.receive()
        deepEqual([data.toString(), address], ["M-SEARCH", HOST[family]])
        await answering.send(address, from, "here")
        const { ip: head, udp } = await guest.receiveUdp(port)
        deepEqual([head!.source, udp!.sourcePort, udp!.payload.toString()], [ROUTER[family], ANSWER_PORT, "here"])
      },
    })),
    {
      id: "1.7.membership",
      title: "what is sent to a group that the guest has joined (IGMPv2) reaches it, until it leaves",
      reference: "differs",
      because,
      async run(t) {
        await reachGroups(t)
        const end = await t.worldPeer.bind(ROUTER.ipv4, MDNS.port)
        const guest = await t.guest()
        guest.sendIp(igmp(IGMP_REPORT_V2, MDNS.group, guest.ip4))
        await guest.fence()
        await end.send(MDNS.group, MDNS.port, "news")
        const { ip: head, udp } = await guest.receiveUdp(MDNS.port)
        deepEqual([head!.source, head!.destination], [ROUTER.ipv4, MDNS.group])
        deepEqual([udp!.sourcePort, udp!.payload.toString()], [MDNS.port, "news"])
        guest.sendIp(igmp(IGMP_LEAVE, MDNS.group, guest.ip4, "224.0.0.2"))
        // It asks whether another member is left (RFC 2236 section 3), then nobody is.
        await new Promise((done) => setTimeout(done, 4000))
        guest.drain()
        await end.send(MDNS.group, MDNS.port, "more")
        await guest.ping(HOST.ipv4.replace(/\d+$/, "1"), 7, 1, "after that")
        equal((await guest.fence()).filter((packet) => packet.udp?.destinationPort === MDNS.port).length, 0)
      },
    },
    {
      id: "1.7.no-echo",
      title: "what the guest sends to a group that it has joined does not come back to it",
      async run(t) {
        await reachGroups(t)
        const guest = await t.guest()
        guest.sendIp(igmp(IGMP_REPORT_V2, MDNS.group, guest.ip4))
        await guest.fence()
        guest.drain()
        guest.sendUdp(MDNS.group, MDNS.port, "mine", { sourcePort: MDNS.port, ttl: 255 })
        await guest.ping(ROUTER.ipv4, 7, 2, "after that")
        equal((await guest.fence()).filter((packet) => packet.udp?.payload.toString() === "mine").length, 0)
      },
    },
    {
      id: "1.7.malformed",
      title: "IGMP messages that are cut short, damaged, or about no group are harmless",
      async run(t) {
        const guest = await t.guest()
        const whole = igmp(IGMP_REPORT_V2, MDNS.group, guest.ip4)
        const damaged = Buffer.from(whole)
        damaged[damaged.length - 1]! ^= 1
        const short = ip({ source: guest.ip4, destination: MDNS.group, ttl: 1 }, Protocol.IGMP, Buffer.from([0x22]))
        const records = Buffer.from([0x22, 0, 0, 0, 0, 0, 0xff, 0xff])
        records.writeUInt16BE(checksum(records), 2)
        const many = ip({ source: guest.ip4, destination: "224.0.0.22", ttl: 1 }, Protocol.IGMP, records)
        guest.sendIp(damaged, short, many, igmp(IGMP_REPORT_V2, ROUTER.ipv4, guest.ip4))
        ok(Array.isArray(await guest.fence()))
      },
    },
  ],
}
