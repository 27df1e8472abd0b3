/**
 * vhost-user's messages as bytes, in little-endian order, as every machine that we run on has it.
 *
 * ```
 *   request u32 | flags u32: version 1 (2 bits), reply (bit 2), need_reply (bit 3) | size u32 | payload
 * ```
 *
 * Reads first: QEMU's docs/interop/vhost-user.rst, "Message Specification".
 */

export const HEADER_BYTES = 12
/** Equal to VhostChannel::messageMax in native/cpp/vhost-channel.h. */
export const MESSAGE_BYTES_MAX = 512

export const REQUEST = {
  getFeatures: 1,
  setFeatures: 2,
  setOwner: 3,
  resetOwner: 4,
  setMemTable: 5,
  setLogBase: 6,
  setLogFd: 7,
  setVringNum: 8,
  setVringAddr: 9,
  setVringBase: 10,
  getVringBase: 11,
  setVringKick: 12,
  setVringCall: 13,
  setVringErr: 14,
  getProtocolFeatures: 15,
  setProtocolFeatures: 16,
  getQueueNum: 17,
  setVringEnable: 18,
  sendRarp: 19,
  netSetMtu: 20,
  getConfig: 24,
  setConfig: 25,
  getInflightFd: 31,
  setInflightFd: 32,
  resetDevice: 34,
  getMaxMemSlots: 36,
  addMemReg: 37,
  remMemReg: 38,
  setStatus: 39,
  getStatus: 40,
  setDeviceStateFd: 42,
  checkDeviceState: 43,
} as const

const VERSION_MASK = 3
const VERSION = 1
const FLAG_REPLY = 4
const FLAG_NEED_REPLY = 8

export interface Message {
  readonly request: number
  readonly needReply: boolean
  readonly payload: DataView
}

/** Takes a whole message apart. @throws ProtocolError if its header is none */
export function parse(bytes: Uint8Array, length: number): Message {
  const view = new DataView(bytes.buffer, bytes.byteOffset, length)
  const request = view.getUint32(0, true)
  const flags = view.getUint32(4, true)
  if ((flags & VERSION_MASK) !== VERSION)
    throw new ProtocolError(`version ${flags & VERSION_MASK} in ${nameOf(request)}`)
  if ((flags & FLAG_REPLY) !== 0) throw new ProtocolError(`a reply that nobody asked for: ${nameOf(request)}`)
  const payload = new DataView(bytes.buffer, bytes.byteOffset + HEADER_BYTES, length - HEADER_BYTES)
  return { request, needReply: (flags & FLAG_NEED_REPLY) !== 0, payload }
}

/** Writes a reply. @param payload bytes, or words of 32 bits @returns its length */
export function writeReply(to: Uint8Array, request: number, payload: readonly number[] | Uint8Array): number {
  const view = new DataView(to.buffer, to.byteOffset, to.byteLength)
  view.setUint32(0, request, true)
  view.setUint32(4, VERSION | FLAG_REPLY, true)
  const bytes = payload instanceof Uint8Array ? payload.length : payload.length * 4
  view.setUint32(8, bytes, true)
  if (payload instanceof Uint8Array) to.set(payload, HEADER_BYTES)
  else payload.forEach((word, i) => view.setUint32(HEADER_BYTES + 4 * i, word, true))
  return HEADER_BYTES + bytes
}

/** The halves of a word of 64 bits, the low one first. */
export function halves(value: bigint): [number, number] {
  return [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)]
}

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(REQUEST).map(([name, number]) => [number, name.replace(/[A-Z]/g, (c) => `_${c}`).toUpperCase()]),
)

/** What the specification calls a request. */
export function nameOf(request: number): string {
  return NAMES.get(request) ?? `request ${request}`
}

/** The front-end has broken the rules: its connection ends. */
export class ProtocolError extends Error {}
