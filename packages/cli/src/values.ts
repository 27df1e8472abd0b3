/**
 * Values of options: text from the command line to a typed value. Each function returns undefined for text that is none,
 * so that the caller words the error; nothing here asks the host.
 */
import { address } from "@passt/core/wire"

/** Four words, IPv4 mapped. */
export type AddressWords = Int32Array

export interface Address {
  readonly family: 4 | 6
  readonly words: AddressWords
}

/** An IPv4 or IPv6 address without zone. IPv4 in IPv6 notation (::ffff:a.b.c.d) is refused: it would name two things. */
export function parseAddress(text: string): Address | undefined {
  const words4 = address.parse4(text)
  if (words4) return { family: 4, words: words4 }
  const words6 = address.parse6(text)
  if (!words6 || address.isMapped(words6, 0)) return undefined
  return { family: 6, words: words6 }
}

/** ADDR or ADDR/LEN. `prefix` is null without LEN. */
export function parsePrefixedAddress(text: string): (Address & { readonly prefix: number | null }) | undefined {
  const slash = text.indexOf("/")
  const found = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (!found) return undefined
  if (slash < 0) return { ...found, prefix: null }
  const prefix = parseDecimal(text.slice(slash + 1))
  if (prefix === undefined || prefix > (found.family === 4 ? 32 : 128)) return undefined
  return { ...found, prefix }
}

/** A dotted mask or a number 0…32. @returns the prefix length; undefined also for a mask with holes. */
export function parseNetmask(text: string): number | undefined {
  const bits = parseDecimal(text)
  if (bits !== undefined) return bits <= 32 ? bits : undefined
  const words = address.parse4(text)
  if (!words) return undefined
  const hostBits = ~words[3]! >>> 0
  // Contiguous: the host part is 2^n - 1.
  if ((hostBits & (hostBits + 1)) !== 0) return undefined
  return Math.clz32(hostBits)
}

/** Prefix length of the address's class (RFC 791 section 3.2), what an address without a length stands for; 32 beyond class C. */
export function classPrefix(words: AddressWords): number {
  const first = words[3]! >>> 24
  if (first < 128) return 8
  if (first < 192) return 16
  return first < 224 ? 24 : 32
}

/** xx:xx:xx:xx:xx:xx, all six groups of two digits. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return undefined
  return Uint8Array.from(text.split(":"), (group) => parseInt(group, 16))
}

/** Decimal digits only, up to 2^53 - 1. */
export function parseDecimal(text: string): number | undefined {
  if (!/^\d{1,16}$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}

/** A number in C notation: 0x… hexadecimal, 0… octal, else decimal. */
export function parseCNumber(text: string): number | undefined {
  if (/^0[xX][0-9a-fA-F]{1,13}$/.test(text)) return parseInt(text, 16)
  if (/^0[0-7]{1,17}$/.test(text)) return parseInt(text, 8)
  return parseDecimal(text)
}

/** Whether the kernel could have an interface of this name (IFNAMSIZ is 16 with the final zero). */
export function isInterfaceName(text: string): boolean {
  return Buffer.byteLength(text) <= 15 && /^[^\s/:\0]+$/.test(text) && text !== "." && text !== ".."
}

/** A domain or host name that fits DNS (RFC 1035 section 2.3.4): at most 253 characters, labels of 1 to 63, nothing that
 * resolv.conf could misread. A final dot is allowed. */
export function isDomainName(text: string): boolean {
  const name = text.endsWith(".") ? text.slice(0, -1) : text
  if (name.length === 0 || name.length > 253 || !/^[\x21-\x7e]+$/.test(name)) return false
  return name.split(".").every((label) => label.length >= 1 && label.length <= 63)
}

/** Whether a path can be opened at all: not empty, shorter than Linux's PATH_MAX. */
export function isPath(text: string): boolean {
  return text.length > 0 && Buffer.byteLength(text) < 4096
}
