// Frames as a guest receives them, taken apart. What can't be parsed is left out; checksums are checked, not believed.
import { addressText, checksum, macText } from "./bytes.ts"
import { EtherType, Protocol, pseudoHeader } from "./build.ts"

export interface Packet {
  readonly frame: Buffer
  readonly destination: string
  readonly source: string
  readonly type: number
  readonly arp?: {
    readonly operation: number
    readonly senderMac: string
    readonly senderIp: string
    readonly targetMac: string
    readonly targetIp: string
  }
  readonly ip?: {
    readonly version: 4 | 6
    readonly source: string
    readonly destination: string
    readonly protocol: number
    readonly ttl: number
    readonly id: number
    readonly fragment: number
    /** TOS or traffic class. */
    readonly tos: number
    readonly checksumIsRight: boolean
    readonly payload: Buffer
  }
  readonly udp?: {
    readonly sourcePort: number
    readonly destinationPort: number
    readonly checksumIsRight: boolean
    readonly payload: Buffer
  }
  readonly tcp?: TcpSegment
  readonly icmp?: {
    readonly type: number
    readonly code: number
    readonly checksumIsRight: boolean
    /** What follows the checksum. */
    readonly body: Buffer
  }
}

export interface TcpSegment {
  readonly sourcePort: number
  readonly destinationPort: number
  readonly seq: number
  readonly ack: number
  /** Letters of FSRPAU that are set, in that order. */
  readonly flags: string
  readonly window: number
  readonly options: ReadonlyMap<number, Buffer>
  readonly checksumIsRight: boolean
  readonly payload: Buffer
}

/** Whether it is an ICMP message that answers something, by an error or a reply: not what hosts and routers say by themselves. */
export const isIcmpAnswer = ({ ip, icmp }: Packet): boolean =>
  icmp !== undefined && (ip?.version === 4 ? icmp.type !== 8 : icmp.type < 128 || icmp.type === 129)

/** Options of one byte of kind and one of length. Kinds 0 and 1 have no length. */
function tcpOptions(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = 0; at < bytes.length && bytes[at] !== 0;) {
    const length = bytes[at] === 1 ? 1 : Math.max(2, bytes[at + 1] ?? 2)
    options.set(bytes[at]!, bytes.subarray(at + 2, at + length))
    at += length
  }
  return options
}

function transport(ip: NonNullable<Packet["ip"]>): Pick<Packet, "udp" | "tcp" | "icmp"> {
  const { payload, protocol } = ip
  const pseudo = pseudoHeader(ip.source, ip.destination, protocol, payload.length)
  const ports = (): { sourcePort: number; destinationPort: number } => ({
    sourcePort: payload.readUInt16BE(0),
    destinationPort: payload.readUInt16BE(2),
  })
  if (protocol === Protocol.UDP && payload.length >= 8) {
    const unused = payload.readUInt16BE(6) === 0 && ip.version === 4
    const checksumIsRight = unused || checksum(pseudo, payload) === 0
    return { udp: { ...ports(), checksumIsRight, payload: payload.subarray(8, payload.readUInt16BE(4)) } }
  }
  if (protocol === Protocol.TCP && payload.length >= 20) {
    const headerLength = (payload[12]! >> 4) * 4
    return {
      tcp: {
        ...ports(),
        seq: payload.readUInt32BE(4),
        ack: payload.readUInt32BE(8),
        flags: [..."FSRPAU"].filter((_, bit) => (payload[13]! & (1 << bit)) !== 0).join(""),
        window: payload.readUInt16BE(14),
        options: tcpOptions(payload.subarray(20, headerLength)),
        checksumIsRight: checksum(pseudo, payload) === 0,
        payload: payload.subarray(headerLength),
      },
    }
  }
  const isIcmp = protocol === (ip.version === 4 ? Protocol.ICMP : Protocol.ICMPV6)
  if (!isIcmp || payload.length < 4) return {}
  const checksumIsRight = (ip.version === 4 ? checksum(payload) : checksum(pseudo, payload)) === 0
  return { icmp: { type: payload[0]!, code: payload[1]!, checksumIsRight, body: payload.subarray(4) } }
}

/** Also for the packets that ICMP errors quote, which may be cut off. */
export function parseIp(bytes: Buffer): NonNullable<Packet["ip"]> | undefined {
  if (bytes.length >= 20 && bytes[0]! >> 4 === 4) {
    const headerLength = (bytes[0]! & 15) * 4
    return {
      version: 4,
      source: addressText(bytes.subarray(12, 16)),
      destination: addressText(bytes.subarray(16, 20)),
      protocol: bytes[9]!,
      ttl: bytes[8]!,
      id: bytes.readUInt16BE(4),
      fragment: bytes.readUInt16BE(6),
      tos: bytes[1]!,
      checksumIsRight: checksum(bytes.subarray(0, headerLength)) === 0,
      payload: bytes.subarray(headerLength, bytes.readUInt16BE(2)),
    }
  }
  if (bytes.length < 40 || bytes[0]! >> 4 !== 6) return undefined
  return {
    version: 6,
    source: addressText(bytes.subarray(8, 24)),
    destination: addressText(bytes.subarray(24, 40)),
    protocol: bytes[6]!,
    ttl: bytes[7]!,
    id: 0,
    fragment: 0,
    tos: (bytes.readUInt16BE(0) >> 4) & 255,
    checksumIsRight: true,
    payload: bytes.subarray(40, 40 + bytes.readUInt16BE(4)),
  }
}

export function parse(frame: Buffer): Packet {
  const type = frame.readUInt16BE(12)
  const base = { frame, destination: macText(frame.subarray(0, 6)), source: macText(frame.subarray(6, 12)), type }
  const rest = frame.subarray(14)
  if (type === EtherType.ARP && rest.length >= 28) {
    const arp = {
      operation: rest.readUInt16BE(6),
      senderMac: macText(rest.subarray(8, 14)),
      senderIp: addressText(rest.subarray(14, 18)),
      targetMac: macText(rest.subarray(18, 24)),
      targetIp: addressText(rest.subarray(24, 28)),
    }
    return { ...base, arp }
  }
  const ip = type === EtherType.IPV4 || type === EtherType.IPV6 ? parseIp(rest) : undefined
  return ip === undefined ? base : { ...base, ip, ...transport(ip) }
}
