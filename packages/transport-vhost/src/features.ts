/** Features of device and protocol: what we offer. */

/** Bits of a virtio network device (VIRTIO 1.2 section 5.1.3), of its transport (section 6), and of vhost (LOG_ALL). */
export const FEATURE = {
  csum: 0,
  guestCsum: 1,
  controlOffloads: 2,
  mtu: 3,
  mac: 5,
  guestTso4: 7,
  guestTso6: 8,
  hostTso4: 11,
  hostTso6: 12,
  hostEcn: 13,
  mergeable: 15,
  status: 16,
  controlQueue: 17,
  guestAnnounce: 21,
  multiqueue: 22,
  controlMac: 23,
  logAll: 26,
  indirect: 28,
  eventIndex: 29,
  protocolFeatures: 30,
  version1: 32,
  packed: 34,
  guestUso4: 54,
  guestUso6: 55,
  hostUso: 56,
} as const
export type Feature = keyof typeof FEATURE

/** Bits of vhost-user's protocol ("Protocol features"). */
export const PROTOCOL_FEATURE = {
  multiqueue: 0,
  logShmfd: 1,
  rarp: 2,
  replyAck: 3,
  netMtu: 4,
  config: 9,
  inflight: 12,
  resetDevice: 13,
  configureMemSlots: 15,
  status: 16,
  deviceState: 19,
} as const
export type ProtocolFeature = keyof typeof PROTOCOL_FEATURE

/** Features that depend on others (VIRTIO 1.2 section 5.1.3.1). */
export const REQUIRES: readonly (readonly [Feature, Feature])[] = [
  ["guestTso4", "guestCsum"],
  ["guestTso6", "guestCsum"],
  ["guestUso4", "guestCsum"],
  ["guestUso6", "guestCsum"],
  ["hostTso4", "csum"],
  ["hostTso6", "csum"],
  ["hostUso", "csum"],
  ["packed", "version1"],
]

export function mask(...bits: readonly number[]): bigint {
  return bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n)
}

/** All that we offer a front-end. */
export const OFFERED: bigint = mask(...Object.values(FEATURE))
export const OFFERED_PROTOCOL: bigint = mask(...Object.values(PROTOCOL_FEATURE))
