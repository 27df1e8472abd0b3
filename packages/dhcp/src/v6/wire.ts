/**
 * DHCPv6 message between client and server (RFC 8415 section 8): 1 byte type, 3 bytes transaction, options. Offsets from
 * the first byte behind the UDP header.
 */
import { udp } from "@passt/core/wire"
import * as options from "./options.ts"

/** 4 bytes: type and transaction. */
export const TYPE_TRANSACTION = 0
export const OPTIONS = 4

export const SOLICIT = 1
export const ADVERTISE = 2
export const REQUEST = 3
export const CONFIRM = 4
export const RENEW = 5
export const REBIND = 6
export const REPLY = 7
export const RELEASE = 8
export const DECLINE = 9
export const INFORMATION_REQUEST = 11

/** Ports, RFC 8415 section 7.2. */
export const SERVER_PORT = 547
export const CLIENT_PORT = 546

/** Checks a message from a client: UDP length, and that the options, and those within identity associations, can be
 * walked.
 * @param l4 offset of the UDP header
 * @param end offset after the IP packet
 * @returns the offset after the message, or -1 */
export function check(d: DataView, l4: number, end: number): number {
  if (end - l4 < udp.HEADER_LENGTH) return -1
  const after = l4 + udp.length(d, l4)
  const first = l4 + udp.HEADER_LENGTH + OPTIONS
  if (after > end || first > after) return -1
  return options.check(d, first, after) ? after : -1
}
