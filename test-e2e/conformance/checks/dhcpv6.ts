// Section 1.6: DHCPv6.
import { deepEqual, equal, ok } from "node:assert/strict"
import { HOST, RESOLVER, SEARCH_DOMAIN } from "../../../tools/world/addresses.ts"
import type { Area } from "../check.ts"
import { CLIENT_DUID } from "../guest.ts"
import type { Guest } from "../guest.ts"
import { addressBytes, addressText, nameBytes, names } from "../wire/bytes.ts"
import { identityAddress, identityAssociation, parseV6Options, V6Option, V6Type } from "../wire/dhcpv6.ts"
import type { Options } from "../wire/dhcpv6.ts"

const IA = 0x01020304
const EMPTY_IA: Options[number] = [V6Option.IA_NA, identityAssociation(IA)]

const withAddress = (address: string): Options[number] => [
  V6Option.IA_NA,
  identityAssociation(IA, [[V6Option.IA_ADDRESS, identityAddress(addressBytes(address))]]),
]

/** The server's identifier, as an advertisement tells it. */
async function serverId(guest: Guest): Promise<Options[number]> {
  return [V6Option.SERVER_ID, (await guest.dhcpv6(V6Type.SOLICIT, [EMPTY_IA])).options.get(V6Option.SERVER_ID)!]
}

/** Nothing comes back. */
async function unanswered(guest: Guest, packet: Buffer): Promise<void> {
  guest.sendIp(packet)
  deepEqual((await guest.fence()).filter((p) => p.udp?.destinationPort === 546).length, 0)
}

/** The address in a reply. */
function assigned(options: ReadonlyMap<number, Buffer>): string {
  const address = parseV6Options(options.get(V6Option.IA_NA)!.subarray(12)).get(V6Option.IA_ADDRESS)!
  return addressText(address.subarray(0, 16))
}

