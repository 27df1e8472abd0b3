/** What a guest sends: whole Ethernet frames, as plain as may be. passt does not look at checksums of TCP and UDP over its socket. */

export const GUEST_MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56]
/** passt's own, unless it is told another one. */
const OUR_MAC = [0x9a, 0x55, 0x9a, 0x55, 0x9a, 0x55]
const BROADCAST = [255, 255, 255, 255, 255, 255]

export const FIN = 1
export const SYN = 2
export const RST = 4
export const ACK = 16

/** Bytes of an address: four for IPv4, sixteen for IPv6. */
export type Address = readonly number[]

/** @param hextets of an IPv6 address, all eight */
export const ipv6 = (...hextets: readonly number[]): Address => hextets.flatMap((word) => [word >> 8, word & 255])

function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i + 1 < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return ~sum & 0xffff
}

/** A packet of either family in a frame. @param checksumAt where the upper protocol's checksum goes; -1: it stays 0 */
export function packet(from: Address, to: Address, protocol: number, upper: Buffer, checksumAt = -1): Buffer {
  const v6 = from.length === 16
  const hops = protocol === 58 ? 255 : 64
  const ip = v6
    ? Buffer.from([0x60, 0, 0, 0, upper.length >> 8, upper.length & 255, protocol, hops, ...from, ...to])
    : Buffer.from([0x45, 0, 0, 0, 0, 0, 0x40, 0, hops, protocol, 0, 0, ...from, ...to])
  if (!v6) {
    ip.writeUInt16BE(20 + upper.length, 2)
    ip.writeUInt16BE(checksum(ip), 10)
  }
  if (checksumAt >= 0) {
    const pseudo =
      v6 || protocol !== 1
        ? Buffer.from([...from, ...to, 0, protocol, upper.length >> 8, upper.length & 255])
        : Buffer.of()
    upper.writeUInt16BE(checksum(Buffer.concat([pseudo, upper])), checksumAt)
  }
  return Buffer.concat([Buffer.from([...macOf(to), ...GUEST_MAC, ...(v6 ? [0x86, 0xdd] : [8, 0])]), ip, upper])
}

/** Groups have addresses of their own (RFC 1112 section 6.4, RFC 2464 section 7). */
function macOf(to: Address): readonly number[] {
  if (to.length === 4) return to.every((byte) => byte === 255) ? BROADCAST : OUR_MAC
  return to[0] === 255 ? [0x33, 0x33, ...to.slice(12)] : OUR_MAC
}

export function udp(from: Address, to: Address, fromPort: number, toPort: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt16BE(fromPort, 0)
  header.writeUInt16BE(toPort, 2)
  header.writeUInt16BE(8 + payload.length, 4)
  return packet(from, to, 17, Buffer.concat([header, payload]), 6)
}

export interface Segment {
  readonly fromPort: number
  readonly toPort: number
  readonly sequence: number
  readonly acknowledged: number
  readonly flags: number
}

export function tcp(from: Address, to: Address, segment: Segment, payload: Buffer = Buffer.of()): Buffer {
  const header = Buffer.alloc(20)
  header.writeUInt16BE(segment.fromPort, 0)
  header.writeUInt16BE(segment.toPort, 2)
  header.writeUInt32BE(segment.sequence >>> 0, 4)
  header.writeUInt32BE(segment.acknowledged >>> 0, 8)
  header.set([0x50, segment.flags, 255, 255], 12)
  return packet(from, to, 6, Buffer.concat([header, payload]), 16)
}

/** A question for a neighbour (RFC 826, RFC 4861 section 4.3). */
export function solicit(from: Address, target: Address): Buffer {
  if (from.length === 16) {
    const message = Buffer.from([135, 0, 0, 0, 0, 0, 0, 0, ...target, 1, 1, ...GUEST_MAC])
    const group = ipv6(0xff02, 0, 0, 0, 0, 1, 0xff00 | target[13]!, (target[14]! << 8) | target[15]!)
    return packet(from, group, 58, message, 2)
  }
  const zero = [0, 0, 0, 0, 0, 0]
  return Buffer.from([
    ...BROADCAST,
    ...GUEST_MAC,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1,
    ...GUEST_MAC,
    ...from,
    ...zero,
    ...target,
  ])
}

/** RFC 4861 section 4.1. */
export function routerSolicitation(from: Address): Buffer {
  return packet(from, ipv6(0xff02, 0, 0, 0, 0, 0, 0, 2), 58, Buffer.from([133, 0, 0, 0, 0, 0, 0, 0]), 2)
}

/** An echo request. */
export function echo(from: Address, to: Address, identifier: number, sequence: number): Buffer {
  const v6 = from.length === 16
  const message = Buffer.alloc(40, "echo")
  message.set([v6 ? 128 : 8, 0, 0, 0], 0)
  message.writeUInt16BE(identifier, 4)
  message.writeUInt16BE(sequence, 6)
  return packet(from, to, v6 ? 58 : 1, message, 2)
}

/** DHCPDISCOVER (1) or DHCPREQUEST (3) (RFC 2131). */
export function dhcp(transaction: number, type: 1 | 3): Buffer {
  // As long as BOOTP's were (RFC 1542 section 2.1).
  const message = Buffer.alloc(300)
  message.set([1, 1, 6, 0])
  message.writeUInt32BE(transaction >>> 0, 4)
  message.set(GUEST_MAC, 28)
  message.set([0x63, 0x82, 0x53, 0x63, 53, 1, type, 255], 236)
  return udp([0, 0, 0, 0], [255, 255, 255, 255], 68, 67, message)
}

/** SOLICIT for an address (RFC 8415 section 16.2). */
export function dhcpv6(from: Address, transaction: number): Buffer {
  const clientId = [0, 1, 0, 10, 0, 3, 0, 1, ...GUEST_MAC]
  const association = [0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
  const message = Buffer.from([1, (transaction >> 16) & 255, (transaction >> 8) & 255, transaction & 255])
  return udp(
    from,
    ipv6(0xff02, 0, 0, 0, 0, 0, 1, 2),
    546,
    547,
    Buffer.concat([message, Buffer.from([...clientId, ...association])]),
  )
}

/** As they cross the socket: each behind its length. */
export function framed(frames: readonly Buffer[]): Buffer {
  return Buffer.concat(frames.flatMap((frame) => [Buffer.from(Uint32Array.of(frame.length).buffer).swap32(), frame]))
}
