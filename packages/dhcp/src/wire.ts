/**
 * DHCP message (RFC 2131 section 2), offsets from the first byte behind the UDP header.
 */
import { udp } from "@passt/core/wire"
import * as options from "./options.ts"

/** 1 byte. */
export const OP = 0
/** 1 byte hardware type, 1 byte hardware address length, 1 byte hops. */
export const HARDWARE_TYPE = 1
export const HARDWARE_LENGTH = 2
/** 4 bytes: transaction. */
export const XID = 4
/** 2 bytes. */
export const FLAGS = 10
/** 4 bytes: the client's address, if it has one. */
export const CLIENT_ADDRESS = 12
/** 4 bytes: the address given. */
export const YOUR_ADDRESS = 16
/** 4 bytes: the relay's address. */
export const RELAY_ADDRESS = 24
/** 16 bytes. */
export const CLIENT_HARDWARE = 28
/** 4 bytes, before the options. Server name and boot file (192 bytes) lie between. */
export const MAGIC = 236
export const OPTIONS = 240

export const BOOTREQUEST = 1
export const BOOTREPLY = 2
export const MAGIC_COOKIE = 0x63825363
/** The client can't take unicast before it is configured. */
export const FLAG_BROADCAST = 0x8000
const CLIENT_HARDWARE_LENGTH = 16

/** Ports, RFC 2131 section 4.1. */
export const SERVER_PORT = 67
export const CLIENT_PORT = 68

/** Values of the message type option (RFC 2132 section 9.6). */
export const DISCOVER = 1
export const OFFER = 2
export const REQUEST = 3
export const ACK = 5
export const INFORM = 8

/** Checks a message from a client: UDP length, fixed fields, and that the options can be walked.
 * @param l4 offset of the UDP header
 * @param end offset after the IP packet
 * @returns the offset after the message, or -1 */
export function check(d: DataView, l4: number, end: number): number {
  if (end - l4 < udp.HEADER_LENGTH) return -1
  const after = l4 + udp.length(d, l4)
  const o = l4 + udp.HEADER_LENGTH
  if (after > end || after - o < OPTIONS) return -1
  if (d.getUint8(o + OP) !== BOOTREQUEST || d.getUint8(o + HARDWARE_LENGTH) > CLIENT_HARDWARE_LENGTH) return -1
  if (d.getUint32(o + MAGIC) !== MAGIC_COOKIE) return -1
  return options.check(d, o + OPTIONS, after) ? after : -1
}
