/**
 * Ports on which members of a group listen, where they are the same for everybody: a guest that only listens tells no port.
 */
import { isMapped } from "../wire/address.ts"

/** Group and port, three words each: IPv4 address, port, and for IPv6 the group's last word (RFC 2375: FF0X::…, in every scope), 0: none. */
const KNOWN: Int32Array = Int32Array.from(
  [
    // mDNS (RFC 6762), LLMNR (RFC 4795).
    [0xe00000fb, 5353, 0xfb],
    [0xe00000fc, 5355, 0x1_0003],
    // SSDP of UPnP, and WS-Discovery, which shares its group.
    [0xeffffffa, 1900, 0xc],
    [0xeffffffa, 3702, 0xc],
    // Service location (RFC 2608, RFC 3111), CoAP (RFC 7252), SIP (RFC 3261), session announcements (RFC 2974).
    [0xeffffffd, 427, 0x116],
    [0xe00001bb, 5683, 0xfd],
    [0xe000014b, 5060, 0],
    [0xe0027ffe, 9875, 0x2_7ffe],
    [0xefffffff, 9875, 0],
    // Time: NTP (RFC 5905), PTP (IEEE 1588).
    [0xe0000101, 123, 0x101],
    [0xe0000181, 319, 0x181],
    [0xe0000181, 320, 0x181],
    [0xe000006b, 319, 0x6b],
    [0xe000006b, 320, 0x6b],
    // RIP (RFC 2453, RFC 2080).
    [0xe0000009, 520, 0],
    // KNXnet/IP, BitTorrent's local peers, DDS discovery of domain 0, worlds that Minecraft opens to the LAN.
    [0xe000170c, 3671, 0],
    [0xefc0988f, 6771, 0],
    [0xefff0001, 7400, 0],
    [0xe000023c, 4445, 0],
  ].flat(),
)
const WORDS = 3

/** How many there are to ask for with `wellKnownPort`. */
export const KNOWN_COUNT: number = KNOWN.length / WORDS

/** Whether entry `n` is about this group. @returns its port, 0: it is not */
export function wellKnownPort(n: number, group: Int32Array, i: number): number {
  const at = n * WORDS
  if (isMapped(group, i)) return KNOWN[at] === group[i + 3] ? KNOWN[at + 1] : 0
  const last = KNOWN[at + 2]
  // Flags 0: assigned for good.
  const assigned = (group[i] & 0xfff0_ffff) === (0xff00_0000 | 0) && group[i + 1] === 0 && group[i + 2] === 0
  return last !== 0 && assigned && group[i + 3] === last ? KNOWN[at + 1] : 0
}
