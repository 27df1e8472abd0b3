// DHCP (RFC 2131, RFC 2132) as a client speaks it.
import { addressText, macBytes, uint16, uint32 } from "./bytes.ts"

export const DhcpType = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const
export const DhcpOption = {
  MASK: 1,
  ROUTER: 3,
  DNS: 6,
  HOST_NAME: 12,
  MTU: 26,
  REQUESTED: 50,
  LEASE: 51,
  TYPE: 53,
  SERVER: 54,
  PARAMETERS: 55,
  MESSAGE_SIZE: 57,
  RAPID_COMMIT: 80,
  FQDN: 81,
  SEARCH: 119,
  ROUTES: 121,
} as const

const COOKIE = 0x63825363

export interface DhcpRequest {
  readonly mac: string
  readonly xid: number
  readonly broadcast?: boolean
  /** The client's address, where it has one: 4 bytes. */
  readonly ciaddr?: Buffer
  readonly giaddr?: Buffer
  readonly cookie?: number
  /** 53 first; an empty list makes a BOOTP request. */
  readonly options: readonly (readonly [number, Buffer])[]
}

export function dhcpRequest(fields: DhcpRequest): Buffer {
  const options = fields.options.flatMap(([code, value]) => [Buffer.from([code, value.length]), value])
  const none = Buffer.alloc(4)
  const message = Buffer.concat([
    Buffer.from([1, 1, 6, 0]),
    uint32(fields.xid),
    uint16(0),
    uint16(fields.broadcast ? 0x8000 : 0),
    fields.ciaddr ?? none,
    none,
    none,
    fields.giaddr ?? none,
    macBytes(fields.mac),
    Buffer.alloc(10 + 64 + 128),
    uint32(fields.cookie ?? COOKIE),
    ...options,
    Buffer.from([255]),
  ])
  return Buffer.concat([message, Buffer.alloc(Math.max(0, 300 - message.length))])
}

export interface DhcpReply {
  readonly op: number
  readonly xid: number
  readonly flags: number
  readonly ciaddr: string
  readonly yiaddr: string
  readonly siaddr: string
  readonly giaddr: string
  readonly chaddr: Buffer
  readonly names: Buffer
  readonly cookie: number
  /** In the order in which they came; parts of a split option joined (RFC 3396). */
  readonly options: ReadonlyMap<number, Buffer>
}

export function parseDhcp(bytes: Buffer): DhcpReply {
  const options = new Map<number, Buffer>()
  for (let at = 240; at < bytes.length && bytes[at] !== 255;) {
    const code = bytes[at]!
    if (code === 0) {
      at += 1
      continue
    }
    const value = bytes.subarray(at + 2, at + 2 + bytes[at + 1]!)
    options.set(code, Buffer.concat([options.get(code) ?? Buffer.alloc(0), value]))
    at += 2 + value.length
  }
  const address = (at: number): string => addressText(bytes.subarray(at, at + 4))
  return {
    op: bytes[0]!,
    xid: bytes.readUInt32BE(4),
    flags: bytes.readUInt16BE(10),
    ciaddr: address(12),
    yiaddr: address(16),
    siaddr: address(20),
    giaddr: address(24),
    chaddr: bytes.subarray(28, 34),
    names: bytes.subarray(44, 236),
    cookie: bytes.readUInt32BE(236),
    options,
  }
}

/** The addresses in an option's value. */
export function addressList(value: Buffer | undefined): string[] {
  const bytes = value ?? Buffer.alloc(0)
  return Array.from({ length: bytes.length / 4 }, (_, index) => addressText(bytes.subarray(index * 4, index * 4 + 4)))
}
