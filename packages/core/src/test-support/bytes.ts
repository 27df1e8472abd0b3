/** Bytes and addresses as tests write them. */
export { words } from "../sim/config.ts"

/** Bytes of hex digits; blanks and `// …` comments to the end of the line are skipped. */
export function hex(text: string): Uint8Array<ArrayBuffer> {
  const digits = text.replace(/\/\/.*$/gm, "").replace(/\s+/g, "")
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16))
}

/** Hex of bytes without blanks: what `toHex(hex(…))` of a golden frame gives. */
export function toHex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
