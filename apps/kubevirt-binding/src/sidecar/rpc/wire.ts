/**
 * Protocol buffers, as much of them as hooks need: strings, bytes, 32-bit integers and messages in messages
 * (https://protobuf.dev/programming-guides/encoding). By hand because a library of the whole costs half of the memory that a sidecar has; the
 * tests compare it with one.
 */
const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

/** Fields of a message that have bytes, by number: the last of each counts, as the format demands of fields that are not repeated. */
export type Fields = ReadonlyMap<number, Buffer>

const NOTHING = Buffer.alloc(0)

/** @throws Error if it is not a message */
export function decodeFields(message: Buffer): Fields {
  const fields = new Map<number, Buffer>()
  let position = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[position++]
      if (byte === undefined) throw new Error("the message ends within a number")
      // Lengths and tags fit into 32 bits; numbers beyond lose bits that nobody asks for.
      if (shift < 28) value |= (byte & 0x7f) << shift
      else if (shift === 28) value += (byte & 0x0f) * 2 ** 28
      if (byte < 0x80) return value
    }
    throw new Error("the message has a number that is too long")
  }
  const skip = (bytes: number): Buffer => {
    if (bytes > message.length - position) throw new Error("the message is shorter than one of its fields")
    position += bytes
    return message.subarray(position - bytes, position)
  }
  while (position < message.length) {
    const tag = varint()
    const number = Math.floor(tag / 8)
    if (number === 0) throw new Error("the message has a field without a number")
    const type = tag % 8
    if (type === VARINT) varint()
    else if (type === FIXED64) skip(8)
    else if (type === FIXED32) skip(4)
    else if (type === BYTES) fields.set(number, skip(varint()))
    else throw new Error(`the message has a field of the unknown type ${type}`)
  }
  return fields
}

export function bytesOf(fields: Fields, number: number): Buffer {
  return fields.get(number) ?? NOTHING
}

function encodeVarint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value >>> 0
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

/** A field of bytes, a string or a message. Empty ones are not written, unless they are items of a list. */
export function bytesField(number: number, value: Buffer | string, isItem = false): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value
  if (bytes.length === 0 && !isItem) return NOTHING
  return Buffer.concat([encodeVarint(number * 8 + BYTES), encodeVarint(bytes.length), bytes])
}
