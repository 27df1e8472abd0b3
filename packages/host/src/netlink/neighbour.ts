import { AF_INET, AF_INET6, NDA_DST, NDA_LLADDR, NUD_USABLE, RTM_DELNEIGH, RTM_NEWNEIGH } from "./constants.ts"
import type { NetlinkMessage } from "./message.ts"
import { addressWords, attributes, bytes, HOST_ORDER } from "./message.ts"

/** A change of the neighbour table (struct ndmsg and NDA_* attributes). */
export interface Neighbour {
  readonly interfaceIndex: number
  readonly family: 4 | 6
  /** Four words; IPv4 mapped. */
  readonly address: Int32Array
  /** Six bytes; undefined when the neighbour is gone, unreachable or not yet resolved. */
  readonly mac: Uint8Array | undefined
}

const STRUCT_BYTES = 12
const MAC_BYTES = 6

/** A unicast MAC address that is not zero (IEEE 802: the lowest bit of the first byte marks groups). */
function isUsableMac(mac: Uint8Array): boolean {
  return mac.length === MAC_BYTES && (mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0)
}

/** @returns undefined for messages of another kind or family, or without a whole address */
export function parseNeighbour(view: DataView, message: NetlinkMessage): Neighbour | undefined {
  const { start, end } = message
  if ((message.type !== RTM_NEWNEIGH && message.type !== RTM_DELNEIGH) || end - start < STRUCT_BYTES) return undefined
  const kind = view.getUint8(start)
  if (kind !== AF_INET && kind !== AF_INET6) return undefined
  const family = kind === AF_INET ? 4 : 6
  const found = attributes(view, start + STRUCT_BYTES, end)
  const span = found.get(NDA_DST)
  if (!span || span.end - span.start !== (family === 4 ? 4 : 16)) return undefined
  const state = view.getUint16(start + 8, HOST_ORDER)
  const hardware = found.get(NDA_LLADDR)
  let mac: Uint8Array | undefined
  if (message.type === RTM_NEWNEIGH && (state & NUD_USABLE) !== 0 && hardware) {
    const candidate = bytes(view, hardware)
    if (isUsableMac(candidate)) mac = candidate
  }
  return { interfaceIndex: view.getInt32(start + 4, HOST_ORDER), family, address: addressWords(view, span)!, mac }
}
