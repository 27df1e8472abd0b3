/**
 * Search lists as DNS names on the wire (RFC 1035 section 3.1), without compression, which RFC 8106 section 5.2 forbids.
 */

const LABEL_MAX = 63
const NAME_MAX = 255

/** Encodes one domain name, with or without a final dot. @returns its bytes; undefined if it is no name that DNS can
 * carry: an empty label, one beyond 63 bytes, more than 255 bytes in all, or other than printable ASCII. */
export function encodeName(name: string): Uint8Array | undefined {
  const labels = (name.endsWith(".") ? name.slice(0, -1) : name).split(".")
  const bytes: number[] = []
  for (const label of labels) {
    if (label.length === 0 || label.length > LABEL_MAX || !/^[\x21-\x7e]+$/.test(label)) return undefined
    bytes.push(label.length)
    for (let i = 0; i < label.length; i++) bytes.push(label.charCodeAt(i))
  }
  bytes.push(0)
  return bytes.length > NAME_MAX ? undefined : Uint8Array.from(bytes)
}

/** Encodes a search list into at most `bytesMax` bytes. An entry may itself be a list separated by blanks, as in
 * resolv.conf: QEMU hands over all domains as one. The first domains matter most to a resolver: the last ones are left out
 * if there is no room. What is no name is left out. */
export function encodeSearch(search: readonly string[], bytesMax: number): Uint8Array {
  const list = new Uint8Array(bytesMax)
  let length = 0
  for (const name of search.flatMap((entry) => entry.split(/\s+/))) {
    const bytes = encodeName(name)
    if (!bytes) continue
    if (length + bytes.length > bytesMax) break
    list.set(bytes, length)
    length += bytes.length
  }
  return list.subarray(0, length)
}
