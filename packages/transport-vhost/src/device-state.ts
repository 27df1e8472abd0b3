/**
 * The device's state as it goes from one back-end to another when the guest is migrated: what was seen of the guest, in the reference's format
 * (version 2), so that guests can move between both programs.
 *
 * ```
 *   magic u64 | version u32 | oldest compatible version u32 | IPv6 seen [16] | link-local seen [16] | IPv4 seen [4] | MAC [6] |
 *   connections u32 | … of each …                                                                            all big-endian
 * ```
 *
 * Connections do not move yet: we send none, and those that others send are left out. The guest's next segment is answered by a reset.
 */

const MAGIC = 0xb1bb1d1b0bb1d1b0n
const VERSION = 2
const ADDRESSES_AT = 16
const CONNECTIONS_AT = 58
export const STATE_BYTES = 62

/** What was seen of a guest; all zero: nothing. Words of addresses as in GuestState, IPv4 in mapped form. */
export interface SeenGuest {
  readonly mac: Uint8Array
  readonly seen4: Int32Array
  readonly seen6: Int32Array
  readonly seenLinkLocal6: Int32Array
}

/** @returns STATE_BYTES bytes */
export function encodeState(guest: SeenGuest): Uint8Array {
  const bytes = new Uint8Array(STATE_BYTES)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, MAGIC)
  view.setUint32(8, VERSION)
  view.setUint32(12, VERSION)
  for (let i = 0; i < 4; i++) view.setInt32(ADDRESSES_AT + 4 * i, guest.seen6[i]!)
  for (let i = 0; i < 4; i++) view.setInt32(ADDRESSES_AT + 16 + 4 * i, guest.seenLinkLocal6[i]!)
  view.setInt32(ADDRESSES_AT + 32, guest.seen4[3]!)
  bytes.set(guest.mac, ADDRESSES_AT + 36)
  return bytes
}

export interface ReceivedState extends SeenGuest {
  /** Connections that came along, and were left out. */
  readonly connections: number
}

/** @returns undefined for what is no such state, or of a version that we don't know */
export function decodeState(bytes: Uint8Array): ReceivedState | undefined {
  if (bytes.length < CONNECTIONS_AT) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getBigUint64(0) !== MAGIC || view.getUint32(8) < VERSION || view.getUint32(12) > VERSION) return undefined
  const words = (at: number) => Int32Array.from({ length: 4 }, (_, i) => view.getInt32(at + 4 * i))
  const address4 = view.getInt32(ADDRESSES_AT + 32)
  return {
    seen6: words(ADDRESSES_AT),
    seenLinkLocal6: words(ADDRESSES_AT + 16),
    seen4: address4 === 0 ? new Int32Array(4) : Int32Array.of(0, 0, 0xffff, address4),
    mac: bytes.slice(ADDRESSES_AT + 36, CONNECTIONS_AT),
    connections: bytes.length >= STATE_BYTES ? view.getUint32(CONNECTIONS_AT) : 0,
  }
}
