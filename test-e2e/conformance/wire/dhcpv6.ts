// DHCPv6 (RFC 8415) as a client speaks it.
import { uint16, uint32 } from "./bytes.ts"

export const V6Type = {
  SOLICIT: 1,
  ADVERTISE: 2,
  REQUEST: 3,
  CONFIRM: 4,
  RENEW: 5,
  REBIND: 6,
  REPLY: 7,
  RELEASE: 8,
  DECLINE: 9,
  INFORMATION_REQUEST: 11,
} as const
export const V6Option = {
  CLIENT_ID: 1,
  SERVER_ID: 2,
  IA_NA: 3,
  IA_ADDRESS: 5,
  ORO: 6,
  STATUS: 13,
  DNS: 23,
  SEARCH: 24,
  FQDN: 39,
} as const

export type Options = readonly (readonly [number, Buffer])[]

export const v6Options = (options: Options): Buffer =>
  Buffer.concat(options.flatMap(([code, value]) => [uint16(code), uint16(value.length), value]))

export const v6Message = (type: number, xid: number, options: Options): Buffer =>
  Buffer.concat([Buffer.from([type]), uint32(xid).subarray(1), v6Options(options)])

/** An IA_NA with these options in it. */
export const identityAssociation = (id: number, options: Options = []): Buffer =>
  Buffer.concat([uint32(id), uint32(0), uint32(0), v6Options(options)])

/** An IA address option's value. */
export const identityAddress = (address: Buffer): Buffer => Buffer.concat([address, uint32(0), uint32(0)])

/** Several of one code are joined to the first: none of the options that are looked at here may repeat. */
export function parseV6Options(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16BE(at + 2)
    options.set(bytes.readUInt16BE(at), bytes.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return options
}

export interface V6Reply {
  readonly type: number
  readonly xid: number
  readonly options: ReadonlyMap<number, Buffer>
}

export const parseV6 = (bytes: Buffer): V6Reply => ({
  type: bytes[0]!,
  xid: bytes.readUIntBE(1, 3),
  options: parseV6Options(bytes.subarray(4)),
})
