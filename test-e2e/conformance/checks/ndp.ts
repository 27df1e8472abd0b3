// Section 1.4: neighbour discovery and router advertisements.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, RESOLVER, ROUTER, SEARCH_DOMAIN } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { addressText, macText } from "../wire/bytes.ts"
import { NdpOption, ndpOptions, NdpType, neighbourSolicitation } from "../wire/ndp.ts"

const INFINITE = 0xffffffff

export const ndp: Area = {
  title: "Neighbour discovery",
  checks: [
    {
      id: "1.4.advertisement",
      title: "a question for the router is answered: router, solicited, override, with a link-layer address",
      async run(t) {
        const guest = await t.guest()
        const { icmp, ip, source } = await guest.solicit(ROUTER.linkLocal)
        equal(ip!.destination, guest.linkLocal)
        equal(ip!.ttl, 255)
        ok(icmp!.checksumIsRight)
        equal(icmp!.body[0]! >> 5, 0b111)
        equal(addressText(icmp!.body.subarray(4, 20)), ROUTER.linkLocal)
        equal(macText(ndpOptions(icmp!.body.subarray(20)).get(NdpOption.TARGET_MAC)!), source)
      },
    },
    {
      id: "1.4.any-target",
      title: "any other neighbour is answered for, too",
      async run(t) {
        const guest = await t.guest()
        for (const target of ["2001:db8:1::77", "fe80::77"]) {
          const { icmp } = await guest.solicit(target)
          equal(addressText(icmp!.body.subarray(4, 20)), target)
        }
      },
    },
    {
      id: "1.4.duplicate-detection",
      title: "duplicate address detection finds no duplicate",
      async run(t) {
        const guest = await t.guest()
        guest.sendIp(neighbourSolicitation("::", HOST.ipv6, guest.mac))
        deepEqual(
          (await guest.fence()).filter((packet) => packet.icmp?.type === NdpType.NA),
          [],
        )
      },
    },
    {
      id: "1.4.router-advertisement",
      title: "a router solicitation is answered to the one who asks, from a link-local address, hop limit 255",
      reference: "differs",
      because: "the version of 2023 announces 9000 seconds: routes of guests end when their renewal gets lost",
      async run(t) {
        const guest = await t.guest()
        const { packet, hopLimit, lifetime } = await guest.advertisement()
        deepEqual([packet.ip!.destination, packet.ip!.ttl], [guest.linkLocal, 255])
        ok(packet.ip!.source.startsWith("fe80:"))
        ok(packet.icmp!.checksumIsRight)
        deepEqual([hopLimit, lifetime], [255, 65_535])
      },
    },
    {
      id: "1.4.prefix",
      title: "the prefix is the host's, on-link and for autoconfiguration, for ever",
      reference: "differs",
      because:
        "newer versions put the whole address there; bits behind the prefix are to be zero (RFC 4861 section 4.6.2); that of 2023 announces an hour",
      async run(t) {
        const { prefix } = await (await t.guest()).advertisement()
        const wanted = { length: 64, onLink: true, autonomous: true, valid: INFINITE, preferred: INFINITE }
        deepEqual(prefix, { ...wanted, address: "2001:db8:1::" })
      },
    },
    {
      id: "1.4.mtu",
      title: "the MTU is announced",
      async run(t) {
        equal((await (await t.guest()).advertisement()).mtu, 65_520)
      },
    },
    {
      id: "1.4.rdnss",
      title: "name servers and search domains of the host are announced, for ever",
      reference: "differs",
      because: "the version of 2023 announces a minute",
      async run(t) {
        const { dns, search } = await (await t.guest()).advertisement()
        deepEqual(dns, { lifetime: INFINITE, servers: [RESOLVER.ipv6] })
        deepEqual(search, { lifetime: INFINITE, names: [SEARCH_DOMAIN] })
      },
    },
    {
      id: "1.4.no-ra",
      title: "--no-ra: no router advertisement, but neighbours are answered for",
      async run(t) {
        const guest = await t.guest(["--no-ra"])
        const asked = guest.advertisement().then(
          () => "answered",
          () => "not answered",
        )
        await guest.solicit(ROUTER.linkLocal)
        guest.close()
        equal(await asked, "not answered")
      },
    },
  ],
}