export const dhcpv6: Area = {
  title: "DHCPv6",
  checks: [
    {
      id: "1.6.solicit",
      title: "SOLICIT is answered by ADVERTISE, with the host's own address, for ever",
      async run(t) {
        const { type, xid, options } = await (await t.guest()).dhcpv6(V6Type.SOLICIT, [EMPTY_IA])
        deepEqual([type, xid], [V6Type.ADVERTISE, 0xabcdef])
        deepEqual(options.get(V6Option.CLIENT_ID), CLIENT_DUID)
        const association = options.get(V6Option.IA_NA)!
        const [id, renewal, rebinding] = [0, 4, 8].map((at) => association.readUInt32BE(at))
        // Renewals are how a guest hears of changes: they may be asked for though the address stays.
        ok(id === IA && renewal! >= 600 && rebinding! >= renewal!)
        const address = parseV6Options(association.subarray(12)).get(V6Option.IA_ADDRESS)!
        equal(addressText(address.subarray(0, 16)), HOST.ipv6)
        deepEqual([address.readUInt32BE(16), address.readUInt32BE(20)], [0xffffffff, 0xffffffff])
      },
    },
    {
      id: "1.6.ends",
      title: "replies come from a link-local address, port 547, to the client's, port 546",
      async run(t) {
        const guest = await t.guest()
        const { packet } = await guest.dhcpv6(V6Type.SOLICIT, [EMPTY_IA])
        ok(packet.ip!.source.startsWith("fe80:"))
        deepEqual([packet.ip!.destination, packet.udp!.sourcePort], [guest.linkLocal, 547])
        ok(packet.udp!.checksumIsRight)
      },
    },
    {
      id: "1.6.request",
      title: "REQUEST and RENEW with the server's identifier are answered by REPLY",
      async run(t) {
        const guest = await t.guest()
        const server = await serverId(guest)
        for (const request of [V6Type.REQUEST, V6Type.RENEW]) {
          const { type, options } = await guest.dhcpv6(request, [server, withAddress(HOST.ipv6)])
          deepEqual([type, assigned(options)], [V6Type.REPLY, HOST.ipv6])
        }
      },
    },
    {
      id: "1.6.rebind",
      title: "REBIND, which names no server, is answered by REPLY",
      reference: "differs",
      because: "the reference wants a server identifier, which a REBIND must not have (RFC 8415 section 16.8)",
      async run(t) {
        const { type, options } = await (await t.guest()).dhcpv6(V6Type.REBIND, [withAddress(HOST.ipv6)])
        deepEqual([type, assigned(options)], [V6Type.REPLY, HOST.ipv6])
      },
    },
    {
      id: "1.6.confirm",
      title: "CONFIRM of the address is answered by REPLY",
      async run(t) {
        const { type } = await (await t.guest()).dhcpv6(V6Type.CONFIRM, [withAddress(HOST.ipv6)])
        equal(type, V6Type.REPLY)
      },
    },
    {
      id: "1.6.not-on-link",
      title: "CONFIRM of another address: status NotOnLink",
      async run(t) {
        const { type, options } = await (await t.guest()).dhcpv6(V6Type.CONFIRM, [withAddress("2001:db8:99::1")])
        const status =
          options.get(V6Option.STATUS) ?? parseV6Options(options.get(V6Option.IA_NA)!.subarray(12)).get(V6Option.STATUS)
        deepEqual([type, status?.readUInt16BE(0)], [V6Type.REPLY, 4])
      },
    },
    {
      id: "1.6.information",
      title: "INFORMATION-REQUEST is answered by REPLY with name servers and search domains, without an address",
      reference: "differs",
      because: "the reference adds an address that the client has not asked for",
      async run(t) {
        const { type, options } = await (await t.guest()).dhcpv6(V6Type.INFORMATION_REQUEST, [])
        deepEqual([type, options.has(V6Option.IA_NA)], [V6Type.REPLY, false])
        equal(addressText(options.get(V6Option.DNS)!), RESOLVER.ipv6)
        deepEqual(names(options.get(V6Option.SEARCH)!), [SEARCH_DOMAIN])
      },
    },
    {
      id: "1.6.wrong-server",
      title: "REQUEST to another server is left to that one",
      async run(t) {
        const guest = await t.guest()
        const other: Options[number] = [V6Option.SERVER_ID, Buffer.from("000300010200000000ff", "hex")]
        await unanswered(guest, guest.dhcpv6Packet(V6Type.REQUEST, [other, EMPTY_IA]))
      },
    },
    {
      id: "1.6.invalid",
      title: "messages that RFC 8415 section 16 has servers drop: without a client, or SOLICIT with a server",
      async run(t) {
        const guest = await t.guest()
        const server = await serverId(guest)
        await unanswered(guest, guest.dhcpv6Packet(V6Type.SOLICIT, [server, EMPTY_IA]))
        await unanswered(guest, guest.dhcpv6Packet(V6Type.SOLICIT, [EMPTY_IA], "ff02::1:2", false))
        await unanswered(guest, guest.dhcpv6Packet(V6Type.ADVERTISE, [EMPTY_IA]))
      },
    },
    {
      id: "1.6.cut-off",
      title: "options that reach beyond the message do no harm",
      async run(t) {
        const guest = await t.guest()
        for (const tail of ["0003ffff00", "000300", "00050100"]) {
          const payload = Buffer.concat([Buffer.from([1, 0, 0, 1]), Buffer.from(tail, "hex")])
          guest.sendUdp("ff02::1:2", 547, payload, { source: guest.linkLocal, sourcePort: 546 })
        }
        deepEqual((await guest.fence()).filter((p) => p.udp?.destinationPort === 546).length, 0)
        equal((await guest.dhcpv6(V6Type.SOLICIT, [EMPTY_IA])).type, V6Type.ADVERTISE)
      },
    },
    {
      id: "1.6.fqdn",
      title: "--fqdn is sent",
      reference: "differs",
      because: "it came in 2025",
      async run(t) {
        const guest = await t.guest(["--fqdn", "machine.corp.example"])
        const request: Options = [EMPTY_IA, [V6Option.FQDN, Buffer.concat([Buffer.from([0]), nameBytes("x")])]]
        const value = (await guest.dhcpv6(V6Type.SOLICIT, request)).options.get(V6Option.FQDN)!
        deepEqual(names(value.subarray(1)), ["machine.corp.example"])
      },
    },
    {
      id: "1.6.no-names",
      title: "--no-dhcp-dns and --no-dhcp-search: neither is sent",
      async run(t) {
        const guest = await t.guest(["--no-dhcp-dns", "--no-dhcp-search"])
        const { options } = await guest.dhcpv6(V6Type.SOLICIT, [EMPTY_IA])
        deepEqual([options.has(V6Option.DNS), options.has(V6Option.SEARCH)], [false, false])
      },
    },
    {
      id: "1.6.address",
      title: "--address is what is given",
      async run(t) {
        const guest = await t.guest(["-a", "2001:db8:1::77"])
        equal(assigned((await guest.dhcpv6(V6Type.SOLICIT, [EMPTY_IA])).options), "2001:db8:1::77")
      },
    },
    {
      id: "1.6.no-dhcpv6",
      title: "--no-dhcpv6: no answer",
      async run(t) {
        const guest = await t.guest(["--no-dhcpv6"])
        await unanswered(guest, guest.dhcpv6Packet(V6Type.SOLICIT, [EMPTY_IA]))
      },
    },
  ],
}
