/**
 * IP addresses as four 32-bit words: IPv6 in network order, IPv4 mapped (RFC 4291 section 2.5.5.2), so that one code
 * path serves both families. Text forms are for control paths only.
 */
export const MAPPED_PREFIX = 0xffff

/** Copies four words. */
export function copy(to: Int32Array, ti: number, from: Int32Array, fi: number): void {
  to[ti] = from[fi]!
  to[ti + 1] = from[fi + 1]!
  to[ti + 2] = from[fi + 2]!
  to[ti + 3] = from[fi + 3]!
}
export function equal(a: Int32Array, ai: number, b: Int32Array, bi: number): boolean {
  return a[ai + 3] === b[bi + 3] && a[ai + 2] === b[bi + 2] && a[ai + 1] === b[bi + 1] && a[ai] === b[bi]
}
/** Writes an IPv4 address (signed 32-bit value of its bytes) in mapped form. */
export function setMapped(to: Int32Array, ti: number, ipv4: number): void {
  to[ti] = 0
  to[ti + 1] = 0
  to[ti + 2] = MAPPED_PREFIX
  to[ti + 3] = ipv4
}
/** Reads 16 bytes at `o`. */
export function read6(to: Int32Array, ti: number, d: DataView, o: number): void {
  to[ti] = d.getInt32(o)
  to[ti + 1] = d.getInt32(o + 4)
  to[ti + 2] = d.getInt32(o + 8)
  to[ti + 3] = d.getInt32(o + 12)
}
export function isMapped(a: Int32Array, i: number): boolean {
  return a[i] === 0 && a[i + 1] === 0 && a[i + 2] === MAPPED_PREFIX
}
/** All zero, or the mapped 0.0.0.0. */
export function isUnspecified(a: Int32Array, i: number): boolean {
  return a[i] === 0 && a[i + 1] === 0 && a[i + 3] === 0 && (a[i + 2] === 0 || a[i + 2] === MAPPED_PREFIX)
}
/** 127.0.0.0/8 or ::1. */
export function isLoopback(a: Int32Array, i: number): boolean {
  if (a[i] !== 0 || a[i + 1] !== 0) return false
  return a[i + 2] === MAPPED_PREFIX ? a[i + 3]! >>> 24 === 127 : a[i + 2] === 0 && a[i + 3] === 1
}
/** 224.0.0.0/4 or ff00::/8. */
export function isMulticast(a: Int32Array, i: number): boolean {
  return isMapped(a, i) ? a[i + 3]! >>> 28 === 0xe : a[i]! >>> 24 === 0xff
}
/** 255.255.255.255. */
export function isBroadcast(a: Int32Array, i: number): boolean {
  return isMapped(a, i) && a[i + 3] === -1
}
/** fe80::/10 or 169.254.0.0/16 (RFC 3927). */
export function isLinkLocal(a: Int32Array, i: number): boolean {
  return isMapped(a, i) ? a[i + 3]! >>> 16 === 0xa9fe : a[i]! >>> 22 === 0x3fa
}
export function isUnicast(a: Int32Array, i: number): boolean {
  return !isUnspecified(a, i) && !isMulticast(a, i) && !isBroadcast(a, i)
}

/** Parses dotted decimal, four numbers without leading zeros. @returns the words in mapped form, or undefined. */
export function parse4(text: string): Int32Array<ArrayBuffer> | undefined {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (!m) return undefined
  let value = 0
  for (let i = 1; i <= 4; i++) {
    const part = m[i]!
    const n = Number(part)
    if (n > 255 || (part.length > 1 && part[0] === "0")) return undefined
    value = (value << 8) | n
  }
  const words = new Int32Array(4)
  setMapped(words, 0, value)
  return words
}

/** Parses the text forms of RFC 4291 section 2.2, without zone. @returns the words, or undefined. */
export function parse6(text: string): Int32Array<ArrayBuffer> | undefined {
  if (!text.includes(":")) return undefined
  let body = text
  const groups: number[] = []
  let gap = -1
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(body)
  let tail: number[] = []
  if (dotted) {
    const v4 = parse4(dotted[2]!)
    if (!v4) return undefined
    tail = [v4[3]! >>> 16, v4[3]! & 0xffff]
    body = dotted[1]!
    if (!body.endsWith("::")) body = body.slice(0, -1)
  }
  const halvesOf = body.split("::")
  if (halvesOf.length > 2) return undefined
  for (let h = 0; h < halvesOf.length; h++) {
    if (h === 1) gap = groups.length
    const half = halvesOf[h]!
    if (half === "") continue
    for (const group of half.split(":")) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined
      groups.push(parseInt(group, 16))
    }
  }
  groups.push(...tail)
  if (gap < 0 ? groups.length !== 8 : groups.length > 7) return undefined
  if (gap >= 0) groups.splice(gap, 0, ...Array.from({ length: 8 - groups.length }, () => 0))
  const words = new Int32Array(4)
  for (let i = 0; i < 4; i++) words[i] = (groups[2 * i]! << 16) | groups[2 * i + 1]!
  return words
}

/** Parses either family. */
export function parse(text: string): Int32Array<ArrayBuffer> | undefined {
  return parse4(text) ?? parse6(text)
}

/** Text form: dotted decimal for mapped addresses, RFC 5952 for IPv6. */
export function format(a: Int32Array, i = 0): string {
  if (isMapped(a, i)) {
    const v = a[i + 3]!
    return `${v >>> 24}.${(v >>> 16) & 255}.${(v >>> 8) & 255}.${v & 255}`
  }
  const groups: number[] = []
  for (let w = 0; w < 4; w++) groups.push(a[i + w]! >>> 16, a[i + w]! & 0xffff)
  let best = -1
  let bestLength = 1
  for (let start = 0; start < 8; start++) {
    let end = start
    while (end < 8 && groups[end] === 0) end++
    if (end - start > bestLength) {
      best = start
      bestLength = end - start
    }
  }
  const hex = (part: number[]): string => part.map((g) => g.toString(16)).join(":")
  return best < 0 ? hex(groups) : `${hex(groups.slice(0, best))}::${hex(groups.slice(best + bestLength))}`
}
