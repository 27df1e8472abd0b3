// Addresses, checksums and numbers on the wire.
import { isIPv6 } from "node:net"

export const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"

export const macBytes = (text: string): Buffer => Buffer.from(text.replaceAll(":", ""), "hex")

export const macText = (bytes: Buffer): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":")

/** The bytes of an address in text form, 4 or 16 of them (RFC 4291 section 2.2, without the embedded IPv4 form). */
export function addressBytes(text: string): Buffer {
  if (!isIPv6(text)) return Buffer.from(text.split(".").map(Number))
  const [head = "", tail] = text.split("::")
  const groups = (part: string | undefined): string[] => (part === undefined || part === "" ? [] : part.split(":"))
  const [front, back] = [groups(head), groups(tail)]
  const bytes = Buffer.alloc(16)
  const all = [...front, ...Array<string>(8 - front.length - back.length).fill("0"), ...back]
  all.forEach((group, index) => bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2))
  return bytes
}

/** The text of an address, as the library that JavaScript runs on writes it: shortest form, lower case (RFC 5952). */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join(".")
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16)).join(":")
  return new URL(`http://[${groups}]`).hostname.slice(1, -1)
}

/** The Internet checksum (RFC 1071) of these parts, all but the last of even length. */
export function checksum(...parts: readonly Buffer[]): number {
  const all = Buffer.concat(parts)
  let sum = 0
  for (let at = 0; at + 1 < all.length; at += 2) sum += all.readUInt16BE(at)
  if (all.length % 2 === 1) sum += all[all.length - 1]! << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

export const uint16 = (value: number): Buffer => Buffer.from([(value >> 8) & 255, value & 255])

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

/** A domain name as labels (RFC 1035 section 3.1). */
export function nameBytes(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
  return Buffer.concat([...labels, Buffer.from([0])])
}

/** The names in a list of labels, compressed or not (RFC 1035 section 4.1.4), in the order in which they stand. */
export function names(bytes: Buffer): string[] {
  const read = (from: number, depth: number): { name: string; end: number } => {
    if (depth > 20) throw new Error("a name that refers to itself")
    const labels: string[] = []
    let at = from
    for (;;) {
      const length = bytes[at]
      if (length === undefined) throw new Error("a name that is cut off")
      if (length >= 0xc0) {
        labels.push(read(((length & 0x3f) << 8) | bytes[at + 1]!, depth + 1).name)
        return { name: labels.join("."), end: at + 2 }
      }
      at += 1 + length
      if (length === 0) return { name: labels.join("."), end: at }
      labels.push(bytes.toString("latin1", at - length, at))
    }
  }
  const list: string[] = []
  for (let at = 0; at < bytes.length;) {
    const { name, end } = read(at, 0)
    // Zeros behind the last name are padding.
    if (name !== "") list.push(name)
    at = end
  }
  return list
}
