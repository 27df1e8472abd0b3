/**
 * What a guest's stack would say of a frame, by code that shares nothing with the engine's: lengths, checksums, and that
 * addresses and types make sense together.
 */

export interface Emitted {
  readonly frame: Uint8Array
  /** Payload per frame, bytes, when the frame is to be cut; else 0. */
  readonly segmentSize: number
  /** Name of the responder that answered, or "". */
  readonly by: string
}

const BROADCAST = "ffffffffffff"

function sumOf(...parts: readonly Buffer[]): number {
  let sum = 0
  for (const part of parts) {
    const even = part.length & ~1
    for (let i = 0; i < even; i += 2) sum += (part[i]! << 8) | part[i + 1]!
    if (even < part.length) sum += part[even]! << 8
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return sum
}

/** @param macs hexadecimal: the guest's, and those that may be sources
 * @returns what is wrong, or undefined */
export function faultOf(emitted: Emitted, guestMac: string, sources: ReadonlySet<string>): string | undefined {
  const { frame } = emitted
  // One that is to be cut may hold as much as the largest IP packet.
  const most = emitted.segmentSize === 0 ? 65_535 : 65_549
  if (frame.length < 14 || frame.length > most) return `a frame of ${frame.length} bytes`
  const b = Buffer.from(frame.buffer, frame.byteOffset, frame.length)
  const destination = b.toString("hex", 0, 6)
  if (!sources.has(b.toString("hex", 6, 12))) return `source MAC ${b.toString("hex", 6, 12)}`
  const group = destination === BROADCAST || destination.startsWith("3333") || destination.startsWith("01005e")
  if (destination !== guestMac && !group) return `destination MAC ${destination}`
  const type = b.readUInt16BE(12)
  if (emitted.segmentSize !== 0 && type === 0x0806) return "ARP that is to be cut"
  const fault = network(b, type, emitted.segmentSize)
  if (fault !== undefined) return fault
  if (emitted.by === "dhcp") return b.readUInt32BE(34) === 0x00430044 ? dhcp(b.subarray(42)) : "DHCP ports"
  if (emitted.by === "dhcpv6") return b.readUInt32BE(54) === 0x02230222 ? dhcpv6(b.subarray(62)) : "DHCPv6 ports"
  return undefined
}

function network(b: Buffer, type: number, segmentSize: number): string | undefined {
  if (type === 0x0806) return arp(b)
  if (type === 0x0800) return ipv4(b, segmentSize)
  if (type === 0x86dd) return ipv6(b, segmentSize)
  return `EtherType ${type.toString(16)}`
}

function arp(b: Buffer): string | undefined {
  if (b.length !== 42) return `ARP of ${b.length} bytes`
  if (b.toString("hex", 14, 20) !== "000108000604") return "ARP that is not IPv4 over Ethernet"
  const operation = b.readUInt16BE(20)
  return operation === 1 || operation === 2 ? undefined : `ARP operation ${operation}`
}

function ipv4(b: Buffer, segmentSize: number): string | undefined {
  if (b.length < 34) return "IPv4 cut off"
  // Only questions about groups carry an option: "every router look at this" (RFC 2113).
  const asks = b[23] === 2
  if (asks) return igmp(b)
  if (b[14] !== 0x45) return `IPv4 version and header length ${b[14]!.toString(16)}`
  const cut = segmentSize !== 0
  if (!cut && b.readUInt16BE(16) !== b.length - 14) return `IPv4 length ${b.readUInt16BE(16)} of ${b.length - 14}`
  if (!cut && sumOf(b.subarray(14, 34)) !== 0xffff) return "IPv4 header checksum"
  if ((b.readUInt16BE(20) & 0x3fff) !== 0) return "IPv4 fragment"
  if (b[22] === 0) return "IPv4 TTL 0"
  const source = b.readUInt32BE(26)
  if (source === 0 || source >>> 28 === 0xe || source === 0xffffffff) return `IPv4 source ${b.toString("hex", 26, 30)}`
  if (source >>> 24 === 127) return "IPv4 source is loopback"
  if (b.readUInt32BE(30) === 0 || b[30] === 127) return `IPv4 destination ${b.toString("hex", 30, 34)}`
  const body = b.subarray(34)
  const pseudo = Buffer.concat([b.subarray(26, 34), Buffer.from([0, b[23]!, body.length >> 8, body.length & 255])])
  switch (b[23]) {
    case 1:
      return icmp(body)
    case 6:
      return tcp(body, pseudo, segmentSize)
    case 17:
      return udp(body, pseudo, true)
    default:
      return `IPv4 protocol ${b[23]}`
  }
}

function igmp(b: Buffer): string | undefined {
  if (b.length !== 50 || b[14] !== 0x46 || b.readUInt16BE(16) !== 36) return "IGMP length"
  if (sumOf(b.subarray(14, 38)) !== 0xffff) return "IPv4 header checksum"
  if (b[22] !== 1 || b.readUInt32BE(34) !== 0x94040000) return "IGMP without TTL 1 and router alert"
  if (b.readUInt32BE(26) === 0 || b[30]! >> 4 !== 0xe) return "IGMP addresses"
  const group = b.readUInt32BE(42)
  if (b.readUInt32BE(30) !== (group === 0 ? 0xe0000001 : group)) return "IGMP about another group"
  return b[38] === 0x11 && sumOf(b.subarray(38)) === 0xffff ? undefined : "IGMP type or checksum"
}

function ipv6(b: Buffer, segmentSize: number): string | undefined {
  if (b.length < 54) return "IPv6 cut off"
  if (b[14]! >> 4 !== 6) return "IPv6 version"
  const cut = segmentSize !== 0
  if (!cut && b.readUInt16BE(18) !== b.length - 54) return `IPv6 length ${b.readUInt16BE(18)} of ${b.length - 54}`
  if (b[21] === 0) return "IPv6 hop limit 0"
  const source = b.subarray(22, 38)
  if (source[0] === 0xff || source.equals(Buffer.alloc(16))) return `IPv6 source ${source.toString("hex")}`
  if (source.subarray(0, 15).equals(Buffer.alloc(15)) && source[15] === 1) return "IPv6 source is loopback"
  if (b.subarray(38, 54).equals(Buffer.alloc(16))) return "IPv6 destination is unspecified"
  // Before questions about groups comes a router alert (RFC 2711).
  const asks = b[20] === 0
  if (asks && (b.length !== 90 || b.toString("hex", 54, 62) !== "3a00050200000100" || b[21] !== 1)) return "MLD header"
  const next = asks ? b[54]! : b[20]!
  const body = b.subarray(asks ? 62 : 54)
  const length = Buffer.alloc(8)
  length.writeUInt32BE(body.length, 0)
  length[7] = next
  const pseudo = Buffer.concat([b.subarray(22, 54), length])
  switch (next) {
    case 6:
      return tcp(body, pseudo, segmentSize)
    case 17:
      return udp(body, pseudo, false)
    case 58:
      return icmpv6(body, pseudo, b[21]!)
    default:
      return `IPv6 next header ${next}`
  }
}

function tcp(body: Buffer, pseudo: Buffer, segmentSize: number): string | undefined {
  if (body.length < 20) return "TCP cut off"
  const header = (body[12]! >> 4) * 4
  if (header < 20 || header > body.length) return `TCP header of ${header} bytes`
  if ((body[12]! & 0x0f) !== 0) return "TCP reserved bits"
  const flags = body[13]!
  if ((flags & 0x02) !== 0 && (flags & 0x05) !== 0) return `TCP flags ${flags.toString(16)}`
  if ((flags & 0x16) === 0) return `TCP flags ${flags.toString(16)}`
  if (body.readUInt16BE(0) === 0 || body.readUInt16BE(2) === 0) return "TCP port 0"
  for (let at = 20; at < header && body[at] !== 0;) {
    if (body[at] === 1) {
      at++
      continue
    }
    const length = body[at + 1]!
    if (at + 2 > header || length < 2 || at + length > header) return "TCP options"
    if (body[at] === 2 && (length !== 4 || body.readUInt16BE(at + 2) < 48)) return "TCP MSS option"
    at += length
  }
  if (segmentSize !== 0) {
    const fits = segmentSize >= 48 && body.length - header > segmentSize && segmentSize + header + 54 <= 65_535
    return fits ? undefined : `TCP of ${body.length} bytes to be cut by ${segmentSize}`
  }
  return sumOf(pseudo, body) === 0xffff ? undefined : "TCP checksum"
}

function udp(body: Buffer, pseudo: Buffer, isIpv4: boolean): string | undefined {
  if (body.length < 8) return "UDP cut off"
  if (body.readUInt16BE(4) !== body.length) return `UDP length ${body.readUInt16BE(4)} of ${body.length}`
  if (body.readUInt16BE(0) === 0 || body.readUInt16BE(2) === 0) return "UDP port 0"
  const none = body.readUInt16BE(6) === 0
  if (none && !isIpv4) return "UDP without checksum over IPv6"
  if (!none && sumOf(pseudo, body) !== 0xffff) return "UDP checksum"
  return undefined
}

function dhcp(b: Buffer): string | undefined {
  if (b.length < 300 || b.length > 548) return `DHCP message of ${b.length} bytes`
  if (b[0] !== 2 || b.readUInt32BE(236) !== 0x63825363) return "DHCP message that is no reply"
  for (let at = 240; at < b.length;) {
    if (b[at] === 255) return b.subarray(at + 1).every((byte) => byte === 0) ? undefined : "DHCP bytes behind the end"
    if (b[at] === 0) at++
    else at += 2 + b[at + 1]!
  }
  return "DHCP options without end"
}

function dhcpv6(b: Buffer): string | undefined {
  if (b.length < 4 || b.length > 1232) return `DHCPv6 message of ${b.length} bytes`
  if (b[0] !== 2 && b[0] !== 7) return `DHCPv6 message of type ${b[0]}`
  return optionsFill(b, 4) ? undefined : "DHCPv6 options"
}

/** Whether options of two bytes code and two bytes length fill the rest, those within associations included. */
function optionsFill(b: Buffer, from: number): boolean {
  let at = from
  while (at + 4 <= b.length) {
    const code = b.readUInt16BE(at)
    const end = at + 4 + b.readUInt16BE(at + 2)
    if (end > b.length) return false
    const inner = code === 3 ? 12 : code === 4 ? 4 : code === 5 ? 24 : 0
    if (inner > 0 && (end - at - 4 < inner || !optionsFill(b.subarray(0, end), at + 4 + inner))) return false
    at = end
  }
  return at === b.length
}

const ERRORS4 = new Set([3, 11, 12])

function icmp(b: Buffer): string | undefined {
  if (b.length < 8) return "ICMP cut off"
  if (sumOf(b) !== 0xffff) return "ICMP checksum"
  const type = b[0]!
  if (type === 0) return b[1] === 0 ? undefined : "ICMP echo reply with a code"
  if (!ERRORS4.has(type)) return `ICMP type ${type}`
  // RFC 1812 section 4.3.2.3: at most 576 bytes in all; RFC 792: the header and 8 bytes, where there were as many.
  if (b.length + 20 > 576) return `ICMP error of ${b.length + 20} bytes`
  return b.length >= 28 && b[8]! >> 4 === 4 ? undefined : "ICMP error without the header that it is about"
}

function icmpv6(b: Buffer, pseudo: Buffer, hopLimit: number): string | undefined {
  if (b.length < 8) return "ICMPv6 cut off"
  if (sumOf(pseudo, b) !== 0xffff) return "ICMPv6 checksum"
  const type = b[0]!
  if (type === 130) return b.length === 28 ? undefined : "MLD question"
  if (type === 129) return b[1] === 0 ? undefined : "ICMPv6 echo reply with a code"
  if (type >= 1 && type <= 4) {
    if (b.length + 40 > 1280) return `ICMPv6 error of ${b.length + 40} bytes`
    return b.length >= 48 && b[8]! >> 4 === 6 ? undefined : "ICMPv6 error without the header that it is about"
  }
  const options = new Map([
    [134, 16],
    [135, 24],
    [136, 24],
  ]).get(type)
  if (options === undefined) return `ICMPv6 type ${type}`
  if (hopLimit !== 255 || b[1] !== 0) return "neighbour discovery with hop limit or code"
  let at = options
  while (at < b.length) {
    const length = (b[at + 1] ?? 0) * 8
    if (length === 0) return "neighbour discovery option of length 0"
    at += length
  }
  return at === b.length ? undefined : "neighbour discovery options"
}
