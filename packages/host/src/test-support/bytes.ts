import { address as ip } from "@passt/core/wire"

/** Bytes of hexadecimal text; white space is for the reader. */
export function hex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replace(/\s+/g, "")
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16))
}

/** A view of such bytes. */
export function view(text: string): DataView<ArrayBuffer> {
  return new DataView(hex(text).buffer)
}

/** Four words of an address in text form. */
export function words(text: string): Int32Array {
  const parsed = ip.parse(text)
  if (!parsed) throw new Error(`not an address: ${text}`)
  return parsed
}
