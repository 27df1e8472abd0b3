/** Requests that make something: a header, the fixed struct of the family, then attributes, all padded to four bytes. */
import { NLM_F_ACK, NLM_F_REQUEST } from "./constants.ts"
import { align, ATTRIBUTE_HEADER_BYTES, HEADER_BYTES, HOST_ORDER } from "./message.ts"

export interface Attribute {
  readonly type: number
  readonly value: Uint8Array
}

/** Bytes of an attribute list, each with its header. */
export function attributeList(attributes: readonly Attribute[]): Uint8Array<ArrayBuffer> {
  const size = attributes.reduce((sum, { value }) => sum + align(ATTRIBUTE_HEADER_BYTES + value.length), 0)
  const list = new Uint8Array(size)
  const view = new DataView(list.buffer)
  let at = 0
  for (const { type, value } of attributes) {
    view.setUint16(at, ATTRIBUTE_HEADER_BYTES + value.length, HOST_ORDER)
    view.setUint16(at + 2, type, HOST_ORDER)
    list.set(value, at + ATTRIBUTE_HEADER_BYTES)
    at += align(ATTRIBUTE_HEADER_BYTES + value.length)
  }
  return list
}

/** @param type RTM_* @param flags NLM_F_* besides request and acknowledgement @param fixed the struct of the family */
export function changeRequest(
  type: number,
  flags: number,
  fixed: Uint8Array,
  attributes: readonly Attribute[],
): DataView<ArrayBuffer> {
  const list = attributeList(attributes)
  const bytes = new Uint8Array(HEADER_BYTES + align(fixed.length) + list.length)
  bytes.set(fixed, HEADER_BYTES)
  bytes.set(list, HEADER_BYTES + align(fixed.length))
  const view = new DataView(bytes.buffer)
  view.setUint32(0, bytes.length, HOST_ORDER)
  view.setUint16(4, type, HOST_ORDER)
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | flags, HOST_ORDER)
  return view
}

/** Value of a 32-bit attribute. */
export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, HOST_ORDER)
  return bytes
}

/** Value of an address attribute: 4 bytes of a mapped address for IPv4, else 16, in network order. */
export function addressBytes(family: 4 | 6, words: Int32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(16))
  for (let i = 0; i < 4; i++) view.setInt32(4 * i, words[i]!)
  return new Uint8Array(view.buffer, family === 4 ? 12 : 0)
}
