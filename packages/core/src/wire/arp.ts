/**
 * ARP for IPv4 over Ethernet (RFC 826).
 */
/** 2 bytes: 1 for Ethernet. */
export const HARDWARE_TYPE = 0
/** 2 bytes: 0x0800. */
export const PROTOCOL_TYPE = 2
/** 1 byte: 6. */
export const HARDWARE_LENGTH = 4
/** 1 byte: 4. */
export const PROTOCOL_LENGTH = 5
/** 2 bytes. */
export const OPERATION = 6
/** 6 bytes. */
export const SENDER_HARDWARE = 8
/** 4 bytes. */
export const SENDER_PROTOCOL = 14
/** 6 bytes. */
export const TARGET_HARDWARE = 18
/** 4 bytes. */
export const TARGET_PROTOCOL = 24
export const LENGTH = 28

export const REQUEST = 1
export const REPLY = 2
