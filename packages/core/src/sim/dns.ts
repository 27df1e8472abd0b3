/** DNS messages for tests: RFC 1035 section 4. */
import { isMapped } from "../wire/address.ts"
import { words } from "./config.ts"

export interface SimRecord {
  readonly name: string
  /** An address of either family, or for CNAME a name. */
  readonly data: string
  readonly ttl?: number
}

function name(text: string): number[] {
  if (text === ".") return [0]
  return [...text.split(".").flatMap((label) => [label.length, ...Array.from(label, (c) => c.charCodeAt(0))]), 0]
}

function u16(value: number): number[] {
  return [value >> 8, value & 0xff]
}

function rdata(text: string): { type: number; bytes: number[] } {
  if (!/^[\d.]+$|:/.test(text)) return { type: 5, bytes: name(text) }
  const address = words(text)
  const all = Array.from(address).flatMap((word) => [word >>> 24, (word >> 16) & 255, (word >> 8) & 255, word & 255])
  return isMapped(address, 0) ? { type: 1, bytes: all.slice(12) } : { type: 28, bytes: all }
}

export function dnsQuery(question: string, type = 1): Uint8Array {
  return Uint8Array.from([
    ...u16(0x1234),
    ...u16(0x0100),
    ...u16(1),
    0,
    0,
    0,
    0,
    0,
    0,
    ...name(question),
    ...u16(type),
    0,
    1,
  ])
}

/** Answers a question; the name of each record is written out. */
export function dnsAnswer(question: string, records: readonly SimRecord[], type = 1): Uint8Array {
  const body = records.flatMap(({ name: owner, data, ttl = 300 }) => {
    const { type: of, bytes } = rdata(data)
    return [...name(owner), ...u16(of), 0, 1, ...u16(ttl >> 16), ...u16(ttl & 0xffff), ...u16(bytes.length), ...bytes]
  })
  return Uint8Array.from([
    ...u16(0x1234),
    ...u16(0x8180),
    ...u16(1),
    ...u16(records.length),
    ...u16(0),
    ...u16(0),
    ...name(question),
    ...u16(type),
    ...u16(1),
    ...body,
  ])
}
