// Frames as a guest would send them, with right checksums and lengths unless told otherwise.
import { isIPv6 } from "node:net"
import { addressBytes, checksum, macBytes, uint16, uint32 } from "./bytes.ts"

export const EtherType = { IPV4: 0x0800, ARP: 0x0806, IPV6: 0x86dd } as const
export const Protocol = { ICMP: 1, IGMP: 2, TCP: 6, UDP: 17, ICMPV6: 58 } as const

export function ethernet(destination: string, source: string, type: number, payload: Buffer): Buffer {
  return Buffer.concat([macBytes(destination), macBytes(source), uint16(type), payload])
}

export interface Arp {
  /** 1: request, 2: reply. */
  readonly operation?: number
  readonly senderMac: string
  readonly senderIp: string
  readonly targetMac?: string
  readonly targetIp: string
}

export function arp(fields: Arp): Buffer {
  return Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4]),
    uint16(fields.operation ?? 1),
    macBytes(fields.senderMac),
    addressBytes(fields.senderIp),
    macBytes(fields.targetMac ?? "00:00:00:00:00:00"),
    addressBytes(fields.targetIp),
  ])
}

export interface Ip {
  readonly source: string
  readonly destination: string
  /** TTL or hop limit; default 64, 255 for neighbour discovery. */
  readonly ttl?: number
  /** IPv4 only: flags and fragment offset, as on the wire; default: don't fragment. */
  readonly fragment?: number
  /** IPv4 only: options, a multiple of four bytes. */
  readonly options?: Buffer
  /** IPv6 only: extension headers, ready to go; the number of the first one. */
  readonly extensions?: { readonly first: number; readonly bytes: Buffer }
  /** In place of the right total length (IPv4) or payload length (IPv6). */
  readonly length?: number
  /** IPv4 only: a wrong header checksum. */
  readonly badChecksum?: boolean
}

export function ip(fields: Ip, protocol: number, payload: Buffer): Buffer {
  const [source, destination] = [addressBytes(fields.source), addressBytes(fields.destination)]
  if (isIPv6(fields.destination)) {
    const { first, bytes } = fields.extensions ?? { first: protocol, bytes: Buffer.alloc(0) }
    const body = Buffer.concat([bytes, payload])
    const start = Buffer.concat([uint32(0x60000000), uint16(fields.length ?? body.length)])
    return Buffer.concat([start, Buffer.from([first, fields.ttl ?? 64]), source, destination, body])
  }
  const options = fields.options ?? Buffer.alloc(0)
  const header = Buffer.concat([
    Buffer.from([0x45 + options.length / 4, 0]),
    uint16(fields.length ?? 20 + options.length + payload.length),
    uint16(1),
    uint16(fields.fragment ?? 0x4000),
    Buffer.from([fields.ttl ?? 64, protocol, 0, 0]),
    source,
    destination,
    options,
  ])
  header.writeUInt16BE(checksum(header) ^ (fields.badChecksum ? 0x5555 : 0), 10)
  return Buffer.concat([header, payload])
}

/** What transport checksums cover besides the payload (RFC 9293 section 3.1, RFC 8200 section 8.1). */
export function pseudoHeader(source: string, destination: string, protocol: number, length: number): Buffer {
  const addresses = Buffer.concat([addressBytes(source), addressBytes(destination)])
  return isIPv6(destination)
    ? Buffer.concat([addresses, uint32(length), uint32(protocol)])
    : Buffer.concat([addresses, uint16(protocol), uint16(length)])
}

function sealed(fields: Ip, protocol: number, segment: Buffer, checksumAt: number): Buffer {
  const pseudo = pseudoHeader(fields.source, fields.destination, protocol, segment.length)
  segment.writeUInt16BE(checksum(pseudo, segment), checksumAt)
  return ip(fields, protocol, segment)
}

export interface Ports {
  readonly sourcePort: number
  readonly destinationPort: number
}

/** An IP packet with a datagram. */
export function udp(fields: Ip & Ports & { readonly udpLength?: number }, payload: Buffer | string): Buffer {
  const data = Buffer.from(payload)
  const { sourcePort, destinationPort, udpLength } = fields
  const head = Buffer.concat([uint16(sourcePort), uint16(destinationPort), uint16(udpLength ?? 8 + data.length)])
  return sealed(fields, Protocol.UDP, Buffer.concat([head, Buffer.alloc(2), data]), 6)
}

export interface Tcp extends Ip, Ports {
  /** Letters of FSRPAU. */
  readonly flags: string
  readonly seq: number
  readonly ack?: number
  readonly window?: number
  /** A multiple of four bytes. */
  readonly tcpOptions?: Buffer
}

/** An IP packet with a segment. */
export function tcp(fields: Tcp, payload: Buffer | string = ""): Buffer {
  const options = fields.tcpOptions ?? Buffer.alloc(0)
  const flags = [..."FSRPAU"].reduce((bits, letter, bit) => bits | (fields.flags.includes(letter) ? 1 << bit : 0), 0)
  const header = Buffer.concat([
    uint16(fields.sourcePort),
    uint16(fields.destinationPort),
    uint32(fields.seq),
    uint32(fields.ack ?? 0),
    Buffer.from([(5 + options.length / 4) << 4, flags]),
    uint16(fields.window ?? 65_535),
    Buffer.alloc(4),
    options,
  ])
  return sealed(fields, Protocol.TCP, Buffer.concat([header, Buffer.from(payload)]), 16)
}

/** An IP packet with an ICMP or ICMPv6 message; `body` is what follows the checksum. */
export function icmp(fields: Ip & { readonly type: number; readonly code?: number }, body: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([fields.type, fields.code ?? 0, 0, 0]), body])
  if (isIPv6(fields.destination)) return sealed(fields, Protocol.ICMPV6, message, 2)
  message.writeUInt16BE(checksum(message), 2)
  return ip(fields, Protocol.ICMP, message)
}

/** An echo request or reply's body. */
export const echoBody = (id: number, sequence: number, data: Buffer | string): Buffer =>
  Buffer.concat([uint16(id), uint16(sequence), Buffer.from(data)])
