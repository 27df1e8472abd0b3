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
  ],
}
