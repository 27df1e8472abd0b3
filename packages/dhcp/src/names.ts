/**
 * Domain names on the wire (RFC 1035 section 3.1), and search lists of them, with compression (section 4.1.4) where the
 * option allows it.
 *
 * A compressed name points only backwards, so a list may be cut after any name: that is how it is made to fit.
 */

const LABEL_MAX = 63
const NAME_MAX = 255
/** Pointers have 14 bits. */
const POINTER_MAX = 0x3fff
const POINTER = 0xc000

export interface SearchList {
  readonly bytes: Uint8Array
  /** Where the list may be cut: offsets after each name, ascending. */
  readonly ends: readonly number[]
}

/** Splits a name, with or without its final dot, into labels. @returns undefined if it is no name that DNS can carry: an
 * empty label, one beyond 63 bytes, more than 255 bytes in all, or other than printable ASCII. */
function labelsOf(name: string): string[] | undefined {
  const text = name.endsWith(".") ? name.slice(0, -1) : name
  const labels = text.split(".")
  const isName = labels.every((label) => label.length <= LABEL_MAX && /^[\x21-\x7e]+$/.test(label))
  return isName && text.length + 2 <= NAME_MAX ? labels : undefined
}

function putLabel(bytes: number[], label: string): void {
  bytes.push(label.length)
  for (let i = 0; i < label.length; i++) bytes.push(label.charCodeAt(i))
}

/** Encodes one name without compression. @returns undefined if it is none. */
export function encodeName(name: string): Uint8Array | undefined {
  const labels = labelsOf(name)
  if (!labels) return undefined
  const bytes: number[] = []
  for (const label of labels) putLabel(bytes, label)
  bytes.push(0)
  return Uint8Array.from(bytes)
}

/** Encodes a search list into at most `bytesMax` bytes. An entry may itself be a list separated by blanks, as in
 * resolv.conf: QEMU hands over all domains as one. What is no name is left out, and the last names if there is no room. */
export function encodeSearch(search: readonly string[], isCompressed: boolean, bytesMax: number): SearchList {
  const bytes: number[] = []
  const ends: number[] = []
  const offsets = new Map<string, number>()
  for (const name of search.flatMap((entry) => entry.split(/\s+/))) {
    const labels = labelsOf(name)
    if (!labels) continue
    putName(bytes, labels, isCompressed ? offsets : undefined)
    if (bytes.length > bytesMax) break
    ends.push(bytes.length)
  }
  return { bytes: Uint8Array.from(bytes.slice(0, ends.at(-1) ?? 0)), ends }
}

/** @param offsets where each suffix that was already written begins; undefined: no compression */
function putName(bytes: number[], labels: readonly string[], offsets: Map<string, number> | undefined): void {
  for (let i = 0; i < labels.length; i++) {
    const suffix = labels.slice(i).join(".")
    const known = offsets?.get(suffix)
    if (known !== undefined) {
      bytes.push((POINTER | known) >> 8, known & 0xff)
      return
    }
    if (bytes.length <= POINTER_MAX) offsets?.set(suffix, bytes.length)
    putLabel(bytes, labels[i])
  }
  bytes.push(0)
}

/** Bytes of a list that fit into `room`, cut after a name: 0 if not even the first one does. */
export function fitting(list: SearchList, room: number): number {
  let length = 0
  for (let i = 0; i < list.ends.length && list.ends[i] <= room; i++) length = list.ends[i]
  return length
}
