// Section 1.3: address resolution in IPv4.
import { deepEqual, equal } from "node:assert/strict"
import { HOST, ROUTER } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"

const OUR_MAC = "9a:55:9a:55:9a:55"

export const arp: Area = {
  title: "ARP",
  checks: [
    {
      id: "1.3.gateway",
      title: "a question for the gateway is answered, to the one who asked",
      async run(t) {
        const guest = await t.guest()
        const reply = await guest.resolve(ROUTER.ipv4)
        equal(reply.destination, guest.mac)
        equal(reply.arp!.targetMac, guest.mac)
        equal(reply.arp!.targetIp, HOST.ipv4)
        equal(reply.arp!.senderMac, reply.source)
      },
    },
    {
      id: "1.3.mac-addr",
      title: "the gateway's link-layer address is 9a:55:9a:55:9a:55, or that of --mac-addr",
      reference: "differs",
      because: "versions before 2025 take the MAC address of the host's interface",
      async run(t) {
        const guest = await t.guest()
        equal((await guest.resolve(ROUTER.ipv4)).source, OUR_MAC)
        const other = await t.connect(await t.start(["--mac-addr", "02:11:22:33:44:55"], t.path("other")))
        equal((await other.resolve(ROUTER.ipv4)).source, "02:11:22:33:44:55")
      },
    },
    {
      id: "1.3.any-target",
      title: "any other address is answered for too: all of the network is behind passt",
      async run(t) {
        const guest = await t.guest()
        for (const target of ["192.0.2.77", "10.1.2.3", "8.8.8.8"]) {
          equal((await guest.resolve(target)).arp!.senderIp, target)
        }
      },
    },
    {
      id: "1.3.own-address",
      title: "nobody answers for the guest's own address: it would take it for a conflict",
      async run(t) {
        const guest = await t.guest()
        guest.send(guest.arpFrame(HOST.ipv4, "0.0.0.0"))
        const replies = (await guest.fence()).filter((packet) => packet.arp?.operation === 2)
        deepEqual(replies, [])
      },
    },
    {
      id: "1.3.probe",
      title: "a probe, from no address yet, is answered for other addresses than the guest's",
      async run(t) {
        const guest = await t.guest()
        const { arp: reply } = await guest.resolve("192.0.2.88", "0.0.0.0")
        equal(reply!.targetIp, "0.0.0.0")
      },
    },
    {
      id: "1.3.announcement",
      title: "an announcement gets no answer: it would look like a conflict",
      async run(t) {
        const guest = await t.guest()
        await guest.fence()
        guest.send(guest.arpFrame("192.0.2.5", "192.0.2.5"))
        deepEqual(
          (await guest.fence()).filter((packet) => packet.arp?.operation === 2),
          [],
        )
      },
    },
    {
      id: "1.3.not-a-request",
      title: "replies, other hardware, other protocols and cut messages get no answer",
      async run(t) {
        const guest = await t.guest()
        await guest.fence()
        const whole = guest.arpFrame("192.0.2.6")
        const changed = (at: number, value: number): Buffer => {
          const copy = Buffer.from(whole)
          copy[at] = value
          return copy
        }
        // Operation; hardware type, protocol type, and their lengths.
        guest.send(
          changed(21, 2),
          changed(15, 6),
          changed(16, 9),
          changed(18, 8),
          changed(19, 16),
          whole.subarray(0, 30),
        )
        deepEqual(
          (await guest.fence()).filter((packet) => packet.arp?.operation === 2),
          [],
        )
      },
    },
    {
      id: "1.3.neighbours",
      title: "a neighbour of the host that it knows is shown with its own link-layer address",
      reference: "differs",
      because: "that came at the end of 2025",
      async run(t) {
        const mac = "02:00:00:00:00:50"
        const neighbour = (verb: string): string => `neigh ${verb} 192.0.2.50 lladdr ${mac} dev eth0`
        await t.ip(t.host, [neighbour("add")], [neighbour("del")])
        const guest = await t.connect(await t.start())
        equal((await guest.resolve("192.0.2.50")).arp!.senderMac, mac)
      },
    },
  ],
}
