/**
 * IGMP and MLD messages of a guest.
 */
import { isMapped } from "../wire/address.ts"
import { checksumOf, fold, pseudo6, sumOf } from "../wire/checksum.ts"
import * as ipv4 from "../wire/ipv4.ts"
import * as ipv6 from "../wire/ipv6.ts"
import { GATEWAY6, GUEST4, words } from "./config.ts"
import { packet } from "./packet.ts"

const LINK_LOCAL = "fe80::15"

export interface GroupRecord {
  readonly type: number
  readonly group: string
  readonly sources?: readonly string[]
  /** Words of auxiliary data. */
  readonly auxiliary?: number
}

function bytesOf(address: string): Uint8Array {
  const w = words(address)
  const out = new Uint8Array(16)
  const d = new DataView(out.buffer)
  for (let i = 0; i < 4; i++) d.setInt32(4 * i, w[i]!)
  return isMapped(w, 0) ? out.slice(12) : out
}

/** An IGMP message around whose bytes the checksum is right. */
export function igmp(body: readonly number[]): Uint8Array {
  const bytes = Uint8Array.from(body)
  const d = new DataView(bytes.buffer)
  if (bytes.length >= 4) d.setUint16(2, checksumOf(d, 0, bytes.length))
  return packet(words(GUEST4), words("224.0.0.22"), ipv4.PROTOCOL_IGMP, bytes, 1)
}

/** IGMP of versions 1 and 2: 0x12 and 0x16 report, 0x17 leave. */
export function igmpFor(type: number, group: string): Uint8Array {
  return igmp([type, 0, 0, 0, ...bytesOf(group)])
}

/** An MLD message. @param source the guest's link-local address unless told */
export function mld(body: readonly number[], source: string = LINK_LOCAL, hopLimit = 1): Uint8Array {
  const bytes = Uint8Array.from(body)
  const d = new DataView(bytes.buffer)
  const [from, to] = [words(source), words("ff02::16")]
  if (bytes.length >= 4) {
    const pseudo = pseudo6(from, 0, to, 0, ipv6.PROTOCOL_ICMPV6, bytes.length)
    d.setUint16(2, ~fold(sumOf(d, 0, bytes.length) + pseudo) & 0xffff)
  }
  return packet(from, to, ipv6.PROTOCOL_ICMPV6, bytes, hopLimit)
}

/** MLD of version 1: 131 report, 132 done. */
export function mldFor(type: number, group: string): Uint8Array {
  return mld([type, 0, 0, 0, 0, 0, 0, 0, ...bytesOf(group)])
}

/** A report of IGMPv3 or MLDv2, by the family of its first group. @param count what it says of its records, if not the truth */
export function report(records: readonly GroupRecord[], count: number = records.length): Uint8Array {
  const v4 = isMapped(words(records[0]?.group ?? GATEWAY6), 0)
  const body = [v4 ? 0x22 : 143, 0, 0, 0, 0, 0, count >> 8, count & 255]
  for (const { type, group, sources = [], auxiliary = 0 } of records) {
    body.push(type, auxiliary, sources.length >> 8, sources.length & 255, ...bytesOf(group))
    for (const source of sources) body.push(...bytesOf(source))
    for (let i = 0; i < 4 * auxiliary; i++) body.push(0xaa)
  }
  return v4 ? igmp(body) : mld(body)
}
